"""Stripe is asked whether it sends every type that we handle: what nobody subscribed to would be missed silently."""

from pathlib import Path

import pytest

from payment_service.webhooks.endpoints import REQUIRED_EVENT_TYPES
from tests.payment.line_to_stripe import never_connects
from tests.payment.till import Till, open_till

URL = "https://pay.example/webhooks/stripe"


async def missing(till: Till) -> str:
    """Let the service look at Stripe's endpoints; return the gauge."""
    await till.run("check_event_types")
    page = (await till.http.get("/metrics")).text
    return next(line.split()[-1] for line in page.splitlines() if line.startswith("payment_webhook_event_types_m"))


async def readiness(till: Till) -> str:
    state: str = (await till.http.get("/readyz")).json()["checks"]["webhook_event_types"]
    return state


async def test_types_that_no_endpoint_asks_for_are_told(till: Till) -> None:
    """Peers B2.39: the gauge says how many are missing and readiness is degraded, never down; one more endpoint heals it."""
    assert await missing(till) == f"{len(REQUIRED_EVENT_TYPES):.1f}"
    kept = sorted(REQUIRED_EVENT_TYPES)[1:]
    form = {f"enabled_events[{index}]": name for index, name in enumerate(kept)}
    await till.at_stripe("POST", "/v1/webhook_endpoints", url=URL, **form)
    assert await missing(till) == "1.0"
    assert await readiness(till) == "degraded"
    await till.at_stripe("POST", "/v1/webhook_endpoints", url=URL, **{"enabled_events[0]": "*"})
    assert await missing(till) == "0.0"
    assert await readiness(till) == "ok"


async def test_stripe_away_is_not_known_and_stops_nobody(till: Till) -> None:
    """The gauge says -1, readiness does not suffer, and events are taken as ever."""
    till.line.meets(never_connects)
    assert await missing(till) == "-1.0"
    assert await readiness(till) == "ok"


async def test_only_our_own_endpoint_counts(
    till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our address in the settings, somebody else's endpoint and a disabled one say nothing about us."""
    async with open_till(till_database_url, tmp_path, monkeypatch, stripe_webhook_url=URL) as till:
        everything = {"enabled_events[0]": "*"}
        await till.at_stripe("POST", "/v1/webhook_endpoints", url="https://other.example/hook", **everything)
        ours = await till.at_stripe("POST", "/v1/webhook_endpoints", url=URL, **everything)
        assert await missing(till) == "0.0"
        await till.at_stripe("POST", f"/v1/webhook_endpoints/{ours['id']}", disabled="true")
        assert await missing(till) == f"{len(REQUIRED_EVENT_TYPES):.1f}"

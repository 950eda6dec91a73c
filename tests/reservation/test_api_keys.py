"""A reseller's key: shown once, kept as a hash, good for what its scopes say, and ended within a second everywhere."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, Customer
from tests.reservation.test_operator_actions import the_action

ALL = ["bookings:read", "bookings:write", "bookings:external"]


async def a_key(office: BoxOffice, *scopes: str, **more: Any) -> tuple[dict[str, Any], Customer]:
    """Make a key; returns what its operator saw, and whoever holds it."""
    body = {"name": "Harbour tours", "scopes": list(scopes) or ALL, **more}
    made: dict[str, Any] = answered(await office.operator().ask("POST", "/admin/v1/api-keys", json=body), 201)
    return made, Customer(office.http, made["key"])


async def test_a_key_books_for_its_reseller(office: BoxOffice) -> None:
    """It holds, converts without a card, and sees what it made and nobody else's; more holds than one customer may have."""
    made, reseller = await a_key(office)
    offer = await office.offer(capacity=20)
    holds = [answered(await reseller.hold(offer), 201)["id"] for _ in range(7)]
    booked = answered(await reseller.convert(holds[0], mode="external"), 201)
    assert booked["status"] == "confirmed"
    (row,) = await office.sql("SELECT caller FROM reservations WHERE id = CAST(:id AS uuid)", id=holds[0])
    assert row["caller"] == f"key:{made['id']}"
    _, other = await a_key(office)
    refused(await other.see_hold(holds[0]), 404, "HOLD_NOT_FOUND")


async def test_a_key_is_stored_nowhere(office: BoxOffice) -> None:
    """Only its hash and its first characters: neither the table, nor a list, nor the audit row holds the key."""
    made, _ = await a_key(office)
    rows = await office.sql("SELECT to_jsonb(k)::text AS row FROM api_keys AS k")
    told = await office.sql("SELECT to_jsonb(a)::text AS row FROM operator_actions AS a")
    listed = await office.customer(roles=["viewer"]).ask("GET", "/admin/v1/api-keys")
    everything = listed.text + "".join(row["row"] for row in (*rows, *told))
    assert made["prefix"] in everything
    assert made["key"].removeprefix(made["prefix"]) not in everything
    assert len(made["key"]) > 40
    shown = answered(listed)["data"][0]
    assert "key" not in shown
    assert (shown["name"], shown["scopes"]) == ("Harbour tours", sorted(ALL))


async def test_scopes_are_kept_to(office: BoxOffice) -> None:
    """X02: a key that reads cannot hold, one that writes cannot read, neither books unpaid, and none is an operator."""
    offer = await office.offer()
    _, reads = await a_key(office, "bookings:read")
    _, writes = await a_key(office, "bookings:write")
    refused(await reads.hold(offer), 403, "FORBIDDEN")
    hold_id = answered(await writes.hold(offer), 201)["id"]
    refused(await writes.see_hold(hold_id), 403, "FORBIDDEN")
    refused(await writes.convert(hold_id, mode="external"), 403, "FORBIDDEN")
    assert answered(await reads.ask("GET", "/v1/reservations"))["data"] == []
    _, everything = await a_key(office)
    for path in ("/admin/v1/api-keys", "/admin/v1/invariants"):
        refused(await everything.ask("GET", path), 403, "FORBIDDEN")


async def test_an_ended_key_opens_nothing(office: BoxOffice) -> None:
    """Ended with a reason that is kept; again changes nothing; what it booked stays."""
    made, reseller = await a_key(office)
    hold_id = answered(await reseller.hold(await office.offer()), 201)["id"]
    operator, path = office.operator(), f"/admin/v1/api-keys/{made['id']}/revoke"
    refused(await operator.ask("POST", path, json={}), 422, "VALIDATION_FAILED")
    ended = answered(await operator.ask("POST", path, json={"reason": "found in a repository"}))
    refused(await reseller.see_hold(hold_id), 401, "UNAUTHENTICATED")
    assert answered(await operator.ask("POST", path, json={"reason": "again"})) == ended
    row = await the_action(office, made["id"], "revokeApiKey")
    assert row["reason"] == "found in a repository"
    assert await office.status(hold_id) == "held"
    refused(await operator.ask("POST", "/admin/v1/api-keys/x/revoke", json={"reason": "x"}), 404, "API_KEY_NOT_FOUND")


async def test_other_processes_follow(office: BoxOffice) -> None:
    """A key that was ended elsewhere opens nothing from the next turn of the ticker on."""
    made, reseller = await a_key(office)
    await office.sql("UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = CAST(:id AS uuid)", id=made["id"])
    await office.parts.api_keys.refresh()
    refused(await reseller.ask("GET", "/v1/reservations"), 401, "UNAUTHENTICATED")


async def test_a_key_may_have_an_end(office: BoxOffice) -> None:
    """Good until then, in this very process too, whether or not a ticker has come."""
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    _, reseller = await a_key(office, expires_at=soon)
    answered(await reseller.ask("GET", "/v1/reservations"))
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    _, late = await a_key(office, expires_at=past)
    refused(await late.ask("GET", "/v1/reservations"), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize("token", ["hfk_", "hfk_" + "A" * 43, "hfk_é", "HFK_x"])
async def test_made_up_keys_open_nothing(office: BoxOffice, token: str) -> None:
    """X02: what only looks like a key is 401."""
    header = {"Authorization": f"Bearer {token}".encode()}
    refused(await office.http.get("/v1/reservations", headers=header), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "change", [{"scopes": []}, {"scopes": ["operator"]}, {"name": ""}, {"key": "hfk_mine"}, {"expires_at": 5}]
)
async def test_a_key_has_a_form(office: BoxOffice, change: dict[str, Any]) -> None:
    """V02: nobody chooses a key, or gives it a scope that there is not."""
    body = {"name": "x", "scopes": ALL} | change
    refused(await office.operator().ask("POST", "/admin/v1/api-keys", json=body), 422, "VALIDATION_FAILED")

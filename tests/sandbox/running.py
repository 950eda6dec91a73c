"""A sandbox as a real process on a free port, with the official SDK and a plain HTTP client in front of it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
import stripe

from tests.sandbox.sdk_types import violations

ROOT = Path(__file__).parents[2]
SECRET_KEY = "sk_test_sandbox_tests"
PUBLISHABLE_KEY = "pk_test_sandbox_tests"
WEBHOOK_SECRET = "whsec_sandbox_tests"
_UP_WITHIN_S = 10.0


def free_port() -> int:
    """Return a loopback port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `look` says yes, five seconds at most."""
    for _ in range(250):
        if await look():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true within five seconds")


class ValidatingClient(stripe.HTTPXClient):
    """The SDK's own transport; each object that passes is held against the SDK's own types."""

    def _get_request_args_kwargs(self, method: str, url: str, headers: Any, post_data: Any) -> Any:
        """Pass the form as `content`: the SDK's `data` with a string is deprecated in httpx, and warnings are errors here."""
        args, options = super()._get_request_args_kwargs(method, url, headers, post_data)
        options["content"] = options.pop("data") or None
        return args, options

    async def request_async(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        content, status, answered = await super().request_async(method, url, headers, post_data)
        if status == 200:
            wrong = violations(content)
            assert not wrong, wrong
        self.last_headers = answered
        return content, status, answered


def told(caught: pytest.ExceptionInfo[stripe.StripeError]) -> Any:
    """Return the `error` object that came with a refusal."""
    return caught.value.error


class RunningSandbox:
    """One process and its state, which survives `kill` and `start`."""

    def __init__(self, folder: Path, webhook_url: str = "", **environment: str) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.environment = {
            "SANDBOX_PORT": str(self.port),
            "SANDBOX_STATE": str(folder / "sandbox.sqlite"),
            "SANDBOX_SECRET_KEY": SECRET_KEY,
            "SANDBOX_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
            "SANDBOX_WEBHOOK_URL": webhook_url,
            "SANDBOX_WEBHOOK_SECRET": WEBHOOK_SECRET,
        } | environment
        self.http = httpx.AsyncClient(base_url=self.base, timeout=10, trust_env=False)
        self.stripe_key = SECRET_KEY
        self.transport = ValidatingClient(timeout=10)
        self.stripe = stripe.StripeClient(SECRET_KEY, base_addresses={"api": self.base}, http_client=self.transport)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def v1(self) -> Any:
        """The SDK's services; `Any`, because tests pass wrong parameters on purpose."""
        return self.stripe.v1

    @property
    def last_headers(self) -> Any:
        """The headers of the SDK's last answer."""
        return self.transport.last_headers

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self.kill()
        await self.http.aclose()
        await self.transport.close_async()  # type: ignore[no-untyped-call]

    async def start(self) -> None:
        process = self._launch()
        async with asyncio.timeout(_UP_WITHIN_S):
            while not await self._answers():
                assert process.poll() is None, self.log()
                await asyncio.sleep(0.02)

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "deploy.stripe_sandbox"]
        with (self.folder / "sandbox.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | self.environment, stdout=log, stderr=log
            )
        return self._process

    async def _answers(self) -> bool:
        try:
            return (await self.http.get("/_sandbox/health")).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """`kill -9`."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)

    def terminate(self) -> int:
        """SIGTERM, as a supervisor would; returns the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(5)

    def log(self) -> str:
        return (self.folder / "sandbox.log").read_text()

    async def look(self, page: str, **query: Any) -> Any:
        """GET a page of `/_sandbox/`."""
        return (await self.http.get(f"/_sandbox/{page}", params=query)).raise_for_status().json()

    async def journal(self, **query: Any) -> list[dict[str, Any]]:
        """Return the calls that the sandbox has seen, oldest first."""
        entries: list[dict[str, Any]] = (await self.look("journal", limit=10_000, **query))["entries"]
        return entries

    async def steer(self, lever: str, body: Any) -> Any:
        """POST to a lever of `/_sandbox/`."""
        return (await self.http.post(f"/_sandbox/{lever}", json=body)).raise_for_status().json()

    async def fault(self, **fault: Any) -> None:
        """Put one fault in force."""
        await self.steer("faults", fault)

    async def intent(self, amount: int = 2000, **params: Any) -> Any:
        """Create a PaymentIntent for a card, by default with manual capture as a booking does."""
        defaults = {"currency": "eur", "capture_method": "manual", "allowed_payment_method_types": ["card"]}
        return await self.v1.payment_intents.create_async({"amount": amount} | defaults | params)

    async def authorised(self, card: str = "pm_card_visa", **params: Any) -> Any:
        """Create a PaymentIntent and confirm it with a test card."""
        return await self.intent(payment_method=card, confirm=True, **params)

    async def paid(self, card: str = "pm_card_visa", **params: Any) -> Any:
        """Create a PaymentIntent that takes the money at once."""
        return await self.authorised(card, capture_method="automatic", **params)

    async def pays(self, intent: Any, card: str, **params: str) -> httpx.Response:
        """Confirm as Stripe.js does: publishable key and client secret, from a browser."""
        form = {"key": PUBLISHABLE_KEY, "client_secret": intent.client_secret, "payment_method": card} | params
        return await self.http.post(f"/v1/payment_intents/{intent.id}/confirm", data=form)

    async def events(self, intent_id: str) -> list[str]:
        """Return the types of all events about one PaymentIntent, oldest first."""
        listed = await self.v1.events.list_async({"limit": 100})
        subjects = [(event.type, event.data.object) for event in listed.data]
        about = [
            kind for kind, subject in subjects if intent_id in (subject.id, getattr(subject, "payment_intent", None))
        ]
        return about[::-1]

"""The running system as a test sees it from outside: addresses, tokens, the audit, and the power to end its processes."""

import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import httpx

from deploy.cli import audit as auditing
from deploy.cli.audit import Audit
from deploy.embedded.stack import Stack
from deploy.embedded.tokens import mint_token
from tests.answers import answered, eventually
from tests.audited import on_its_way

Service = Literal["reservation", "payment"]
SERVICES: tuple[Service, ...] = ("reservation", "payment")

# The lease of the stack under test, and how long after a restart a booking may take to be whole again.
LEASE_S = 3
RECOVERY_S = LEASE_S + 15

_DISARMED = {"HOLDFAST_CRASH_AT": ""}


class System:
    """Both services, the Stripe sandbox and their databases, seen through HTTP and process ids only."""

    def __init__(self, stack: Stack, http: httpx.Client) -> None:
        self.stack = stack
        self.http = http

    def call(
        self, service: str, method: str, path: str, *, token: str | None = None, key: str | None = None, **options: Any
    ) -> httpx.Response:
        """Send one request to `reservation`, `payment` or `sandbox`; a wait of more than 20 s is an error."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.request(method, self.url(service) + path, headers=headers, **options)

    def url(self, service: str) -> str:
        """Return where a client is sent to: the process itself, unless something stands before it."""
        return self.stack.url(service)

    def token(self, sub: str, *, roles: Sequence[str] = (), scope: str = "", ttl_s: int = 3600) -> str:
        """Mint a token as the operator's identity provider would."""
        secret = self.stack.wiring.auth_jwt_secret
        return mint_token(secret, sub=sub, roles=roles, scope=scope, ttl_s=ttl_s, now_s=time.time())

    def admin(self, service: Service, method: str, path: str, **options: Any) -> Any:
        """Call an admin endpoint as an operator; return the JSON of its 2xx."""
        operator = self.stack.operator_token()
        return answered(self.call(service, method, f"/admin/v1{path}", token=operator, **options), 200, 201)

    def every(self, service: Service, path: str) -> list[dict[str, Any]]:
        """Return all rows of an admin list, page by page."""
        rows: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self.admin(service, "GET", f"{path}?limit=100{after}")
            rows += page["data"]
            if not page["has_more"]:
                return rows
            after = f"&starting_after={page['next_cursor']}"

    def assert_consistent(self) -> None:
        """Ask each service for its own audit; what is still on its way gets a few seconds to arrive."""
        for service in SERVICES:
            eventually(partial(self._violations, service), _nothing, within_s=5)

    def _violations(self, service: Service) -> list[Any]:
        return _violated(self.admin(service, "GET", "/invariants"))

    def audit(self, *, settle_s: float = 0.0) -> Audit:
        """Make the product's own audit of both services and Stripe; nothing is too young to be judged here."""
        viewer = self.token("auditor", roles=["viewer"])
        return auditing.run(
            lambda service, path: answered(self.call(service, "GET", path, token=viewer)), settle_s=settle_s
        )

    def assert_books_agree(self, *, within_s: float = 15) -> None:
        """Hold bookings, payments and Stripe against each other; what is on its way gets a few seconds to arrive."""
        eventually(self._disagreements, _nothing, within_s=within_s)

    def _disagreements(self) -> list[str]:
        return [f"{one.service} {one.id}: {one.examples}" for one in self.audit().checks if one.violations]

    def setting_of(self, service: Service, name: str) -> str:
        """Return the value that a service was started with."""
        environment: dict[str, str] = self.stack._parts[service].env  # type: ignore[attr-defined]
        return environment[name]

    def crash_at(self, service: Service, point: str) -> None:
        """Start a service so that it kills itself when it reaches a crash point (`name`, or `name#n` for the n-th pass).

        Not while news of others is on its way, or it would die of that, and perhaps before it is ready.
        """
        eventually(self._on_its_way, _nothing, within_s=30)
        self.stack.restart(service, env={"HOLDFAST_CRASH_AT": point})

    def _on_its_way(self) -> list[str]:
        """Follow the news from its source: what Stripe has to send, then what we have to do about it (gauges are late)."""
        deliveries = self.call("sandbox", "GET", "/_sandbox/deliveries").json()["deliveries"]
        unsent = [one["type"] for one in deliveries if one["state"] == "pending"]
        dsn = self.setting_of("payment", "PAYMENT_DATABASE_URL").replace("+asyncpg", "")
        return unsent + [f"{what}: {which}" for what, which in on_its_way(dsn).items()]

    def assert_crashed(self, service: Service, *, within_s: float = 10.0) -> None:
        """Wait until the service is gone, and make sure that it was SIGKILL: the planted fault has really happened."""
        eventually(lambda: self.exit_code(service), _is_known, within_s=within_s)
        assert self.exit_code(service) == -signal.SIGKILL, self.stack.log_tail(service)

    def exit_code(self, service: Service) -> int | None:
        """Return None while a service runs, minus the signal's number when a signal ended it."""
        child = self.stack._parts[service].child
        assert child is not None, f"{service} was never started"
        return child.exit_code

    def heal(self, *services: Service) -> None:
        """Start services again on their ports, with no crash point armed, and wait until they are ready."""
        for service in services:
            self.stack.launch(service, env=_DISARMED)
        for service in services:
            self.stack.wait_ready(service)

    def heal_what_is_down(self) -> None:
        """Give the next test a whole system, whatever the last one did to it."""
        self.heal(*(service for service in SERVICES if not self.stack.alive(service) or self._is_armed(service)))

    def _is_armed(self, service: Service) -> bool:
        return bool(getattr(self.stack._parts[service], "env", {}).get("HOLDFAST_CRASH_AT"))


def _violated(audit: Any) -> list[Any]:
    broken = [check for check in audit["checks"] if check["violations"]]
    assert audit["ok"] == (not broken), audit
    assert audit["checks"], "an audit without checks proves nothing"
    return broken


def _is_known(code: int | None) -> bool:
    return code is not None


def _nothing(found: Sequence[object]) -> bool:
    return not found

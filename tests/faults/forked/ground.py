"""What outlives every crash: databases, Valkey, the Stripe sandbox as a process, and the door that it knocks at.

The listening socket belongs to the process that forks. A child that dies leaves it open, so the address in the
sandbox's books stays right and the next child serves whoever is still waiting there.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.processes import leashed, log_tail
from payment_service.settings import PaymentSettings
from reservation_service.settings import ReservationSettings
from shared.settings import SharedSettings
from tests.surroundings import ROOM_FOR_CROWDS

PROJECT = Path(__file__).parents[3]
JWT_SECRET = "a-secret-of-the-identity-provider-of-the-crash-harness"
KEYS = (("k1", SecretStr("the-internal-key-of-the-crash-harness")),)
LEASE_S = 0.3

_STRIPE_SECRET_KEY = "sk_test_crash_harness"
_STRIPE_PUBLISHABLE_KEY = "pk_test_crash_harness"
WEBHOOK_SECRET = "whsec_crash_harness"
_SANDBOX_UP_S = 20.0
_BACKLOG = 128

# As in production but for the scale of time: what a crash leaves behind is taken up again within a second.
_BOTH: dict[str, Any] = {
    "auth_jwt_secret": SecretStr(JWT_SECRET),
    "internal_signing_keys": KEYS,
    "internal_bearer_secret": SecretStr("a-bearer-secret-for-when-signatures-are-off"),
    "database_pool_timeout_s": 10.0,
    "database_pool_size": 3,  # each life opens its own, and a server process with each
    "flags_refresh_seconds": 600.0,
    "log_level": "WARNING",
}
_RESERVATION: dict[str, Any] = {
    "guest_token_secret": SecretStr("a-secret-for-the-tokens-of-guests-in-the-crash-harness"),
    "saga_lease_seconds": LEASE_S,
    "saga_poll_seconds": 0.2,
    "saga_backoff_max_s": 0.2,
    "payment_ask_first_s": 4.0,
    "sweep_interval_seconds": 0.2,
    "slot_cancellation_poll_seconds": 0.2,
    # Whoever makes the same call until its answer is right would soon be told to wait.
    **{name.lower(): int(value) for name, value in ROOM_FOR_CROWDS.items()},
}
_PAYMENT: dict[str, Any] = {
    "stripe_secret_key": SecretStr(_STRIPE_SECRET_KEY),
    "stripe_publishable_key": _STRIPE_PUBLISHABLE_KEY,
    "stripe_webhook_secrets": (SecretStr(WEBHOOK_SECRET),),
    "retry_max_attempts": 2,
    "retry_first_wait_s": 0.02,
    "retry_max_wait_s": 0.05,
    "refresh_interval_s": 0.3,
    "breaker_rest_s": 0.2,
    "breaker_ramp_s": 0.01,
    "idempotency_lease_s": LEASE_S,
    "webhook_lease_seconds": LEASE_S,
    "webhook_poll_seconds": 0.2,
    "webhook_replay_poll_seconds": 0.2,
    "webhook_backoff_first_s": 0.1,
    "webhook_backoff_max_s": 0.2,
    "outbox_lease_seconds": LEASE_S,
    "outbox_poll_seconds": 0.2,
    "outbox_answered_wait_s": 0.1,
    "outbox_backoff_first_s": 0.1,
    "outbox_backoff_max_s": 0.2,
    "gauges_refresh_seconds": 600.0,
}
_CALM: dict[str, dict[str, Any]] = {
    "reservation": {
        "saga_lease_seconds": 10.0,
        "saga_poll_seconds": 0.4,
        "sweep_interval_seconds": 2.0,
        "slot_cancellation_poll_seconds": 60.0,
        "api_keys_refresh_seconds": 60.0,
    },
    "payment": {
        "idempotency_lease_s": 10.0,
        "webhook_lease_seconds": 10.0,
        "outbox_lease_seconds": 10.0,
        "webhook_poll_seconds": 1.0,
        "webhook_replay_poll_seconds": 60.0,
        "outbox_poll_seconds": 1.0,
    },
}


class Ground:
    """Made once per harness, on two migrated databases and a Valkey (an empty `redis_url`: without one).

    `calm` is for those who let nobody die: leases outlast a slow machine, and nothing has to be found again quickly.
    """

    def __init__(
        self, folder: Path, *, reservation_url: str, payment_url: str, redis_url: str, calm: bool = False
    ) -> None:
        self._calm = _CALM if calm else {"reservation": {}, "payment": {}}
        self.folder = folder
        self._reservation_url = SecretStr(reservation_url)
        self._payment_url = SecretStr(payment_url)
        self._redis_url = redis_url
        self._sandbox_port = free_port()
        self._sandbox: subprocess.Popen[bytes] | None = None
        self.door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.door.bind((LOOPBACK, 0))
        self.door.listen(_BACKLOG)

    @property
    def sandbox_url(self) -> str:
        return f"http://{LOOPBACK}:{self._sandbox_port}"

    @property
    def publishable_key(self) -> str:
        return _STRIPE_PUBLISHABLE_KEY

    def settings(self) -> tuple[ReservationSettings, PaymentSettings]:
        """Return the settings of both services, taken from nowhere but here."""
        both = {**_BOTH, "redis_url": self._redis_url}
        reservation = {"reservation_database_url": self._reservation_url, **self._calm["reservation"]}
        payment = {
            "payment_database_url": self._payment_url,
            "stripe_api_base": self.sandbox_url,
            **self._calm["payment"],
        }
        return (
            ReservationSettings(**(_without_environment(ReservationSettings) | both | _RESERVATION | reservation)),
            PaymentSettings(**(_without_environment(PaymentSettings) | both | _PAYMENT | payment)),
        )

    def __enter__(self) -> Self:
        self._sandbox = self._start_sandbox()
        end = time.monotonic() + _SANDBOX_UP_S
        while not self._answers():
            log = log_tail(self.folder / "sandbox.log")
            assert self._sandbox.poll() is None, f"the sandbox ended: {log}"
            assert time.monotonic() < end, f"the sandbox is not up: {log}"
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._sandbox:
            self._sandbox.kill()
            self._sandbox.wait()
        self.door.close()

    def _start_sandbox(self) -> subprocess.Popen[bytes]:
        environment = {
            "SANDBOX_PORT": str(self._sandbox_port),
            "SANDBOX_STATE": str(self.folder / "sandbox.sqlite"),
            "SANDBOX_SECRET_KEY": _STRIPE_SECRET_KEY,
            "SANDBOX_PUBLISHABLE_KEY": _STRIPE_PUBLISHABLE_KEY,
            "SANDBOX_WEBHOOK_URL": f"http://{LOOPBACK}:{self.door.getsockname()[1]}/webhooks/stripe",
            "SANDBOX_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }
        command = [*leashed(), sys.executable, "-m", "deploy.stripe_sandbox"]
        with (self.folder / "sandbox.log").open("ab") as log:
            return subprocess.Popen(command, cwd=PROJECT, env=os.environ | environment, stdout=log, stderr=log)

    def _answers(self) -> bool:
        try:
            return self.steer("GET", "/health") is not None
        except OSError:
            return False

    def steer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one order to the sandbox's control door, and return what it says."""
        connection = http.client.HTTPConnection(LOOPBACK, self._sandbox_port, timeout=10)
        try:
            connection.request(method, f"/_sandbox{path}", None if body is None else json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, f"{method} {path}: {answer.status} {content!r}"
            return json.loads(content)
        finally:
            connection.close()


def _without_environment(settings: type[SharedSettings]) -> dict[str, Any]:
    """Return the declared defaults, given explicitly: what a developer's shell exports has no say here."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in settings.model_fields.items()
        if not field.is_required()
    }

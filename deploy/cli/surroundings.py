"""Where the system is that a command speaks to: what the environment says, else the clone that is running here."""

import os
import time
from collections.abc import Mapping
from typing import Any

import httpx
import typer

from deploy.embedded.clone import Clone, Running
from deploy.embedded.tokens import mint_token
from deploy.embedded.wiring import STRIPE_API, Cashier, Wiring

REFUSED = 1
NOT_REACHABLE = 3

# Answers about what was asked for; any other 4xx (a token that is not taken, say) is about the way there.
_REFUSALS = (404, 409, 422)
_ANSWER_S = 30.0
_DATABASES = {"reservation": "RESERVATION_DATABASE_URL", "payment": "PAYMENT_DATABASE_URL"}
_SERVICES = {"reservation": "RESERVATION_SERVICE_URL", "payment": "PAYMENT_SERVICE_URL"}


def stop_with(message: str, code: int) -> typer.Exit:
    """Say why on standard error; raise what is returned."""
    typer.echo(message, err=True)
    return typer.Exit(code)


class Surroundings:
    """The system around one command. Each question that cannot be answered ends the command with a sentence."""

    def __init__(self, environ: Mapping[str, str] = os.environ, clone: Clone | None = None) -> None:
        self._environ = environ
        self._clone = clone or Clone.here(environ)

    def running(self) -> Running | None:
        return self._clone.running()

    def database_urls(self) -> dict[str, str]:
        """Return both databases: from the environment, else the embedded ones of a clone that is up."""
        return {service: self._database_url(service, name) for service, name in _DATABASES.items()}

    def _database_url(self, service: str, name: str) -> str:
        if given := self._environ.get(name):
            return given
        return self._wiring_of_running(f"set {name}").database_url(service)

    def service_url(self, service: str) -> str:
        if given := self._environ.get(_SERVICES[service]):
            return given.rstrip("/")
        running = self.running()
        if running is None or service not in running.urls:
            raise self._nothing_runs(f"set {_SERVICES[service]}")
        return running.urls[service]

    def token(self, *, roles: list[str], sub: str, ttl_s: int = 3600, scope: str = "") -> str:
        """Return a token signed with `AUTH_JWT_SECRET`, else with the clone's own secret (running or not)."""
        wiring = self._clone.wiring(self._environ)
        secret = self._environ.get("AUTH_JWT_SECRET") or (wiring.auth_jwt_secret if wiring else "")
        if not secret:
            raise self._nothing_runs("set AUTH_JWT_SECRET")
        return mint_token(secret, sub=sub, now_s=time.time(), ttl_s=ttl_s, roles=roles, scope=scope)

    def cashier(self) -> Cashier:
        """Return where a demo booking may be paid."""
        running = self.running()
        if running is not None and "RESERVATION_SERVICE_URL" not in self._environ:
            sandbox = running.urls.get("sandbox")
            return Cashier(sandbox) if sandbox else self._wiring_of_running("").cashier()
        may_pay = self._environ.get("STRIPE_SECRET_KEY", "").startswith("sk_test")
        return Cashier(self._environ.get("STRIPE_API_BASE") or STRIPE_API, may_pay=may_pay)

    def get(self, service: str, path: str) -> Any:
        """Ask a service as a viewer; return its JSON. Ends the command when it cannot be reached or refuses."""
        return self._ask("GET", service, path, token=self.token(roles=["viewer"], sub="cli", ttl_s=60))

    def post(self, service: str, path: str, body: Mapping[str, Any], *, by: str) -> Any:
        """Ask a service to do something, as an operator of that name; return its JSON. A refusal ends the command."""
        return self._ask("POST", service, path, token=self.token(roles=["operator"], sub=by, ttl_s=60), json=body)

    def _ask(self, method: str, service: str, path: str, *, token: str, **options: Any) -> Any:
        url = self.service_url(service) + path
        headers = {"Authorization": f"Bearer {token}"}
        try:
            answer = httpx.request(method, url, headers=headers, timeout=_ANSWER_S, **options)
            if answer.status_code in _REFUSALS:
                problem = answer.json()
                raise stop_with(f"{problem['code']}: {problem['detail']}", REFUSED)
            return answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise stop_with(f"{url}: {error}", NOT_REACHABLE) from None

    def _wiring_of_running(self, otherwise: str) -> Wiring:
        wiring = self._clone.wiring(self._environ) if self.running() is not None else None
        if wiring is None:
            raise self._nothing_runs(otherwise)
        return wiring

    def _nothing_runs(self, otherwise: str) -> typer.Exit:
        return stop_with(
            f"nothing runs from {self._clone.folder}: start it with `make run`, or {otherwise}", NOT_REACHABLE
        )

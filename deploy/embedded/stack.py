"""The whole of Holdfast on one machine: what `make run` shows and what the tests drive is this one class."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.embedded.credentials import load_or_make, write_private
from deploy.embedded.parts import HttpPart, Part
from deploy.embedded.ports import choose_ports
from deploy.embedded.postgres import Postgres
from deploy.embedded.processes import StartFailed
from deploy.embedded.tokens import mint_token
from deploy.embedded.valkey import Valkey, find_valkey
from deploy.embedded.wiring import SERVICES, Wiring

NAMES = ("postgres", "valkey", "sandbox", "payment", "reservation")

_READY_S = 40.0
_PATIENT = {"START_PATIENCE_S": "120"}  # a new database is made and filled meanwhile; whoever does that has deadlines
_MODULES = {"payment": "payment_service", "reservation": "reservation_service"}


def _silence(_line: str) -> None:
    return


class Stack:
    """PostgreSQL, Valkey, the Stripe sandbox and both services, on free loopback ports that `folder` remembers.

    `environ` (default: this process's) may replace parts: `RESERVATION_DATABASE_URL`, `PAYMENT_DATABASE_URL`,
    `REDIS_URL` (empty: run without), `STRIPE_SECRET_KEY` or `STRIPE_API_BASE`. `extra_env` adds settings per process,
    `all` meaning both services. Every method blocks, and may be called from inside an event loop.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environ: Mapping[str, str] | None = None,
        durable: bool = True,
        extra_env: Mapping[str, Mapping[str, str]] | None = None,
        announce: Callable[[str], None] = _silence,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.credentials = load_or_make(folder)
        self._extra_env = {name: dict(env) for name, env in (extra_env or {}).items()}
        self._announce = announce
        ports = _remembered_ports(folder)
        self.wiring = Wiring(dict(os.environ if environ is None else environ), self.credentials, ports)
        self._parts = self._plan(durable=durable)

    def _plan(self, *, durable: bool) -> dict[str, Part]:
        """Decide which parts this stack consists of, in the order in which they are needed."""
        wiring, parts = self.wiring, dict[str, Part]()
        if wiring.embedded_databases():
            parts["postgres"] = Postgres(
                self.folder / "postgres",
                password=self.credentials.postgres_password,
                port=wiring.ports["postgres"],
                durable=durable,
            )
        if wiring.embeds_redis and find_valkey(wiring.environ):
            parts["valkey"] = Valkey(self.folder, port=wiring.ports["valkey"], binary=find_valkey(wiring.environ))
        if wiring.embeds_stripe:
            env = wiring.sandbox_env(self.folder / "sandbox.sqlite") | self._extra_env.get("sandbox", {})
            parts["sandbox"] = HttpPart(
                "sandbox",
                "deploy.stripe_sandbox",
                port=wiring.ports["sandbox"],
                folder=self.folder,
                env=env,
                ready_path="/_sandbox/health",
            )
        for service in SERVICES:
            parts[service] = self._service(service, service, wiring, redis_url=_redis_url(parts))
        return parts

    def _service(self, name: str, service: str, wiring: Wiring, *, redis_url: str) -> HttpPart:
        extra = self._extra_env.get("all", {}) | self._extra_env.get(service, {})
        return HttpPart(
            name,
            _MODULES[service],
            port=wiring.ports[service],
            folder=self.folder,
            env=wiring.service_env(service, redis_url=redis_url) | extra,
            ready_path="/readyz",
        )

    def start(self) -> None:
        """Start everything, migrated and ready. Raises StartFailed, with nothing left running."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        began = time.monotonic()
        for name in ("postgres", "valkey"):
            if name in self._parts:
                self._parts[name].spawn()
        for name in (*SERVICES, "sandbox"):  # which load their code while the databases are prepared
            part = self._parts.get(name)
            if isinstance(part, HttpPart):
                part.spawn(env=_PATIENT)
        self._prepare_databases(began)
        if not self.url("valkey"):
            self._announce("running without Redis: the lock only saves work, nothing else changes")
        for name in ("valkey", "sandbox", *SERVICES):
            if name in self._parts:
                self.wait_ready(name)
                self._announce(f"{name} ready on port {self._parts[name].port}, {time.monotonic() - began:.1f} s")

    def _prepare_databases(self, began: float) -> None:
        from deploy.embedded.databases import migrate  # noqa: PLC0415  half a second, well spent while the server starts

        postgres = self._parts.get("postgres")
        if isinstance(postgres, Postgres):
            postgres.wait_ready()
            source = f"{postgres.quarters.binaries.major} of {postgres.quarters.binaries.source}"
            self._announce(f"postgres {source} ready on port {postgres.port}, {time.monotonic() - began:.1f} s")
            for service in self.wiring.embedded_databases():
                owner, password = self.wiring.database_owner(service)
                postgres.create_database(owner, owner=owner, owner_password=password)
        try:
            done = migrate({service: self.wiring.database_url(service) for service in SERVICES})
        except OSError as error:
            raise StartFailed(f"a database of yours cannot be reached: {error}") from error
        news = ", ".join(f"{one.service} {one.before or 'empty'} -> {one.after}" for one in done if one.changed)
        self._announce(f"databases up to date ({news or 'nothing to do'}), {time.monotonic() - began:.1f} s")

    def close(self) -> None:
        """Stop everything, what needs others before what they need. Never raises for a part that is dead already."""
        for part in reversed(self._parts.values()):
            with contextlib.suppress(OSError):
                part.stop()

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts this stack runs itself, replicas included."""
        return tuple(self._parts)

    def children(self) -> dict[str, tuple[int, str]]:
        """Return each living part's process id with a mark by which its command line can be known again."""
        return {
            name: (part.child.pid, part.mark)
            for name, part in self._parts.items()
            if part.child is not None and part.child.alive
        }

    def url(self, name: str) -> str:
        """Return where a part listens; for `valkey` the Redis address in use, empty when there is none."""
        if name == "valkey":
            return self.wiring.environ.get("REDIS_URL", _redis_url(self._parts))
        part = self._parts[name]
        if not isinstance(part, HttpPart):
            raise KeyError(f"{name} has no HTTP address")
        return part.url

    def database_url(self, service: str) -> str:
        """Return the database of `payment` or `reservation` for SQLAlchemy."""
        return self.wiring.database_url(service)

    def alive(self, name: str) -> bool:
        child = self._parts[name].child
        return child is not None and child.alive

    def exit_code(self, name: str) -> int | None:
        """Return None while a part runs (or never did), minus the signal's number when a signal ended it."""
        child = self._parts[name].child
        return child.exit_code if child is not None else None

    def log_tail(self, name: str, lines: int = 40) -> str:
        child = self._parts[name].child
        return child.log_tail(lines) if child is not None else "(never started)"

    def kill(self, name: str) -> None:
        """End a part as a power cut would; returns when it is gone."""
        self._parts[name].kill()

    def stop(self, name: str) -> None:
        """Ask a part to drain and leave; returns when it is gone."""
        self._parts[name].stop()

    def launch(self, name: str, *, env: Mapping[str, str] | None = None) -> None:
        """Start a part again without waiting for it; `env` stays for later starts of the same part."""
        part = self._parts[name]
        part.stop()
        if env:
            if not isinstance(part, HttpPart):
                raise KeyError(f"{name} takes no environment")
            part.env.update(env)
        part.spawn()

    def wait_ready(self, name: str, deadline_s: float = _READY_S) -> None:
        self._parts[name].wait_ready(deadline_s)

    def restart(self, name: str, *, env: Mapping[str, str] | None = None) -> None:
        """Start a part again on its port (stopping it if it runs) and wait until it is ready. Raises StartFailed."""
        self.launch(name, env=env)
        self.wait_ready(name)

    def add_replica(self, service: str, *, env: Mapping[str, str] | None = None, module: str = "") -> str:
        """Start one more process of `payment` or `reservation` on the same database; return its name when ready.

        `module` is another program that is this service, a later release of it for example.
        """
        name = next(f"{service}-{n}" for n in range(2, 100) if f"{service}-{n}" not in self._parts)
        port = choose_ports([name], {})[name]
        part = self._service(name, service, self.wiring, redis_url=self.url("valkey"))
        part.port, part.module = port, module or part.module
        part.env |= {f"{service.upper()}_PORT": str(port), **(env or {})}
        part.spawn()
        self._parts[name] = part
        self.wait_ready(name)
        return name

    def operator_token(self, *, ttl_s: int = 3600) -> str:
        """Return a bearer token that may do everything under /admin/v1."""
        return mint_token(
            self.wiring.auth_jwt_secret, sub="operator:embedded", roles=["operator"], ttl_s=ttl_s, now_s=time.time()
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _redis_url(parts: Mapping[str, Part]) -> str:
    valkey = parts.get("valkey")
    return valkey.url if isinstance(valkey, Valkey) else ""


def _remembered_ports(folder: Path) -> dict[str, int]:
    """Choose the ports of this run, the last run's where they are still free, and remember them."""
    path = folder / "ports.json"
    kept: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    ports = choose_ports(NAMES, kept)
    if ports != kept:
        write_private(path, json.dumps(ports))
    return ports

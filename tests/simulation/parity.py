"""The same random calls of the store, wherever they are run: on PostgreSQL, or in memory. All answers are told as text.

Imports nothing of SQLAlchemy, so that either one can stand behind the product's own `store/`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from reservation_service.store import catalogue
from tests.simulation import chance, store_calls

Do = Callable[[Any], Awaitable[Any]]


class Undone(Exception):
    """The transaction is taken back, for no reason but to see that it is."""


class Time:
    """The instant at which both databases live."""

    def __init__(self) -> None:
        self.at = datetime.fromisoformat("2031-03-01T12:00:00+00:00")

    def now(self) -> datetime:
        return self.at


def told(value: Any) -> str:
    """Return an answer as text that does not depend on who gave it."""
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in sorted(value.items(), key=lambda item: str(item[0]))}
    if hasattr(value, "keys"):
        return _plain({name: value[name] for name in value.keys()})  # noqa: SIM118  a row of a result
    if isinstance(value, bool | None):
        return value
    if isinstance(value, float | Decimal | int):
        return round(float(value), 3)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    return str(value)


class Play:
    """One sequence of calls. Each is chosen, and given its arguments, by the seed and by what was answered before."""

    def __init__(self, seed: int) -> None:
        self.time = Time()
        chance.begin(seed, self.time)
        self._random = Random(f"{seed}:parity")
        self._id = chance._uuid7
        self.slots = [self._id() for _ in range(2)]
        self.experience, self.ticket = self._id(), self._id()
        self.bookings: list[UUID] = []
        self.sagas: list[UUID] = []
        self.payments: list[UUID] = []
        self.refunds: list[UUID] = []
        self.events: list[UUID] = []
        self.asked: list[tuple[Any, ...]] = []

    def told(self, answer: Any) -> str:
        return told(answer)

    def pause(self) -> None:
        """Let time go on: a little, so that no two things happen at once, and now and then for long."""
        self.time.at += timedelta(milliseconds=self._random.randint(1, 900))
        if self._random.random() < 0.1:
            self.time.at += timedelta(seconds=self._random.randint(1, 400))

    async def stage(self, tx: Any) -> None:
        """Put something on sale."""
        sold = {
            "id": self.experience, "title": "A", "description": "", "time_zone": "UTC", "currency": "EUR",
            "max_party": 9, "cutoff_minutes": 0, "capture_method": "manual", "cancellation_policy": {"a": [1]},
        }  # fmt: skip
        ticket = {"id": self.ticket, "code": "adult", "title": "Adult", "price_minor": 500, "seats": 1, "position": 0}
        await catalogue.add_experience(tx, sold, [{**ticket, "experience_id": self.experience}])
        for slot_id in self.slots:
            starts = self.time.now() + timedelta(days=1)
            slot = {"id": slot_id, "experience_id": self.experience, "starts_at": starts, "sells_until": starts}
            await catalogue.add_time_slot(tx, slot | {"ends_at": starts + timedelta(hours=1), "capacity": 6})

    def next_call(self) -> tuple[str, str, Do]:
        """Return which service's database is called, what is done, and how."""
        service = self._random.choice(("reservation", "payment"))
        ways = store_calls.WAYS[service]
        name = self._random.choice(list(ways))
        return service, name, lambda tx: ways[name](self, tx)

    def takes_it_back(self) -> bool:
        return self._random.random() < 0.08

    # arguments

    def one(self, known: list[Any]) -> Any:
        """Return something known, or now and then something that nobody knows."""
        return self._random.choice(known[-6:]) if known and self._random.random() < 0.95 else self._id()

    def either(self, *options: Any) -> Any:
        return self._random.choice(options)

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


async def run(play: Play, transact: Callable[[str, Do], Awaitable[Any]], calls_count: int) -> list[str]:
    """Make the calls, each in a transaction of its own, and return what was answered to each."""
    await transact("reservation", play.stage)
    lines = []
    for _ in range(calls_count):
        play.pause()
        service, name, do = play.next_call()
        undone = play.takes_it_back()
        try:
            answer = told(await transact(service, _then_undone(do) if undone else do))
        except Undone:
            answer = "undone"
        except Exception as error:  # noqa: BLE001  an error is an answer too: what matters is which
            answer = f"{type(error).__name__} {getattr(getattr(error, 'orig', error), 'sqlstate', '')}"
        lines.append(f"{service} {name}: {answer}")
    return lines


def _then_undone(do: Do) -> Do:
    async def doing(tx: Any) -> Any:
        await do(tx)
        raise Undone

    return doing

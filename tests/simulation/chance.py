"""Everything that the product draws by lot or reads off the machine comes from the seed here, before it is imported."""

import datetime as dt
import random
import secrets
import uuid
from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar
from uuid import UUID

T = TypeVar("T")

_drawn = Random(0)
_instant: Any = None


def _uuid4() -> UUID:
    return UUID(int=_drawn.getrandbits(128), version=4)


def _uuid7() -> UUID:
    """Return an id that sorts by virtual time, like the real ones."""
    at_ms = int(_instant.now().timestamp() * 1000) if _instant else 0
    return UUID(int=(at_ms << 80) | (7 << 76) | (_drawn.getrandbits(12) << 64) | (2 << 62) | _drawn.getrandbits(62))


def _choice(options: Sequence[T]) -> T:
    return options[_drawn.randrange(len(options))]


class _Datetime(dt.datetime):
    """`datetime` whose now is the simulated one."""

    @classmethod
    def now(cls, _zone: Any = None) -> Any:
        return _instant.now()


def install() -> None:
    """Take the machine's chance away; to be called before the product is imported."""
    secrets.choice = _choice  # type: ignore[assignment]
    uuid.uuid4 = _uuid4


def adopt(module: Any) -> None:
    """Give an imported module of the product the simulated clock in place of the machine's."""
    module.datetime = _Datetime


def begin(seed: int, clock: Any) -> None:
    """Begin anew: from here on everything follows from the seed."""
    global _instant  # noqa: PLW0603  one world at a time
    _drawn.seed(f"{seed}:ids")
    random.seed(f"{seed}:waits")
    _instant = clock

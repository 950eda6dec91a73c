"""Ids in Stripe's manner; seeded on request, so that a failing run can be told again with the same names."""

import random
import string

from .state import State

_ALPHABET = string.ascii_letters + string.digits


class Identifiers:
    """Make ids that never repeat: a seeded source starts from another point after each restart on the same state."""

    def __init__(self, state: State, seed: str) -> None:
        starts = int(state.noted("starts", "0")) + 1
        state.note("starts", str(starts))
        self._random: random.Random = random.Random(f"{seed}/{starts}") if seed else random.SystemRandom()  # noqa: S311  # ids of a test double

    def new(self, prefix: str) -> str:
        return f"{prefix}_{self._letters(24)}"

    def client_secret(self, intent_id: str) -> str:
        return f"{intent_id}_secret_{self._letters(25)}"

    def _letters(self, length: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=length))

"""Idempotency keys as Stripe documents them: the first answer is kept for 24 hours, whatever it was.

Not kept: refusals of parameters, of credentials and of rate, and calls that met another one under the same key.
"""

import hashlib
from dataclasses import dataclass

import orjson

from .errors import ParametersInvalid
from .parameters import Params
from .state import State

KEPT_S = 24 * 3600
KEY_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class Stored:
    """The first answer under a key."""

    status: int
    body: bytes
    request_id: str


def check_length(key: str) -> None:
    if len(key) > KEY_LENGTH_MAX:
        raise ParametersInvalid(
            f"Idempotency keys may have at most {KEY_LENGTH_MAX} characters.", kind="idempotency_error"
        )


def fingerprint(params: Params) -> str:
    return hashlib.sha256(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)).hexdigest()


def find(state: State, now: int, key: str, endpoint: str, print_of_params: str) -> Stored | None:
    """Return what was answered under this key, or None when it is new (or older than a day).

    Raises `ParametersInvalid` of type `idempotency_error` when the key was used for another request.
    """
    state.run("DELETE FROM idempotency WHERE key = ? AND created <= ?", key, now - KEPT_S)
    row = state.run(
        "SELECT endpoint, fingerprint, status, body, request_id FROM idempotency WHERE key = ?", key
    ).fetchone()
    if row is None:
        return None
    if row[0] != endpoint:
        message = f"Keys for idempotent requests can only be used for the same endpoint they were first used for ('{row[0]}' vs '{endpoint}'). Try using a key other than '{key}'."
        raise ParametersInvalid(message, kind="idempotency_error")
    if row[1] != print_of_params:
        message = f"Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{key}' if you meant to execute a different request."
        raise ParametersInvalid(message, kind="idempotency_error")
    return Stored(row[2], row[3], row[4])


def store(state: State, now: int, key: str, endpoint: str, print_of_params: str, answer: Stored) -> None:
    """Keep the answer, in the transaction of its effects."""
    state.run(
        "INSERT INTO idempotency (key, endpoint, fingerprint, status, body, request_id, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        key, endpoint, print_of_params, answer.status, answer.body, answer.request_id, now,
    )  # fmt: skip


def in_use(key: str) -> ParametersInvalid:
    message = f"There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice): {key}"
    return ParametersInvalid(message, status=409, kind="idempotency_error", code="idempotency_key_in_use")

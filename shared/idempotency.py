"""What both services mean by an Idempotency-Key: how it is written, and when two requests are the same one."""

import hashlib
import re
from typing import Any

import orjson

from shared.problems import IdempotencyKeyInvalid, IdempotencyKeyMissing

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


def parse_key(values: list[str]) -> str:
    """Return the key of a request's `Idempotency-Key` header lines, bare or as a quoted string.

    Source: draft-ietf-httpapi-idempotency-key-header, which writes the key as a structured-field string.
    Raises IdempotencyKeyMissing or IdempotencyKeyInvalid (both 400).
    """
    if not values:
        raise IdempotencyKeyMissing
    key = values[0]
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or not _VISIBLE_ASCII.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def fingerprint(method: str, path: str, body: Any) -> bytes:
    """Hash what makes a request this request: method, concrete path, and the body whatever its spacing and key order."""
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(b"\n".join((method.encode(), path.encode(), canonical)), digest_size=16).digest()

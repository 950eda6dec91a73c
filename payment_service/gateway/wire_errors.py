"""Reads what Stripe says besides objects: its refusals and its headers, words for programs only."""

from typing import Any

_RETRY_AFTER_MAX_S = 300.0


def said(document: Any) -> dict[str, Any]:
    """Return the error object of a refusal; empty for what is none."""
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def code(document: Any) -> str:
    """Return Stripe's code if it is a word; never its message, which may quote what a guest typed."""
    word = _text(said(document).get("code")) or ""
    return word[:100] if word.replace("_", "").isalnum() and word.isascii() else ""


def decline_codes(error: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return Stripe's code and the bank's."""
    return _text(error.get("code")), _text(error.get("decline_code"))


def seconds(value: str | None) -> float | None:
    """Read a wait; whoever asks for an hour is looked at again sooner, because anybody may have written the answer."""
    return min(float(value), _RETRY_AFTER_MAX_S) if value and value.isdecimal() else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

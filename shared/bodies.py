"""Strict request bodies: what a client may send is exactly what is written down, or it is refused."""

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Strict, StringConstraints


class StrictBody(BaseModel):
    """A request body: unknown fields, floats for integers and strings for numbers are refused (422)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def storable(text: str) -> str:
    """Refuse what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    if "\x00" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be well-formed Unicode") from None
    return text


# Numbers as card schemes give them out, also when somebody groups the digits.
_CARD = re.compile(
    r"(?<![0-9a-fA-F-])(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|6(?:011|5[0-9]{2})[0-9]{12}"
    r"|35[0-9]{14}|3(?:0[0-5]|[68][0-9])[0-9]{11})(?![0-9a-fA-F-])"
)
_GROUPED = re.compile(r"(?<=[0-9])[ -](?=[0-9])")


def free_text(text: str) -> str:
    """Refuse what cannot be stored, and what looks like the number of a card: those never reach us."""
    if any(_passes_luhn(found.group()) for found in _CARD.finditer(_GROUPED.sub("", text))):
        raise ValueError("must not contain a card number")
    return storable(text)


def _passes_luhn(digits: str) -> bool:
    """Check the last digit as ISO/IEC 7812 says."""
    doubled = (int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0


def _only_text(value: object) -> object:
    if not isinstance(value, str | datetime | UUID):
        raise ValueError("must be a string")  # noqa: TRY004  pydantic turns ValueError, not TypeError, into a 422
    return value


ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(free_text)]
LongText = Annotated[str, StringConstraints(max_length=5000), AfterValidator(free_text)]
Id = Annotated[UUID, Strict(strict=False), BeforeValidator(_only_text)]
Instant = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_only_text)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


def parse_id(text: str) -> UUID | None:
    """Read an id from a path; anything that is no id names nothing, so the caller answers 404."""
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None

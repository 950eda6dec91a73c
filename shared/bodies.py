"""Strict request bodies: what a client may send is exactly what is written down, or it is refused."""

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


def _only_text(value: object) -> object:
    if not isinstance(value, str | datetime | UUID):
        raise ValueError("must be a string")  # noqa: TRY004  pydantic turns ValueError, not TypeError, into a 422
    return value


ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(storable)]
LongText = Annotated[str, StringConstraints(max_length=5000), AfterValidator(storable)]
Id = Annotated[UUID, Strict(strict=False), BeforeValidator(_only_text)]
Instant = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_only_text)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


def parse_id(text: str) -> UUID | None:
    """Read an id from a path; anything that is no id names nothing, so the caller answers 404."""
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None

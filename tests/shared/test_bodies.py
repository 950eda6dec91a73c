"""Strict bodies: what is not written down is refused, and what cannot be stored never gets that far."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.bodies import Currency, Id, Instant, LongText, ShortText, StrictBody, free_text, parse_id, storable


class Order(StrictBody):
    id: Id
    at: Instant
    count: int = 1
    gift: bool = False
    name: ShortText = "x"
    note: LongText = ""
    currency: Currency = "EUR"


GOOD = {"id": str(uuid4()), "at": "2030-01-01T10:00:00Z"}


def test_the_documented_form_is_read() -> None:
    """Ids and instants are text in JSON and typed in code."""
    order = Order.model_validate_json(f'{{"id": "{GOOD["id"]}", "at": "{GOOD["at"]}"}}')
    assert (order.id, order.at) == (UUID(GOOD["id"]), datetime(2030, 1, 1, 10, tzinfo=UTC))


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "me"},
        {"count": "1"},
        {"count": 1.0},
        {"count": True},
        {"count": None},
        {"gift": 1},
        {"gift": "true"},
        {"id": 7},
        {"id": "7"},
        {"id": None},
        {"at": 1_900_000_000},
        {"at": "2030-01-01T10:00:00"},
        {"at": "tomorrow"},
        {"name": ""},
        {"name": "x" * 201},
        {"name": 5},
        {"name": "a\x00"},
        {"name": "\ud800"},
        {"note": "x" * 5001},
        {"note": "\udfff"},
        {"currency": "eur"},
        {"currency": "EURO"},
        {"currency": "EUR\n"},
    ],
    ids=repr,
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    """V01, V02, V05: unknown fields, other types, unstorable text, instants without an offset."""
    with pytest.raises(ValidationError):
        Order.model_validate(GOOD | change)


@given(st.text())
def test_what_passes_can_be_stored(text: str) -> None:
    """V05: text that passes is well-formed and free of NUL, everything else is a ValueError."""
    try:
        assert storable(text) == text
    except ValueError:
        assert "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text)
    else:
        assert b"\x00" not in text.encode()


@given(st.uuids())
def test_an_id_is_read_in_its_one_form(value: UUID) -> None:
    """Only the form with hyphens names something."""
    assert parse_id(str(value)) == value
    assert parse_id(str(value).upper()) == value
    assert parse_id(value.hex) is None
    assert parse_id(f"{{{value}}}") is None
    assert parse_id(f"urn:uuid:{value}") is None


@given(st.text())
def test_no_path_makes_it_fail(text: str) -> None:
    """V05: any other text names nothing."""
    found = parse_id(text)
    assert found is None or len(text) == 36


@pytest.mark.parametrize("text", ["", "x", "0" * 36, "\x00" * 36, "é" * 36, "-" * 36, "g" * 36])
def test_what_is_no_id_names_nothing(text: str) -> None:
    """X01: the caller then answers 404."""
    assert parse_id(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424242", "my card is 4000 0025 0000 3155, thanks", "5555-5555-5555-4444", "378282246310005",
        "6011111111111117", "30569309025904", "3566002020360505", "2223003122003222",
    ],
)  # fmt: skip
def test_the_number_of_a_card_is_refused(text: str) -> None:
    """X07: whatever its scheme and however it is grouped, and the refusal does not repeat it."""
    with pytest.raises(ValueError, match="card number") as refusal:
        free_text(text)
    assert text not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424241", "1234567890123456", "+351 912 345 678", "2026-11-24 19:30", "ISBN 978-3-16-148410-0",
        "order 20261124-000017", "42424242-4242-4242-8242-424242424242", "x" * 200, "4242",
    ],
)  # fmt: skip
def test_other_numbers_are_taken(text: str) -> None:
    """Telephone numbers, dates, references and ids are no cards."""
    assert free_text(text) == text

"""Settings: read from the environment, refused when they make no sense, and never shown when they are secrets."""

import json

import pytest
from pydantic import ValidationError

from reservation_service.settings import ReservationSettings
from shared.identifiers import derived_id, new_id
from shared.serving import _what_is_wrong
from shared.settings import SharedSettings, comma_list

ONE, TWO, COLONS = "one" * 11, "two" * 11, "a:b" * 11
NEEDED = {"AUTH_JWT_SECRET": "jwt-secret" * 4, "INTERNAL_SIGNING_KEYS": f"new:{ONE}, old:{TWO}"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_keys_are_a_list_in_their_order() -> None:
    """X04: the first one signs, all of them verify."""
    keys = SharedSettings().internal_signing_keys
    assert [(key_id, secret.get_secret_value()) for key_id, secret in keys] == [("new", ONE), ("old", TWO)]


@pytest.mark.parametrize("text", ["", " ", ",", "id", "id:", f":{ONE}", f"a:{ONE},c"])
def test_keys_that_are_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A service does not start with half a key."""
    monkeypatch.setenv("INTERNAL_SIGNING_KEYS", text)
    with pytest.raises(ValidationError):
        SharedSettings()


def test_a_secret_may_hold_a_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first colon ends the id."""
    monkeypatch.setenv("INTERNAL_SIGNING_KEYS", f"id:{COLONS}")
    ((_, secret),) = SharedSettings().internal_signing_keys
    assert secret.get_secret_value() == COLONS


@pytest.mark.parametrize("secret", ["", "canary-of-31-characters-1234567"])
def test_guests_tokens_are_not_signed_with_what_can_be_guessed(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """Empty means forgotten, and is refused as what is too short."""
    monkeypatch.setenv("RESERVATION_DATABASE_URL", "postgresql+asyncpg://nobody@127.0.0.1:9/none")
    monkeypatch.setenv("GUEST_TOKEN_SECRET", secret)
    with pytest.raises(ValidationError) as error:
        ReservationSettings()
    assert [item["loc"] for item in error.value.errors()] == [("guest_token_secret",)]
    monkeypatch.setenv("GUEST_TOKEN_SECRET", "x" * 32)
    ReservationSettings()


def test_secrets_are_not_shown() -> None:
    """I25: neither a repr nor a dump holds a secret."""
    settings = SharedSettings()
    for shown in (repr(settings), str(settings), json.dumps(settings.model_dump(), default=str)):
        assert "jwt-secret" not in shown
        assert ONE not in shown


def test_what_is_wrong_names_variables_not_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """I25: the one line at start-up says which variable, never what is in it."""
    monkeypatch.delenv("AUTH_JWT_SECRET")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "canary")
    monkeypatch.setenv("INTERNAL_SIGNING_KEYS", "canary")
    with pytest.raises(ValidationError) as error:
        SharedSettings()
    line = _what_is_wrong(error.value)
    for name in ("AUTH_JWT_SECRET", "DATABASE_POOL_SIZE", "INTERNAL_SIGNING_KEYS"):
        assert name in line
    assert "canary" not in line


def test_lists_with_commas() -> None:
    """Blanks and empty parts are left out; what is no text is left alone."""
    assert comma_list(" a, b ,,") == ("a", "b")
    assert comma_list("") == ()
    assert comma_list(("a",)) == ("a",)


def test_ids_sort_by_their_time_and_derived_ones_are_stable() -> None:
    """New ids grow; the id that belongs to a name is the same each time, and another one for another name."""
    ids = [new_id() for _ in range(200)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
    parent, other = ids[0], ids[1]
    assert derived_id(parent, "payment:1") == derived_id(parent, "payment:1")
    assert len({derived_id(parent, "payment:1"), derived_id(parent, "payment:2"), derived_id(other, "payment:1")}) == 3

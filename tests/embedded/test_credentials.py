"""Secrets: made once, private, complete, and in nobody's log."""

import json
from dataclasses import asdict
from pathlib import Path

from deploy.embedded.credentials import FILE_NAME, load, load_or_make


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    """The second start finds the first one's secrets, in a file that only its owner can read."""
    made = load_or_make(tmp_path)
    assert load_or_make(tmp_path) == made == load(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_every_secret_is_its_own_and_long(tmp_path: Path) -> None:
    """No secret doubles as another, and each has 256 bits; two clones share none."""
    (tmp_path / "other").mkdir()
    values = [*asdict(load_or_make(tmp_path)).values(), *asdict(load_or_make(tmp_path / "other")).values()]
    assert len({value[-64:] for value in values}) == len(values) == 20


def test_a_secret_added_by_a_later_release_is_made(tmp_path: Path) -> None:
    """An older state folder is completed; what it had stays."""
    made = asdict(load_or_make(tmp_path))
    kept = {name: value for name, value in made.items() if name != "guest_token_secret"}
    (tmp_path / FILE_NAME).write_text(json.dumps(kept))
    completed = asdict(load_or_make(tmp_path))
    assert completed["guest_token_secret"]
    assert {name: completed[name] for name in kept} == kept


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """A traceback or a log line that holds the object holds no secret."""
    made = load_or_make(tmp_path)
    assert made.auth_jwt_secret not in repr(made)


def test_a_clone_that_never_ran_has_none(tmp_path: Path) -> None:
    """Looking makes nothing."""
    assert load(tmp_path) is None
    assert not list(tmp_path.iterdir())

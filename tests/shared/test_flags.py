"""Flags: declared in code, started from the environment, changed in the database, the same for one caller throughout."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData

from shared.database import Database
from shared.flags import Flag, Flags, Override, flag_overrides_table
from shared.operator_actions import operator_actions_table

METADATA = MetaData()
TABLE = flag_overrides_table(METADATA)
operator_actions_table(METADATA)
DECLARED = (Flag("lights", off_means="dark"), Flag("music", off_means="silence", default=False))


def flags(environment: Mapping[str, str] | None = None) -> Flags:
    return Flags(DECLARED, TABLE, environment or {})


@pytest.fixture
async def stored(database: Database) -> Database:
    async with database.transaction("test") as tx:
        await tx.run_sync(METADATA.create_all)
        await tx.execute(TABLE.delete())
    return database


async def put(stored: Database, subject: Flags, name: str, *, enabled: bool = True, percentage: int = 100) -> None:
    await subject.set(stored, name, Override(enabled, percentage), by="olga", reason="test")


def test_a_flag_starts_as_declared() -> None:
    """The default stands in code."""
    assert (flags().is_on("lights"), flags().is_on("music")) == (True, False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("true", True),
        ("ON", True),
        (" yes ", True),
        ("0", False),
        ("off", False),
        ("", False),
        ("x", False),
    ],
)
def test_the_environment_gives_the_start_value(text: str, value: bool) -> None:
    """`FLAG_<NAME>` decides how a flag starts; everything that is not a yes is a no."""
    started = flags({"FLAG_LIGHTS": text, "FLAG_MUSIC": text})
    assert (started.is_on("lights"), started.is_on("music")) == (value, value)


def test_a_flag_that_is_not_declared_is_a_bug() -> None:
    """A typo raises instead of being off for ever."""
    with pytest.raises(KeyError):
        flags().is_on("light")
    with pytest.raises(KeyError):
        flags().snapshot("ada")["light"]


async def test_an_override_beats_the_start_value(stored: Database) -> None:
    """The process that sets a flag sees it at once, another one at its next refresh."""
    one, other = flags(), flags({"FLAG_MUSIC": "on"})
    await put(stored, one, "lights", enabled=False)
    await put(stored, one, "music", enabled=False)
    assert (one.is_on("lights"), one.is_on("music")) == (False, False)
    assert (other.is_on("lights"), other.is_on("music")) == (True, True)
    await other.refresh(stored)
    assert (other.is_on("lights"), other.is_on("music")) == (False, False)
    await put(stored, one, "lights", enabled=True)
    assert one.is_on("lights")


async def test_two_flags_objects_do_not_share(stored: Database) -> None:
    """Two services, or two tests, in one process each have their own."""
    one, other = flags(), flags()
    await put(stored, one, "lights", enabled=False)
    assert (one.is_on("lights"), other.is_on("lights")) == (False, True)


async def test_a_percentage_is_stable_and_right(stored: Database) -> None:
    """A caller's bucket is a hash: nobody flickers, more percent only adds callers, and the share is right."""
    subject, callers = flags(), [f"caller-{n}" for n in range(4000)]
    before: set[str] = set()
    for percentage in (0, 10, 50, 90, 100):
        await put(stored, subject, "lights", percentage=percentage)
        on = {caller for caller in callers if subject.is_on("lights", caller)}
        assert on >= before
        assert abs(len(on) / len(callers) - percentage / 100) < 0.03
        other = flags()
        await other.refresh(stored)
        assert {caller for caller in callers if other.is_on("lights", caller)} == on
        before = on
    await put(stored, subject, "lights", percentage=50)
    await put(stored, subject, "music", percentage=50)
    assert {c for c in callers if subject.is_on("lights", c)} != {c for c in callers if subject.is_on("music", c)}


async def test_off_is_off_whatever_the_percentage(stored: Database) -> None:
    """A flag that is turned off is off for everybody."""
    subject = flags()
    await put(stored, subject, "lights", enabled=False, percentage=100)
    assert not any(subject.is_on("lights", f"caller-{n}") for n in range(200))


async def test_a_request_sees_one_value(stored: Database) -> None:
    """A snapshot answers the same until it is gone, however often the flag is switched meanwhile."""
    subject = flags()
    snapshot = subject.snapshot("ada")
    assert snapshot["lights"]
    await put(stored, subject, "lights", enabled=False)
    assert snapshot["lights"]
    assert not subject.snapshot("ada")["lights"]
    assert snapshot.frozen(["lights", "music"]) == {"lights": True, "music": False}


async def test_operators_see_what_they_have_set(stored: Database) -> None:
    """The list tells name, value, share, default and what off means; on for a few is on, for a few."""
    subject = flags()
    await put(stored, subject, "lights", enabled=True, percentage=10)
    await put(stored, subject, "music", enabled=False)
    lights, music = subject.describe()
    assert (lights["enabled"], lights["percentage"], lights["overridden"]) == (True, 10, True)
    assert (music["enabled"], music["overridden"], music["default"], music["off_means"]) == (
        False,
        True,
        False,
        "silence",
    )


@pytest.mark.parametrize("percentage", [-1, 101])
async def test_a_percentage_has_a_range(stored: Database, percentage: int) -> None:
    """The database refuses what is no share."""
    with pytest.raises(Exception, match="flag_overrides_percentage"):
        await put(stored, flags(), "lights", percentage=percentage)


async def test_an_override_of_a_flag_that_is_gone_is_harmless(stored: Database) -> None:
    """X12: a newer release left an override behind; this one does not mind."""
    await put(stored, flags(), "from_the_future", enabled=False)
    subject = flags()
    await subject.refresh(stored)
    assert subject.is_on("lights")
    assert {flag["name"] for flag in subject.describe()} == {"lights", "music"}


SPLIT = flags()


@given(st.text())
def test_any_caller_has_a_value(caller: str) -> None:
    """No name of a caller makes a flag fail."""
    assert SPLIT.is_on("lights", caller) is True

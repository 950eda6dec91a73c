"""Ids that sort by the time they were made (UUID version 7), so that indexes grow at one end."""

from uuid import UUID, uuid5

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return a new id; 74 of its bits are random, so nobody guesses one."""
    return uuid7()


def derived_id(parent: UUID, name: str) -> UUID:
    """Return the id that belongs to `name` under `parent`: the same one each time, so a retry names the same thing."""
    return uuid5(parent, name)

"""Alembic's room: numbered revisions that only expand, so that the release before this one goes on working."""

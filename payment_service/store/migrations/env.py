"""Alembic enters here, on the connection that `shared.migrations.upgrade` opened."""

from payment_service.store.tables import metadata
from shared.migrations import run_env

run_env(metadata)

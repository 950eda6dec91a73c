"""API keys of resellers: hashes only, scopes, and when one ended.

Revision 0007, since release 0.3. Only adds: older releases do not notice.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False, comment="what is shown of the key"),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key, which is stored nowhere"),
        sa.Column("scopes", JSONB(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash", name="api_keys_hash"),
    )
    op.create_index("api_keys_valid", "api_keys", ["id"], postgresql_where=sa.text("revoked_at IS NULL"))

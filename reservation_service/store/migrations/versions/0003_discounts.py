"""Discounts, and which one a booking was made with.

Revision 0003, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "discounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("experience_id", sa.Uuid(), nullable=True, comment="null: for all experiences"),
        sa.Column("code", sa.Text(), nullable=False, comment="in upper case, as guests' codes are looked up"),
        sa.Column("basis_points", sa.Integer(), nullable=True, comment="hundredths of a percent; null: a fixed amount"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("max_uses_per_customer", sa.Integer(), nullable=True),
        sa.Column("limits_changed_at", sa.DateTime(timezone=True), nullable=True, comment="null: as it was made"),
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("code = upper(code)", name="discounts_code"),
        sa.CheckConstraint(
            "(basis_points BETWEEN 1 AND 10000 AND amount_minor IS NULL AND currency IS NULL)"
            " OR (basis_points IS NULL AND amount_minor >= 1 AND currency IS NOT NULL)",
            name="discounts_kind",
        ),
        sa.CheckConstraint("valid_from < valid_until", name="discounts_dates"),
        sa.CheckConstraint("max_uses >= 0 AND max_uses_per_customer >= 1", name="discounts_limits"),
        sa.ForeignKeyConstraint(["experience_id"], ["experiences.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "discounts_by_experience",
        "discounts",
        ["code", "experience_id"],
        unique=True,
        postgresql_where=sa.text("experience_id IS NOT NULL"),
    )
    op.create_index(
        "discounts_for_all", "discounts", ["code"], unique=True, postgresql_where=sa.text("experience_id IS NULL")
    )
    op.add_column(
        "reservations",
        sa.Column("discount_id", sa.Uuid(), nullable=True, comment="one use of it while the seats are pinned"),
    )
    op.create_foreign_key(None, "reservations", "discounts", ["discount_id"], ["id"])
    op.create_index(
        "reservations_using_discount",
        "reservations",
        ["discount_id", "caller"],
        postgresql_where=sa.text("discount_id IS NOT NULL AND seats_pinned"),
    )

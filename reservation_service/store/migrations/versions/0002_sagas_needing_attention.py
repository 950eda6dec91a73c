"""An index of the sagas that need a person: they are counted every few seconds and listed by operators.

Revision 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("sagas_needing_attention", "sagas", ["id"], postgresql_where=sa.text("status = 'needs_attention'"))

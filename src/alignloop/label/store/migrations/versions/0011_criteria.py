"""Judgements on criteria: scores, flags of the project's own, marks in texts."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0002"  # the revision before it once all branches are joined

COLUMNS = {"scores": "{}", "flags": "{}", "spans": "[]"}


def upgrade() -> None:
    """Add the columns; existing judgements have none of these."""
    for name, empty in COLUMNS.items():
        op.add_column("judgement", sa.Column(name, sa.JSON, nullable=False, server_default=empty))


def downgrade() -> None:
    """Drop the columns."""
    for name in COLUMNS:
        op.drop_column("judgement", name)

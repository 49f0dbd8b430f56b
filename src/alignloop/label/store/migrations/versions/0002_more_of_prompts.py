"""Further fields of prompts: tools, reference, metadata."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; existing prompts have no further fields."""
    op.add_column("prompt", sa.Column("more", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("prompt", "more")

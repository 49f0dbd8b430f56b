"""Events. Whoever merges this with another migration that makes the same table keeps one."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
# Written beside 0003 to 0006; whoever merges them chains the numbers.
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), nullable=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index("ix_event_project_id", "event", ["project_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("event")

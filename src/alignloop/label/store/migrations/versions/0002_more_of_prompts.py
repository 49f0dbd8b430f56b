"""What a prompt holds beside its text: tools, reference, metadata."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Prompts that are there hold nothing more."""
    op.add_column("prompt", sa.Column("more", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("prompt", "more")

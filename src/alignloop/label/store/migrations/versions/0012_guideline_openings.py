"""Who has opened which version of a guideline."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "guideline_opening",
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("guideline_id", sa.Integer, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_guideline_opening_user_id"),
        sa.ForeignKeyConstraint(
            ["guideline_id"], ["guideline.id"], name="fk_guideline_opening_guideline_id"
        ),
        sa.PrimaryKeyConstraint("user_id", "guideline_id", name="pk_guideline_opening"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("guideline_opening")

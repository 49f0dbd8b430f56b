"""Decisions with a strength or a ranking, and judgements that a lead discarded."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Existing decisions have neither strength nor ranking; nothing is discarded."""
    op.add_column("adjudication", sa.Column("strength", sa.Integer, nullable=True))
    op.add_column(
        "adjudication", sa.Column("ranking", sa.JSON, nullable=False, server_default="[]")
    )
    op.create_table(
        "discard",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), nullable=False),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), nullable=False),
        sa.Column("since", MOMENT, nullable=True),
        sa.Column("until", MOMENT, nullable=True),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("made_by", sa.Integer, sa.ForeignKey("user.id"), nullable=True),
        sa.Column("undoes", sa.Integer, sa.ForeignKey("discard.id"), nullable=True, unique=True),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_index("ix_discard_project_id", "discard", ["project_id"])
    op.create_table(
        "discarded_judgement",
        sa.Column("discard_id", sa.Integer, sa.ForeignKey("discard.id"), primary_key=True),
        sa.Column("judgement_id", sa.Integer, sa.ForeignKey("judgement.id"), primary_key=True),
    )
    op.create_index("ix_discarded_judgement_judgement_id", "discarded_judgement", ["judgement_id"])


def downgrade() -> None:
    """Drop the tables and the columns."""
    op.drop_table("discarded_judgement")
    op.drop_table("discard")
    with op.batch_alter_table("adjudication") as table:
        table.drop_column("ranking")
        table.drop_column("strength")

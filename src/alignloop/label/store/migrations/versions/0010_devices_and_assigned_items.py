"""Known browsers, the throttle by place, items assigned to people, the server's address."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Failed logins are forgotten: they counted for a quarter of an hour."""
    op.create_table(
        "device",
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("id_hash", sa.String(64), primary_key=True),
        sa.Column("network", sa.String(64), nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
    )
    op.create_table(
        "assigned",
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("item.id"), primary_key=True),
    )
    op.create_index("ix_assigned_item_id", "assigned", ["item_id"])
    op.add_column(
        "item", sa.Column("reserved", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.drop_table("login_attempt")
    _make_attempts("place", 80, sa.Column("is_known", sa.Boolean, nullable=False))


def downgrade() -> None:
    """Back to limits by account and address."""
    op.drop_table("login_attempt")
    _make_attempts("address", 64)
    for table in ("setting", "assigned", "device"):
        op.drop_table(table)
    op.drop_column("item", "reserved")


def _make_attempts(place: str, length: int, *more: sa.Column[bool]) -> None:
    op.create_table(
        "login_attempt",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account", sa.String(100), nullable=False),
        sa.Column(place, sa.String(length), nullable=False),
        *more,
        sa.Column("at", MOMENT, nullable=False),
    )
    for column in ("account", place, "at"):
        op.create_index(f"ix_login_attempt_{column}", "login_attempt", [column])

"""Rules of a project, seats of annotators, uses of gold, repeats by turn, times, events."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"

MOMENT = sa.DateTime(timezone=True)
ORDINARY = "taken < wanted AND gold_verdict IS NULL AND repeat_of IS NULL"
INDEXES = {
    "ix_item_ordinary": ("item", ["batch_id", "position", "wanted", "taken"], ORDINARY),
    "ix_item_gold": ("item", ["project_id", "gold_use", "position"], "gold_verdict IS NOT NULL"),
    "ix_item_repeat_of": ("item", ["repeat_of"], "repeat_of IS NOT NULL"),
    "ix_assignment_of_user": ("assignment", ["user_id", "item_id"], None),
    "ix_assignment_repeat_due": (
        *("assignment", ["user_id", "repeat_due"]),
        "repeat_due IS NOT NULL",
    ),
}
COUNTS = (
    *("entry_asked", "entry_right", "gold", "gold_right", "peers", "peers_agree"),
    *("sides", "sides_left", "timed", "too_fast"),
)


def upgrade() -> None:
    """Add columns, indexes and tables; who has worked already keeps their turns and passes."""
    for table, columns in _new_columns().items():
        for column in columns:
            op.add_column(table, column)
    op.drop_index("ix_item_open", "item")  # ix_item_ordinary takes its part
    for name, (table, columns, where) in INDEXES.items():
        condition = None if where is None else sa.text(where)
        op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
    _seats()
    op.create_index("ix_seat_project_id", "seat", ["project_id"])
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), nullable=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index("ix_event_project_id", "event", ["project_id"])
    _fill()


def downgrade() -> None:
    """Drop all of it."""
    op.drop_table("event")
    op.drop_table("seat")
    for name, (table, _, _) in INDEXES.items():
        op.drop_index(name, table)
    condition = sa.text("taken < wanted")
    op.create_index(
        "ix_item_open",
        "item",
        ["batch_id", "position"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
    for table, columns in _new_columns().items():
        for column in columns:
            op.drop_column(table, column.name)


def _new_columns() -> dict[str, list[sa.Column]]:
    """New ones at each call: a column belongs to one table."""
    return {
        "project": [sa.Column("rules", sa.JSON, nullable=False, server_default="{}")],
        "batch": [sa.Column("ranking", sa.Integer, nullable=False, server_default="0")],
        "place": [sa.Column("ranking", sa.Integer, nullable=False, server_default="0")],
        "item": [
            sa.Column("gold_use", sa.String(8), nullable=False, server_default="check"),
            sa.Column("explanation", sa.Text, nullable=False, server_default=""),
            sa.Column("priority", sa.Float, nullable=True),
        ],
        "assignment": [
            sa.Column("revising", sa.String(8), nullable=False, server_default=""),
            sa.Column("repeat_due", sa.Integer, nullable=True),
        ],
        "judgement": [
            sa.Column("client_ms", sa.Integer, nullable=True),
            sa.Column("server_ms", sa.Integer, nullable=True),
            sa.Column("too_fast", sa.Boolean, nullable=False, server_default=sa.false()),
        ],
    }


def _seats() -> None:
    op.create_table(
        "seat",
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), primary_key=True),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.Column("left", sa.Integer, nullable=True),
        sa.Column("left_turn", sa.Integer, nullable=False),
        sa.Column("entry", sa.String(8), nullable=False),
        sa.Column("entry_try", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in COUNTS),
        sa.Column("in_doubt", sa.Boolean, nullable=False),
        sa.Column("flags", sa.JSON, nullable=False),
        sa.Column("paused_at", MOMENT, nullable=True),
        sa.Column("pause_reason", sa.String(16), nullable=False),
    )


def _fill() -> None:
    """Seats of those who have assignments, and the repeats that they still have before them."""
    zeros = ", ".join("0" for _ in COUNTS)
    op.execute(
        sa.text(
            'INSERT INTO seat (user_id, project_id, turn, last_at, "left", left_turn, entry,'
            f" entry_try, {', '.join(COUNTS)}, in_doubt, flags, paused_at, pause_reason)"
            " SELECT a.user_id, i.project_id, max(a.turn) + 1, max(a.created_at), NULL, 0,"
            f" 'passed', 1, {zeros}, {'false' if _is_postgres() else '0'}, '[]', NULL, ''"
            " FROM assignment a JOIN item i ON i.id = a.item_id"
            " GROUP BY a.user_id, i.project_id"
        )
    )
    op.execute(
        sa.text(
            "UPDATE assignment SET repeat_due = turn + 5 WHERE item_id IN"
            " (SELECT repeat_of FROM item WHERE repeat_of IS NOT NULL) AND NOT EXISTS"
            " (SELECT 1 FROM assignment b JOIN item r ON r.id = b.item_id"
            " WHERE r.repeat_of = assignment.item_id AND b.user_id = assignment.user_id)"
        )
    )


def _is_postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"

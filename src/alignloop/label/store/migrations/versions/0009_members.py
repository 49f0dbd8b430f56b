"""Members of projects, admins, and what invitations say about them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0002"  # in this branch; 0003 to 0008 come from others

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Everybody stays in all projects; the first lead who can sign in becomes the admin."""
    op.create_table(
        "member",
        sa.Column("user_id", sa.Integer, sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), primary_key=True),
        sa.Column("added_at", MOMENT, nullable=False),
    )
    op.create_index("ix_member_project_id", "member", ["project_id"])
    with op.batch_alter_table("invitation") as table:
        table.add_column(sa.Column("projects", sa.JSON, nullable=False, server_default="[]"))
        table.add_column(sa.Column("made_by", sa.Integer, nullable=True))
        table.create_foreign_key("fk_invitation_made_by", "user", ["made_by"], ["id"])
    op.execute(
        'INSERT INTO member (user_id, project_id, added_at) SELECT "user".id, project.id, '
        'CURRENT_TIMESTAMP FROM "user" CROSS JOIN project'
    )
    op.execute(
        'UPDATE "user" SET role = \'admin\' WHERE id = (SELECT min(id) FROM "user" '
        "WHERE role = 'lead' AND active AND password_hash IS NOT NULL)"
    )


def downgrade() -> None:
    """Everybody sees every project again; admins are leads."""
    op.execute("UPDATE \"user\" SET role = 'lead' WHERE role = 'admin'")
    op.execute("UPDATE invitation SET role = 'lead' WHERE role = 'admin'")
    with op.batch_alter_table("invitation") as table:
        table.drop_constraint("fk_invitation_made_by", type_="foreignkey")
        table.drop_column("made_by")
        table.drop_column("projects")
    op.drop_table("member")

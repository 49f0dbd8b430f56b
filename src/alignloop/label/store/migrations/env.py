"""What alembic runs: the migrations, on the connection that `migrate` hands over."""

from alembic import context

from alignloop.label.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata
)
context.run_migrations()

"""Alembic's entry point: runs the migrations on the connection from `migrate`."""

from alembic import context

from alignloop.label.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()

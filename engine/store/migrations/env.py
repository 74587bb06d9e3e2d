"""Alembic's entry: runs the steps on the connection handed in; there is no other way in."""

from __future__ import annotations

from alembic import context

from engine.store.tables import Row

with_connection = context.config.attributes["connection"]
context.configure(
    connection=with_connection,
    target_metadata=Row.metadata,
    # SQLite can roll back schema changes, so a half-made database never stays.
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()

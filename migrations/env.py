"""Run by Alembic; `registry.db` hands in the connection, and the transaction is its own."""

from alembic import context

from registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can't alter a column: batch mode copies the table there
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()

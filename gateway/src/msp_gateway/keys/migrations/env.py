"""What alembic runs: the steps over the connection that it is handed."""

from alembic import context

from msp_gateway.keys.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=True,
    # Alembic thinks that SQLite cannot; it can, in the transaction that the caller has begun.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

"""Runs the migrations on the connection that kbsync.store.schema hands over, inside its transaction."""

from alembic import context

from kbsync.store.schema import VERSION_TABLE
from kbsync.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()

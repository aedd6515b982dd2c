"""Runs the migrations on the connection that `lomas-gql db upgrade` hands over, or on LOMAS_DATABASE_URL."""

import asyncio

from sqlalchemy import Connection
from sqlmodel import SQLModel

from alembic import context
from lomas_gql.database import models  # noqa: F401 (fills the metadata)
from lomas_gql.database.engine import Database
from lomas_gql.settings import Settings


def migrate(connection: Connection) -> None:
    # SQLite alters tables by copying them, which Alembic calls batch mode.
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_from_settings() -> None:
    database = Database(Settings().url)
    async with database.engine.execution_options(writes=True).begin() as connection:
        await connection.run_sync(migrate)
    await database.close()


handed_over = context.config.attributes.get("connection")
if handed_over is None:
    asyncio.run(migrate_from_settings())
else:
    migrate(handed_over)

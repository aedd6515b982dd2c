"""The migrations make the tables that the models describe, and can be taken back."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlmodel import SQLModel

from alembic import command
from lomas_gql.database.engine import Database, migrations


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), SQLModel.metadata))


def downgrade_to(connection: Connection, revision: str) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


async def test_models_and_migrations_agree_up_and_down(database_url: str) -> None:
    database = Database(database_url)
    assert not await database.is_current()
    for _ in range(2):
        await database.upgrade()
        assert await database.is_current()
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
        async with database.engine.execution_options(writes=True).begin() as connection:
            await connection.run_sync(downgrade_to, "base")
        assert not await database.is_current()
    await database.close()

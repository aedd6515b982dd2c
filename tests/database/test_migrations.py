"""Each migration goes up and down over tables with rows in them, and makes what the models describe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, func, inspect, select
from sqlmodel import SQLModel

from alembic import command
from lomas_gql.database.engine import Database, migrations
from lomas_gql.services.verification import verify
from tests.database.filling import Rows, fill, rows_of, tables_of

T = TypeVar("T")
REVISIONS = [script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()][::-1]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def on(database: Database, work: Callable[..., T], *args: Any) -> T:
    """Runs `work` on a connection, in one transaction."""
    async with database.engine.execution_options(writes=True).begin() as connection:
        return await connection.run_sync(work, *args)


def step(connection: Connection, move: Callable[..., None], revision: str) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    move(config, revision)


def check_survivors(before: Rows, after: Rows) -> None:
    """Every row of `before` is there, with its values, in each table and column that exists on both sides."""
    for table in before.keys() & after.keys():
        for key, row in before[table].items():
            assert key in after[table], f"{table} has lost row {key}"
            now = after[table][key]
            assert {name: now[name] for name in row if name in now} == {n: row[n] for n in row if n in now}, table


def check_sums(connection: Connection) -> None:
    """What a dataset has spent is the sum over its users, also where the grants were there before the column."""
    tables = tables_of(connection)
    dataset, grant = tables["dataset"], tables["user_grant"]
    for column in {"spent_epsilon", "spent_delta"} & set(dataset.c.keys()):
        total = select(func.sum(grant.c[column])).where(grant.c.dataset_id == dataset.c.id).scalar_subquery()
        for id, held, summed in connection.execute(select(dataset.c.id, dataset.c[column], total)):
            assert held == (summed or 0), f"dataset {id}: {column}"


def drift(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    found = list(compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata))
    for table in SQLModel.metadata.sorted_tables:
        # Alembic does not compare these.
        checks = {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
        held = {c["name"] for c in inspect(connection).get_check_constraints(table.name)}
        found += [(table.name, name) for name in checks ^ held]
    return found


async def climbed(database: Database) -> None:
    """Up one revision at a time, with new rows in every table at each."""
    for revision in REVISIONS:
        before = await on(database, rows_of)
        await on(database, step, command.upgrade, revision)
        check_survivors(before, await on(database, rows_of))
        await on(database, check_sums)
        await on(database, fill, revision)
        await on(database, check_sums)


async def test_rows_survive_each_migration_up_and_down_and_up_again(database: Database) -> None:
    await climbed(database)
    full = await on(database, rows_of)
    assert all(full[table.name] for table in SQLModel.metadata.sorted_tables)
    for revision in REVISIONS[-2::-1]:
        before = await on(database, rows_of)
        await on(database, step, command.downgrade, revision)
        check_survivors(before, await on(database, rows_of))
        await on(database, check_sums)
    for revision in REVISIONS[1:]:
        before = await on(database, rows_of)
        await on(database, step, command.upgrade, revision)
        check_survivors(before, await on(database, rows_of))
        await on(database, check_sums)
    assert (await verify(database)).findings == []


async def test_each_migration_can_be_taken_back_with_rows_written_under_it(database: Database) -> None:
    for revision, below in zip(REVISIONS, ["base", *REVISIONS], strict=False):
        before = await on(database, rows_of)
        await on(database, step, command.upgrade, revision)
        await on(database, fill, revision)
        full = await on(database, rows_of)
        await on(database, step, command.downgrade, below)
        check_survivors(full, await on(database, rows_of))
        check_survivors(before, await on(database, rows_of))
        await on(database, step, command.upgrade, revision)


async def test_models_and_migrations_agree_up_and_down(database: Database) -> None:
    assert not await database.is_current()
    for _ in range(2):
        await climbed(database)
        assert await database.is_current()
        assert await on(database, drift) == []
        await on(database, step, command.downgrade, "base")
        assert await on(database, rows_of) == {}
        assert not await database.is_current()

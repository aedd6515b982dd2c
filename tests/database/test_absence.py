"""A database that is away for now is told apart from a bug, on real databases."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database.engine import Database
from lomas_gql.database.models import User
from lomas_gql.errors import PERHAPS_WRITTEN, DatabaseUnavailable

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, seconds=2)
    await database.upgrade()
    yield database
    await database.close()


@pytest.mark.parametrize("statement", ["SELECT * FROM no_such_table", "SELEKT", "SELECT no_such_column FROM release"])
async def test_a_wrong_statement_is_a_bug(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError):
        async with database.reading() as session:
            await session.exec(text(statement))  # type: ignore[call-overload]


async def test_a_broken_constraint_is_a_bug(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.writing() as session:
            session.add_all([User(name="same"), User(name="same")])


@on_postgresql
async def test_a_transaction_has_a_limit_of_time(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as away:
        async with database.reading() as session:
            await session.exec(text("SELECT pg_sleep(60)"))  # type: ignore[call-overload]
    assert away.value.reason == "no answer in time"


async def test_a_file_that_another_process_locks_is_an_absence(tmp_path: Path) -> None:
    path = tmp_path / "lomas.db"
    database = Database(f"sqlite+aiosqlite:///{path}", seconds=1)
    await database.upgrade()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable) as away:
            async with database.writing() as session:
                session.add(User(name="late"))
        async with database.reading() as session:
            assert (await session.exec(select(User))).all() == []
    other.close()
    assert away.value.reason == "database is locked"
    assert "Nothing was charged" in away.value.message
    await database.close()


async def test_a_server_that_is_not_there_is_an_absence() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", seconds=5)
    with pytest.raises(DatabaseUnavailable) as away:
        await database.is_current()
    assert "refused" in away.value.reason
    await database.close()


@on_postgresql
async def test_a_lost_connection_is_an_absence_once(database: Database) -> None:
    async def lose_it() -> None:
        async with database.writing() as session:
            end(database, await pid_of(session))
            await session.exec(select(User))

    with pytest.raises(DatabaseUnavailable) as away:
        await lose_it()
    assert "Nothing was charged" in away.value.message
    async with database.reading() as session:
        assert (await session.exec(select(User))).all() == []


@on_postgresql
async def test_an_idle_connection_that_was_lost_is_replaced_unseen(database: Database) -> None:
    async with database.reading() as session:
        pid = await pid_of(session)
    end(database, pid)
    async with database.reading() as session:
        assert await pid_of(session) != pid


@on_postgresql
async def test_a_commit_that_is_not_confirmed_is_told_as_such(database: Database) -> None:
    async def lose_it() -> None:
        async with database.writing() as session:
            session.add(User(name="perhaps"))
            await session.flush()
            end(database, await pid_of(session))

    with pytest.raises(DatabaseUnavailable) as away:
        await lose_it()
    assert away.value.message == PERHAPS_WRITTEN


@on_postgresql
async def test_nobody_waits_for_ever_for_the_lock_of_a_frozen_server(database: Database) -> None:
    async with database.writing() as session:
        session.add(User(name="locked"))

    async def touch(session: AsyncSession) -> None:
        await session.exec(update(User).values(email="somebody@example.org"))

    async with database.writing() as frozen:
        await touch(frozen)
        with pytest.raises(DatabaseUnavailable) as away:
            async with database.writing() as waiting:
                await touch(waiting)
    assert "lock timeout" in away.value.reason


async def pid_of(session: AsyncSession) -> int:
    [[pid]] = await session.exec(text("SELECT pg_backend_pid()"))  # type: ignore[call-overload]
    return pid  # type: ignore[no-any-return]


def end(database: Database, pid: int) -> None:
    """Ends a connection, as a crash of its server process would."""
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

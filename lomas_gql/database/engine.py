"""Connections, transactions and migrations, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, CursorResult, event, func
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from alembic import command
from lomas_gql.errors import AdministrationError

# Any number that nothing else locks in the same database.
_ADMINISTERING = 5_626_271


class Database:
    """One database. `reading()` and `writing()` each open a session that is one transaction."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that changes nothing."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """The same, where all reads see the database as of one moment; on SQLite every transaction does."""
        engine = self.engine
        if self._is_postgresql:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is committed at the end of the block, or rolled back where the block raises."""
        engine = self.engine.execution_options(writes=True)
        async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def administering(self) -> AsyncIterator[AsyncSession]:
        """The same for owners' changes, one at a time: what they read stays true until they have written."""
        async with self.writing() as session:
            if self._is_postgresql:
                await session.exec(select(func.pg_advisory_xact_lock(_ADMINISTERING)))
            yield session

    @property
    def _is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    async def upgrade(self) -> None:
        """Brings the tables up to this version of the package."""
        async with self.engine.execution_options(writes=True).begin() as connection:
            await connection.run_sync(_upgrade)

    async def is_current(self) -> bool:
        """Whether every migration has been applied.

        Raises:
            AdministrationError: the database does not answer.
        """
        try:
            async with self.engine.connect() as connection:
                return await connection.run_sync(_is_current)
        except (DBAPIError, OSError) as error:
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise AdministrationError(f"the database does not answer: {reason}") from None

    async def close(self) -> None:
        await self.engine.dispose()


async def rows_changed(session: AsyncSession, statement: Any) -> int:
    """Carries out an UPDATE and says how many rows it has changed."""
    result = await session.exec(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        if not parsed.drivername.startswith("sqlite"):
            return create_async_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, ImportError) as error:
        raise AdministrationError(f"LOMAS_DATABASE_URL names no database that can be used here: {error}") from None
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_async_engine(parsed, connect_args={"timeout": 30})
    event.listen(engine.sync_engine, "connect", _settle_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _settle_sqlite(connection: Any, _: Any) -> None:
    # None: the driver begins no transactions of its own, so that ours can begin IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: two that had both read first would deadlock.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrations() -> Config:
    """Alembic's configuration: the scripts inside the installed package, or those of the checkout."""
    package = Path(__file__).parent.parent
    inside = package / "migrations"
    config = Config()
    config.set_main_option("script_location", str(inside if inside.exists() else package.parent / "alembic"))
    return config


def _upgrade(connection: Connection) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_current(connection: Connection) -> bool:
    heads = set(ScriptDirectory.from_config(migrations()).get_heads())
    return set(MigrationContext.configure(connection).get_current_heads()) == heads

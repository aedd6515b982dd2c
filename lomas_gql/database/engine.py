"""Connections, transactions and migrations, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, CursorResult, event, func
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from alembic import command
from lomas_gql.database.absence import absence
from lomas_gql.errors import PERHAPS_WRITTEN, AdministrationError, DatabaseUnavailable

SERVER_SECONDS = 10.0
"""The most that one transaction of a server may take; commands, which read whole histories, have no limit."""
CONNECT_SECONDS = 5
COMMAND_LOCK_SECONDS = 30
WARNING_SECONDS = 10
log = logging.getLogger(__name__)

# Any number that nothing else locks in the same database.
_ADMINISTERING = 5_626_271


class Database:
    """One database. `reading()` and `writing()` each open a session that is one transaction.

    Both raise DatabaseUnavailable where the database does not answer, or takes longer than `seconds`.
    """

    def __init__(self, url: str, seconds: float | None = None) -> None:
        self.engine = _engine(url, seconds)
        self._seconds = seconds
        # SQLite has one writer at a time, and lets those who wait for it overtake each other.
        self._turn = asyncio.Lock() if self.engine.dialect.name == "sqlite" else nullcontext()
        self._warned_at = -float("inf")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that changes nothing."""
        async with self._answering(), AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """The same, where all reads see the database as of one moment; on SQLite every transaction does."""
        engine = self.engine
        if self._is_postgresql:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        async with self._answering(), AsyncSession(engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is committed at the end of the block, or rolled back where the block raises."""
        writer = AsyncSession(self.engine.execution_options(writes=True), expire_on_commit=False)
        committing = False
        try:
            async with self._answering(), self._turn, writer as session, session.begin():
                yield session
                await session.flush()
                committing = True
        except DatabaseUnavailable as away:
            # A commit that is not confirmed may have been carried out all the same.
            raise DatabaseUnavailable(away.reason, PERHAPS_WRITTEN) if committing else away from None

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

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except (SQLAlchemyError, TimeoutError) as error:
            reason = absence(error)
            if reason is None:
                raise
            self._warn(reason)
            raise DatabaseUnavailable(reason) from None

    def _warn(self, reason: str) -> None:
        # Hundreds of requests may meet the same absence.
        if time.monotonic() - self._warned_at > WARNING_SECONDS:
            self._warned_at = time.monotonic()
            log.warning("The database does not answer: %s", reason)

    async def upgrade(self) -> None:
        """Brings the tables up to this version of the package."""
        async with self.engine.execution_options(writes=True).begin() as connection:
            await connection.run_sync(_upgrade)

    async def is_current(self) -> bool:
        """Whether every migration has been applied.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with self._answering(), self.engine.connect() as connection:
            return await connection.run_sync(_is_current)

    async def close(self) -> None:
        await self.engine.dispose()


async def rows_changed(session: AsyncSession, statement: Any) -> int:
    """Carries out an UPDATE and says how many rows it has changed."""
    result = await session.exec(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


def _engine(url: str, seconds: float | None) -> AsyncEngine:
    try:
        parsed = make_url(url)
        if not parsed.drivername.startswith("sqlite"):
            options = _postgresql_options(parsed, seconds)
            return create_async_engine(parsed, pool_pre_ping=True, connect_args=options)
    except (ArgumentError, ImportError) as error:
        raise AdministrationError(f"LOMAS_DATABASE_URL names no database that can be used here: {error}") from None
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock_seconds = seconds / 2 if seconds else COMMAND_LOCK_SECONDS
    engine = create_async_engine(parsed, connect_args={"timeout": lock_seconds})
    event.listen(engine.sync_engine, "connect", _settle_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _postgresql_options(url: URL, seconds: float | None) -> dict[str, Any]:
    """What libpq is told, unless the URL says otherwise (https://www.postgresql.org/docs/current/libpq-connect.html)."""
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        # A host that vanished is noticed in seconds, not in hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    if seconds:
        # A server that froze in a transaction must not lock a budget for all the others.
        limits = {"lock_timeout": seconds / 2, "idle_in_transaction_session_timeout": seconds}
        options["options"] = " ".join(f"-c {name}={limit * 1000:.0f}" for name, limit in limits.items())
    return {name: value for name, value in options.items() if name not in url.query}


def _settle_sqlite(connection: Any, _: Any) -> None:
    # None: the driver begins no transactions of its own, so that ours can begin IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
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

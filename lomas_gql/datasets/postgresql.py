"""Tables, views and materialised views in PostgreSQL. A role that may only read is enough."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from lomas_gql.datasets.fetching import CONNECT_SECONDS, LOOK_SECONDS, login, save
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata
from lomas_gql.rows import RowsInPlace
from lomas_gql.settings import Settings
from lomas_gql.words import Engine

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# COPY's text format: each row is one line, whatever its cells hold, and NULL is no text.
_NULL = r"\N"
_ESCAPES = {r"\\": "\\", r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\b": "\b", r"\f": "\f", r"\v": "\v"}

# The table with its partitions and the tables that inherit from it.
_TREE = """
WITH RECURSIVE tree AS (
  SELECT c.oid, c.relkind FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  UNION
  SELECT c.oid, c.relkind FROM tree
  JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
)
SELECT oid, relkind::text, pg_relation_filenode(oid), pg_relation_size(oid), pg_stat_get_tuples_inserted(oid),
  pg_stat_get_tuples_updated(oid), pg_stat_get_tuples_deleted(oid)
FROM tree ORDER BY oid
"""
_COUNTED = "SELECT current_setting('track_counts') = 'on' AND NOT pg_is_in_recovery()"
_COLUMNS = """
SELECT a.attname, coalesce(nullif(t.typbasetype, 0), t.oid) = 'pg_catalog.timestamptz'::regtype, a.attnum
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege(c.oid, a.attnum, 'SELECT')
ORDER BY a.attnum
"""
_OLDEST = 130_000
# Where the server can: what a worker asked ends soon after the worker, and not at its time limit.
_WATCHED = """
SELECT set_config(name, '1000', true) FROM pg_catalog.pg_settings
WHERE name = 'client_connection_check_interval' AND version() LIKE '%linux%'
"""
_TYPES = """
WITH RECURSIVE found AS (
  SELECT a.attname, t.oid, t.typtype, t.typbasetype
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
    AND has_column_privilege(c.oid, a.attnum, 'SELECT')
  UNION ALL
  SELECT found.attname, t.oid, t.typtype, t.typbasetype
  FROM found JOIN pg_catalog.pg_type t ON t.oid = found.typbasetype WHERE found.typtype = 'd'
)
SELECT attname, CASE WHEN found.typtype = 'e' THEN 'enum' WHEN n.nspname = 'pg_catalog' THEN t.typname::text
  ELSE format('%%s.%%s', n.nspname, t.typname) END
FROM found JOIN pg_catalog.pg_type t ON t.oid = found.oid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE found.typtype <> 'd'
"""


@dataclass(frozen=True)
class PostgresSource:
    """A table at a URL without user and password; `credentials` names them in the settings."""

    kind: ClassVar[str] = "postgresql"
    url: str
    table_schema: str
    table: str
    credentials: str
    push_down: bool = True

    @property
    def engine(self) -> Engine:
        """Where SmartNoise SQL runs: inside PostgreSQL, unless the owner wants the rows copied for it too."""
        return Engine.POSTGRESQL if self.push_down else Engine.DUCKDB

    def describe(self) -> str:
        """In one line, for the owner."""
        return f"{self.table_schema}.{self.table} in {self.url} with the credentials {self.credentials}"

    def state(self) -> tuple[Any, ...]:
        """What changes when the rows do, without reading them.

        A table's file, its size and the counts of rows that were ever inserted, updated and deleted, as
        PostgreSQL's statistics keep them (https://www.postgresql.org/docs/current/monitoring-stats.html): each
        committed change moves one of them, within about a second, or a minute on a busy connection. A roll-back
        or a reset of the statistics moves them too, which costs a reading and no more. Whether the rows behind a
        view or a foreign table changed cannot be told, nor on a stand-by server or without `track_counts`:
        those are taken to change every LOMAS_REFRESH_SECONDS.

        Raises:
            SourceUnavailable: the server does not answer, or the table is not there.
        """
        with self.connection() as connection:
            connection.execute(f"SET LOCAL statement_timeout = {int(LOOK_SECONDS * 1000)}")
            parts = connection.execute(_TREE, (self.table_schema, self.table)).fetchall()
            columns = self._columns(connection)
            counted = connection.execute(_COUNTED).fetchone() == (True,)
        counted = counted and not any(kind in ("v", "f") for _, kind, *_ in parts)
        period = None if counted else int(time.time() // Settings().refresh_seconds)
        return self.kind, self.url, self.table_schema, self.table, parts, columns, period

    def schema(self) -> pl.Schema:
        """The columns that the role may read. Every cell is read as text.

        Raises:
            SourceUnavailable: the server does not answer, or the table is not there.
        """
        with self.connection() as connection:
            return pl.Schema({name: pl.String() for name, *_ in self._columns(connection)})

    def scan(self, columns: Sequence[str], folder: Path) -> pl.LazyFrame:
        """The rows of these columns, as far as they are there, fetched into `folder`.

        Raises:
            SourceUnavailable: the server does not answer, or lets nobody read the table.
        """
        with self.connection() as connection:
            known = [(name, zoned) for name, zoned, _ in self._columns(connection) if name in columns]
            # In the order of the table's file, so that whoever reads this version holds the same rows.
            connection.execute("SET LOCAL synchronize_seqscans = off")
            connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            file = save(self._copied(connection, known), folder / "rows", self.describe())
        names = [name for name, _ in known]
        frame = pl.scan_csv(
            file,
            separator="\t",
            quote_char=None,
            has_header=False,
            # The first cell makes a row of one empty column a line, too. No column of PostgreSQL is named "".
            schema=dict.fromkeys(["", *names], pl.String()),
            encoding="utf8-lossy",
            null_values=_NULL,
            missing_utf8_is_empty_string=True,
            ignore_errors=True,
        )
        return frame.select(pl.col(name).str.replace_many(_ESCAPES) for name in names)

    def unfit_in_place(self, metadata: Metadata) -> list[str]:
        """What keeps SmartNoise SQL from running inside PostgreSQL on these columns, if anything does.

        Raises:
            SourceUnavailable: the server does not answer, or the table is not there.
        """
        from lomas_gql.datasets.postgresql_projection import unfit_columns

        with self.connection() as connection:
            connection.execute(f"SET LOCAL statement_timeout = {int(LOOK_SECONDS * 1000)}")
            unfit = unfit_columns(self._types(connection), metadata)
            encoding = connection.execute("SHOW server_encoding").fetchone()
            number = connection.info.server_version
        if number < _OLDEST:
            # Before that, comparing a date beyond all times with one of them raises.
            unfit.append(f"is in PostgreSQL {number // 10_000}, which is too old")
        if encoding != ("UTF8",):
            unfit.append("is in a database whose encoding is not UTF8, so that some text might not be readable")
        return [*unfit, "give a view of it, or say push_down: false"] if unfit else []

    @contextmanager
    def in_place(self, metadata: Metadata, seconds: float) -> Iterator[RowsInPlace]:
        """The rows where they are, for one query that takes at most `seconds`.

        Raises:
            SourceUnavailable: the server does not answer, a column cannot be read, or the query failed.
        """
        from psycopg import sql

        from lomas_gql.datasets.postgresql_projection import projection, unfit_columns

        with self.connection() as connection:
            connection.execute(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")
            connection.execute(_WATCHED)
            # Names of functions and operators mean PostgreSQL's own, whatever else this database holds.
            connection.execute("SET LOCAL search_path = pg_catalog")
            connection.execute("SET LOCAL standard_conforming_strings = on")
            types = self._types(connection)
            if unfit := unfit_columns(types, metadata):
                raise SourceUnavailable(f"{self.describe()} {'; '.join(unfit)}")
            table = sql.Identifier(self.table_schema, self.table)
            written = projection(table, types, metadata).as_string(connection)
            yield RowsInPlace(self.engine, connection, written, metadata)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """A transaction that can only read, with times in UTC.

        Raises:
            SourceUnavailable: the server does not answer, or refuses; also for what goes wrong inside.
        """
        import psycopg

        try:
            with self._connected() as connection:
                connection.read_only = True
                connection.execute("SET LOCAL timezone = 'UTC'")
                connection.execute("SET LOCAL datestyle = 'ISO'")
                yield connection
        except psycopg.Error as error:
            # The text of an error inside a view can hold a cell: only its kind goes on.
            raise SourceUnavailable(f"{self.describe()} cannot be read: {type(error).__name__}") from None

    def _connected(self) -> psycopg.Connection:
        import psycopg

        user, password = login(self.credentials).secrets
        try:
            return psycopg.connect(
                self.url,
                user=user,
                password=password,
                connect_timeout=int(CONNECT_SECONDS),
                client_encoding="utf8",
                application_name="lomas-gql",
            )
        except psycopg.Error as error:
            # No row was read yet, so the server's own words are safe but for the names in them.
            told = " ".join(str(error).split())
            for secret in filter(None, (user, password)):
                told = told.replace(secret, "***")
            raise SourceUnavailable(f"{self.describe()} cannot be read: {told}") from None

    def _columns(self, connection: psycopg.Connection) -> list[tuple[str, bool, int]]:
        """Each column's name, whether it holds times with a zone, and its number, which is never used again."""
        found = connection.execute(_COLUMNS, (self.table_schema, self.table)).fetchall()
        if not found:
            raise SourceUnavailable(f"{self.describe()} is not there, or has no column that this role may read")
        return [(name, zoned, number) for name, zoned, number in found]

    def _types(self, connection: psycopg.Connection) -> dict[str, str]:
        """Each column's type, of a domain that which is behind it."""
        return dict(connection.execute(_TYPES, (self.table_schema, self.table)).fetchall())

    def _copied(self, connection: psycopg.Connection, columns: list[tuple[str, bool]]) -> Generator[bytes]:
        from psycopg import sql

        cells = [sql.SQL("1"), *(_text(name, zoned=zoned) for name, zoned in columns)]
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
            sql.SQL(", ").join(cells), sql.Identifier(self.table_schema, self.table)
        )
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                yield bytes(block)


def _text(name: str, *, zoned: bool) -> sql.Composed:
    """A column as text; a time with a zone as the time in UTC."""
    from psycopg import sql

    form = "({} AT TIME ZONE 'UTC')::text" if zoned else "{}::text"
    return sql.SQL(form).format(sql.Identifier(name))

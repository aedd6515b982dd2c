"""A table in a real PostgreSQL, read by a role that may only read, and queried both ways: in place and as a copy."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lomas_gql.datasets.postgresql import PostgresSource
from lomas_gql.datasets.preparing import prepare
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.libraries.smartnoise_sql.reader import reader_of
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows, RowsInPlace
from lomas_gql.words import Engine

READER = "in_place_reader"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A database with a role that may read what it is granted, and nothing else."""

    owner: str

    def run(self, *statements: str | sql.Composed) -> None:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

    def table(self, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> PostgresSource:
        """A new table, which the reader may read."""
        name = f"t{next(_numbers)}"
        declared = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))  # type: ignore[arg-type]
            for column, kind in columns.items()
        )
        identifier = sql.Identifier(name)
        self.run(
            sql.SQL("CREATE TABLE {} ({})").format(identifier, declared),
            sql.SQL("GRANT SELECT ON {} TO {}").format(identifier, sql.Identifier(READER)),
        )
        copying = sql.SQL("COPY {} FROM STDIN").format(identifier)
        with psycopg.connect(self.owner) as connection, connection.cursor() as cursor, cursor.copy(copying) as copy:
            for row in rows:
                copy.write_row(row)
        return PostgresSource(re.sub("//.*?@", "//", self.owner), "public", name, "place")


def new_place(postgresql: str) -> Place:
    """A database of its own."""
    name = f"place{next(_numbers)}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,)).fetchone() is None:
            connection.execute(f"CREATE ROLE {READER} LOGIN")  # type: ignore[arg-type]
    return Place(postgresql.replace("/postgres?", f"/{name}?"))


CREDENTIALS = {"LOMAS_CREDENTIALS__PLACE__USERNAME": READER, "LOMAS_CREDENTIALS__PLACE__PASSWORD": "unused"}


def in_place(metadata: Metadata) -> Metadata:
    """The metadata of a dataset whose rows stay in PostgreSQL."""
    return replace(metadata, engine=Engine.POSTGRESQL)


def opened(source: PostgresSource, metadata: Metadata) -> AbstractContextManager[RowsInPlace]:
    return source.in_place(in_place(metadata), 60)


def answer(source: PostgresSource, metadata: Metadata, query: str, epsilon: float = 10.0) -> list[tuple[Any, ...]]:
    """The noisy answer of a query that runs in place."""
    asked = SmartnoiseSqlQuery(sql=query, epsilon=epsilon, delta=1e-6)
    with opened(source, metadata) as rows:
        table = asked.run_in_place(rows, in_place(metadata)).table
    assert table is not None
    return list(table.rows)


def exact(rows: Rows | RowsInPlace, query: str) -> list[tuple[Any, ...]]:
    """What the library's reader gets before it adds noise: nothing of it ever leaves a worker."""
    metadata = in_place(rows.metadata) if isinstance(rows, RowsInPlace) else rows.metadata
    prepared = SmartnoiseSqlQuery(sql=query, epsilon=1.0, delta=1e-6)._prepared(metadata)
    subquery, _ = prepared.reader._rewrite_ast(prepared.query)
    return list(reader_of(rows, prepared.gated)._execute_ast(subquery)[1:])


def copied(source: PostgresSource, metadata: Metadata, folder: Path) -> Rows:
    """The same rows as a prepared copy."""
    return Rows.mapped(prepare(source, metadata, folder), metadata)

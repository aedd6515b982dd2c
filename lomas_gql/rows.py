"""Rows whose cells fit their metadata, as the libraries read them: here, or where they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lomas_gql.metadata import (
    TABLE,
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    Metadata,
    NumericColumn,
)
from lomas_gql.words import Engine

if TYPE_CHECKING:
    import duckdb

# Squares of integers within this bound fit a BIGINT; wider columns are shown to SQL as doubles, since an
# overflow on one person's value would be an un-noised bit.
_SAFE_INTEGER = 2**31

SMALLEST = 1e-100
"""What is closer to 0 than this is 0 to engines in place: the product of two such numbers raises in some."""
LONGEST_TEXT = 2**16
"""How many characters of a text engines in place are shown: what they make of longer ones may raise."""


class Rows:
    """Typed, clamped and categorised rows: memory-mapped from a prepared file, or dummy rows in memory."""

    def __init__(self, frame: pl.DataFrame, metadata: Metadata) -> None:
        self.frame = frame
        self.metadata = metadata

    @classmethod
    def mapped(cls, path: Path, metadata: Metadata) -> Rows:
        """The rows of a prepared Arrow file, without a copy: all workers share its pages."""
        return cls(pl.read_ipc(path, memory_map=True, rechunk=False), metadata)

    def execute(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Runs one SELECT over the table `df`, whose columns are `metadata.sql_names`; returns names and rows."""
        cursor = self._duckdb.execute(sql)
        return [column[0] for column in cursor.description or ()], cursor.fetchall()

    @cached_property
    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        connection = duckdb.connect(":memory:", config={"enable_external_access": "false", "threads": "1"})
        connection.register("prepared", self.frame.to_arrow(compat_level=pl.CompatLevel.newest()))
        # The names come from metadata, which lets no quote into a name.
        connection.execute(f"CREATE VIEW {TABLE} AS SELECT {self._projection()} FROM prepared")  # noqa: S608
        connection.execute("SET lock_configuration = true")
        return connection

    def _projection(self) -> str:
        return ", ".join(
            f'"{column.name}"{"::DOUBLE" if is_wide(column) else ""} AS {self.metadata.sql_names[column.name]}'
            for column in self.metadata.columns
        )


@dataclass(frozen=True)
class RowsInPlace:
    """Rows that stay in their engine, which answers SELECTs over them.

    `connection` is open for one query: psycopg's connection in a read-only transaction, or a Spark session.
    `projection` is a SELECT in the engine's own SQL. Its columns are `metadata.sql_names`; its cells are typed,
    clamped, categorised and completed as those of `Rows`, and no cell can make it fail. Nothing in it comes from
    a client.
    """

    engine: Engine
    connection: Any
    projection: str
    metadata: Metadata


def is_wide(column: object) -> bool:
    """Whether SQL sees the whole numbers of a column as doubles."""
    return isinstance(column, NumericColumn) and (
        column.integer and max(abs(column.lower), abs(column.upper)) > _SAFE_INTEGER
    )


def dtype_of(column: Column) -> pl.DataType:
    """The type of a column in prepared and dummy rows alike."""
    match column:
        case NumericColumn(integer=True) | CategoricalColumn(integer=True):
            return pl.Int64()
        case NumericColumn():
            return pl.Float64()
        case BooleanColumn():
            return pl.Boolean()
        case DatetimeColumn():
            return pl.Datetime("us")
        case _:
            return pl.String()

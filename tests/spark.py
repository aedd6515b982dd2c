"""What tests of datasets in Spark share: penguins in Parquet, and the same rows through DuckDB."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lomas_gql.datasets.spark import SparkSource
from lomas_gql.datasets.typing import fit
from lomas_gql.libraries.base import Table
from lomas_gql.libraries.smartnoise_sql.conditions import write_conditions
from lomas_gql.libraries.smartnoise_sql.gate import gate
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.libraries.smartnoise_sql.reader import reader_of
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows, RowsInPlace
from lomas_gql.words import Engine

MASTER = "local[2]"
needs_spark = pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or not (shutil.which("java") or "JAVA_HOME" in os.environ),
    reason="needs PySpark and Java 17",
)
# PySpark leaves the closing of its sockets to the garbage collector.
quiet = pytest.mark.filterwarnings("ignore:unclosed <socket.*127.0.0.1:ResourceWarning")

Exact = tuple[list[str], list[tuple[Any, ...]]]


def in_spark(metadata: Metadata) -> Metadata:
    """The metadata as a dataset in Spark hands it out."""
    return replace(metadata, engine=Engine.SPARK)


@contextmanager
def rows_of(source: SparkSource, metadata: Metadata) -> Iterator[RowsInPlace]:
    with source.in_place(in_spark(metadata), 60) as rows:
        yield rows


def exact(sql: str, rows: Rows | RowsInPlace, delta: float = 0.01) -> Exact:
    """The aggregates that the library adds noise to, as the rows' reader computes them."""
    prepared = SmartnoiseSqlQuery(sql=sql, epsilon=1, delta=delta)._prepared(rows.metadata)
    subquery, _ = prepared.reader._rewrite_ast(prepared.query)
    names, *found = reader_of(rows, prepared.gated)._execute_ast(subquery)
    return list(names), found


def exact_in_both(sql: str, source: SparkSource, frame: pl.LazyFrame, metadata: Metadata) -> tuple[Exact, Exact]:
    """What Spark computes at the source, and DuckDB over the same rows as they are prepared here."""
    with rows_of(source, metadata) as rows:
        there = exact(sql, rows)
    return there, exact(sql, Rows(fit(frame, metadata, key=1).collect(), metadata))


def released(sql: str, source: SparkSource, metadata: Metadata, epsilon: float = 1.0, delta: float = 0.0) -> Table:
    """What leaves, with its noise."""
    query = SmartnoiseSqlQuery(sql=sql, epsilon=epsilon, delta=delta)
    with rows_of(source, metadata) as rows:
        table = query.run_in_place(rows, in_spark(metadata)).table
    assert table is not None
    return table


def parquet(folder: Path, columns: dict[str, Sequence[Any]] | pl.DataFrame, name: str = "rows") -> SparkSource:
    """These rows as a Parquet file in Spark."""
    path = folder / f"{name}.parquet"
    frame = columns if isinstance(columns, pl.DataFrame) else pl.DataFrame(columns)
    frame.write_parquet(path)
    return SparkSource(MASTER, path=str(path), format="parquet")


def selected(conditions: Sequence[str], rows: Rows | RowsInPlace) -> list[list[str]]:
    """Which rows each condition selects, by their first column; in one job."""
    lists = "LIST" if isinstance(rows, Rows) else "COLLECT_LIST"
    asked = [written(condition, rows.metadata) for condition in conditions]
    answers = ", ".join(f"{lists}(CASE WHEN {condition} THEN c0 END) AS s{i}" for i, condition in enumerate(asked))
    if isinstance(rows, Rows):
        [found] = rows.execute(f"SELECT {answers} FROM df")[1]
    else:
        [found] = rows.connection.sql(f"WITH df AS ({rows.projection}) SELECT {answers} FROM df").collect()
    return [sorted(cell for cell in cells or () if cell is not None) for cells in found]


def written(condition: str, metadata: Metadata) -> str:
    """The condition as the engine gets it.

    Raises:
        InvalidQuery: it does not pass the gate.
    """
    gated = gate(f"SELECT COUNT(*) AS n FROM df WHERE {condition}", metadata)
    if metadata.engine is Engine.DUCKDB:
        return f"TRY({gated.query.where.condition})"
    write_conditions(gated.query, gated, metadata)
    return str(gated.query.where.condition)

"""Rows in Spark (https://spark.apache.org): files that it reads, or tables of its catalogue. They stay there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from lomas_gql.datasets.spark_cells import fitted, polars_type
from lomas_gql.datasets.spark_session import session
from lomas_gql.datasets.typing import unfit_columns
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata
from lomas_gql.rows import RowsInPlace
from lomas_gql.settings import Settings
from lomas_gql.words import Engine

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_VIEW = "lomas_rows"
# Every cell as text, which may hold line breaks; a damaged line costs no other line, but for unclosed quotes.
_CSV = {
    "header": "true",
    "mode": "PERMISSIVE",
    "escape": '"',
    "multiLine": "true",
    "enforceSchema": "false",
    "maxColumns": "1000000",
}


@dataclass(frozen=True)
class SparkSource:
    """A table at a Spark master: of the session's catalogue, or CSV or Parquet files at a path that Spark reads."""

    kind: ClassVar[str] = "spark"
    engine: ClassVar[Engine] = Engine.SPARK
    master: str
    table: str | None = None
    path: str | None = None
    format: str | None = None

    def describe(self) -> str:
        """In one line, for the owner."""
        return f"{self.table or self.path} in Spark at {self.master}"

    def state(self) -> tuple[Any, ...]:
        """What changes when the rows do. A server starts no Java process to ask, so: every LOMAS_REFRESH_SECONDS.

        Nothing is kept of the rows: each query reads them as they are. Only what is answered from earlier
        releases (`reuse`) can be as old as that.
        """
        period = int(time.time() // Settings().refresh_seconds)
        return self.kind, self.master, self.table, self.path, self.format, period

    def schema(self) -> pl.Schema:
        """The columns, in types that say from what a cell is read.

        Raises:
            SourceUnavailable: Spark does not start, or the rows are not there.
        """
        with self._read() as frame:
            return _types(frame)

    def scan(self, columns: Sequence[str], folder: Path) -> pl.LazyFrame:
        """No rows leave Spark.

        Raises:
            SourceUnavailable: always.
        """
        raise SourceUnavailable(f"{self.describe()} is read by SmartNoise SQL alone")

    def unfit_in_place(self, metadata: Metadata) -> list[str]:
        """What keeps SmartNoise SQL from running inside Spark on these columns, if anything does.

        Raises:
            SourceUnavailable: Spark does not start, or the rows are not there.
        """
        return unfit_columns(self.schema(), metadata)

    @contextmanager
    def in_place(self, metadata: Metadata, seconds: float) -> Iterator[RowsInPlace]:
        """The rows where they are, for one query.

        Which of an individual's rows are counted is drawn anew by each query (see `fitted`). The time limit is the
        worker's: it ends after `seconds`, and Java with it.

        Raises:
            SourceUnavailable: Spark does not start, or the rows do not have the metadata's columns.
        """
        with self._read() as frame:
            if unfit := unfit_columns(_types(frame), metadata):
                raise SourceUnavailable(f"{self.describe()} {'; '.join(unfit)}")
            fitted(frame, metadata, from_csv=self.format == "csv").createOrReplaceTempView(_VIEW)
        yield RowsInPlace(self.engine, session(self.master), f"SELECT * FROM {_VIEW}", metadata)  # noqa: S608

    @contextmanager
    def _read(self) -> Iterator[DataFrame]:
        """The unread rows. Of an error only its condition goes on, which is one of Spark's own list."""
        started = session(self.master)
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            if self.table is not None:
                yield started.table(self.table)
            elif self.format == "csv":
                yield started.read.options(**_CSV).csv(str(self.path))
            else:
                yield started.read.parquet(str(self.path))
        except (PySparkException, Py4JError) as error:
            condition = error.getCondition() if isinstance(error, PySparkException) else None
            raise SourceUnavailable(
                f"{self.describe()} cannot be read: {condition or type(error).__name__}"
            ) from None


def _types(frame: DataFrame) -> pl.Schema:
    return pl.Schema({field.name: polars_type(field.dataType) for field in frame.schema.fields})

"""CSV and Parquet: on a disk that the server reads, or fetched to it."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from lomas_gql.datasets.fetching import beginning, private_folder, save
from lomas_gql.errors import SourceUnavailable
from lomas_gql.settings import Settings
from lomas_gql.words import Engine

_HEADER_BYTES = 2**20
MISSING = ("", "NA", "NaN", "nan", "null", "NULL")
"""What stands in a CSV for a cell that is not there."""


@dataclass(frozen=True)
class FileSource:
    """A CSV or Parquet file on a disk that the server reads."""

    kind: ClassVar[str] = "file"
    engine: ClassVar[Engine] = Engine.DUCKDB
    path: str

    def describe(self) -> str:
        """In one line, for the owner."""
        return self.path

    def state(self) -> tuple[Any, ...]:
        """What changes when the rows do: another size or time.

        Raises:
            SourceUnavailable: the file is not there or not readable.
        """
        try:
            stat = os.stat(self.path)
        except OSError:
            raise SourceUnavailable(f"{self.path} is not there, or may not be read") from None
        return self.path, stat.st_size, stat.st_mtime_ns

    def schema(self) -> pl.Schema:
        """The file's columns and their types.

        Raises:
            SourceUnavailable: the file is not there, or is neither CSV nor Parquet.
        """
        return schema_of(table(self.path, self.path), self.describe())

    def scan(self, columns: Sequence[str], folder: Path) -> pl.LazyFrame:
        """The file's rows, unread."""
        return table(self.path, self.path)


def table(file: str | Path | BytesIO, name: str) -> pl.LazyFrame:
    """The rows of a file, unread: Parquet where its name says so, else CSV."""
    if is_parquet(name):
        return pl.scan_parquet(file)
    # Every cell as text: what a cell holds can neither change a type nor stop the reading.
    return pl.scan_csv(
        file,
        infer_schema=False,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        ignore_errors=True,
        null_values=list(MISSING),
        missing_utf8_is_empty_string=False,
    )


def is_parquet(name: str) -> bool:
    """Whether a file of that name is read as Parquet."""
    return name.lower().endswith((".parquet", ".pq"))


def schema_of(frame: pl.LazyFrame, described: str) -> pl.Schema:
    """The columns of unread rows.

    Raises:
        SourceUnavailable: they are not there, or are neither CSV nor Parquet.
    """
    try:
        return frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError):
        raise SourceUnavailable(f"{described} cannot be read as CSV or Parquet") from None


def fetched_schema(chunks: Generator[bytes], name: str, described: str) -> pl.Schema:
    """The columns of a remote file. Of a CSV only the beginning is fetched; Parquet has its columns at its end.

    Raises:
        SourceUnavailable: it cannot be fetched, or is neither CSV nor Parquet.
    """
    if not is_parquet(name):
        return schema_of(table(BytesIO(beginning(chunks, _HEADER_BYTES)), name), described)
    with private_folder(Settings().cache_dir) as folder:
        return schema_of(table(save(chunks, folder / "rows", described), name), described)

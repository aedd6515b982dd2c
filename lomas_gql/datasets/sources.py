"""Private files, read once per version: typed, clamped and categorised, then kept as Arrow for the workers."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from lomas_gql.datasets.typing import fit
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata

# Changes when the same file would be prepared differently.
_FORMAT = 1


@dataclass(frozen=True)
class Source:
    """A CSV or Parquet file on a disk that the server reads."""

    path: str

    def version(self, metadata: Metadata) -> str:
        """Names the rows that this file and this metadata make; another size or time is another version.

        Raises:
            SourceUnavailable: the file is not there or not readable.
        """
        try:
            stat = os.stat(self.path)
        except OSError:
            raise SourceUnavailable("The dataset's file cannot be read; its owner has to be told.") from None
        facts = (_FORMAT, self.path, stat.st_size, stat.st_mtime_ns, repr(asdict(metadata)))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def column_names(self) -> list[str]:
        """The file's header.

        Raises:
            SourceUnavailable: the file is not there, or is neither CSV nor Parquet.
        """
        try:
            return self._scan().collect_schema().names()
        except (OSError, pl.exceptions.PolarsError):
            raise SourceUnavailable(f"{self.path} cannot be read as CSV or Parquet") from None

    def _scan(self) -> pl.LazyFrame:
        if self.path.lower().endswith((".parquet", ".pq")):
            return pl.scan_parquet(self.path)
        # Every cell as text: what a cell holds can neither change a type nor stop the reading.
        return pl.scan_csv(
            self.path,
            infer_schema=False,
            truncate_ragged_lines=True,
            encoding="utf8-lossy",
            ignore_errors=True,
            null_values=["", "NA", "NaN", "nan", "null", "NULL"],
            missing_utf8_is_empty_string=False,
        )


def prepared_path(source: Source, metadata: Metadata, cache: Path) -> Path:
    """Where the prepared Arrow file of this version of `source` is, or will be.

    Raises:
        SourceUnavailable: the file is not there.
    """
    return cache / f"{source.version(metadata)}.arrow"


def prepare(source: Source, metadata: Metadata, cache: Path) -> Path:
    """The prepared Arrow file of `source`, made on the first call for each version of it.

    Raises:
        SourceUnavailable: the file, or one of the metadata's columns in it, is not there.
    """
    prepared = prepared_path(source, metadata, cache)
    if prepared.exists():
        return prepared
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    missing = {column.name for column in metadata.columns} - set(source.column_names())
    if missing:
        raise SourceUnavailable("The dataset's file lacks a column of its metadata; its owner has to be told.")
    frame = fit(source._scan(), metadata, _secret(cache)).collect()
    draft = cache / f"{prepared.name}.{os.getpid()}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        frame.rechunk().write_ipc(file, compression="uncompressed", compat_level=pl.CompatLevel.newest())
    # A rename is atomic: another worker sees the whole file or none.
    draft.rename(prepared)
    return prepared


def _secret(cache: Path) -> int:
    """The key that decides which of an individual's rows are kept; it never leaves this folder."""
    path = cache / "contribution.key"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return int(path.read_text(), 16)

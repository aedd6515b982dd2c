"""Private files, read once per version: typed, clamped and categorised, then kept as Arrow for the workers."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from lomas_gql.datasets.typing import fit, unfit_columns
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata

# Changes when the same file would be prepared differently.
_FORMAT = 2
_DRAFT_SECONDS = 3600


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
            raise SourceUnavailable(f"{self.path} is not there, or may not be read") from None
        facts = (_FORMAT, self.path, stat.st_size, stat.st_mtime_ns, repr(asdict(metadata)))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def schema(self) -> pl.Schema:
        """The file's columns and their types.

        Raises:
            SourceUnavailable: the file is not there, or is neither CSV nor Parquet.
        """
        try:
            return self.scan().collect_schema()
        except (OSError, pl.exceptions.PolarsError):
            raise SourceUnavailable(f"{self.path} cannot be read as CSV or Parquet") from None

    def scan(self) -> pl.LazyFrame:
        """The file's rows, unread."""
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


def prepared_path(source: Source, metadata: Metadata, folder: Path) -> Path:
    """Where the prepared Arrow file of this version of `source` is, or will be.

    Raises:
        SourceUnavailable: the file is not there.
    """
    return folder / f"{source.version(metadata)}.arrow"


def prepare(source: Source, metadata: Metadata, folder: Path) -> Path:
    """The prepared Arrow file of a dataset, made on the first call for each version of it.

    `folder` is the dataset's own; the versions before are deleted.

    Raises:
        SourceUnavailable: the file, or one of the metadata's columns in it, cannot be read.
    """
    prepared = prepared_path(source, metadata, folder)
    if prepared.exists():
        return prepared
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfit = unfit_columns(source.schema(), metadata)
    if unfit:
        raise SourceUnavailable("; ".join(unfit))
    frame = fit(source.scan(), metadata, _secret(folder.parent)).collect()
    draft = _private_file(folder, prepared.name)
    with draft.open("wb") as file:
        frame.rechunk().write_ipc(file, compression="uncompressed", compat_level=pl.CompatLevel.newest())
    # A rename is atomic: another worker sees the whole file or none.
    draft.rename(prepared)
    for old in folder.iterdir():
        # Drafts are left alone while another process may be writing them.
        if old != prepared and (old.suffix == ".arrow" or old.stat().st_mtime < time.time() - _DRAFT_SECONDS):
            old.unlink(missing_ok=True)
    return prepared


def _private_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.{os.getpid()}.{secrets.token_hex(4)}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


def _secret(folder: Path) -> int:
    """The key that decides which of an individual's rows are kept; it never leaves this folder."""
    path = folder / "contribution.key"
    if not path.exists():
        draft = _private_file(folder, path.name)
        draft.write_text(secrets.token_hex(8))
        # A link appears whole or not at all, and the first one stays.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return int(path.read_text(), 16)

"""Private rows, read once per version: typed, clamped and categorised, then kept as Arrow for the workers."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import polars as pl

from lomas_gql.datasets.fetching import drop_abandoned, private_folder
from lomas_gql.datasets.files import schema_of
from lomas_gql.datasets.sources import Source
from lomas_gql.datasets.typing import fit, unfit_columns
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata

# Changes when the same file would be prepared differently.
_FORMAT = 3
_DRAFT_SECONDS = 3600
KEEP_SECONDS = 300.0
"""How long a prepared file that was replaced stays after it was last held."""


def version(source: Source, metadata: Metadata) -> str:
    """Names the rows that this source and this metadata make. Of a remote source it is a round trip.

    Raises:
        SourceUnavailable: the source is not there, or cannot be asked.
    """
    # Where queries run does not change the rows.
    told = {name: fact for name, fact in asdict(metadata).items() if name != "engine"}
    facts = (_FORMAT, *source.state(), repr(told))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def prepared_path(version: str, folder: Path) -> Path:
    """Where the prepared Arrow file of that version is, or will be."""
    return folder / f"{version}.arrow"


def prepare(source: Source, metadata: Metadata, folder: Path) -> Path:
    """The prepared Arrow file of a dataset, made on the first call for each version of it.

    `folder` is the dataset's own. Versions that nobody held for KEEP_SECONDS are deleted, so the disk holds what a
    source had in that time: a large one that changes all the time fills it.

    Raises:
        SourceUnavailable: the source, or one of the metadata's columns in it, cannot be read.
    """
    prepared = prepared_path(version(source, metadata), folder)
    if held(prepared):
        return prepared
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    drop_abandoned(folder)
    with private_folder(folder) as fetched:
        rows = _fitted(source, metadata, fetched, _secret(folder.parent))
        draft = _private_file(folder, prepared.name)
        # Written as it is read: ten million rows would not fit a worker's memory with what is made on the way.
        try:
            rows.sink_ipc(draft, compression="uncompressed", compat_level=pl.CompatLevel.newest())
        except BaseException:
            # It holds private rows.
            draft.unlink()
            raise
    # A rename is atomic: another worker sees the whole file or none.
    draft.rename(prepared)
    drop_old(prepared)
    return prepared


def held(prepared: Path) -> bool:
    """Keeps a prepared file for another KEEP_SECONDS, whichever process replaces it; False if there is none."""
    try:
        os.utime(prepared)
    except FileNotFoundError:
        return False
    return True


def drop_old(prepared: Path) -> None:
    """Deletes the other versions of a dataset that nobody held for KEEP_SECONDS, and abandoned drafts."""
    now = time.time()
    for old in prepared.parent.iterdir():
        # Drafts are left alone while another process may be writing them.
        kept = KEEP_SECONDS if old.suffix == ".arrow" else _DRAFT_SECONDS
        with suppress(FileNotFoundError):
            if old != prepared and old.is_file() and old.stat().st_mtime < now - kept:
                old.unlink()


def _fitted(source: Source, metadata: Metadata, fetched: Path, key: int) -> pl.LazyFrame:
    rows = source.scan([column.name for column in metadata.columns], fetched)
    unfit = unfit_columns(schema_of(rows, source.describe()), metadata)
    if unfit:
        raise SourceUnavailable(f"{source.describe()} {'; '.join(unfit)}")
    return fit(rows, metadata, key)


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

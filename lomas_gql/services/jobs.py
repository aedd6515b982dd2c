"""What runs inside a worker process: the join of a query, its dataset's metadata and rows.

Every outcome is a value. An exception would carry its traceback, and with it perhaps a cell's value, into the
server's process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from lomas_gql import progress
from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.preparing import prepare
from lomas_gql.datasets.sources import InPlaceSource, Source
from lomas_gql.errors import ConditionTooRare, InvalidQuery, Overspent, SourceUnavailable
from lomas_gql.libraries.base import (
    Answer,
    DPQuery,
    InPlaceQuery,
    Library,
    Table,
    first_line,
    priced,
    table_of,
)
from lomas_gql.libraries.smartnoise_synth.query import sample
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows


@dataclass(frozen=True)
class Tried:
    """A query that was priced and ran on dummy rows."""

    cost: PrivacyLoss
    answer: Answer


@dataclass(frozen=True)
class Failed:
    """A run on private rows that gave no answer: only the kind of error is known outside the worker."""

    kind: str
    spent: PrivacyLoss | None = None
    # What may be told beyond the fixed message, and what was fitted all the same.
    told: str | None = None
    kept: Answer | None = None


def estimate(query: DPQuery, metadata: Metadata) -> PrivacyLoss | InvalidQuery:
    """The query's cost. There are no rows here."""
    try:
        return priced(query, metadata)
    except BaseException as error:  # noqa: BLE001 (a panic of Rust is no Exception; whatever it is, it is the query's)
        return _refusal(error)


def preflight(query: DPQuery, metadata: Metadata, rows: int) -> PrivacyLoss | InvalidQuery:
    """The query's cost, once it is known to run: it is tried on dummy rows, unless that takes too long."""
    try:
        cost = priced(query, metadata)
        if query.library is not Library.SMARTNOISE_SYNTH:
            query.run(dummy_rows(metadata, rows, seed=0), metadata)
        return cost
    except BaseException as error:  # noqa: BLE001 (as above: these rows are made up)
        return _refusal(error)


def attempt(query: DPQuery, metadata: Metadata, rows: int, seed: int) -> Tried | InvalidQuery:
    """The query's cost and its answer on dummy rows."""
    try:
        return Tried(priced(query, metadata), query.run(dummy_rows(metadata, rows, seed), metadata))
    except BaseException as error:  # noqa: BLE001 (as above: these rows are made up)
        return _refusal(error)


def release(
    query: DPQuery,
    metadata: Metadata,
    cost: PrivacyLoss,
    rows: Path | InPlaceSource,
    seconds: float,
    progress_file: Path,
) -> Answer | Failed:
    """The query's answer on the private rows, where it still costs what was charged; given up after `seconds`.

    `rows` is their prepared file, or where they stay.
    """
    try:
        if not priced(query, metadata) <= cost:
            return Failed("the cost was another when it was charged")
        progress.told_in(progress_file)
        progress.tell(None, "running")
        if isinstance(rows, Path):
            return query.run(_mapped(rows, metadata), metadata)
        assert isinstance(query, InPlaceQuery)
        with rows.in_place(metadata, seconds) as opened:
            return query.run_in_place(opened, metadata)
    except Overspent as error:
        return Failed("Overspent", error.spent)
    except ConditionTooRare as error:
        # It speaks of synthetic rows: post-processing of what was noised and charged.
        kept = error.kept if isinstance(error.kept, Answer) else None
        return Failed("ConditionTooRare", told=error.message, kept=kept)
    except BaseException as error:  # noqa: BLE001 (its text may hold a cell, so not even that is kept)
        return Failed(type(error).__name__)
    finally:
        progress.told_in(None)


def sampled(
    model: bytes, metadata: Metadata, rows: int, condition: str | None
) -> Table | InvalidQuery | ConditionTooRare:
    """Rows from a fitted synthesizer."""
    try:
        return sample(model, rows, condition, metadata)
    except (InvalidQuery, ConditionTooRare) as error:
        return error
    except BaseException as error:  # noqa: BLE001 (it can speak of the stored model alone)
        return InvalidQuery.at("sample", message=f"The model could not be sampled ({type(error).__name__}).")


@lru_cache(maxsize=4)
def _mapped(prepared: Path, metadata: Metadata) -> Rows:
    return Rows.mapped(prepared, metadata)


def prepared_rows(source: Source, metadata: Metadata, folder: Path) -> Path | SourceUnavailable:
    """The prepared file of a dataset, made now if this version of it is new.

    The credentials of a remote source are not among the arguments: the worker reads them from its environment.
    """
    try:
        return prepare(source, metadata, folder)
    except SourceUnavailable as error:
        return error
    except BaseException as error:  # noqa: BLE001 (a damaged file; its text may hold a cell)
        return SourceUnavailable(type(error).__name__)


def unfit_in_place(source: InPlaceSource, metadata: Metadata) -> SourceUnavailable | None:
    """Why the rows of a dataset cannot be queried where they are, if so."""
    try:
        unfit = source.unfit_in_place(metadata)
    except SourceUnavailable as error:
        return error
    except BaseException as error:  # noqa: BLE001 (as above)
        return SourceUnavailable(type(error).__name__)
    return SourceUnavailable(f"{source.describe()} {'; '.join(unfit)}") if unfit else None


def warm() -> None:
    """Loads the libraries, so that the first query need not wait for them."""
    import snsql.sql.private_reader  # noqa: F401


def _refusal(error: BaseException) -> InvalidQuery:
    return error if isinstance(error, InvalidQuery) else InvalidQuery.at("query", message=first_line(error))


def dummy_table(metadata: Metadata, rows: int, seed: int) -> Table:
    """Dummy rows as an answer's table."""
    frame = dummy_rows(metadata, rows, seed).frame
    names: dict[type, str] = {pl.Int64: "int", pl.Float64: "float", pl.Boolean: "boolean", pl.Datetime: "datetime"}
    columns = [(name, names.get(type(dtype), "string")) for name, dtype in frame.schema.items()]
    return table_of(columns, frame.iter_rows())

"""What a query for a synthesizer may ask, judged by public metadata alone: no rows, no heavy imports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import checked_delta, checked_epsilon, described
from lomas_gql.libraries.smartnoise_synth.codes import Coding, coding
from lomas_gql.libraries.smartnoise_synth.padding import padding
from lomas_gql.metadata import Column, DatetimeColumn, Metadata, NumericColumn, TextColumn
from lomas_gql.words import Word

MAX_SAMPLE_ROWS = 10_000
_BINS = (2, 200)
_MOST_COMBINATIONS = 15_000_000


class Synthesizer(Word):
    """The synthesizers of SmartNoise. The GANs are refused by name, with the reason."""

    AIM = "AIM", "Chooses noisy marginals where they improve the model most. 2 to 20 columns; the slowest."
    MST = (
        "MST",
        "Noisy marginals of pairs that span a tree over 2 to 30 columns; a good first choice.",
    )
    MWEM = (
        "MWEM",
        "Multiplicative weights over marginals that are chosen with noise. 1 to 12 columns; no delta.",
    )
    PACSYNTH = "PACSYNTH", "Noisy counts of combinations, the rare ones left out. 1 to 30 columns."
    DPCTGAN = "DPCTGAN", "Not offered: a query is refused with the reason."
    DPGAN = "DPGAN", "Not offered: a query is refused with the reason."
    PATECTGAN = "PATECTGAN", "Not offered: a query is refused with the reason."
    PATEGAN = "PATEGAN", "Not offered: a query is refused with the reason."


REFUSED = {
    Synthesizer.DPCTGAN: "it draws categories by their exact frequencies in the rows, and trains on the rows "
    "of a rare category more often than its privacy accountant assumes",
    Synthesizer.DPGAN: "it trains on shuffled batches of fixed size where its privacy accountant assumes "
    "Poisson samples, counts steps by the exact number of rows, and stops only after it has passed the "
    "declared epsilon",
    Synthesizer.PATECTGAN: "its teachers and its student are one network, trained on the rows themselves",
    Synthesizer.PATEGAN: "it cuts the rows into its teachers' parts by position, so that one row more moves "
    "other rows to other teachers, and takes the number of teachers from the exact number of rows",
}
"""Why a synthesizer is not offered."""


@dataclass(frozen=True)
class Range:
    """What a parameter of a synthesizer may be, and what it is when left out."""

    low: float
    high: float
    default: float
    integer: bool = True

    def admits(self, value: object) -> bool:
        number = isinstance(value, int if self.integer else int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class Kind:
    """A synthesizer that is offered: in which module its function stands, and what it takes.

    `least_delta` is None where it spends none.
    """

    module: str
    least_delta: float | None
    least_columns: int
    most_columns: int
    params: Mapping[str, Range]


KINDS = {
    Synthesizer.MST: Kind("marginals", 1e-18, 2, 30, {}),
    Synthesizer.AIM: Kind(
        "marginals",
        1e-18,
        2,
        20,
        {
            "degree": Range(2, 3, 2),
            "max_model_size": Range(1, 80, 80, integer=False),
            "max_cells": Range(100, 10_000, 10_000),
        },
    ),
    Synthesizer.MWEM: Kind(
        "mwem",
        None,
        1,
        12,
        {
            "iterations": Range(1, 100, 30),
            "marginal_width": Range(1, 3, 2),
            "mult_weights_iterations": Range(1, 50, 20),
        },
    ),
    # Under a delta of 1e-12 the library's own check of its noise fails, by rounding.
    Synthesizer.PACSYNTH: Kind("pac", 1e-12, 1, 30, {"reporting_length": Range(2, 3, 2)}),
}


@dataclass(frozen=True, kw_only=True)
class Bins:
    """How many bins of equal width a numeric or datetime column has."""

    column: str = described("The name of a numeric or datetime column.")
    bins: int = described("How many bins, from 2 to 200; an integer column has at most one for each value.")


@dataclass(frozen=True)
class Plan:
    """What a query comes to, given the metadata."""

    codings: tuple[Coding, ...]
    params: dict[str, float]
    kind: Kind

    @property
    def sizes(self) -> list[int]:
        return [coding.size for coding in self.codings]


def planned(
    synthesizer: Synthesizer,
    epsilon: float,
    delta: float | None,
    names: Sequence[str] | None,
    bins: Sequence[Bins] | None,
    params: Any,
    metadata: Metadata,
) -> Plan:
    """What a query comes to on a dataset with that metadata.

    Raises:
        InvalidQuery: the first thing that is wrong, by the name of the field.
    """
    if synthesizer not in KINDS:
        raise invalid("synthesizer", f"{synthesizer.value} is not offered: {REFUSED[synthesizer]}")
    kind = KINDS[synthesizer]
    _check_loss(synthesizer, kind, epsilon, delta or 0.0)
    if metadata.max_ids > 1:
        message = "synthesizers protect one row, and here an individual has up to max_ids rows"
        raise invalid("synthesizer", message)
    columns = _columns(synthesizer, kind, names, metadata)
    chosen = _bins(bins or [], columns)
    codings = tuple(coding(column, chosen.get(column.name)) for column in columns)
    plan = Plan(codings, _params(params, kind), kind)
    _check_size(synthesizer, plan)
    if synthesizer is Synthesizer.PACSYNTH:
        _check_pacsynth(plan, epsilon, delta or 0.0, metadata.rows)
    return plan


def invalid(field: str, message: str, *more: str) -> InvalidQuery:
    """The refusal of one field of the input."""
    return InvalidQuery.at("query", "smartnoiseSynth", field, *more, message=message)


def _check_loss(synthesizer: Synthesizer, kind: Kind, epsilon: float, delta: float) -> None:
    checked_epsilon(epsilon, "query", "smartnoiseSynth", "epsilon")
    checked_delta(delta, "query", "smartnoiseSynth", "delta")
    name = synthesizer.value
    if kind.least_delta is None and delta:
        raise invalid("delta", f"{name} spends no delta; leave it out")
    if kind.least_delta is not None and delta < kind.least_delta:
        raise invalid("delta", f"{name} needs a delta of at least {kind.least_delta:g}")


def _columns(synthesizer: Synthesizer, kind: Kind, names: Sequence[str] | None, metadata: Metadata) -> list[Column]:
    names = [column.name for column in metadata.columns] if names is None else names
    if len(set(names)) != len(names):
        raise invalid("columns", "a column is named twice")
    unknown = [name for name in names if name not in metadata.by_name]
    if unknown:
        raise invalid("columns", f"there is no column {_shown(unknown[0])}")
    columns = [metadata.by_name[name] for name in names]
    for column in columns:
        if column.private_id:
            message = f"{column.name} is the private_id and cannot be synthesised; leave it out"
            raise invalid("columns", message)
        if isinstance(column, TextColumn):
            message = f"{column.name} is text without categories and cannot be synthesised; leave it out"
            raise invalid("columns", message)
    if not kind.least_columns <= len(columns) <= kind.most_columns:
        message = f"{synthesizer.value} takes {kind.least_columns} to {kind.most_columns} columns"
        raise invalid("columns", message)
    return columns


def _bins(bins: Sequence[Bins], columns: Sequence[Column]) -> dict[str, int]:
    binned = {c.name for c in columns if isinstance(c, NumericColumn | DatetimeColumn)}
    chosen: dict[str, int] = {}
    for item in bins:
        if item.column not in binned:
            message = f"{_shown(item.column)} is not a numeric or datetime column to be synthesised"
            raise invalid("bins", message)
        if item.column in chosen:
            raise invalid("bins", f"{item.column} has bins twice")
        if not _BINS[0] <= item.bins <= _BINS[1]:
            raise invalid("bins", f"bins must lie between {_BINS[0]} and {_BINS[1]}")
        chosen[item.column] = item.bins
    return chosen


def _params(params: Any, kind: Kind) -> dict[str, float]:
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise invalid("params", "params must be an object of names and values")
    for name, value in params.items():
        if not isinstance(name, str) or name not in kind.params:
            known = ", ".join(kind.params) or "none"
            message = f"{_shown(str(name))} is not a parameter that may be set here; those are: {known}"
            raise invalid("params", message, _shown(str(name)))
        allowed = kind.params[name]
        if not allowed.admits(value):
            number = "an integer" if allowed.integer else "a number"
            message = f"{name} must be {number} from {allowed.low:g} to {allowed.high:g}"
            raise invalid("params", message, name)
    return {name: params.get(name, allowed.default) for name, allowed in kind.params.items()}


def _check_size(synthesizer: Synthesizer, plan: Plan) -> None:
    """Refuses tables that would fill a worker's memory or time: by public sizes only."""
    sizes = sorted(plan.sizes, reverse=True)
    match synthesizer:
        case Synthesizer.MST:
            _check_cells(math.prod(sizes[:2]), 250_000, "two columns together")
        case Synthesizer.MWEM:
            _check_cells(math.prod(sizes), 100_000, "all columns together")
        case Synthesizer.PACSYNTH:
            length = int(plan.params["reporting_length"])
            cells = sum(math.prod(c) for n in range(1, length + 1) for c in itertools.combinations(sizes, n))
            _check_cells(cells, 500_000, f"all sets of up to {length} columns together")
        case _:
            _check_workload(sizes, int(plan.params["degree"]), plan.params["max_cells"])


def _check_workload(sizes: Sequence[int], degree: int, max_cells: float) -> None:
    """Every column has to stand in a marginal that AIM may measure."""
    if len(sizes) < degree:
        raise invalid("params", f"degree {degree} needs {degree} columns", "degree")
    if math.prod([sizes[0], *sizes[-degree + 1 :]]) > max_cells:
        raise invalid("columns", "a column has too many bins or categories for max_cells")
    if math.comb(len(sizes), degree) > 300:
        raise invalid("columns", f"there are too many sets of {degree} columns; name fewer columns")


def _check_pacsynth(plan: Plan, epsilon: float, delta: float, rows: int) -> None:
    columns = len(plan.sizes)
    length = min(int(plan.params["reporting_length"]), columns)
    if padding(columns, length, epsilon, delta) is None:
        raise invalid("epsilon", "epsilon is too small for PACSYNTH on so many columns")
    # It holds each record's combinations at once, in about 100 bytes each. `rows` is the public figure.
    if rows * sum(math.comb(columns, n) for n in range(1, length + 1)) > _MOST_COMBINATIONS:
        raise invalid("columns", "PACSYNTH cannot hold so many rows of so many columns; name fewer columns")


def _check_cells(cells: int, most: int, what: str) -> None:
    if cells > most:
        message = f"{what} have {cells} cells, over {most}; name fewer columns or ask for fewer bins"
        raise invalid("columns", message)


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"

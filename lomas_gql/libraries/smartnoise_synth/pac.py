"""PACSYNTH: the noised combinations of `pacsynth`, and tables to draw from them.

Imported by workers only. The native code may panic or abort: a panic becomes an ordinary error here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pacsynth import (
    AccuracyMode,
    Dataset,
    DpAggregateSeededParametersBuilder,
    DpAggregateSeededSynthesizer,
    FabricationMode,
)

from lomas_gql.libraries.smartnoise_synth.model import Table
from lomas_gql.libraries.smartnoise_synth.padding import COUNT_SHARE, LIBRARY_DELTA, PERCENTILE_SHARE, padding

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Clique = tuple[int, ...]

_JOIN = "\x1f"


def pacsynth(
    codes: Codes, sizes: Sequence[int], epsilon: float, delta: float, params: Mapping[str, Any]
) -> list[Table]:
    """PACSYNTH (Microsoft's synthetic-data-showcase, `pac-synth` 0.0.8; `snsynth.aggregate_seeded`).

    Reads all combinations of up to `reporting_length` codes. Noise, in its Rust source: Laplace in the number
    of records (5% of epsilon); for each length an exponential-noise choice of how many combinations a record
    may count in, then Gaussian noise in every count, together rho = (√(ε + ln 2/δ) - √(ln 2/δ))² of zCDP;
    single codes under a threshold that a code of one record passes with probability δ/2 at most are dropped;
    longer combinations are formed from what survived, not from the rows. Charged: (epsilon, delta).

    Repaired, from outside. Its choice of the sensitivity ranges up to the largest one in the rows, which one
    row can raise, and its percentile score jumps where many records tie: here `percentile_percentage` is 100,
    where the score is the number of records above (it moves by one per row), and public padding records with
    a code of their own keep the largest at its public value; a fifth of delta pays for the chance that
    the noise drops them. They also keep the noised number of records above zero, under which it panics.
    Delta is explicit: its default is computed from the number of records. Every cell has a code, null too, so
    nothing is empty. Its own sampler is not used: its native object holds the exact number of records and
    cannot be stored, so rows are drawn from a tree over the noised counts.
    """
    length = min(params["reporting_length"], len(sizes))
    names = [f"c{i}" for i in range(len(sizes))]
    pads = padding(len(sizes), length, epsilon, delta)
    if pads is None:
        raise ValueError("epsilon is too small to pad the records")
    labels = [f"v{code}" for code in range(max(sizes))]
    records = [names, *([labels[code] for code in row] for row in codes.tolist())]
    records += [["pad"] * len(sizes)] * pads
    aggregates = _fitted(records, names, length, epsilon, delta)
    return _tables(dict(_counts(aggregates, sizes, length)), sizes, length)


def _fitted(records: list[list[str]], names: list[str], length: int, epsilon: float, delta: float) -> dict[str, int]:
    parameters = (
        DpAggregateSeededParametersBuilder()
        .reporting_length(length)
        .epsilon(epsilon)
        .delta(delta * LIBRARY_DELTA)
        .percentile_percentage(100)
        .percentile_epsilon_proportion(PERCENTILE_SHARE)
        .number_of_records_epsilon_proportion(COUNT_SHARE)
        .accuracy_mode(AccuracyMode.balanced())
        .fabrication_mode(FabricationMode.uncontrolled())
        .build()
    )
    synthesizer = DpAggregateSeededSynthesizer(parameters)
    try:
        synthesizer.fit(Dataset(records, sensitive_zeros=names))
        return dict(synthesizer.get_dp_aggregates(_JOIN))
    except BaseException as error:
        # pyo3's PanicException is no Exception and would end the worker.
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("pacsynth panicked") from None


def _counts(aggregates: Mapping[str, int], sizes: Sequence[int], length: int) -> Iterator[tuple[Clique, Floats]]:
    """The noised counts as one array for each set of columns; combinations that were dropped count zero."""
    arrays = {
        clique: np.zeros([sizes[i] for i in clique])
        for n in range(1, length + 1)
        for clique in itertools.combinations(range(len(sizes)), n)
    }
    for combination, count in aggregates.items():
        cells = sorted(tuple(part[1:].split(":", 1)) for part in combination.split(_JOIN))
        if all(code != "pad" for _, code in cells):
            places = sorted((int(column), int(code[1:])) for column, code in cells)
            arrays[tuple(column for column, _ in places)][tuple(code for _, code in places)] = count
    return iter(arrays.items())


def _tables(counts: Mapping[Clique, Floats], sizes: Sequence[int], length: int) -> list[Table]:
    """A chain in which each column follows those columns of one earlier table that tell most of it."""
    left = set(range(len(sizes)))
    first = max(left, key=lambda i: (counts[(i,)].size, -i))
    tables, left = [Table((), (first,), counts[(first,)])], left - {first}
    while left:
        parents = {
            given
            for table in tables
            for n in range(1, length)
            for given in itertools.combinations(sorted(table.given + table.new), n)
        } or {()}
        given, new = max(
            ((given, new) for given in sorted(parents) for new in sorted(left)),
            key=lambda edge: _information(_ordered(counts, *edge)),
        )
        # A code of `given` without any combination follows the single counts of `new`.
        tables.append(Table(given, (new,), _ordered(counts, given, new) + 1e-6 * counts[(new,)]))
        left.remove(new)
    return tables


def _ordered(counts: Mapping[Clique, Floats], given: Clique, new: int) -> Floats:
    """The counts of `given` and `new`, with `new` last."""
    clique = tuple(sorted((*given, new)))
    return np.asarray(np.moveaxis(counts[clique], clique.index(new), -1))


def _information(counts: Floats) -> float:
    """Mutual information, in nats, of the last axis and all others."""
    joint = counts.reshape(-1, counts.shape[-1])
    joint = joint / max(joint.sum(), 1.0)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    held = joint > 0
    return float((joint[held] * np.log(joint[held] / apart[held])).sum())

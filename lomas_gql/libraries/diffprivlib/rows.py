"""What happens to rows before and after the estimators: nulls, the split, a public size, the score.

Imported by `models` only, in a worker: the noise mechanisms come with scikit-learn.

**Why a training set of public size.** Rows are left out (nulls, the test side), so the number of rows that an
estimator would see depends on the rows, while diffprivlib's sensitivities (a mean's is width / n) hold for a
public n. So every estimator gets exactly `size` rows, with `size` public: surplus rows go, those with the
largest hash first, and missing ones are made up for by filler rows, which are public. Each hash depends on the
row's own cells in the columns that the query names, on a number that tells it from rows with equal cells, and on
public numbers. Replace one row of the data by another: of the rows with the cells of the first the last number
goes, of those with the cells of the second the next number comes, and all else stays. So of the complete training
rows, at most one goes and at most one comes; the `size` with the smallest hash, filled up with numbered fillers,
then differ in at most one row. Neighbouring datasets become neighbouring training sets, of one size.

Where no row can be incomplete, `size` is the share of rows asked for: the split's own chance (about the
square root of n rows) is all that is filled or cut. Else, it is a noisy count of the complete training rows,
paid for with COUNT_SHARE of the first step's epsilon. No fit depends on the order of rows (the forest deals
them at random), so which rows there are is all that counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from diffprivlib import BudgetAccountant
from diffprivlib.mechanisms import Geometric, PermuteAndFlip

from lomas_gql.libraries.diffprivlib.columns import Feature
from lomas_gql.libraries.diffprivlib.estimators import Role
from lomas_gql.libraries.diffprivlib.plan import Imputation, Plan

if TYPE_CHECKING:
    from lomas_gql.libraries.diffprivlib.query import DiffprivlibQuery

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

COUNT_SHARE = 0.05
"""How much of the first step's epsilon counts the rows that are left, where some may be left out."""

GRID = 2**20
"""Sums are taken in whole steps of 1/GRID, so that their noise is integer noise, without a float's tell-tale
last bits (Mironov, On significance of the least significant bits for differential privacy, 2012)."""

CANDIDATES = 257
"""Among how many public values a median or a most frequent value is chosen."""


@dataclass(frozen=True)
class Sides:
    """Both sides' rows. `x` lies within the public bounds; `y` holds class numbers, targets or zeros."""

    x: Array
    y: Array
    test_x: Array
    test_y: Array
    counted: float
    """What was spent on counting rows, out of the first step's epsilon."""


def sides(query: DiffprivlibQuery, plan: Plan, frame: pl.DataFrame, accountant: BudgetAccountant) -> Sides:
    """The training rows, exactly as many as is public, and the complete test rows."""
    x, y = _features(plan, frame), _target(plan, frame)
    for place, feature in enumerate(plan.features):
        if feature.name in plan.imputed:
            x[:, place] = _imputed(x[:, place], feature, query, accountant)
    complete = ~(np.isnan(x).any(axis=1) | np.isnan(y))
    # The hash is not a secret: differential privacy holds whichever side a row is on.
    hashes = _hashes(frame.select(plan.columns), query.split_seed % 2**64)
    training = hashes <= np.uint64(min(2**64 - 1, round((1 - query.test_size) * 2**64)))
    kept = np.flatnonzero(complete & training)
    kept = kept[np.argsort(hashes[kept], kind="stable")]
    size, counted = _public_size(query, plan, len(frame), len(kept), accountant)
    filler_x, filler_y = _fillers(plan, size - len(kept))
    test = np.flatnonzero(complete & ~training)
    public_x, public_y = _one_of_each_class(plan)
    return Sides(
        np.concatenate([x[kept[:size]], filler_x, public_x]),
        np.concatenate([y[kept[:size]], filler_y, public_y]),
        x[test],
        y[test],
        counted,
    )


def _hashes(cells: pl.DataFrame, seed: int) -> npt.NDArray[np.uint64]:
    """A hash of each row's cells and of its number among those with equal cells, which so come on both sides."""
    kinds = cells.hash_rows(seed=seed).to_frame("kind")
    return kinds.with_columns(number=pl.int_range(pl.len()).over("kind")).hash_rows(seed=seed).to_numpy()


def _features(plan: Plan, frame: pl.DataFrame) -> Array:
    """The features as floats within their bounds; NaN where a nullable one is missing."""
    x = np.empty((len(frame), len(plan.features)))
    for place, feature in enumerate(plan.features):
        cells = frame.get_column(feature.name).cast(pl.Float64, strict=False).fill_null(math.nan).to_numpy()
        x[:, place] = np.clip(cells, feature.lower, feature.upper)
        if not feature.nullable:  # loading has filled these already; nothing here may rest on it
            x[np.isnan(x[:, place]), place] = (feature.lower + feature.upper) / 2
    return x


def _target(plan: Plan, frame: pl.DataFrame) -> Array:
    """The number of the class, or the clipped target; NaN where it is missing or not asked for."""
    if plan.target is None:
        return np.zeros(len(frame))
    cells = frame.get_column(plan.target)
    if plan.role is Role.REGRESSOR and plan.target_box:
        targets = cells.cast(pl.Float64, strict=False).fill_null(math.nan).to_numpy()
        return np.asarray(np.clip(targets, plan.target_box.lower[0], plan.target_box.upper[0]))
    numbers = {key: place for place, key in enumerate(plan.classes)}
    return np.array([numbers.get(cell, math.nan) for cell in cells.to_list()], dtype=np.float64)


def _public_size(
    query: DiffprivlibQuery, plan: Plan, rows: int, complete: int, accountant: BudgetAccountant
) -> tuple[int, float]:
    """How many training rows there shall be, and what finding out cost."""
    epsilon = 0.0
    size = round((1 - query.test_size) * rows)
    if plan.droppable:
        epsilon = COUNT_SHARE * plan.steps[0].epsilon
        size = min(rows, _noisy_count(complete, epsilon, accountant))
    # The library refuses fewer rows than clusters or columns, and a variance needs two.
    clusters = plan.steps[-1].params.get("n_clusters", 0)
    return max(2, size, clusters, len(plan.features)), epsilon


def _fillers(plan: Plan, missing: int) -> tuple[Array, Array]:
    """Public rows: the middle of all bounds, with each class in turn or the middle of the target's bounds."""
    count = max(0, missing)
    middle = (np.array(plan.box.lower) + np.array(plan.box.upper)) / 2
    if plan.classes:
        y = np.arange(count, dtype=np.float64) % len(plan.classes)
    else:
        y = np.full(count, sum(plan.target_box.lower + plan.target_box.upper) / 2 if plan.target_box else 0.0)
    return np.tile(middle, (count, 1)), y


def _one_of_each_class(plan: Plan) -> tuple[Array, Array]:
    """A public row for each class: none is ever absent, so which labels occur cannot be seen."""
    return _fillers(plan, len(plan.classes))


def _noisy_count(count: int, epsilon: float, accountant: BudgetAccountant) -> int:
    """A count of rows with a yes-or-no property: replacing one row changes it by at most 1."""
    accountant.spend(epsilon, 0)
    return max(1, int(Geometric(epsilon=epsilon, sensitivity=1).randomise(count)))


def _noisy_sum(values: Array, epsilon: float, accountant: BudgetAccountant, *, sensitivity: int) -> float:
    """The sum of values in [-1, 1]; `sensitivity` is how much replacing one of them can change it."""
    accountant.spend(epsilon, 0)
    steps = int(np.rint(np.clip(values, -1, 1) * GRID).astype(np.int64).sum())
    return float(Geometric(epsilon=epsilon, sensitivity=sensitivity * GRID).randomise(steps) / GRID)


def noisy_mean(values: Array, epsilon: float, accountant: BudgetAccountant, *, sensitivity: int) -> float:
    """The mean of values in [-1, 1], of which the number is private too: half of `epsilon` for each."""
    total = _noisy_sum(values, epsilon / 2, accountant, sensitivity=sensitivity)
    return total / _noisy_count(len(values), epsilon / 2, accountant)


def _imputed(cells: Array, feature: Feature, query: DiffprivlibQuery, accountant: BudgetAccountant) -> Array:
    """`cells` with a noisy statistic of those that are there in place of those that are not.

    The statistic is released under `imputation_epsilon`; filling a cell reads nothing but that cell.
    """
    known = cells[~np.isnan(cells)]
    epsilon = float(query.imputation_epsilon or 0)
    statistic = _STATISTICS[query.imputation](known, feature, epsilon, accountant)
    return np.where(np.isnan(cells), np.clip(statistic, feature.lower, feature.upper), cells)


def _mean(known: Array, feature: Feature, epsilon: float, accountant: BudgetAccountant) -> float:
    """Around the middle of the bounds a value lies in [-1, 1]; replaced, it moves the sum by at most 2."""
    middle, half = (feature.lower + feature.upper) / 2, (feature.upper - feature.lower) / 2
    return middle + half * noisy_mean((known - middle) / half, epsilon, accountant, sensitivity=2)


def _median(known: Array, feature: Feature, epsilon: float, accountant: BudgetAccountant) -> float:
    """Of public candidates, one that has about as many values below as above.

    Replacing one value changes (below - above) by at most 2, so half of it by at most 1.
    """
    candidates = _candidates(feature)
    ordered = np.sort(known)
    below, above = np.searchsorted(ordered, candidates, "left"), np.searchsorted(ordered, candidates, "right")
    return _chosen(candidates, -np.abs(below - (len(ordered) - above)) / 2, epsilon, accountant)


def _most_frequent(known: Array, feature: Feature, epsilon: float, accountant: BudgetAccountant) -> float:
    """Of public candidates, one to which many values are nearest; a replaced value changes a count by 1."""
    candidates = _candidates(feature)
    share = (known - feature.lower) / (feature.upper - feature.lower)
    nearest = np.rint(share * (len(candidates) - 1)).astype(np.int64)
    return _chosen(candidates, np.bincount(nearest, minlength=len(candidates)), epsilon, accountant)


_STATISTICS: dict[Imputation, Callable[[Array, Feature, float, BudgetAccountant], float]] = {
    Imputation.MEAN: _mean,
    Imputation.MEDIAN: _median,
    Imputation.MOST_FREQUENT: _most_frequent,
}


def _candidates(feature: Feature) -> Array:
    span = feature.upper - feature.lower
    count = int(span) + 1 if feature.integer and span < CANDIDATES else CANDIDATES
    return np.linspace(feature.lower, feature.upper, count)


def _chosen(candidates: Array, utility: Any, epsilon: float, accountant: BudgetAccountant) -> float:
    """Permute and flip (McKenna and Sheldon, 2020); a replaced row changes each utility by at most 1."""
    accountant.spend(epsilon, 0)
    mechanism = PermuteAndFlip(epsilon=epsilon, sensitivity=1, utility=[float(u) for u in utility])
    return float(candidates[mechanism.randomise()])

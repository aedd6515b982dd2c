"""MWEM: snsynth's algorithm over public codes, with what it left un-noised repaired.

Imported by workers only (OpenDP). Neighbours differ by one row added or removed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomas_gql.libraries.smartnoise_synth.model import Table
from lomas_gql.libraries.smartnoise_synth.noise import Spending, choose, counts, laplace

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Clique = tuple[int, ...]

_COUNT_SHARE = 0.05
"""The share of epsilon for the number of rows."""


def mwem(codes: Codes, sizes: Sequence[int], epsilon: float, _: float, params: Mapping[str, Any]) -> list[Table]:
    """MWEM (Hardt, Ligett and McSherry, 2012; `snsynth.mwem`): a joint histogram and its worst marginals.

    Reads marginals of up to `marginal_width` columns. Noise: discrete Laplace in the number of rows (5% of
    epsilon); then per round half of its epsilon for the choice of a marginal not measured yet (exponential
    mechanism; the mean error over a marginal's cells moves by at most one), half for discrete Laplace noise
    in all of its cells (disjoint, so a row changes one). Charged: (epsilon, 0), by basic composition.
    Repaired: snsynth takes the histogram's size from the smallest and largest code in the rows, its mass and
    its number of rounds from their exact number, and draws again until a marginal is new or, after eleven
    draws, at random, which is no longer an exponential mechanism of that epsilon.
    """
    spending = Spending(epsilon)
    spending.spend(epsilon * _COUNT_SHARE)
    total = max(1.0, float(laplace(np.array([len(codes)]), epsilon * _COUNT_SHARE)[0]))
    cliques = _cliques(len(sizes), int(params["marginal_width"]))
    rounds = min(params["iterations"], len(cliques))
    each = epsilon * (1 - _COUNT_SHARE) * (1 - 1e-12) / rounds / 2
    answers = [counts(codes, sizes, clique) for clique in cliques]
    histogram = np.full(tuple(sizes), total / math.prod(sizes))
    measured: dict[int, Floats] = {}
    for _round in range(rounds):
        left = [i for i in range(len(cliques)) if i not in measured]
        errors = [np.abs(answers[i] - _marginal(histogram, cliques[i])).mean() for i in left]
        spending.spend(2 * each)
        chosen = left[choose(errors, each)]
        measured[chosen] = laplace(answers[chosen], each).astype(float)
        histogram = _weighted(histogram, total, [(cliques[i], y) for i, y in measured.items()], params)
    return [Table((), tuple(range(len(sizes))), histogram)]


def _weighted(
    histogram: Floats, total: float, measured: list[tuple[Clique, Floats]], params: Mapping[str, Any]
) -> Floats:
    """Multiplicative weights: each measured marginal pulls its cells; the cells of one are disjoint."""
    axes = range(histogram.ndim)
    for _ in range(params["mult_weights_iterations"]):
        for clique, noised in measured:
            error = (noised - _marginal(histogram, clique)) / (2 * total)
            error = error.clip(-30, 30).reshape([histogram.shape[i] if i in clique else 1 for i in axes])
            histogram = histogram * np.exp(error)
            histogram *= total / histogram.sum()
    return histogram


def _marginal(histogram: Floats, clique: Clique) -> Floats:
    return np.asarray(histogram.sum(axis=tuple(i for i in range(histogram.ndim) if i not in clique)))


def _cliques(columns: int, width: int) -> list[Clique]:
    widths = range(1, min(width, columns) + 1)
    return [clique for n in widths for clique in itertools.combinations(range(columns), n)]

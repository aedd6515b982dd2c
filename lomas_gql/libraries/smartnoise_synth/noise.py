"""The only randomness that protects rows here: OpenDP's exact integer noise and the operating system's dice.

snsynth chooses with NumPy's Mersenne Twister and `random.random`. Both can be wound back from enough of
their output, and whoever knows a mechanism's dice knows its choice without the noise; worker processes
forked from one parent even share NumPy's state. Synthetic rows are drawn from a generator of their own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import opendp.prelude as dp
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

dp.enable_features("contrib", "floating-point")
_DICE = random.SystemRandom()


class Spending:
    """Adds up what the mechanisms spend, and refuses to pass `budget` (rho of zCDP, or epsilon)."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.spent = 0.0

    def spend(self, amount: float) -> None:
        self.spent += amount
        if self.spent > self.budget * (1 + 1e-9):
            raise RuntimeError("a synthesizer would have spent more than was declared")


def counts(codes: Counts, sizes: Sequence[int], clique: tuple[int, ...]) -> Counts:
    """The exact marginal of `clique`. Never leaves a mechanism."""
    shape = tuple(sizes[i] for i in clique)
    cells = np.ravel_multi_index(tuple(codes[:, i] for i in clique), shape)
    return np.bincount(cells, minlength=math.prod(shape)).reshape(shape).astype(np.int64)


def gaussian(counts: Counts, sigma: float) -> Counts:
    """`counts` with discrete Gaussian noise: 1/(2 sigma²)-zCDP where one row changes one count by one.

    Canonne, Kamath and Steinke, The Discrete Gaussian for Differential Privacy, 2020. Integers in, integers
    out: no floating-point residue tells which count a noised value came from.
    """
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    noised = dp.m.make_gaussian(*space, sigma)(counts.ravel().tolist())
    return np.array(noised, dtype=np.int64).reshape(counts.shape)


def laplace(counts: Counts, epsilon: float) -> Counts:
    """`counts` with discrete Laplace noise: epsilon-DP where one row changes one count by one."""
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    noised = dp.m.make_laplace(*space, 1 / epsilon)(counts.ravel().tolist())
    return np.array(noised, dtype=np.int64).reshape(counts.shape)


def choose(scores: ArrayLike, epsilon: float, sensitivity: float = 1.0) -> int:
    """The exponential mechanism: the index of a high score, epsilon-DP and epsilon²/8-zCDP.

    McSherry and Talwar 2007; Cesar and Rogers, Bounding, Concentrating, and Truncating, 2021.
    """
    exponents = 0.5 * epsilon / sensitivity * np.asarray(scores, dtype=np.float64)
    weights = np.exp(exponents - exponents.max())
    steps = weights.cumsum()
    return int(min(np.searchsorted(steps, _DICE.random() * steps[-1], side="right"), len(steps) - 1))

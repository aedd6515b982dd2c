"""A lower confidence bound on the epsilon that a mechanism really spends, from its answers on two neighbours.

Differential privacy says P[answer in S] <= e^epsilon P'[answer in S] + delta for every event S and both orders
of the neighbours. So an event whose two probabilities are bounded by Clopper-Pearson intervals bounds epsilon
from below: log((low - delta) / high). The method is that of Jagielski, Ullman and Oprea, *Auditing
Differentially Private Machine Learning: How Private is Private SGD?* (NeurIPS 2020); events that a classifier
is taught are after Bichsel, Steffen, Bogunovic and Vechev, *DP-Sniper* (IEEE S&P 2021).

Events are taught and chosen on some runs and judged on others, so that the choice costs no confidence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Score = Callable[[Floats], Floats]

CANDIDATES = 200
"""At how many places a score is cut, at most, in search of an event."""

TAUGHT, CHOSEN = 0.25, 0.2
"""The shares of the runs that teach the classifiers (where there are several features) and choose the event; the
rest judges it."""


@dataclass(frozen=True)
class Bound:
    """With the confidence asked for, the mechanism spends more than this.

    `epsilon` holds at the charged delta, `delta` at the charged epsilon.
    """

    epsilon: float
    delta: float


def lower_bound(hits: int, others: int, runs: int, delta: float, alpha: float) -> float:
    """The epsilon that an event shows which was met in `hits` of `runs`, and in `others` on the neighbour."""
    low, high = _interval(np.array([hits]), np.array([others]), runs, alpha)
    return float(_epsilons(low, high, delta)[0])


def audited(answers: tuple[Floats, Floats], *, epsilon: float, delta: float, alpha: float) -> Bound:
    """What the answers on two neighbours (runs by features) show to be spent, with confidence 1 - `alpha`."""
    runs = min(map(len, answers))
    taught_to = int(TAUGHT * runs) if answers[0].shape[1] > 1 else 0
    ends = [0, taught_to, taught_to + int(CHOSEN * runs), runs]
    taught, chosen, judged = ((answers[0][start:end], answers[1][start:end]) for start, end in pairwise(ends))
    scores = list(_scores(taught))
    found = [_counted(score, chosen) for score in scores]
    of_score = np.repeat(np.arange(len(found)), [len(least) for least, _ in found])
    least = np.concatenate([least for least, _ in found])
    hits = np.concatenate([counts for _, counts in found])

    def seen(told: Callable[[Floats, Floats], Floats]) -> float:
        """The figure of the event that looked best, on the answers that had no part in the choice."""
        size, values = len(chosen[0]), []
        for on in (0, 1):
            values.append(told(*_interval(hits[:, on], hits[:, 1 - on], size, alpha)))
        on, place = np.unravel_index(int(np.argmax(values)), (2, len(least)))
        event = scores[of_score[place]]
        met = [int((event(side) >= least[place]).sum()) for side in judged]
        # Half of alpha for each of the two figures.
        return float(told(*_interval(np.array(met[on]), np.array(met[1 - on]), len(judged[0]), alpha / 2)))

    spent = seen(lambda low, high: _epsilons(low, high, delta))
    lost = seen(lambda low, high: np.maximum(0.0, low - math.exp(epsilon) * high)) if delta else 0.0
    return Bound(spent, lost)


def _interval(hits: Any, others: Any, runs: int, alpha: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson: the least probability of the one event and the largest of the other."""
    low = np.where(hits > 0, beta.ppf(alpha / 2, np.maximum(hits, 1), runs - hits + 1), 0.0)
    high = np.where(others < runs, beta.ppf(1 - alpha / 2, others + 1, np.maximum(runs - others, 1)), 1.0)
    return low, high


def _epsilons(low: Floats, high: Floats, delta: float) -> Floats:
    return np.log(np.maximum(low - delta, high) / high)


def _scores(taught: tuple[Floats, Floats]) -> Iterator[Score]:
    """Every feature by itself, both ways, and two classifiers that weigh all of them."""
    for column in range(taught[0].shape[1]):
        for sign in (1.0, -1.0):
            yield lambda side, column=column, sign=sign: sign * side[:, column]
    x, y = np.concatenate(taught), np.repeat([0, 1], [len(taught[0]), len(taught[1])])
    if x.shape[1] > 1 and len(np.unique(x, axis=0)) > 1:
        for model in (
            make_pipeline(RobustScaler(), LogisticRegression(max_iter=1000)),
            HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=0),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(x, y)
            for label in (0, 1):
                yield lambda side, model=model, label=label: model.predict_proba(side)[:, label]


def _counted(score: Score, chosen: tuple[Floats, Floats]) -> tuple[Floats, Counts]:
    """Where `score` is cut, and how many answers of each neighbour reach each cut."""
    sides = [np.sort(score(side)) for side in chosen]
    values = np.unique(np.concatenate(sides))
    least = values[np.unique(np.linspace(0, len(values) - 1, CANDIDATES).astype(int))]
    return least, np.stack([len(side) - np.searchsorted(side, least) for side in sides], axis=1)

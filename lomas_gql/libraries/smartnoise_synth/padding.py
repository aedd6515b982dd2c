"""How many public records PACSYNTH is padded with: a figure from epsilon, delta and the number of columns."""

from __future__ import annotations

import math
from statistics import NormalDist

LIBRARY_DELTA = 0.8
"""The part of delta that the library is told; the rest pays for losing the padding."""
PERCENTILE_SHARE = 0.05
COUNT_SHARE = 0.05

_MOST = 100_000


def padding(columns: int, length: int, epsilon: float, delta: float) -> int | None:
    """So many records that the noise drops one of their combinations hardly ever, or None: too many.

    If it happens with probability p, the promise is (epsilon, 0.8 delta + (1 + e^epsilon) p): p is chosen so
    that this is delta.

    The library's own figures: sigma from rho (`noise_parameters.rs`), the threshold of single codes from
    delta (`noise_aggregator.rs`), and each record counted in at most all of its combinations.
    """
    told = delta * LIBRARY_DELTA
    log = math.log(2 / told)
    # √a - √b as a quotient: the difference of the roots loses every digit for a small epsilon.
    root = epsilon * (1 - COUNT_SHARE) / (math.sqrt(epsilon * (1 - COUNT_SHARE) + log) + math.sqrt(log))
    sigma = math.sqrt(length / (2 * root**2 * (1 - PERCENTILE_SHARE)))
    combinations = [math.comb(columns, n) for n in range(1, length + 1)]
    normal = NormalDist()
    threshold = -normal.inv_cdf(told / 2 / columns)
    lost = delta * (1 - LIBRARY_DELTA) / (1 + math.exp(epsilon))
    survives = -normal.inv_cdf(lost / sum(combinations))
    deviation = sigma * math.sqrt(max(combinations))
    # The second figure keeps the noised number of records above zero but for a chance under e^-60.
    records = max(2 + deviation * (threshold + survives), 60 / (COUNT_SHARE * epsilon))
    # The sensitivity is chosen with exponential noise: enough records that it is all combinations.
    records = max(records, 60 / math.sqrt(2 * root**2 * PERCENTILE_SHARE / length) * length)
    return math.ceil(records) if records <= _MOST else None

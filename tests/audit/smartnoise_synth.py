"""The synthesizers: their stored models, and the noised figures and choices that models are made of.

A model is computed from noised figures, so an attacker who sees those sees at least as much as one who sees the
model; both are audited. mbi's fit reads nothing but noised figures, and takes nearly all of MST's and AIM's time:
before a model it takes a few steps here, and none where the figures themselves are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO
from typing import Any
from unittest.mock import patch

import numpy as np

from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.smartnoise_synth.plan import Synthesizer
from lomas_gql.libraries.smartnoise_synth.query import SmartnoiseSynthQuery
from lomas_gql.metadata import Metadata
from tests.audit.cases import Case, Cells

COLUMNS = {name: {"type": "boolean"} for name in ("a", "b", "c")}
METADATA = Metadata.parse({"max_ids": 1, "rows": 100, "row_privacy": True, "columns": COLUMNS})
PURE, GAUSSIAN, DELTA = 2.0, 4.0, 0.05
STEPS = 5
"""How many steps mbi's fit takes here."""

Recorded = list[tuple[str, Any, float]]
_recorded: Recorded = []


def neighbours(copies: int) -> tuple[Cells, Cells]:
    """Every combination `copies` times; and one of them once more."""
    codes = [divmod(place, 2) for place in range(4)] * copies
    rows = [(bool(first), bool(second), bool((first + second) % 2)) for first, second in codes]
    more = [*rows, (True, True, True)]
    return tuple({name: [row[place] for row in side] for place, name in enumerate(COLUMNS)} for side in (rows, more))  # type: ignore[return-value]


def query(synthesizer: Synthesizer, columns: int, **params: Any) -> SmartnoiseSynthQuery:
    pure = synthesizer is Synthesizer.MWEM
    return SmartnoiseSynthQuery(
        synthesizer=synthesizer,
        epsilon=PURE if pure else GAUSSIAN,
        delta=None if pure else DELTA,
        columns=list(COLUMNS)[:columns],
        params=params or None,
        sample_rows=0,
    )


def modelled(answer: Answer) -> list[float]:
    """The probabilities in a stored model; of two columns they stand in one table."""
    assert answer.model is not None
    with np.load(BytesIO(answer.model), allow_pickle=False) as arrays:
        head = json.loads(arrays["head"].tobytes())
        tables = sorted(zip(map(str, head["tables"]), range(len(head["tables"])), strict=True))
        found = [float(weight) for _, place in tables for weight in arrays[f"table{place}"].ravel()]
    return (found + [0.0] * 8)[:8]


def noised(copies: int) -> Callable[[Answer], list[float]]:
    """The log-likelihood of what was drawn, with the row against without it, and the first choices.

    The row is in the first cell of every marginal; 4 `copies` rows are spread evenly over each column and pair.
    """

    def told(_: Answer) -> list[float]:
        likelihood, choices = 0.0, []
        for kind, value, scale in _recorded:
            if kind == "choose":
                choices.append(float(value))
                continue
            surplus = float(value.ravel()[0]) - 4 * copies / value.size
            if kind == "gaussian":
                likelihood += (surplus - 0.5) / scale**2
            else:
                likelihood += scale * (abs(surplus) - abs(surplus - 1))
        _recorded.clear()
        return [likelihood, *([*choices, -1.0, -1.0, -1.0][:3])]

    return told


@contextmanager
def _observed(module: Any, *names: str) -> Iterator[None]:
    """Every noised figure and choice of `module` is kept, and mbi's fit is short."""

    def kept(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        value = function(*arguments)
        _recorded.append((name, value, float(arguments[1])))
        return value

    with patch.multiple(module, **{name: partial(kept, name, getattr(module, name)) for name in names}):
        yield


@contextmanager
def _short() -> Iterator[None]:
    from lomas_gql.libraries.smartnoise_synth import marginals

    fit = marginals.estimation.mirror_descent
    rho = patch.object(marginals, "cdp_rho", cache(marginals.cdp_rho))
    with rho, patch.object(marginals.estimation, "mirror_descent", lambda *a, **k: fit(*a, **(k | {"iters": STEPS}))):
        yield


@contextmanager
def of_marginals() -> Iterator[None]:
    from mbi import CliqueVector

    from lomas_gql.libraries.smartnoise_synth import marginals

    def unfitted(domain: Any, measured: Any, *, known_total: Any, **_: Any) -> Any:
        start = CliqueVector.zeros(domain, list({measurement.clique for measurement in measured}))
        return marginals.MarkovRandomField(potentials=start, marginals=start, total=known_total)

    # The search for rho from epsilon and delta takes longer than all else, and is the same each time.
    rho = patch.object(marginals, "cdp_rho", cache(marginals.cdp_rho))
    fit = patch.object(marginals.estimation, "mirror_descent", unfitted)
    with rho, fit, _observed(marginals, "gaussian", "choose"):
        yield


@contextmanager
def of_mwem() -> Iterator[None]:
    from lomas_gql.libraries.smartnoise_synth import mwem

    with _observed(mwem, "laplace", "choose"):
        yield


def cases() -> Iterator[Case]:
    """Few runs for those whose models take longest."""
    present, many, few = "a row, absent or present", 20, 1
    make = partial(Case, "SmartNoise Synth", neighbours=present, metadata=METADATA)
    longer = partial(make, weight=6)
    for synthesizer in (Synthesizer.MST, Synthesizer.AIM):
        name = synthesizer.value
        drawn = noised(many)
        three = query(synthesizer, 3)
        yield longer(
            f"{name}, noised figures", query=three, rows=neighbours(many), told=drawn, recording=of_marginals
        )
        two = query(synthesizer, 2)
        yield longer(f"{name}, model", query=two, rows=neighbours(few), told=modelled, recording=_short)
    mwem = query(Synthesizer.MWEM, 2, iterations=1, marginal_width=1)
    yield make("MWEM, noised figures", query=mwem, rows=neighbours(many), told=noised(many), recording=of_mwem)
    yield make("MWEM, model", query=mwem, rows=neighbours(few), told=modelled)
    pac = query(Synthesizer.PACSYNTH, 2)
    yield make("PACSYNTH, model", query=pac, rows=neighbours(few), told=modelled)
    alone = tuple({name: [False] * rows for name in COLUMNS} for rows in (0, 1))
    yield make("PACSYNTH, a rare code", query=pac, rows=alone, told=modelled)

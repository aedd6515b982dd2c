"""A short audit: one mechanism of each library, and mechanisms broken on purpose, which it must accuse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from scipy.stats import binomtest

from lomas_gql.libraries.diffprivlib import trees
from lomas_gql.libraries.smartnoise_sql import query as sql_query
from lomas_gql.libraries.smartnoise_sql import reader as sql_reader
from tests.audit.cases import Case
from tests.audit.lines import cases_of
from tests.audit.statistics import audited, lower_bound

ALPHA = 1e-6


def case(library: str, name: str) -> Case:
    return next(case for case in cases_of(library) if case.mechanism == name)


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_a_bound_follows_from_the_intervals_of_clopper_and_pearson(delta: float) -> None:
    likely, rare = (binomtest(hits, 1_000).proportion_ci(0.999, method="exact") for hits in (900, 100))
    expected = math.log((likely.low - delta) / rare.high)
    assert lower_bound(900, 100, 1_000, delta, alpha=0.001) == pytest.approx(expected)


def test_nothing_is_shown_by_what_both_neighbours_answer_alike() -> None:
    answers = np.zeros((2, 200, 2))
    assert audited((answers[0], answers[1]), epsilon=1.0, delta=0.0, alpha=ALPHA).epsilon == 0


@pytest.mark.parametrize("columns", [1, 2])
def test_noise_of_the_right_scale_is_not_accused_and_half_of_it_is(columns: int) -> None:
    generator = np.random.default_rng(7)

    def drawn(scale: float) -> Any:
        return tuple(place + generator.laplace(0, scale, (4_000, columns)) for place in (0.0, 1.0))

    right, half = columns / 2, columns / 4
    assert 1 < audited(drawn(right), epsilon=2.0, delta=0.0, alpha=ALPHA).epsilon < 2
    assert audited(drawn(half), epsilon=2.0, delta=0.0, alpha=ALPHA).epsilon > 2


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("smartnoise_sql", "COUNT(*), default"),
        ("smartnoise_sql", "threshold"),
        ("opendp", "count, laplace"),
        ("opendp", "plan, public keys"),
        ("diffprivlib", "DECISION_TREE_CLASSIFIER, max_depth 1"),
        ("smartnoise_synth", "MWEM, noised figures"),
    ],
)
def test_a_sound_mechanism_is_not_accused(library: str, name: str, tmp_path: Path) -> None:
    sound = case(library, name)
    bound, _ = sound.audited(tmp_path, ALPHA, runs=400)
    assert bound.epsilon <= sound.charged().epsilon


@contextmanager
def forgotten_sensitivity() -> Iterator[None]:
    """Half of each sensitivity is forgotten, so that half of the noise is there."""
    scaled = sql_reader._scaled

    def halved(mechanism: Any, epsilon: float, delta: float, sensitivity: float, most: int) -> Any:
        return scaled(mechanism, epsilon, delta, sensitivity / 2, most)

    with fresh(), patch.object(sql_reader, "_scaled", halved):
        yield


@contextmanager
def forgotten_threshold() -> Iterator[None]:
    reader = sql_query._private_reader

    def open_to_all(*arguments: Any, censors: bool) -> Any:
        return reader(*arguments, censors=False)

    with fresh(), patch.object(sql_query, "_private_reader", open_to_all):
        yield


@contextmanager
def fresh() -> Iterator[None]:
    """What was prepared before, or while something is broken, is not used again."""
    sql_query._prepared.cache_clear()
    try:
        yield
    finally:
        sql_query._prepared.cache_clear()


@pytest.mark.parametrize(
    ("library", "name", "broken", "runs"),
    [
        ("smartnoise_sql", "COUNT(*), default", forgotten_sensitivity(), 1_000),
        ("smartnoise_sql", "threshold", forgotten_threshold(), 150),
        # As diffprivlib has it: a row is thought to be in one leaf, and to change one count.
        ("diffprivlib", "DECISION_TREE_CLASSIFIER, max_depth 1", patch.object(trees, "TREE_SHARE", 1.0), 1_000),
    ],
)
def test_a_broken_mechanism_is_accused(library: str, name: str, broken: Any, runs: int, tmp_path: Path) -> None:
    audited_one = case(library, name)
    with broken:
        bound, _ = audited_one.audited(tmp_path, ALPHA, runs=runs)
    assert bound.epsilon > audited_one.charged().epsilon


def test_a_synthesizer_without_noise_is_accused(tmp_path: Path) -> None:
    from lomas_gql.libraries.smartnoise_synth import mwem

    found = case("smartnoise_synth", "MWEM, model")
    noiseless = replace(found, query=replace(found.query, epsilon=0.5))  # type: ignore[type-var]
    with patch.object(mwem, "laplace", lambda exact, _: exact):
        bound, _ = noiseless.audited(tmp_path, ALPHA, runs=200)
    assert bound.epsilon > 0.5

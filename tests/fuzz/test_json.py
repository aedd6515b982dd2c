"""The JSON inputs of diffprivlib and of the synthesizers, and the conditions on synthetic rows."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lomas_gql.libraries.diffprivlib.query import DiffprivlibEstimator, DiffprivlibQuery, Imputation, PipelineStep
from lomas_gql.libraries.smartnoise_synth.condition import parsed
from lomas_gql.libraries.smartnoise_synth.plan import Bins, Synthesizer
from lomas_gql.libraries.smartnoise_synth.query import SmartnoiseSynthQuery
from tests.fuzz.asking import METADATA, ROWS, asked, watched
from tests.fuzz.mutation import anything, fuzzed, mutated

NAMES = [column.name for column in METADATA.columns]
NUMBERS = st.sampled_from([0.0, -0.0, 1e-320, 1e-6, 1e-3, 0.2, 0.9, 1.0, 100.0, 1e308, -1.0])
WHOLE = st.sampled_from([-(2**31), -1, 0, 1, 2, 30, 2**31 - 1])

PARAMS: list[Any] = [
    {"epsilon": 1.0, "with_mean": False, "with_std": True, "bounds": [30, 65]},
    {"epsilon": 1.0, "n_components": 1, "centered": True, "data_norm": 1.0},
    {"epsilon": 1.0, "priors": [0.3, 0.3, 0.2, 0.2], "var_smoothing": 1e-9, "bounds": [[30, 2007], [65, 2009]]},
    {"epsilon": 1.0, "C": 2.0, "tol": 1e-4, "max_iter": 100, "fit_intercept": False, "data_norm": 10.0},
    {"epsilon": 1.0, "max_depth": 3, "n_estimators": 2, "classes": ["Adelie", "Gentoo"]},
    {"epsilon": 1.0, "bounds_X": [[30], [65]], "bounds_y": [2007, 2009], "fit_intercept": True},
    {"epsilon": 1.0, "n_clusters": 3, "bounds": [[30, 2007], [65, 2009]]},
    {"epsilon": 1.0, "random_state": 1},
    {"epsilon": 1.0},
]
steps = st.builds(
    PipelineStep,
    name=st.none() | st.text(max_size=3),
    estimator=st.sampled_from(list(DiffprivlibEstimator)),
    params=st.sampled_from(PARAMS) | mutated(PARAMS) | st.just({"epsilon": 1.0}),
)


@fuzzed(50)
@given(
    steps=st.lists(steps, min_size=1, max_size=3),
    features=st.lists(st.sampled_from([*NAMES, "missing"]), max_size=3)
    | st.sampled_from([["bill_length_mm", "year"]]),
    targets=st.none()
    | st.lists(st.sampled_from([*NAMES, ""]), max_size=2)
    | st.sampled_from([["species"], ["year"]]),
    more=st.fixed_dictionaries(
        {},
        optional={
            "test_size": NUMBERS,
            "split_seed": WHOLE,
            "imputation": st.sampled_from(list(Imputation)),
            "imputation_epsilon": NUMBERS,
            "score_epsilon": NUMBERS,
        },
    ),
)
def test_a_pipeline_is_refused_or_runs(
    steps: list[PipelineStep], features: list[str], targets: list[str] | None, more: dict[str, Any]
) -> None:
    asked(DiffprivlibQuery(steps=steps, feature_columns=features, target_columns=targets, **more))


SYNTH: list[Any] = [
    {"degree": 2, "max_model_size": 10.0, "max_cells": 1000},
    {"iterations": 2, "marginal_width": 2, "mult_weights_iterations": 3},
    {"reporting_length": 2},
    {},
    None,
]
CONDITIONS = [
    "species = 'Gentoo' AND NOT (year IN (2007, 2008) OR bill_length_mm > 40.5)",
    "\"island of birth\" IS NOT NULL OR seen BETWEEN '2007-01-01' AND '2008-12-31 12:00:00'",
    "ringed = TRUE AND stage NOT IN (1, 2) OR sex <> 'MALE'",
]
TOKENS = [
    *(" ".join(CONDITIONS).split()),
    "(",
    ")",
    ",",
    "''",
    '"',
    "1e308",
    "1e999",
    "-0.0",
    "NULL",
    "\0",
    "'9999-99-99'",
]
TOKENS += ["9" * 400, "\ud800", "'" + "x" * 3_000 + "'", "(" * 100, "NOT " * 100, ";", "--", "é"]
damaged = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=12).map(" ".join)
conditions = st.sampled_from(CONDITIONS) | damaged | st.text(max_size=40)


@fuzzed(50)
@given(
    synthesizer=st.sampled_from(list(Synthesizer)),
    epsilon=NUMBERS,
    delta=st.none() | NUMBERS,
    columns=st.none() | st.lists(st.sampled_from([*NAMES, "missing", ""]), max_size=4),
    bins=st.none() | st.lists(st.builds(Bins, column=st.sampled_from(NAMES), bins=WHOLE), max_size=3),
    params=st.sampled_from(SYNTH) | mutated(SYNTH),
    rows=WHOLE,
    condition=st.none() | conditions,
)
def test_a_synthesizer_is_refused_or_priced(
    synthesizer: Synthesizer,
    epsilon: float,
    delta: float | None,
    columns: list[str] | None,
    bins: list[Bins] | None,
    params: Any,
    rows: int,
    condition: str | None,
) -> None:
    query = SmartnoiseSynthQuery(
        synthesizer=synthesizer,
        epsilon=epsilon,
        delta=delta,
        columns=columns,
        bins=bins,
        params=params,
        sample_rows=rows,
        condition=condition,
    )
    # What is quick to fit is fitted too.
    asked(query, runs=synthesizer in (Synthesizer.MWEM, Synthesizer.PACSYNTH) and 1 <= epsilon <= 100)


@fuzzed(200)
@given(conditions)
def test_a_condition_is_refused_or_can_be_applied(condition: str) -> None:
    columns = [column for column in METADATA.columns if column.name != "note"]
    with watched():
        try:
            expression = parsed(condition, columns)
        except ValueError:
            return
        assert ROWS.frame.filter(expression).height <= ROWS.frame.height
        assert ROWS.frame.lazy().select(expression.alias("met")).collect_schema()["met"] == pl.Boolean


@fuzzed(20)
@given(
    params=anything,
    estimator=st.sampled_from(list(DiffprivlibEstimator)),
    synthesizer=st.sampled_from(list(Synthesizer)),
)
def test_any_value_as_params_is_refused_or_runs(
    params: Any, estimator: DiffprivlibEstimator, synthesizer: Synthesizer
) -> None:
    steps = [PipelineStep(estimator=estimator, params=params)]
    asked(DiffprivlibQuery(steps=steps, feature_columns=["year"], target_columns=["species"]))
    asked(
        SmartnoiseSynthQuery(
            synthesizer=synthesizer, epsilon=1.0, delta=1e-6, columns=["sex", "year"], params=params
        ),
        runs=False,
    )


def test_the_corpus_is_valid() -> None:
    tried = list(
        zip(
            [
                Est.STANDARD_SCALER,
                Est.PCA,
                Est.LOGISTIC_REGRESSION,
                Est.RANDOM_FOREST_CLASSIFIER,
                Est.LINEAR_REGRESSION,
            ],
            [0, 1, 3, 4, 5],
            [None, None, ["species"], ["species"], ["year"]],
            strict=True,
        )
    )
    for estimator, place, targets in tried:
        step = PipelineStep(estimator=estimator, params=PARAMS[place])
        assert asked(DiffprivlibQuery(steps=[step], feature_columns=["bill_length_mm"], target_columns=targets)), (
            estimator
        )
    for condition in CONDITIONS:
        columns = ["species", "year", "bill_length_mm", "island of birth", "seen", "ringed", "stage", "sex"]
        query = SmartnoiseSynthQuery(
            synthesizer=Synthesizer.MST, epsilon=1.0, delta=1e-6, columns=columns, condition=condition
        )
        assert query.cost(METADATA).epsilon == 1


Est = DiffprivlibEstimator

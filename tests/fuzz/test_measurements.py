"""The walker of OpenDP measurements."""

from __future__ import annotations

import json
import warnings
from typing import Any

import opendp.prelude as dp
from hypothesis import given
from hypothesis import strategies as st

from lomas_gql.libraries.opendp.query import OpenDpQuery
from tests.fuzz.asking import METADATA, asked
from tests.fuzz.mutation import deepened, fuzzed, mutated, places

dp.enable_features("contrib")


def over(**atom: Any) -> tuple[Any, Any]:
    return dp.vector_domain(dp.atom_domain(**atom)), dp.symmetric_distance()


def _corpus() -> list[Any]:
    texts, floats, whole = over(T=str), over(T=float, nan=False), over(T="i64", bounds=(2007, 2009))
    count = texts >> dp.t.then_count()
    scores = floats >> dp.t.then_quantile_score_candidates([30.0, 45.0, 65.0], 0.5)
    clamped = floats >> dp.t.then_clamp((30.0, 65.0)) >> dp.t.then_resize(40, 45.0)
    keyed = texts >> dp.t.then_count_by() >> dp.m.then_noise_threshold(dp.approximate(dp.max_divergence()), 1.0, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        cells = dp.t.make_split_dataframe(",", ["species", "sex", "bill"]) >> dp.t.make_select_column("bill", TOA=str)
        geometric = count >> dp.m.then_geometric(2.0)
    return [
        count >> dp.m.then_laplace(1.0),
        count >> dp.m.then_gaussian(1.0),
        dp.c.make_composition([count >> dp.m.then_laplace(2.0), geometric]),
        texts >> dp.t.then_count_distinct() >> dp.m.then_laplace(1.0),
        clamped >> dp.t.then_mean() >> dp.m.then_laplace(1.0),
        whole >> dp.t.then_sum() >> dp.m.then_laplace(2009.0),
        scores >> dp.m.then_noisy_max(dp.max_divergence(), 1.0),
        keyed,
        cells
        >> dp.t.then_cast_default(TOA="i64")
        >> dp.t.then_clamp((0, 65))
        >> dp.t.then_sum()
        >> dp.m.then_laplace(65.0),
        dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(count >> dp.m.then_gaussian(1.0)), 1e-6),
    ]


CORPUS = [json.loads(dp.serialize(measurement)) for measurement in _corpus()]
COLUMNS = st.sampled_from([None, *(column.name for column in METADATA.columns), "", "\0", "missing"])
DELTAS = st.sampled_from([None, 1e-6, 0.1, 0.0, -0.0, 1e-320, 1e308])


@fuzzed(50)
@given(value=mutated(CORPUS), column=COLUMNS, delta=DELTAS)
def test_a_mutated_measurement_is_refused_or_runs(value: Any, column: str | None, delta: float | None) -> None:
    asked(OpenDpQuery(measurement=json.dumps(value), column=column, fixed_delta=delta))


@fuzzed(20)
@given(value=st.sampled_from(CORPUS), column=COLUMNS, delta=DELTAS)
def test_a_measurement_as_it_is_on_any_column_is_refused_or_runs(
    value: Any, column: str | None, delta: float | None
) -> None:
    asked(OpenDpQuery(measurement=json.dumps(value), column=column, fixed_delta=delta))


@fuzzed(20)
@given(data=st.data(), depth=st.sampled_from([1, 150, 1_000, 100_000]))
def test_a_deep_measurement_is_refused(data: st.DataObject, depth: int) -> None:
    value = data.draw(st.sampled_from(CORPUS))
    asked(
        OpenDpQuery(measurement=deepened(value, data.draw(st.sampled_from(places(value))), depth), column="species")
    )


@fuzzed(20)
@given(st.text(max_size=50) | st.binary(max_size=50).map(lambda octets: octets.decode("latin-1")))
def test_any_text_is_refused(text: str) -> None:
    assert asked(OpenDpQuery(measurement=text, column="species")) is None


def test_the_corpus_is_valid() -> None:
    """Else the mutations would start from what is refused anyway."""
    columns = ["species"] * 4 + ["bill_length_mm"] + ["year", "bill_length_mm", "species", None, "species"]
    for value, column in zip(CORPUS, columns, strict=True):
        delta = 1e-6 if "gaussian" in json.dumps(value) and "fix_delta" not in json.dumps(value) else None
        assert asked(OpenDpQuery(measurement=json.dumps(value), column=column, fixed_delta=delta)), value

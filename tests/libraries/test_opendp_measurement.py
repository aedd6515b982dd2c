"""OpenDP measurements: what is released, what is charged, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.opendp import measurement as opendp_measurement
from lomas_gql.libraries.opendp.query import OpenDpNoise, OpenDpQuery
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows

dp.enable_features("contrib")

COLUMNS: dict[str, dict[str, Any]] = {
    "who": {"type": "string", "private_id": True},
    "species": {"type": "string", "categories": ["Adelie", "Chinstrap", "Gentoo"]},
    "sex": {"type": "string", "categories": ["MALE", "FEMALE"], "nullable": True},
    "bill_length_mm": {"type": "float", "lower": 30, "upper": 65},
    "body_mass_g": {"type": "float", "lower": 2000, "upper": 7000, "nullable": True},
    "year": {"type": "int", "lower": 2007, "upper": 2009},
    "legs": {"type": "int", "lower": 0, "upper": 4, "nullable": True},
    "ringed": {"type": "boolean"},
    "stage": {"type": "int", "categories": [1, 2, 3]},
    "parasites": {"type": "int", "lower": 0, "upper": 2**40},
}
PENGUINS = Metadata.parse({"max_ids": 2, "rows": 344, "columns": COLUMNS})
ROWS = dummy_rows(PENGUINS, 200, 1)
FLOATS = {"T": float, "nan": False}


def over(**atom: Any) -> tuple[Any, Any]:
    return dp.vector_domain(dp.atom_domain(**atom)), dp.symmetric_distance()


def counted(scale: float = 1.0) -> Any:
    return over(T=str) >> dp.t.then_count() >> dp.m.then_laplace(scale)


def query(measurement: Any, **fields: Any) -> OpenDpQuery:
    text = measurement if isinstance(measurement, str) else dp.serialize(measurement)
    return OpenDpQuery(measurement=text, **fields)


def refusal(measurement: Any, metadata: Metadata = PENGUINS, **fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidQuery) as caught:
        query(measurement, **fields).cost(metadata)
    (issue,) = caught.value.issues
    assert issue.path[0] == "query"
    return issue.path[-1], issue.message


def test_importing_the_query_does_not_import_opendp() -> None:
    code = "import sys, lomas_gql.libraries.opendp; sys.exit('opendp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_count_is_released_and_costs_what_the_library_says() -> None:
    counting = query(counted(4.0), column="species")
    assert counting.cost(PENGUINS).epsilon == counted(4.0).map(2) == 0.5
    assert abs(counting.run(ROWS, PENGUINS).value - 200) < 200


def test_a_mean_after_clamp_and_resize_is_released() -> None:
    mean = over(**FLOATS) >> dp.t.then_clamp((30.0, 65.0)) >> dp.t.then_resize(344, 45.0) >> dp.t.then_mean()
    noisy = mean >> dp.m.then_laplace(0.5)
    assert query(noisy, column="bill_length_mm").cost(PENGUINS).epsilon == pytest.approx(noisy.map(2), abs=1e-11)
    assert 30 < query(noisy, column="bill_length_mm").run(ROWS, PENGUINS).value < 65


def test_a_variance_a_quantile_and_a_composition_are_released() -> None:
    clamped = over(**FLOATS) >> dp.t.then_clamp((30.0, 65.0))
    sized = clamped >> dp.t.then_resize(344, 45.0)
    assert query(sized >> dp.t.then_sum() >> dp.m.then_laplace(70.0), column="bill_length_mm").cost(PENGUINS)
    scores = over(**FLOATS) >> dp.t.then_quantile_score_candidates([30.0, 45.0, 65.0], 0.5)
    median = query(scores >> dp.m.then_noisy_max(dp.max_divergence(), 1.0), column="bill_length_mm")
    assert median.run(ROWS, PENGUINS).value in (0, 1, 2)
    distinct = over(T=str) >> dp.t.then_count_distinct() >> dp.m.then_laplace(1.0)
    both = query(dp.c.make_composition([counted(), distinct]), column="species")
    assert both.cost(PENGUINS).epsilon == 4
    assert len(both.run(ROWS, PENGUINS).value) == 2


def test_counts_by_key_are_a_dictionary_above_a_threshold() -> None:
    keyed = over(T=str) >> dp.t.then_count_by()
    keyed = keyed >> dp.m.then_noise_threshold(dp.approximate(dp.max_divergence()), 1.0, 30)
    keys = query(keyed, column="species")
    loss = keyed.map(2)
    assert (keys.cost(PENGUINS).epsilon, keys.cost(PENGUINS).delta) == pytest.approx(loss, rel=1e-6)
    assert list(keys.run(ROWS, PENGUINS).value) == ["Adelie", "Chinstrap", "Gentoo"]


def test_zcdp_is_charged_at_fixed_delta_and_only_there() -> None:
    gaussian = over(T=str) >> dp.t.then_count() >> dp.m.then_gaussian(4.0)
    expected = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(gaussian), 1e-6).map(2)
    cost = query(gaussian, column="species", fixed_delta=1e-6).cost(PENGUINS)
    assert (cost.epsilon, cost.delta) == pytest.approx(expected, rel=1e-9)
    profile = dp.c.make_zCDP_to_approxDP(gaussian)
    assert query(profile, column="species", fixed_delta=1e-6).cost(PENGUINS) == cost
    assert refusal(gaussian, column="species")[0] == "fixedDelta"
    assert refusal(gaussian, column="species", fixed_delta=0.0)[0] == "fixedDelta"
    assert refusal(counted(), column="species", fixed_delta=1e-6)[0] == "fixedDelta"


def test_rows_read_as_csv_text_with_the_private_id_left_empty() -> None:
    frame = ROWS.frame.head(2).with_columns(species=pl.Series(["a,b\nc\0", "\u2028"]), sex=pl.Series([None, "MALE"]))
    lines = opendp_measurement.csv(Rows(frame, PENGUINS)).split("\n")
    assert len(lines) == 3
    assert lines[0].startswith(",a b c ,,")
    assert lines[1].startswith(", ,MALE,")
    assert opendp_measurement.csv(Rows(ROWS.frame.head(0), PENGUINS)) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        year = dp.t.make_split_dataframe(",", list(PENGUINS.by_name)) >> dp.t.make_select_column("year", str)
    summed = year >> dp.t.then_cast_default("i32") >> dp.t.then_clamp((2007, 2009)) >> dp.t.then_sum()
    csv = query(summed >> dp.m.then_laplace(100.0))
    assert csv.cost(PENGUINS).epsilon == pytest.approx(2 * 2009 / 100)
    assert csv.run(ROWS, PENGUINS).value == pytest.approx(200 * 2008, abs=5000)


@pytest.mark.parametrize(
    ("column", "atom"),
    [
        ("species", {"T": str}),
        ("year", {"T": str}),
        ("year", {"T": "i32"}),
        ("year", {"T": "i64", "bounds": (2007, 2009)}),
        ("year", {"T": float, "nan": False}),
        ("body_mass_g", {"T": float}),
        ("body_mass_g", {"T": str}),
        ("bill_length_mm", {"T": float, "nan": False, "bounds": (29.0, 65.0)}),
        ("legs", {"T": float}),
        ("stage", {"T": float}),
        ("ringed", {"T": bool}),
    ],
)
def test_a_column_is_read_by_a_domain_that_claims_no_more_than_metadata(column: str, atom: dict[str, Any]) -> None:
    counting = query(over(**atom) >> dp.t.then_count() >> dp.m.then_laplace(1.0), column=column)
    assert counting.cost(PENGUINS).epsilon == 2
    assert abs(counting.run(ROWS, PENGUINS).value - 200) < 60


def test_fields_that_do_nothing_are_refused() -> None:
    assert refusal(counted(), column="species", epsilon=1.0)[0] == "epsilon"
    assert refusal(counted(), column="species", delta=1e-6)[0] == "delta"
    assert refusal(counted(), column="species", noise=OpenDpNoise.GAUSSIAN)[0] == "noise"
    assert refusal(counted(), column="species", polars_plan="{}")[0] == "measurement"
    with pytest.raises(InvalidQuery):
        OpenDpQuery().cost(PENGUINS)


def test_repeated_subtrees_are_built_once() -> None:
    nested = counted(128.0)
    for _ in range(6):
        nested = dp.c.make_composition([nested, nested])
    text = dp.serialize(nested)
    assert len(text) > 100_000
    assert query(text, column="species").cost(PENGUINS).epsilon == 1
    made: dict[Any, Any] = {}
    opendp_measurement._object(json.loads(text), "measurement", made)
    assert len(made) < 20


STOCK = json.loads(dp.serialize(counted()))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["f64", "i64", "bool"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["__tuple__", "__function__"]), inner)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(places(STOCK)), new=anything | st.sampled_from(places(STOCK)))
def test_a_mutated_measurement_is_refused_or_has_a_cost(place: tuple[Any, ...], new: Any) -> None:
    if isinstance(new, tuple):
        source = STOCK
        for key in new:
            source = source[key]
        new = source
    mutated = query(json.dumps(changed(STOCK, place, new)), column="species")
    try:
        cost = mutated.cost(PENGUINS)
    except InvalidQuery:
        return
    assert 1e-6 <= cost.epsilon <= 100

"""Polars plans of OpenDP contexts: what is released, what is charged, and what is refused."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import Table
from lomas_gql.libraries.opendp.query import OpenDpNoise, OpenDpQuery
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows

dp.enable_features("contrib")

COLUMNS: dict[str, dict[str, Any]] = {
    "who": {"type": "string", "private_id": True},
    "species": {"type": "string", "categories": ["Adelie", "Chinstrap", "Gentoo"]},
    "island": {"type": "string", "categories": ["Biscoe", "Dream", "Torgersen"]},
    "bill_length_mm": {"type": "float", "lower": 30, "upper": 65},
    "body_mass_g": {"type": "float", "lower": 2000, "upper": 7000, "nullable": True},
    "sex": {"type": "string", "categories": ["MALE", "FEMALE"], "nullable": True},
    "year": {"type": "int", "lower": 2007, "upper": 2009},
    "stage": {"type": "int", "categories": [1, 2, 3]},
    "ringed": {"type": "boolean"},
    "seen": {"type": "datetime", "lower": "2007-01-01", "upper": "2009-12-31"},
    "note": {"type": "string"},
}
PENGUINS = Metadata.parse({"max_ids": 1, "rows": 344, "columns": COLUMNS})
ROWS = dummy_rows(PENGUINS, 300, 1)
GAUSSIAN = {"noise": OpenDpNoise.GAUSSIAN, "fixed_delta": 1e-6}
BILL = pl.col("bill_length_mm")
MASS = pl.col("body_mass_g")
ANALYSTS_OWN = dummy_rows(PENGUINS, 5, 9).frame


def plan(ask: Callable[[Any], Any]) -> str:
    """What an analyst sends: a query of a stock context over rows of their own."""
    context = dp.Context.compositor(
        data=ANALYSTS_OWN.lazy(),
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(epsilon=1.0, delta=1e-7),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=[], max_length=700)],
    )
    return written(ask(context.query()).polars_plan)


def written(lazy: pl.LazyFrame) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "'json' serialization format of LazyFrame is deprecated"
        return lazy.serialize(format="json")


def raw(lazy: Callable[[pl.LazyFrame], pl.LazyFrame]) -> str:
    """A plan that a context would not make."""
    return written(lazy(ANALYSTS_OWN.lazy()))


def ask(text: str, metadata: Metadata = PENGUINS, rows: Rows = ROWS, **fields: Any) -> Table:
    query = OpenDpQuery(polars_plan=text, **fields)
    assert query.cost(metadata).epsilon == fields.get("epsilon", query.cost(metadata).epsilon)
    table = query.run(rows, metadata).table
    assert table is not None
    return table


def refusal(text: str, metadata: Metadata = PENGUINS, **fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidQuery) as caught:
        OpenDpQuery(polars_plan=text, **({"epsilon": 1.0} | fields)).cost(metadata)
    (issue,) = caught.value.issues
    assert "/" not in issue.message
    return issue.path[-1], issue.message


LEN = plan(lambda q: q.select(dp.len()))
MEAN = plan(lambda q: q.select(dp.len().alias("n"), BILL.dp.mean((30.0, 65.0))))
BY_SEX = plan(lambda q: q.group_by("species", "sex").agg(dp.len(), BILL.dp.sum((30.0, 65.0))))


def test_a_length_costs_the_declared_epsilon_to_the_unit() -> None:
    for epsilon in (0.1, 0.3, 1.0, 1e-3, 17.0):
        cost = OpenDpQuery(polars_plan=LEN, epsilon=epsilon).cost(PENGUINS)
        assert (cost.epsilon_text, cost.delta_units) == (str(epsilon) if epsilon % 1 else str(int(epsilon)), 0)
    table = ask(LEN, epsilon=1.0)
    assert [(column.name, column.dtype) for column in table.columns] == [("len", "int")]
    assert abs(table.rows[0][0] - 300) < 60


def test_the_noise_has_the_scale_that_epsilon_buys() -> None:
    lengths = [ask(LEN, epsilon=0.1).rows[0][0] for _ in range(60)]
    spread = sum(abs(length - 300) for length in lengths) / len(lengths)
    assert 3 < spread < 30  # a Laplace of scale 10 is 10 away on average
    wider = Metadata.parse({"max_ids": 5, "rows": 344, "columns": COLUMNS})
    lengths = [ask(LEN, wider, epsilon=0.1).rows[0][0] for _ in range(60)]
    assert sum(abs(length - 300) for length in lengths) / len(lengths) > 25


def test_explicit_scales_cost_what_the_library_says() -> None:
    text = plan(lambda q: q.select(dp.len(scale=4.0), pl.col("year").dp.sum((2007, 2009), scale=4018.0)))
    assert OpenDpQuery(polars_plan=text).cost(PENGUINS).epsilon == pytest.approx(0.25 + 0.5)
    assert refusal(text)[0] == "epsilon"
    gaussian = OpenDpQuery(polars_plan=plan(lambda q: q.select(dp.len(scale=4.0))), **GAUSSIAN).cost(PENGUINS)
    count = (dp.vector_domain(dp.atom_domain(T=str)), dp.symmetric_distance()) >> dp.t.then_count()
    count = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(count >> dp.m.then_gaussian(4.0)), 1e-6)
    assert (gaussian.epsilon, gaussian.delta) == pytest.approx(count.map(1), rel=1e-9)
    assert "none" in refusal(plan(lambda q: q.select(dp.len(scale=4.0), MASS.dp.count())))[1]


def test_statistics_of_a_whole_column() -> None:
    assert ask(MEAN, epsilon=50.0).rows[0][1] == pytest.approx(47, abs=5)
    text = plan(lambda q: q.select(MASS.fill_null(4000.0).dp.median([2000.0, 4500.0, 7000.0])))
    assert ask(text, epsilon=50.0).rows == ((4500.0,),)
    text = plan(
        lambda q: q.select(
            MASS.dp.null_count().alias("a"),
            MASS.dp.count().alias("b"),
            pl.col("note").dp.n_unique(),
            BILL.sum().dp.noise(),
        )
    )
    assert ask(text, epsilon=90.0).rows[0][:3] == pytest.approx((15, 285, 10), abs=12)


def test_gaussian_noise_is_charged_epsilon_at_fixed_delta() -> None:
    cost = OpenDpQuery(polars_plan=MEAN, epsilon=0.5, **GAUSSIAN).cost(PENGUINS)
    assert (cost.epsilon_text, cost.delta_text) == ("0.5", "0.000001")
    assert abs(ask(MEAN, epsilon=50.0, **GAUSSIAN).rows[0][0] - 300) < 20
    assert refusal(MEAN, noise=OpenDpNoise.GAUSSIAN)[0] == "fixedDelta"
    assert refusal(MEAN, fixed_delta=1e-6)[0] == "fixedDelta"


def test_a_group_by_public_keys_answers_with_every_combination_in_one_order() -> None:
    expected = [(a, b) for a in ("Adelie", "Chinstrap", "Gentoo", "OTHER") for b in ("MALE", "FEMALE", "OTHER", None)]
    one = Rows(ROWS.frame.head(1), PENGUINS)
    for rows in (ROWS, one, Rows(ROWS.frame.head(0), PENGUINS), Rows(ROWS.frame.reverse(), PENGUINS)):
        table = ask(BY_SEX, rows=rows, epsilon=1.0)
        assert [row[:2] for row in table.rows] == expected
        assert len({row[3] for row in table.rows}) == len(expected), "each sum has noise of its own"
    for key, values in (("stage", [1, 2, 3, None]), ("ringed", [True, False])):
        table = ask(plan(lambda q, key=key: q.group_by(key).agg(dp.len())), epsilon=1.0)
        assert [row[0] for row in table.rows] == values


def test_grouped_costs_are_parallel_and_follow_max_ids() -> None:
    text = plan(lambda q: q.group_by("species").agg(dp.len(scale=2.0)))
    assert OpenDpQuery(polars_plan=text).cost(PENGUINS).epsilon == 0.5
    wider = Metadata.parse({"max_ids": 3, "rows": 344, "columns": COLUMNS})
    assert OpenDpQuery(polars_plan=text).cost(wider).epsilon == 1.5


def test_the_answer_is_sorted_by_released_cells_only() -> None:
    text = plan(lambda q: q.group_by("species").agg(dp.len()).sort("len", descending=True))
    lengths = [row[1] for row in ask(text, epsilon=1.0).rows]
    assert lengths == sorted(lengths, reverse=True)
    assert refusal(plan(lambda q: q.sort("year").select(dp.len())))[0] == "polarsPlan"


@pytest.mark.parametrize(
    "made",
    [
        lambda: (BILL > 40) & pl.col("ringed") | pl.col("sex").is_null(),
        lambda: BILL.clip(40.0, 50.0),
        lambda: MASS.fill_null(4000.0) / 1000 - BILL * 2 + pl.col("year") // 3 % 2,
        lambda: (MASS / (BILL - 30)).fill_nan(0.0),
        lambda: BILL.cut([40.0, 50.0], labels=["short", "middle", "long"]),
        lambda: pl.col("species").replace({"Adelie": "A", "Gentoo": "G"}),
        lambda: pl.col("species").replace_strict({"Adelie": 1}, default=0),
        lambda: pl.col("year").cast(pl.String, strict=False),
        lambda: pl.col("note").cast(pl.Int64, strict=False),
        lambda: pl.col("seen").dt.month(),
    ],
)
def test_expressions_of_rows_that_are_accepted(made: Callable[[], pl.Expr]) -> None:
    text = plan(lambda q: q.with_columns(made().alias("z")).select(pl.col("z").dp.n_unique()))
    assert ask(text, epsilon=1.0).rows[0][0] >= 0


def test_fields_that_are_missing_or_do_nothing_are_refused() -> None:
    assert refusal(LEN, epsilon=None)[0] == "epsilon"
    assert refusal(LEN, delta=1e-7)[0] == "delta"
    assert refusal(BY_SEX, delta=1e-7)[0] == "delta"
    assert refusal(LEN, column="species")[0] == "column"
    for epsilon in (0.0, -1.0, math.nan, math.inf, 1e-9, 101.0):
        assert refusal(LEN, epsilon=epsilon)[0] == "epsilon"
    for delta in (-1e-5, math.nan, 0.5, 1e-30, 0.0):
        assert refusal(MEAN, noise=OpenDpNoise.GAUSSIAN, fixed_delta=delta)[0] == "fixedDelta"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


STOCK = json.loads(
    plan(
        lambda q: (
            q.filter(BILL > 40)
            .with_columns(z=MASS.fill_null(4000.0).clip(2000.0, 7000.0))
            .group_by("species")
            .agg(dp.len(), pl.col("z").dp.sum((2000.0, 7000.0)), BILL.dp.median([40.0, 50.0]))
            .sort("species")
        )
    )
)
PLACES = places(STOCK)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["Len", "Plus", "year"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Column", "Literal", "Agg"]), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), new=anything | st.sampled_from(PLACES))
def test_a_mutated_plan_is_refused_or_has_its_cost(place: tuple[Any, ...], new: Any) -> None:
    if isinstance(new, tuple):
        source = STOCK
        for key in new:
            source = source[key]
        new = source
    try:
        cost = OpenDpQuery(polars_plan=json.dumps(changed(STOCK, place, new)), epsilon=0.5).cost(PENGUINS)
    except InvalidQuery:
        return
    assert cost.epsilon == 0.5


@pytest.mark.parametrize("name", ["species", "seen"])
def test_a_cast_that_polars_refuses_once_there_is_a_row_has_no_price(name: str) -> None:
    cast = pl.col(name).cast(pl.Boolean, strict=False)
    text = raw(lambda rows: rows.filter(pl.col("ringed")).with_columns(cast).select(dp.len(scale=1.0)))
    assert "cast" in refusal(text)[1]


def test_a_mistake_of_types_that_no_schema_shows_has_no_price() -> None:
    text = raw(lambda rows: rows.filter(pl.col("ringed").is_nan()).select(dp.len(scale=1.0)))
    assert "is_nan" in refusal(text)[1]

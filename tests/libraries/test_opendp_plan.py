"""Polars plans of OpenDP contexts: what is released, what is charged, and what is refused."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
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


def test_an_absent_group_is_noised_like_one_with_a_row() -> None:
    text = plan(lambda q: q.group_by("species").agg(dp.len()))
    empty = Rows(ROWS.frame.head(0), PENGUINS)
    lengths = [row[1] for _ in range(20) for row in ask(text, rows=empty, epsilon=0.5).rows]
    # A discrete Laplace of scale 2, cut off at 0: 62 in 100 are 0.
    assert 25 < sum(length == 0 for length in lengths) < 73


def test_grouped_costs_are_parallel_and_follow_max_ids() -> None:
    text = plan(lambda q: q.group_by("species").agg(dp.len(scale=2.0)))
    assert OpenDpQuery(polars_plan=text).cost(PENGUINS).epsilon == 0.5
    wider = Metadata.parse({"max_ids": 3, "rows": 344, "columns": COLUMNS})
    assert OpenDpQuery(polars_plan=text).cost(wider).epsilon == 1.5


def test_too_many_combinations_are_refused() -> None:
    columns = {name: {"type": "string", "categories": [str(n) for n in range(30)]} for name in "abc"}
    metadata = Metadata.parse({"max_ids": 1, "rows": 10, "columns": columns})
    lazy = pl.LazyFrame(schema=dict.fromkeys("abc", pl.String))
    assert "combinations" in refusal(written(lazy.group_by("a", "b", "c").agg(dp.len())), metadata)[1]


def test_a_group_by_other_columns_hides_small_groups_for_a_delta() -> None:
    text = plan(lambda q: q.group_by("year").agg(dp.len(), BILL.dp.sum((30.0, 65.0))))
    assert refusal(text)[0] == "delta"
    cost = OpenDpQuery(polars_plan=text, epsilon=1.0, delta=1e-7).cost(PENGUINS)
    assert (cost.epsilon_text, cost.delta_text) == ("1", "0.0000001")
    assert [row[0] for row in ask(text, epsilon=10.0, delta=1e-7).rows] == [2007, 2008, 2009]
    lonely = Rows(
        ROWS.frame.filter(pl.col("year") != 2008).vstack(ROWS.frame.filter(pl.col("year") == 2008).head(1)), PENGUINS
    )
    for _ in range(20):
        assert [row[0] for row in ask(text, rows=lonely, epsilon=1.0, delta=1e-7).rows] == [2007, 2009]
    both = OpenDpQuery(polars_plan=text, epsilon=1.0, delta=1e-7, **GAUSSIAN).cost(PENGUINS)
    assert (both.epsilon_text, both.delta) == ("1", pytest.approx(1.1e-6))
    without_length = plan(lambda q: q.group_by("year").agg(MASS.dp.count()))
    assert "len" in refusal(without_length, delta=1e-7)[1]


def test_a_column_made_anew_has_no_public_keys_whatever_its_name() -> None:
    for made in (
        lambda q: q.with_columns(species=pl.col("note")),
        lambda q: q.select(pl.col("note").alias("species"), BILL),
        lambda q: q.with_columns(pl.col("species").replace({"Adelie": "x"})),
    ):
        text = plan(lambda q, made=made: made(q).group_by("species").agg(dp.len()))
        assert refusal(text)[0] == "delta"
    kept = plan(lambda q: q.select("species", "year").filter(pl.col("year") > 2007).group_by("species").agg(dp.len()))
    assert len(ask(kept, epsilon=1.0).rows) == 4


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


HOSTILE = pl.DataFrame(
    {
        "note": ["nan", "inf", "", "-1e999", None],
        "bill_length_mm": [30.0, 65.0, 30.0, 30.0, 65.0],
        "body_mass_g": [None, 2000.0, 7000.0, None, None],
        "year": [2007, 2009, 2007, 2007, 2008],
    }
)


@pytest.mark.parametrize(
    "made",
    [
        lambda: pl.col("note").cast(pl.Float64, strict=False),
        lambda: (BILL - 30) / (BILL - 30),
        lambda: pl.col("year") // (pl.col("year") - 2007),
        lambda: pl.col("year") % (pl.col("year") - 2007),
        lambda: pl.col("year") * 2**60,
        lambda: (BILL * 1e300).cast(pl.Int64, strict=False),
        lambda: BILL * 1e308 * 1e308 - BILL * 1e308 * 1e308,
        lambda: MASS,
        lambda: BILL.cut([40.0]).cast(pl.String, strict=False).cast(pl.Float64, strict=False),
        lambda: MASS.fill_null(BILL).replace({30.0: 0.5}),
    ],
)
def test_no_row_makes_a_run_fail(made: Callable[[], pl.Expr]) -> None:
    columns = {name: COLUMNS[name] | {"nullable": name in ("note", "body_mass_g")} for name in HOSTILE.columns}
    metadata = Metadata.parse({"max_ids": 1, "rows": 10, "columns": columns})
    text = written(HOSTILE.lazy().with_columns(z=made()).select(pl.col("z").dp.sum((0, 1)), dp.len()))
    for _ in range(3):
        table = ask(text, metadata, Rows(HOSTILE, metadata), epsilon=20.0)
        assert table.rows[0][0] is not None
        assert abs(table.rows[0][0]) < 20


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (lambda q: q.group_by("species").agg(dp.len()).with_keys(pl.LazyFrame({"species": ["x"]})), "with_keys"),
        (lambda q: q.select(BILL.sum()), "no noise"),
        (lambda q: q.select(BILL), "no noise"),
        (lambda q: q.select(dp.len(), BILL.sum()), ""),
        (lambda q: q.select(dp.len(), BILL), ""),
        (lambda q: q.group_by("species").agg(dp.len(), BILL.max()), "aggregation"),
        (lambda q: q.group_by("species").agg(dp.len(), BILL.first().alias("b")), "aggregation"),
        (lambda q: q.select(pl.len()), "no noise"),
        (lambda q: q.select(dp.len(), dp.len()), "alias"),
        (lambda q: q.group_by("who").agg(dp.len()), "private_id"),
        (lambda q: q.filter(pl.col("who") == "id1").select(dp.len()), "private_id"),
        (lambda q: q.select(pl.col("who").dp.n_unique()), "private_id"),
        (lambda q: q.select(pl.all().dp.n_unique()), "pl.col"),
        (lambda q: q.select(pl.col("^b.*$").dp.n_unique()), "pl.col"),
        (lambda q: q.select(pl.col("nowhere").dp.n_unique()), "no column"),
        (lambda q: q.head(5).select(dp.len()), "private"),
        (lambda q: q.unique().select(dp.len()), "Distinct"),
        (lambda q: q.select(pl.col("note").cast(pl.Int64).dp.sum((0, 1))), "strict=False"),
        (lambda q: q.select(pl.col("year").cast(pl.Int8, wrap_numerical=True).dp.sum((0, 1))), "strict=False"),
        (lambda q: q.with_columns(z=pl.col("species").replace_strict({"Adelie": 1})).select(dp.len()), "default"),
        (lambda q: q.with_columns(z=pl.col("note").str.to_datetime("%Y")).select(dp.len()), "StringExpr"),
        (lambda q: q.with_columns(z=pl.col("note") + pl.col("note")).select(dp.len()), "length"),
        (lambda q: q.with_columns(z=BILL.map_elements(abs, pl.Float64)).select(dp.len()), "Python"),
        (lambda q: q.with_columns(z=MASS.sum().over("species")).select(dp.len()), "over"),
        (lambda q: q.with_columns(z=BILL.dp.noise()).select(dp.len()), "last select"),
        (lambda q: q.with_columns(z=MASS.shift(1)).select(dp.len()), "Shift"),
        (lambda q: q.group_by("species", maintain_order=True).agg(dp.len()), "maintain_order"),
        (lambda q: q.group_by(pl.col("species").is_null()).agg(dp.len()), "plain columns"),
        (lambda q: q.group_by("species").agg(dp.len()).head(1), "private"),
        (lambda q: q.group_by("species").agg(dp.len()).filter(pl.col("len") > 5), "Filter"),
        (lambda q: q.select(BILL.dp.quantile(0.5, [1.0, math.nan])), "finite"),
        (lambda q: q.select(BILL.dp.sum((0.0, math.inf))), ""),
        (lambda q: q.select(dp.len(scale=0.0)), "above 0"),
        (lambda q: q.select(dp.len(scale=-1.0)), "above 0"),
        (lambda q: q.select(dp.len()).sort("year"), "of the answer"),
        (lambda q: q.filter(BILL.cut([40.0]) == "nope").select(dp.len()), "categorical"),
        (lambda q: q.select([dp.len().alias(str(n)) for n in range(101)]), "more than 100"),
    ],
)
def test_plans_that_are_refused(made: Callable[[Any], Any], word: str) -> None:
    field, message = refusal(plan(made))
    assert field == "polarsPlan"
    assert word in message


def test_readers_and_writers_are_refused_before_polars_sees_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("species\nAdelie\n")
    for lazy in (pl.scan_csv(secret), pl.scan_ndjson(secret, schema={"a": pl.Int64})):
        assert "reads the dataset only" in refusal(written(lazy.select(dp.len())))[1]
    both = pl.concat([ANALYSTS_OWN.lazy(), pl.scan_csv(secret)], how="diagonal")
    assert "once" in refusal(written(both.select(dp.len())))[1]
    assert "Python code" in refusal(raw(lambda lazy: lazy.map_batches(lambda frame: frame).select(dp.len())))[1]
    assert "once" in refusal(raw(lambda lazy: lazy.cache().select(dp.len())))[1]


def test_a_plugin_of_the_analysts_is_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "marker.so"
    plugin = json.loads(LEN)
    options = plugin["Select"]["expr"][0]["Function"]["function"]["FfiPlugin"]
    options["lib"] = str(marker)
    assert abs(ask(json.dumps(plugin), epsilon=1.0).rows[0][0] - 300) < 60, "the server's own library ran"
    for symbol in ("system", "report_noisy_max", "discrete_quantile_score", 1, None):
        assert "plugin" in refusal(json.dumps(changed(plugin, (*PLUGIN, "symbol"), symbol)))[1]
    pickled = list(b"\x80\x04cos\nsystem\n.")
    assert "pickle" in refusal(json.dumps(changed(plugin, (*PLUGIN, "kwargs"), pickled)))[1]
    assert not marker.exists()


PLUGIN = ("Select", "expr", 0, "Function", "function", "FfiPlugin")


def test_the_analysts_own_rows_are_dropped() -> None:
    garbled = changed(json.loads(LEN), ("Select", "input", "DataFrameScan", "df"), [1, 2, 3])
    assert abs(ask(json.dumps(garbled), epsilon=1.0).rows[0][0] - 300) < 60


def test_a_hostile_series_is_refused() -> None:
    text = plan(lambda q: q.select(BILL.dp.median([40.0, 50.0])))
    place = ("Select", "expr", 0, "Function", "input", 1, "Literal", "Series")
    good = io.BytesIO()
    pl.DataFrame({"": [40.0, 50.0]}).write_ipc_stream(good)
    assert ask(json.dumps(changed(json.loads(text), place, list(good.getvalue()))), epsilon=1.0)
    two = io.BytesIO()
    pl.DataFrame({"a": [40.0], "b": [1.0]}).write_ipc_stream(two)
    hostile: list[Any] = [
        [],
        [300],
        [-1],
        ["a"],
        None,
        {},
        [255] * 300,
        list(good.getvalue()[:-30]),
        list(two.getvalue()),
    ]
    for series in hostile:
        assert refusal(json.dumps(changed(json.loads(text), place, series)))[0] == "polarsPlan"


def test_fields_that_are_missing_or_do_nothing_are_refused() -> None:
    assert refusal(LEN, epsilon=None)[0] == "epsilon"
    assert refusal(LEN, delta=1e-7)[0] == "delta"
    assert refusal(BY_SEX, delta=1e-7)[0] == "delta"
    assert refusal(LEN, column="species")[0] == "column"
    for epsilon in (0.0, -1.0, math.nan, math.inf, 1e-9, 101.0):
        assert refusal(LEN, epsilon=epsilon)[0] == "epsilon"
    for delta in (-1e-5, math.nan, 0.5, 1e-30, 0.0):
        assert refusal(MEAN, noise=OpenDpNoise.GAUSSIAN, fixed_delta=delta)[0] == "fixedDelta"


def test_deep_long_and_mistyped_texts_are_refused() -> None:
    deep = LEN
    for _ in range(120):
        deep = '{"Filter": {"predicate": {"Literal": {"Scalar": {"Boolean": true}}}, "input": ' + deep + "}}"
    for text in ("[" * 100_000, deep, "", "null", "[]", "{}", '"Len"', '{"Select": 1}', '{"Select": {}}', "\ud800"):
        assert refusal(text)[0] == "polarsPlan"
    assert "longer" in refusal(" " * 2_000_001)[1]
    many = raw(lambda lazy: lazy.select(pl.sum_horizontal(BILL), dp.len()))
    assert refusal(many)[0] == "polarsPlan"


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

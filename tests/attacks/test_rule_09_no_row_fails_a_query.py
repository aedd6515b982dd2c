"""Rule 9: no row can make a query fail: a failure would be an answer without noise.

Enforced at load (`datasets/typing.fit`), by DuckDB's TRY (`smartnoise_sql/reader`), and by tables of total functions
(`opendp/functions`, `opendp/constructors`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import opendp.prelude as dp
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.diffprivlib.query import Imputation
from lomas_gql.libraries.smartnoise_synth.query import (
    Synthesizer,
)
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from tests.datasets import test_typing as typing
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_opendp_measurement as measurements
from tests.libraries import test_opendp_plan as plans
from tests.libraries import test_smartnoise_sql as sql
from tests.libraries import test_smartnoise_synth as synth


@pytest.mark.parametrize(
    "where",
    [
        "age * age * 50000000000000000 > age",
        "SQRT(age - 20) > 1",
        "LN(age - 30) < 0",
        "age % (age - 30) = 1",
        "SUBSTRING(tag FROM age FOR age - 40) = 'x'",
        "POWER(age, 400) > 1 AND EXP(age * 1000) > 1",
    ],
)
def test_no_row_can_make_a_condition_fail(penguin: Metadata, where: str) -> None:
    asked = f"SELECT COUNT(*) AS n FROM df WHERE {where}"
    for ages in ([0, 1], [0, 30]):
        try:
            assert len(sql.run(asked, sql.rows_of(penguin, age=ages, tag=["a", "b"])).rows) == 1
        except InvalidQuery:
            pytest.fail("refused by the gate: not a test of rows")


def test_a_null_and_a_nan_make_no_run_fail() -> None:
    frame = measurements.ROWS.frame.with_columns(body_mass_g=pl.lit(None, pl.Float64), sex=pl.lit(None, pl.String))
    mass = measurements.over(T=float) >> dp.t.then_impute_constant(4000.0) >> dp.t.then_clamp((2000.0, 7000.0))
    summed = measurements.query(
        mass >> dp.t.then_resize(200, 4000.0) >> dp.t.then_sum() >> dp.m.then_laplace(9e3), column="body_mass_g"
    )
    assert summed.run(Rows(frame, measurements.PENGUINS), measurements.PENGUINS).value == pytest.approx(
        800_000, abs=200_000
    )
    assert measurements.query(measurements.counted(), column="sex").run(
        Rows(frame, measurements.PENGUINS), measurements.PENGUINS
    ).value == pytest.approx(200, abs=40)


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
        lambda: (plans.BILL - 30) / (plans.BILL - 30),
        lambda: pl.col("year") // (pl.col("year") - 2007),
        lambda: pl.col("year") % (pl.col("year") - 2007),
        lambda: pl.col("year") * 2**60,
        lambda: (plans.BILL * 1e300).cast(pl.Int64, strict=False),
        lambda: plans.BILL * 1e308 * 1e308 - plans.BILL * 1e308 * 1e308,
        lambda: plans.MASS,
        lambda: plans.BILL.cut([40.0]).cast(pl.String, strict=False).cast(pl.Float64, strict=False),
        lambda: plans.MASS.fill_null(plans.BILL).replace({30.0: 0.5}),
    ],
)
def test_no_row_makes_a_run_fail(made: Callable[[], pl.Expr]) -> None:
    columns = {name: plans.COLUMNS[name] | {"nullable": name in ("note", "body_mass_g")} for name in HOSTILE.columns}
    metadata = Metadata.parse({"max_ids": 1, "rows": 10, "columns": columns})
    text = plans.written(HOSTILE.lazy().with_columns(z=made()).select(pl.col("z").dp.sum((0, 1)), dp.len()))
    for _ in range(3):
        table = plans.ask(text, metadata, Rows(HOSTILE, metadata), epsilon=20.0)
        assert table.rows[0][0] is not None
        assert abs(table.rows[0][0]) < 20


@pytest.mark.parametrize("estimator", list(models.Est))
def test_no_rows_make_a_query_fail(estimator: models.Est, bird: Metadata) -> None:
    empty = dummy_rows(bird, 0, 1)
    nulls = dummy_rows(bird, 30, 1).frame.with_columns(pl.lit(None, pl.Float64).alias(b) for b in models.BILLS)
    same = dummy_rows(bird, 1, 1).frame
    for frame in (empty.frame, nulls, pl.concat([same] * 30)):
        for imputation in Imputation:
            asked = models.query(models.step(estimator, 0.5), imputation=imputation, imputation_epsilon=0.5)
            value = asked.run(Rows(frame, bird), bird).value
            assert all(math.isfinite(number) for number in models.numbers_in(value))


@pytest.mark.parametrize("synthesizer", synth.ALLOWED)
@pytest.mark.parametrize("rows", [0, 1, 30])
def test_no_rows_can_make_a_fit_fail(synthesizer: Synthesizer, rows: int) -> None:
    few = dummy_rows(synth.MIXED, rows, 5)
    epsilon = 0.2 if synthesizer is Synthesizer.PACSYNTH else 1e-6
    attempt = synth.query(synthesizer, epsilon=epsilon, columns=["score", "ok", "place"], sample_rows=50)
    table = attempt.run(few, synth.MIXED).table
    assert table is not None
    assert len(table.rows) == 50


def test_rows_that_are_all_other_still_give_an_answer() -> None:
    frame = pl.DataFrame({"score": [0.5] * 50, "place": ["elsewhere"] * 50})
    strange = Rows(frame.with_columns(place=pl.lit("OTHER")), synth.MIXED)
    attempt = synth.query(Synthesizer.MWEM, epsilon=50.0, columns=["score", "place"], sample_rows=100)
    assert set(synth.cells(attempt.run(strange, synth.MIXED).table, "place")) <= {"north", "south"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=8), st.integers(0, 7), st.text(max_size=20))
def test_one_cell_changes_its_own_row_alone(cells: list[str], place: int, other: str) -> None:
    changed = list(cells)
    changed[place % len(cells)] = other
    for column in (typing.NUMBER, typing.WHOLE, {"type": "string", "categories": ["a"]}, {"type": "boolean"}):
        before, after = typing.fitted(column, *cells), typing.fitted(column, *changed)
        assert len(before) == len(after) == len(cells)
        for i in range(len(cells)):
            assert i == place % len(cells) or before[i] == after[i]

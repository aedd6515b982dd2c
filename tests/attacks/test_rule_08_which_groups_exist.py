"""Rule 8: which groups exist is private. Public categories are all answered, all with noise; others pass a threshold.

Enforced in `smartnoise_sql/completion.completed` and `opendp/plan._grouped`; classes and codes come from metadata.
"""

from __future__ import annotations

import numpy as np
import opendp.prelude as dp
import polars as pl
import pytest

from lomas_gql.libraries.opendp.query import OpenDpQuery
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from tests.libraries import test_opendp_plan as plans
from tests.libraries import test_smartnoise_sql as sql


def test_every_combination_of_public_categories_is_answered(penguin: Metadata) -> None:
    rows = sql.rows_of(penguin, species=["Gentoo"] * 5, sex=["male"] * 5)
    table = sql.run("SELECT sex, species, COUNT(*) AS n FROM df GROUP BY species, sex", rows)
    assert [(row[0], row[1]) for row in table.rows] == [
        (sex, species)
        for species in ("Adelie", "Chinstrap", "Gentoo", "OTHER")
        for sex in ("female", "male", "OTHER", None)
    ]


def test_groups_without_rows_carry_noise_too(penguin: Metadata) -> None:
    rows = sql.rows_of(penguin, species=["Gentoo"] * 5)
    seen = {
        row[1]
        for _ in range(10)
        for row in sql.run("SELECT species, SUM(age) AS s FROM df GROUP BY species", rows, epsilon=0.1).rows
        if row[0] == "Adelie"
    }
    assert len(seen) > 3


def test_an_unlisted_group_of_one_is_never_answered(penguin: Metadata) -> None:
    tags = ["common"] * 500 + ["planted"]
    rows = sql.rows_of(penguin, tag=tags)
    for _ in range(20):
        table = sql.run("SELECT tag, COUNT(*) AS n FROM df GROUP BY tag", rows, delta=1e-9)
        assert [row[0] for row in table.rows] == ["common"]


def test_the_order_of_rows_in_the_file_does_not_show(penguin: Metadata) -> None:
    tags = ["b"] * 300 + ["a"] * 300
    for order in (tags, tags[::-1]):
        table = sql.run("SELECT tag, COUNT(*) AS n FROM df GROUP BY tag", sql.rows_of(penguin, tag=order), delta=1e-5)
        assert [row[0] for row in table.rows] == ["a", "b"]


def test_an_absent_group_is_noised_like_one_with_a_row() -> None:
    text = plans.plan(lambda q: q.group_by("species").agg(dp.len()))
    empty = Rows(plans.ROWS.frame.head(0), plans.PENGUINS)
    lengths = [row[1] for _ in range(20) for row in plans.ask(text, rows=empty, epsilon=0.5).rows]
    # A discrete Laplace of scale 2, cut off at 0: 62 in 100 are 0.
    assert 25 < sum(length == 0 for length in lengths) < 73


def test_a_group_by_other_columns_hides_small_groups_for_a_delta() -> None:
    text = plans.plan(lambda q: q.group_by("year").agg(dp.len(), plans.BILL.dp.sum((30.0, 65.0))))
    assert plans.refusal(text)[0] == "delta"
    cost = OpenDpQuery(polars_plan=text, epsilon=1.0, delta=1e-7).cost(plans.PENGUINS)
    assert (cost.epsilon_text, cost.delta_text) == ("1", "0.0000001")
    assert [row[0] for row in plans.ask(text, epsilon=10.0, delta=1e-7).rows] == [2007, 2008, 2009]
    lonely = Rows(
        plans.ROWS.frame.filter(pl.col("year") != 2008).vstack(
            plans.ROWS.frame.filter(pl.col("year") == 2008).head(1)
        ),
        plans.PENGUINS,
    )
    for _ in range(20):
        assert [row[0] for row in plans.ask(text, rows=lonely, epsilon=1.0, delta=1e-7).rows] == [2007, 2009]
    both = OpenDpQuery(polars_plan=text, epsilon=1.0, delta=1e-7, **plans.GAUSSIAN).cost(plans.PENGUINS)
    assert (both.epsilon_text, both.delta) == ("1", pytest.approx(1.1e-6))
    without_length = plans.plan(lambda q: q.group_by("year").agg(plans.MASS.dp.count()))
    assert "len" in plans.refusal(without_length, delta=1e-7)[1]


def test_a_column_made_anew_has_no_public_keys_whatever_its_name() -> None:
    for made in (
        lambda q: q.with_columns(species=pl.col("note")),
        lambda q: q.select(pl.col("note").alias("species"), plans.BILL),
        lambda q: q.with_columns(pl.col("species").replace({"Adelie": "x"})),
    ):
        text = plans.plan(lambda q, made=made: made(q).group_by("species").agg(dp.len()))
        assert plans.refusal(text)[0] == "delta"
    kept = plans.plan(
        lambda q: q.select("species", "year").filter(pl.col("year") > 2007).group_by("species").agg(dp.len())
    )
    assert len(plans.ask(kept, epsilon=1.0).rows) == 4


def test_codes_come_from_the_metadata_and_not_from_the_rows() -> None:
    from lomas_gql.libraries.smartnoise_synth.mwem import mwem

    params = {"iterations": 3, "marginal_width": 2, "mult_weights_iterations": 2}
    (table,) = mwem(np.zeros((20, 2), dtype=np.int64), [4, 5], 1.0, 0.0, params)
    assert table.weights.shape == (4, 5)

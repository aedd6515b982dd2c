"""Rule 3, in Polars plans: not a byte of the client's JSON reaches Polars; each node is rebuilt or refused.

Enforced in `libraries/opendp/plan.read`, through the closed tables of `expressions` and `functions`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest

from tests.libraries import test_opendp_plan as plans


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (lambda q: q.group_by("species").agg(dp.len()).with_keys(pl.LazyFrame({"species": ["x"]})), "with_keys"),
        (lambda q: q.select(plans.BILL.sum()), "no noise"),
        (lambda q: q.select(plans.BILL), "no noise"),
        (lambda q: q.select(dp.len(), plans.BILL.sum()), ""),
        (lambda q: q.select(dp.len(), plans.BILL), ""),
        (lambda q: q.group_by("species").agg(dp.len(), plans.BILL.max()), "aggregation"),
        (lambda q: q.group_by("species").agg(dp.len(), plans.BILL.first().alias("b")), "aggregation"),
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
        (lambda q: q.with_columns(z=plans.BILL.map_elements(abs, pl.Float64)).select(dp.len()), "Python"),
        (lambda q: q.with_columns(z=plans.MASS.sum().over("species")).select(dp.len()), "over"),
        (lambda q: q.with_columns(z=plans.BILL.dp.noise()).select(dp.len()), "last select"),
        (lambda q: q.with_columns(z=plans.MASS.shift(1)).select(dp.len()), "Shift"),
        (lambda q: q.group_by("species", maintain_order=True).agg(dp.len()), "maintain_order"),
        (lambda q: q.group_by(pl.col("species").is_null()).agg(dp.len()), "plain columns"),
        (lambda q: q.group_by("species").agg(dp.len()).head(1), "private"),
        (lambda q: q.group_by("species").agg(dp.len()).filter(pl.col("len") > 5), "Filter"),
        (lambda q: q.select(plans.BILL.dp.quantile(0.5, [1.0, math.nan])), "finite"),
        (lambda q: q.select(plans.BILL.dp.sum((0.0, math.inf))), ""),
        (lambda q: q.select(dp.len(scale=0.0)), "above 0"),
        (lambda q: q.select(dp.len(scale=-1.0)), "above 0"),
        (lambda q: q.select(dp.len()).sort("year"), "of the answer"),
        (lambda q: q.filter(plans.BILL.cut([40.0]) == "nope").select(dp.len()), "categorical"),
        (lambda q: q.select([dp.len().alias(str(n)) for n in range(101)]), "more than 100"),
    ],
)
def test_plans_that_are_refused(made: Callable[[Any], Any], word: str) -> None:
    field, message = plans.refusal(plans.plan(made))
    assert field == "polarsPlan"
    assert word in message


def test_readers_and_writers_are_refused_before_polars_sees_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("species\nAdelie\n")
    for lazy in (pl.scan_csv(secret), pl.scan_ndjson(secret, schema={"a": pl.Int64})):
        assert "reads the dataset only" in plans.refusal(plans.written(lazy.select(dp.len())))[1]
    both = pl.concat([plans.ANALYSTS_OWN.lazy(), pl.scan_csv(secret)], how="diagonal")
    assert "once" in plans.refusal(plans.written(both.select(dp.len())))[1]
    assert (
        "Python code"
        in plans.refusal(plans.raw(lambda lazy: lazy.map_batches(lambda frame: frame).select(dp.len())))[1]
    )
    assert "once" in plans.refusal(plans.raw(lambda lazy: lazy.cache().select(dp.len())))[1]


def test_a_plugin_of_the_analysts_is_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "marker.so"
    plugin = json.loads(plans.LEN)
    options = plugin["Select"]["expr"][0]["Function"]["function"]["FfiPlugin"]
    options["lib"] = str(marker)
    assert abs(plans.ask(json.dumps(plugin), epsilon=1.0).rows[0][0] - 300) < 60, "the server's own library ran"
    for symbol in ("system", "report_noisy_max", "discrete_quantile_score", 1, None):
        assert "plugin" in plans.refusal(json.dumps(plans.changed(plugin, (*PLUGIN, "symbol"), symbol)))[1]
    pickled = list(b"\x80\x04cos\nsystem\n.")
    assert "pickle" in plans.refusal(json.dumps(plans.changed(plugin, (*PLUGIN, "kwargs"), pickled)))[1]
    assert not marker.exists()


PLUGIN = ("Select", "expr", 0, "Function", "function", "FfiPlugin")


def test_the_analysts_own_rows_are_dropped() -> None:
    garbled = plans.changed(json.loads(plans.LEN), ("Select", "input", "DataFrameScan", "df"), [1, 2, 3])
    assert abs(plans.ask(json.dumps(garbled), epsilon=1.0).rows[0][0] - 300) < 60


def test_a_hostile_series_is_refused() -> None:
    text = plans.plan(lambda q: q.select(plans.BILL.dp.median([40.0, 50.0])))
    place = ("Select", "expr", 0, "Function", "input", 1, "Literal", "Series")
    good = io.BytesIO()
    pl.DataFrame({"": [40.0, 50.0]}).write_ipc_stream(good)
    assert plans.ask(json.dumps(plans.changed(json.loads(text), place, list(good.getvalue()))), epsilon=1.0)
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
        assert plans.refusal(json.dumps(plans.changed(json.loads(text), place, series)))[0] == "polarsPlan"

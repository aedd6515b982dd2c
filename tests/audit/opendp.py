"""OpenDP's measurements, constructor by constructor, and Polars plans."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import opendp.prelude as dp
import polars as pl

from lomas_gql.libraries.opendp.query import OpenDpNoise, OpenDpQuery
from lomas_gql.metadata import Metadata
from tests.audit.cases import Case, Cells
from tests.audit.smartnoise_sql import DELTA, PURE, SMALL, town

COLUMNS = {
    "x": {"type": "float", "lower": -1, "upper": 2},
    "n": {"type": "int", "lower": 0, "upper": 10},
    "kind": {"type": "string", "categories": ["a", "b", "c"]},
    "town": {"type": "string"},
}
ONE = Metadata.parse({"max_ids": 1, "rows": 10, "row_privacy": True, "columns": COLUMNS})
THREE = Metadata.parse({"max_ids": 3, "rows": 10, "columns": COLUMNS})
COMMON = {"x": 0.0, "n": 3, "kind": "a", "town": "big"}
EXTREME = {"x": 2.0, "n": 10, "kind": "b", "town": "small"}

ROW, ROWS = "a row at the bounds, absent or present", "max_ids = 3 rows at the bounds, absent or present"
GAUSSIAN: dict[str, Any] = {"fixed_delta": DELTA}


def neighbours(copies: int = 1, others: int = 8, **cells: Any) -> tuple[Cells, Cells]:
    crowd = [COMMON] * others
    return tuple(
        {name: [row[name] for row in rows] for name in COMMON} for rows in (crowd, crowd + [EXTREME | cells] * copies)
    )  # type: ignore[return-value]


@contextmanager
def priced_once() -> Iterator[None]:
    """Each query is built and priced on its first run only: the map of Gaussian noise takes a hundred runs' time."""
    made: dict[OpenDpQuery, Any] = {}
    build = OpenDpQuery._prepared

    def prepared(query: OpenDpQuery, metadata: Metadata) -> Any:
        return made.get(query) or made.setdefault(query, build(query, metadata))

    with patch.object(OpenDpQuery, "_prepared", prepared):
        yield


case = partial(Case, "OpenDP", recording=priced_once)


def over(**atom: Any) -> tuple[Any, Any]:
    return dp.vector_domain(dp.atom_domain(**atom)), dp.symmetric_distance()


def measured(measurement: Any, column: str, **fields: Any) -> OpenDpQuery:
    return OpenDpQuery(measurement=dp.serialize(measurement), column=column, **fields)


def planned(ask: Callable[[Any], Any], **fields: Any) -> OpenDpQuery:
    rows = pl.LazyFrame({"x": [0.0], "n": [0], "kind": ["a"], "town": ["big"]})
    context = dp.Context.compositor(
        data=rows,
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(epsilon=1.0, delta=1e-7),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=[], max_length=100)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return OpenDpQuery(polars_plan=ask(context.query()).polars_plan.serialize(format="json"), **fields)


def cases() -> Iterator[Case]:
    dp.enable_features("contrib")
    yield from _additive()
    yield from _choices()
    yield from _plans()


def _additive() -> Iterator[Case]:
    texts, bounded = over(T=str), over(T=float, nan=False, bounds=(-1.0, 2.0))
    count = texts >> dp.t.then_count()
    # Cells within 2 of 0; ten rows after the resizing, of which one is replaced.
    total = bounded >> dp.t.then_resize(10, constant=0.0) >> dp.t.then_sum()
    mean = bounded >> dp.t.then_resize(10, constant=0.0) >> dp.t.then_mean()
    whole = over(T="i32", bounds=(0, 10)) >> dp.t.then_sum()
    by_town = texts >> dp.t.then_count_by(TV="i32")
    pure, mixed = dp.m.then_laplace, dp.c.make_pureDP_to_zCDP
    for name, measurement, column, fields in [
        ("count, laplace", count >> pure(1 / PURE), "kind", {}),
        ("count, geometric", count >> dp.m.then_geometric(1 / PURE), "kind", {}),
        ("count, gaussian", count >> dp.m.then_gaussian(0.6), "kind", GAUSSIAN),
        ("count, laplace as zCDP", mixed(count >> pure(1 / PURE)), "kind", GAUSSIAN),
        ("integer sum, laplace", whole >> pure(10 / PURE), "n", {}),
        ("float sum, laplace", total >> pure(2 / PURE), "x", {}),
        ("float sum, gaussian", total >> dp.m.then_gaussian(1.2), "x", GAUSSIAN),
        ("mean, laplace", mean >> pure(0.2 / PURE), "x", {}),
        ("composition of two counts", dp.c.make_composition([count >> pure(2 / PURE)] * 2), "kind", {}),
        (
            "count by, threshold",
            by_town >> dp.m.then_noise_threshold(dp.approximate(dp.max_divergence()), 1 / SMALL, 6),
            "town",
            {},
        ),
    ]:
        told = {} if column != "town" else {"told": lambda answer: [answer.value.get("small", -100.0)]}
        yield case(name, ROW, ONE, measured(measurement, column, **fields), neighbours(), **told)
    thrice = measured(count >> pure(3 / PURE), "kind")
    yield case("count, laplace, max_ids", ROWS, THREE, thrice, neighbours(3))


def _choices() -> Iterator[Case]:
    """Two candidates whose scores are equal without the row, which is on one of them."""
    numbers = over(T=float, nan=False)
    scores = numbers >> dp.t.then_quantile_score_candidates([0.0, 1.0], 0.5)
    pure, concentrated = dp.max_divergence(), dp.zero_concentrated_divergence()
    for name, measurement, fields in [
        ("noisy max", scores >> dp.m.then_noisy_max(pure, 1.0, negate=True), {}),
        ("noisy max, zCDP", scores >> dp.m.then_noisy_max(concentrated, 1.0, negate=True), GAUSSIAN),
        ("noisy top k", scores >> dp.m.then_noisy_top_k(pure, k=1, scale=1.0, negate=True), {}),
        ("private quantile", dp.m.make_private_quantile(*numbers, pure, [0.0, 1.0], 0.5, 1.0), {}),
    ]:
        yield case(name, ROW, ONE, measured(measurement, "x", **fields), neighbours(others=0, x=0.0))


def _plans() -> Iterator[Case]:
    pure, gaussian = {"epsilon": PURE}, {"epsilon": 2 * PURE, "noise": OpenDpNoise.GAUSSIAN, "fixed_delta": DELTA}
    x, n = pl.col("x"), pl.col("n")
    for name, ask, fields in [
        ("plan, len", lambda q: q.select(dp.len()), pure),
        ("plan, len, gaussian", lambda q: q.select(dp.len()), gaussian),
        ("plan, integer sum", lambda q: q.select(n.dp.sum((0, 10))), pure),
        ("plan, float sum", lambda q: q.select(x.dp.sum((-1.0, 2.0))), pure),
        ("plan, float sum, gaussian", lambda q: q.select(x.dp.sum((-1.0, 2.0))), gaussian),
        ("plan, mean", lambda q: q.select(x.dp.mean((-1.0, 2.0))), pure),
        ("plan, median", lambda q: q.select(x.dp.median([0.0, 1.0])), pure),
        ("plan, public keys", lambda q: q.group_by("kind").agg(dp.len()), pure),
        ("plan, public keys, gaussian", lambda q: q.group_by("kind").agg(dp.len(), n.dp.sum((0, 10))), gaussian),
    ]:
        yield case(name, ROW, ONE, planned(ask, **fields), neighbours())
    thrice = planned(lambda q: q.group_by("kind").agg(dp.len()), **pure)
    yield case("plan, public keys, max_ids", ROWS, THREE, thrice, neighbours(3))
    hidden: dict[str, Any] = {"epsilon": SMALL, "delta": DELTA}
    grouped = planned(lambda q: q.group_by("town").agg(dp.len()), **hidden)
    yield case("plan, threshold", ROW, ONE, grouped, neighbours(), town("small"))
    yield case("plan, threshold, max_ids", ROWS, THREE, grouped, neighbours(3), town("small"))
    zcdp = planned(lambda q: q.group_by("town").agg(dp.len()), **hidden, noise=OpenDpNoise.GAUSSIAN, fixed_delta=0.01)
    yield case("plan, threshold, gaussian", ROW, ONE, zcdp, neighbours(), town("small"))

"""Queries on the neighbouring datasets, as an analyst of each library writes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import opendp.prelude as dp
import polars as pl

from tests.attacks.neighbours import model, sql, synthesizer

dp.enable_features("contrib")

SCHEMA = {
    "age": pl.Int64,
    "income": pl.Float64,
    "kind": pl.String,
    "note": pl.String,
    "points": pl.Int64,
    "seen": pl.Datetime("us"),
}


def plan(ask: Callable[[Any], Any], epsilon: float = 1.0, **more: Any) -> dict[str, Any]:
    """A plan of a Context query, over an empty frame of the analyst's."""
    context = dp.Context.compositor(
        data=pl.LazyFrame(schema=SCHEMA),
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(epsilon=1.0, delta=1e-7),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=[], max_length=700)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "'json' serialization format of LazyFrame is deprecated"
        text = ask(context.query()).polars_plan.serialize(format="json")
    return {"opendp": {"polarsPlan": text, "epsilon": epsilon, **more}}


def measured(column: str, *steps: Any, **atom: Any) -> dict[str, Any]:
    """A measurement of one column."""
    chain = dp.vector_domain(dp.atom_domain(**atom)), dp.symmetric_distance()
    for step in steps:
        chain = chain >> step  # type: ignore[assignment,operator]
    return {"opendp": {"measurement": dp.serialize(chain), "column": column}}


ORDINARY: dict[str, dict[str, Any]] = {
    "a count": sql("SELECT COUNT(*) AS n FROM df"),
    "groups": sql("SELECT kind, COUNT(*) AS n, SUM(age) AS s FROM df GROUP BY kind"),
    "rare groups": sql("SELECT note, COUNT(*) AS n FROM df GROUP BY note", delta=1e-9),
    "one age each": sql("SELECT age, COUNT(*) AS n FROM df WHERE age > 90 GROUP BY age", delta=1e-9),
    "a variance": sql("SELECT VAR(age) AS v FROM df"),
    "all who are old": sql("SELECT COUNT(*) AS n, SUM(income) AS s FROM df WHERE age > 90"),
    "a plan": plan(lambda q: q.group_by("kind").agg(dp.len(), pl.col("age").dp.sum((0, 120)))),
    "rare notes of a plan": plan(lambda q: q.group_by("note").agg(dp.len()), delta=1e-9),
    "a median": plan(lambda q: q.select(pl.col("age").dp.median([20, 40, 60, 97]))),
    "a measurement": measured(
        "age", dp.t.then_clamp((0, 120)), dp.t.then_sum(), dp.m.then_laplace(120.0), T="i64", bounds=(0, 120)
    ),
    "keys of a measurement": measured(
        "note",
        dp.t.then_count_by(),
        dp.m.then_noise_threshold(dp.approximate(dp.max_divergence()), 1.0, 60),
        T=str,
    ),
    "a classifier": model("GAUSSIAN_NB", "age", "points", target="kind", scoreEpsilon=1.0),
    "a tree": model("DECISION_TREE_CLASSIFIER", "age", target="kind", params={"max_depth": 2}),
    "clusters": model("K_MEANS", "age", "points", params={"n_clusters": 2}),
    "means": model("STANDARD_SCALER", "age", "income", imputation="MEAN", imputationEpsilon=1.0),
    "synthetic rows": synthesizer("MWEM", "kind", "age"),
}

# Each fails, in plain SQL, Polars or Python, on the planted person's row alone.
HOSTILE: dict[str, dict[str, Any]] = {
    # 97**10 is more than 64 bits hold, 60**10 is not.
    "an integer that overflows": sql(f"SELECT COUNT(*) AS n FROM df WHERE {' * '.join(['age'] * 10)} > 5"),
    "a wide integer that overflows": sql("SELECT COUNT(*) AS n FROM df WHERE points * points * points > age"),
    "a square root": sql("SELECT COUNT(*) AS n FROM df WHERE SQRT(96 - age) > 2"),
    "a logarithm": sql("SELECT COUNT(*) AS n FROM df WHERE LN(97 - age) > 2"),
    "a division": sql("SELECT COUNT(*) AS n FROM df WHERE 100 / (age - 97) > 2 AND 100 % (age - 97) = 1"),
    "a power": sql("SELECT COUNT(*) AS n FROM df WHERE POWER(age, 160) > 1 AND EXP(age * 8) > 1"),
    "a length": sql("SELECT COUNT(*) AS n FROM df WHERE SUBSTRING(note FROM 1 FOR 96 - age) = 'x'"),
    "groups that overflow": sql(
        "SELECT kind, COUNT(*) AS n FROM df WHERE points * points * points > 1 GROUP BY kind"
    ),
    "a cast": plan(lambda q: q.select(pl.col("note").cast(pl.Int64, strict=False).fill_null(0).dp.sum((0, 1)))),
    "a remainder": plan(lambda q: q.select((pl.col("age") % (pl.col("age") - 97)).fill_null(0).dp.sum((0, 1)))),
    "wrapping integers": plan(lambda q: q.select((pl.col("points") * 2**40).dp.sum((0, 1)))),
    "no number": plan(
        lambda q: q.select(((pl.col("age") - 97) / (pl.col("age") - 97)).fill_nan(0.0).fill_null(0.0).dp.sum((0, 1)))
    ),
    "a key that is not there": plan(
        lambda q: q.select(pl.col("kind").replace_strict({"a": 1, "b": 2, "c": 3}, default=0).dp.sum((0, 3)))
    ),
    "an infinite cell": measured(
        "income",
        dp.t.then_impute_constant(0.0),
        dp.t.then_clamp((0.0, 1e6)),
        dp.t.then_sum(),
        dp.m.then_laplace(1e6),
        T=float,
        nan=True,
    ),
    "a label that is on no list": model("LOGISTIC_REGRESSION", "age", target="kind"),
    "a cell far away": model("LINEAR_REGRESSION", "age", target="points"),
    "a code that is on no list": synthesizer("MWEM", "kind", "income"),
}

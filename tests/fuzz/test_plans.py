"""The walker of Polars plans, its expressions, functions and literals."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import opendp.prelude as dp
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.libraries.opendp.query import OpenDpNoise, OpenDpQuery
from tests.fuzz.asking import METADATA, asked
from tests.fuzz.mutation import deepened, fuzzed, mutated, places

dp.enable_features("contrib")
BILL, MASS, YEAR = pl.col("bill_length_mm"), pl.col("body_mass_g"), pl.col("year")


def plan(ask: Callable[[Any], Any]) -> Any:
    """What a stock context writes, over one row of the analyst's own."""
    context = dp.Context.compositor(
        data=dummy_rows(METADATA, 1, 9).frame.lazy(),
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(epsilon=1.0, delta=1e-7),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=[], max_length=100)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return json.loads(ask(context.query()).polars_plan.serialize(format="json"))


CORPUS = [
    plan(lambda q: q.select(dp.len(), BILL.dp.sum((30.0, 65.0)), YEAR.dp.mean((2007, 2009)))),
    plan(lambda q: q.filter((BILL > 40) & (YEAR == 2008)).select(dp.len())),
    plan(
        lambda q: q.with_columns(z=MASS.fill_null(4000.0).clip(2000.0, 7000.0)).select(
            pl.col("z").dp.sum((2000.0, 7000.0))
        )
    ),
    plan(lambda q: q.group_by("species").agg(dp.len(), BILL.dp.median([40.0, 50.0])).sort("species")),
    plan(lambda q: q.group_by("note").agg(dp.len())),
    plan(lambda q: q.with_columns(b=BILL.cut([40.0, 50.0], labels=["s", "m", "l"])).group_by("b").agg(dp.len())),
    plan(lambda q: q.select(BILL.cast(pl.Int32, strict=False).dp.quantile(0.25, [30, 40, 50]))),
    plan(lambda q: q.with_columns(m=pl.col("seen").dt.month()).group_by("m", "sex").agg(dp.len())),
    plan(
        lambda q: q.with_columns(s=pl.col("stage").replace_strict({1: "x"}, default="y")).select(
            pl.col("s").dp.n_unique()
        )
    ),
]
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "epsilon": st.sampled_from([0.5, 1.0, 1e-6, 100.0, 1e-320, 1e308]),
        "noise": st.sampled_from(list(OpenDpNoise)),
        "fixed_delta": st.sampled_from([1e-6, 1e-18, 0.1, 0.0]),
        "delta": st.sampled_from([1e-6, 1e-18, 0.1, -0.0]),
    },
)


@fuzzed(50)
@given(value=mutated(CORPUS), fields=st.just({"epsilon": 1.0}) | FIELDS)
def test_a_mutated_plan_is_refused_or_runs(value: Any, fields: dict[str, Any]) -> None:
    asked(OpenDpQuery(polars_plan=json.dumps(value), **fields))


@fuzzed(50)
@given(value=st.sampled_from(CORPUS), fields=FIELDS)
def test_a_plan_with_any_noise_is_refused_or_runs(value: Any, fields: dict[str, Any]) -> None:
    asked(OpenDpQuery(polars_plan=json.dumps(value), **fields))


@fuzzed(20)
@given(data=st.data(), depth=st.sampled_from([1, 150, 1_000, 100_000]))
def test_a_deep_plan_is_refused(data: st.DataObject, depth: int) -> None:
    value = data.draw(st.sampled_from(CORPUS))
    asked(OpenDpQuery(polars_plan=deepened(value, data.draw(st.sampled_from(places(value))), depth), epsilon=1.0))


def _column(name: str) -> Any:
    return {"Column": name}


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An expression over others, of any types: most make no sense, and must be refused as such."""
    operators = ["Eq", "Lt", "And", "Xor", "Plus", "Minus", "Multiply", "TrueDivide", "FloorDivide", "Modulus"]
    unary = [{"Boolean": kind} for kind in ("IsNull", "IsNan", "Not", "IsFinite")]
    unary += ["DropNulls", "NullCount", {"TemporalExpr": "Year"}, {"TemporalExpr": "Microsecond"}]
    dtypes = ["Int8", "UInt64", "Float32", "String", "Boolean"]
    return st.one_of(
        st.builds(
            lambda left, op, right: {"BinaryExpr": {"left": left, "op": op, "right": right}},
            inner,
            st.sampled_from(operators),
            inner,
        ),
        st.builds(lambda of, how: {"Function": {"input": [of], "function": how}}, inner, st.sampled_from(unary)),
        st.builds(lambda of, to: {"Function": {"input": [of, to], "function": "FillNull"}}, inner, inner),
        st.builds(
            lambda of, to: {"Cast": {"expr": of, "dtype": {"Literal": to}, "options": "NonStrict"}},
            inner,
            st.sampled_from(dtypes),
        ),
        st.builds(lambda of, how: {"Agg": {how: of}}, inner, st.sampled_from(["Sum", "NUnique"])),
        st.builds(lambda of, by: {"Filter": {"input": of, "by": by}}, inner, inner),
    )


literals = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda n: {"Literal": {"Dyn": {"Int": n}}}),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: {"Literal": {"Dyn": {"Float": x}}}),
    st.text(max_size=5).map(lambda text: {"Literal": {"Scalar": {"String": text}}}),
    st.booleans().map(lambda flag: {"Literal": {"Scalar": {"Boolean": flag}}}),
)
expressions = st.recursive(
    st.sampled_from([_column(column.name) for column in METADATA.columns]) | literals, _nested, max_leaves=6
)


@fuzzed(25)
@given(predicate=expressions, name=st.text(min_size=1, max_size=3))
def test_any_expression_of_accepted_nodes_is_refused_or_runs(predicate: Any, name: str) -> None:
    stock = CORPUS[1]["Select"]
    filtered = stock["input"]["Filter"] | {"predicate": predicate}
    asked(OpenDpQuery(polars_plan=json.dumps({"Select": stock | {"input": {"Filter": filtered}}}), epsilon=1.0))
    options = {"run_parallel": True, "duplicate_check": True, "should_broadcast": True}
    added = {"exprs": [{"Alias": [predicate, name]}], "input": filtered["input"], "options": options}
    asked(OpenDpQuery(polars_plan=json.dumps({"Select": stock | {"input": {"HStack": added}}}), epsilon=1.0))
    grouped = CORPUS[4]["GroupBy"] | {"input": {"HStack": added}, "keys": [_column(name)]}
    asked(OpenDpQuery(polars_plan=json.dumps({"GroupBy": grouped}), epsilon=1.0, delta=1e-6))


def test_the_corpus_is_valid() -> None:
    for value in CORPUS:
        hides = any(key in json.dumps(value.get("GroupBy", {}).get("keys", "")) for key in ('"note"', '"b"', '"m"'))
        answer = asked(OpenDpQuery(polars_plan=json.dumps(value), epsilon=1.0, delta=1e-6 if hides else None))
        assert answer is not None, json.dumps(value)[-600:]

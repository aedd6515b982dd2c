"""The closed tables of functions and of noised statistics that a client's Polars plan may use.

Each rebuilds what the client's JSON says through the public API of Polars or OpenDP. All are total: no cell
can make one fail.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import opendp.prelude as dp
import polars as pl

from lomas_gql.libraries.opendp.literals import INTEGERS, fields, items, literal, node, number, numbers, refused, text
from lomas_gql.libraries.opendp.text import is_number, shown

CUT_LIMIT = 1_000

DTYPES = {name: getattr(pl, name) for name in (*INTEGERS, "Float32", "Float64", "Boolean", "String")}

Rebuild = Callable[[Any], pl.Expr]
"""Rebuilds an expression of the client's."""

Function = Callable[[pl.Expr, list[Any], Any, Rebuild], pl.Expr]
"""From a function's first input (rebuilt), its other inputs, its options, and how to rebuild another."""


def _unary(method: Callable[[pl.Expr], pl.Expr]) -> Function:
    def function(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
        if options is not None or rest:
            raise refused("a function has inputs or options that Polars 1.32 does not write")
        return method(first)

    return function


def _fill_null(first: pl.Expr, rest: list[Any], options: Any, rebuild: Rebuild) -> pl.Expr:
    if options is not None or len(rest) != 1:
        raise refused("fill_null takes one value")
    return first.fill_null(rebuild(rest[0]))


def _boolean(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
    if not isinstance(options, str) or options not in _BOOLEANS or rest:
        kind = node(options)[0]
        raise refused(f"{shown(kind)} is not accepted: OpenDP has is_null, is_nan, is_finite, their opposites, not")
    return _BOOLEANS[options](first)


def _clip(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
    if fields(options, "has_min", "has_max") != (True, True) or len(rest) != 2:
        raise refused("clip needs both bounds")
    return first.clip(number(rest[0]), number(rest[1]))


def _cut(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
    breaks, labels, left_closed, whole = fields(options, "breaks", "labels", "left_closed", "include_breaks")
    ends = items(breaks, CUT_LIMIT)
    if not all(map(is_number, ends)) or any(low >= high for low, high in pairwise(ends)):
        raise refused("the breaks of cut must be finite and increasing")
    if labels is not None and len({text(label) for label in items(labels)}) != len(ends) + 1:
        raise refused("cut needs one label more than breaks, all different")
    if whole is not False or not isinstance(left_closed, bool) or rest:
        raise refused("cut takes breaks, labels and left_closed")
    return first.cut(ends, labels=labels, left_closed=left_closed)


def _replace(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
    if options is not None or len(rest) != 2:
        raise refused("replace takes old and new values")
    return first.replace(literal(rest[0]), literal(rest[1]))


def _replace_strict(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
    (dtype,) = fields(options, "return_dtype")
    kind, name = node(dtype) if dtype is not None else ("Literal", None)
    if len(rest) != 3:
        raise refused("replace_strict must not be able to fail on a row: give it a default")
    if kind != "Literal" or not (name is None or (isinstance(name, str) and name in DTYPES)):
        raise refused("replace_strict gives an integer, a float, a boolean or a string")
    old, new, default = map(literal, rest)
    if isinstance(default, list):
        raise refused("the default of replace_strict is one value")
    return first.replace_strict(old, new, default=default, return_dtype=DTYPES.get(name or ""))


def _temporal(first: pl.Expr, rest: list[Any], options: Any, _: Rebuild) -> pl.Expr:
    if not isinstance(options, str) or options not in _TEMPORAL or rest:
        raise refused("of the dt functions, only the components of a time are accepted (year … microsecond)")
    return _TEMPORAL[options](first)


_BOOLEANS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "IsNull": pl.Expr.is_null,
    "IsNotNull": pl.Expr.is_not_null,
    "IsNan": pl.Expr.is_nan,
    "IsNotNan": pl.Expr.is_not_nan,
    "IsFinite": pl.Expr.is_finite,
    "IsInfinite": pl.Expr.is_infinite,
    "Not": pl.Expr.not_,
}

_TEMPORAL: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "Year": lambda time: time.dt.year(),
    "IsoYear": lambda time: time.dt.iso_year(),
    "Quarter": lambda time: time.dt.quarter(),
    "Month": lambda time: time.dt.month(),
    "Week": lambda time: time.dt.week(),
    "WeekDay": lambda time: time.dt.weekday(),
    "Day": lambda time: time.dt.day(),
    "OrdinalDay": lambda time: time.dt.ordinal_day(),
    "Hour": lambda time: time.dt.hour(),
    "Minute": lambda time: time.dt.minute(),
    "Second": lambda time: time.dt.second(),
    "Millisecond": lambda time: time.dt.millisecond(),
    "Microsecond": lambda time: time.dt.microsecond(),
}

FUNCTIONS: dict[str, Function] = {
    "Boolean": _boolean,
    "Clip": _clip,
    "Cut": _cut,
    "DropNans": _unary(pl.Expr.drop_nans),
    "DropNulls": _unary(pl.Expr.drop_nulls),
    "FillNull": _fill_null,
    "NullCount": _unary(pl.Expr.null_count),
    "Replace": _replace,
    "ReplaceStrict": _replace_strict,
    "TemporalExpr": _temporal,
}

# Between the expression that is noised and the scale stand this many inputs.
_Release = Callable[[pl.Expr, list[Any], float | None], pl.Expr]
RELEASES: dict[str, tuple[int, _Release]] = {
    "noise": (0, lambda noised, _, scale: noised.dp.noise(scale)),  # type: ignore[attr-defined]
    "dp_len": (0, lambda noised, _, scale: noised.dp.len(scale)),  # type: ignore[attr-defined]
    "dp_count": (0, lambda noised, _, scale: noised.dp.count(scale)),  # type: ignore[attr-defined]
    "dp_null_count": (0, lambda noised, _, scale: noised.dp.null_count(scale)),  # type: ignore[attr-defined]
    "dp_n_unique": (0, lambda noised, _, scale: noised.dp.n_unique(scale)),  # type: ignore[attr-defined]
    "dp_sum": (2, lambda noised, rest, scale: noised.dp.sum(_bounds(rest), scale)),  # type: ignore[attr-defined]
    "dp_mean": (2, lambda noised, rest, scale: noised.dp.mean(_bounds(rest), scale)),  # type: ignore[attr-defined]
    "dp_median": (
        1,
        lambda noised, rest, scale: noised.dp.median(numbers(rest[0]), scale),  # type: ignore[attr-defined]
    ),
    "dp_quantile": (
        2,
        lambda noised, rest, scale: noised.dp.quantile(  # type: ignore[attr-defined]
            number(rest[0]), numbers(rest[1]), scale
        ),
    ),
}


def frame_length(scale: float | None) -> pl.Expr:
    """The noised number of rows, of all or of a group."""
    # Named as OpenDP will name it: Polars itself would call the plugin's answer "literal".
    length: pl.Expr = dp.len(scale).alias("len")
    return length


def _bounds(rest: list[Any]) -> tuple[Any, Any]:
    return number(rest[0]), number(rest[1])

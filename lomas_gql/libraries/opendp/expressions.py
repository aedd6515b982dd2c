"""The allowlisting walker of Polars expressions, as `LazyFrame.serialize(format="json")` writes them.

Nothing of the client's JSON reaches Polars: each accepted node is rebuilt through the public API, so that a
plugin is always the server's own library, flags are Polars' own, and no pickle or function has a way in.
Every accepted expression is total: integers wrap, division by zero gives null or infinity, casts give null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lomas_gql.libraries.opendp.functions import DTYPES, FUNCTIONS, RELEASES, frame_length
from lomas_gql.libraries.opendp.literals import constant_of, fields, items, node, number, refused, text
from lomas_gql.libraries.opendp.text import shown
from lomas_gql.metadata import Column

NODE_LIMIT = 2_000


@dataclass
class Scope:
    """What an expression may read, and what has been met so far: the scale of each noise, None if left open.

    `columns` maps each name to its metadata while its cells are untouched, else to None.
    """

    columns: Mapping[str, Column | None]
    private_id: str | None
    schema: pl.Schema
    may_release: bool = False
    scales: list[float | None] = field(default_factory=list)
    nodes: list[None] = field(default_factory=list)


def expressions(value: Any, scope: Scope) -> list[pl.Expr]:
    """The expressions of a list, rebuilt."""
    return [expression(item, scope) for item in items(value)]


def expression(value: Any, scope: Scope) -> pl.Expr:
    """One expression, rebuilt.

    Raises:
        InvalidQuery: a node, function or option that is not on the list.
    """
    scope.nodes.append(None)
    if len(scope.nodes) > NODE_LIMIT:
        raise refused(f"its expressions have more than {NODE_LIMIT:,} nodes")
    name, body = node(value)
    if name not in _NODES:
        raise refused(f"the expression {shown(name)} is not accepted{_why(name)}")
    return _NODES[name](body, scope)


def _why(name: str) -> str:
    if name in ("AnonymousFunction", "AnonymousStreamingFunction", "AnonymousAgg"):
        return ": it carries Python code"
    return {"Window": ": over() reads other rows", "Selector": ": name each column with pl.col"}.get(name, "")


def _column(body: Any, scope: Scope) -> pl.Expr:
    if body == scope.private_id and body not in scope.columns:
        raise refused("the private_id column is not read by a query")
    if not isinstance(body, str) or body not in scope.columns:
        raise refused(f"there is no column {shown(body)}")
    # A name that looks like a pattern would be read as one.
    if body == "*" or (body.startswith("^") and body.endswith("$")):
        raise refused("a column whose name is a pattern cannot be read")
    return pl.col(body)


def _literal(body: Any, _: Scope) -> pl.Expr:
    value = constant_of(body)
    if isinstance(value, list):
        raise refused("a list stands where a single value belongs")
    return pl.lit(value)


def _alias(body: Any, scope: Scope) -> pl.Expr:
    inner, name = items(body, 2) if isinstance(body, list) and len(body) == 2 else (None, None)
    return expression(inner, scope).alias(text(name))


def _binary(body: Any, scope: Scope) -> pl.Expr:
    left, op, right = fields(body, "left", "op", "right")
    if not isinstance(op, str) or op not in _OPERATORS:
        raise refused(f"the operator {shown(op)} is not accepted")
    noised = len(scope.scales)
    both = _OPERATORS[op](expression(left, scope), expression(right, scope))
    if op == "Plus" and noised == len(scope.scales) and _is_text(both, scope):
        raise refused("texts are not joined: their length would depend on the rows")
    return both


def _is_text(rebuilt: pl.Expr, scope: Scope) -> bool:
    return _dtype(rebuilt, scope) == pl.String


def _dtype(rebuilt: pl.Expr, scope: Scope) -> pl.DataType:
    return pl.LazyFrame(schema=scope.schema).select(rebuilt.alias("_")).collect_schema()["_"]


def _cast(body: Any, scope: Scope) -> pl.Expr:
    inner, dtype, options = fields(body, "expr", "dtype", "options")
    kind, name = node(dtype)
    if kind != "Literal" or not isinstance(name, str) or name not in DTYPES:
        raise refused("a cast goes to an integer, a float, a boolean or a string")
    # pl.lit(3, dtype=…) is written as a strict cast of a constant, which no row can make fail.
    if options != "NonStrict" and not (options == "Strict" and node(inner)[0] == "Literal"):
        raise refused("a cast must not be able to fail on a row: write cast(…, strict=False)")
    rebuilt = expression(inner, scope)
    found = _dtype(rebuilt, scope)
    # Polars refuses these once there is a row, and not before: whether one is left would show.
    if found == pl.Duration or (name == "Boolean" and not found.is_numeric() and found not in (pl.Boolean, pl.Null)):
        raise refused(f"a cast of {found} to {name} is not accepted")
    return rebuilt.cast(DTYPES[name], strict=False)


def _filter(body: Any, scope: Scope) -> pl.Expr:
    inner, by = fields(body, "input", "by")
    return expression(inner, scope).filter(expression(by, scope))


def _aggregate(body: Any, scope: Scope) -> pl.Expr:
    kind, inner = node(body)
    if kind == "Sum":
        return expression(inner, scope).sum()
    if kind == "NUnique":
        return expression(inner, scope).n_unique()
    if kind == "Count" and isinstance(inner, list) and len(inner) == 2 and isinstance(inner[1], bool):
        counted = expression(inner[0], scope)
        return counted.len() if inner[1] else counted.count()
    raise refused(f"the aggregation {shown(kind)} is not accepted; there are sum, count, len and n_unique")


def _ternary(body: Any, scope: Scope) -> pl.Expr:
    """Only what fill_nan is written as: when(x.is_not_nan() | x.is_null()).then(x).otherwise(value)."""
    predicate, truthy, falsy = fields(body, "predicate", "truthy", "falsy")
    checks = [{"Function": {"input": [truthy], "function": {"Boolean": b}}} for b in ("IsNotNan", "IsNull")]
    if predicate != {"BinaryExpr": {"left": checks[0], "op": "Or", "right": checks[1]}}:
        raise refused("when/then/otherwise is not supported by OpenDP, other than as fill_nan")
    return expression(truthy, scope).fill_nan(expression(falsy, scope))


def _function(body: Any, scope: Scope) -> pl.Expr:
    inputs, function = fields(body, "input", "function")
    name, options = node(function)
    if name == "FfiPlugin":
        return _release(items(inputs), options, scope)
    if name not in FUNCTIONS or not items(inputs):
        raise refused(f"the function {shown(name)} is not accepted{_why(name)}")
    first = expression(inputs[0], scope)
    return FUNCTIONS[name](first, inputs[1:], options, lambda other: expression(other, scope))


def _release(inputs: list[Any], options: Any, scope: Scope) -> pl.Expr:
    # The path of the library is the client's own, and flags follow from the function: neither is read.
    _, _, symbol, kwargs = fields(options, "flags", "lib", "symbol", "kwargs")
    if kwargs != []:
        raise refused("a plugin's keyword arguments are a pickle, and are not accepted")
    if not scope.may_release:
        raise refused("noise belongs into the last select or into agg")
    if symbol == "dp_frame_len" and len(inputs) == 1:
        scope.scales.append(_scale(inputs[0]))
        return frame_length(scope.scales[-1])
    if not isinstance(symbol, str) or symbol not in RELEASES:
        raise refused(f"the plugin function {shown(symbol)} is not accepted")
    between, release = RELEASES[symbol]
    if len(inputs) != between + 2:
        raise refused(f"{symbol} has inputs that OpenDP does not write")
    scale = _scale(inputs[-1])
    scope.scales.append(scale)
    return release(expression(inputs[0], scope), inputs[1:-1], scale)


def _scale(value: Any) -> float | None:
    if value == {"Literal": {"Scalar": {"Null": "Null"}}}:
        return None
    scale = float(number(value))
    if scale <= 0:
        raise refused("a scale must be above 0")
    return scale


def _length(body: Any, _: Scope) -> pl.Expr:
    if body is not None:
        raise refused("len takes nothing")
    return pl.len()


_OPERATORS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "Eq": lambda left, right: left == right,
    "NotEq": lambda left, right: left != right,
    "EqValidity": lambda left, right: left.eq_missing(right),
    "NotEqValidity": lambda left, right: left.ne_missing(right),
    "Lt": lambda left, right: left < right,
    "LtEq": lambda left, right: left <= right,
    "Gt": lambda left, right: left > right,
    "GtEq": lambda left, right: left >= right,
    "And": lambda left, right: left & right,
    "Or": lambda left, right: left | right,
    "Xor": lambda left, right: left ^ right,
    "Plus": lambda left, right: left + right,
    "Minus": lambda left, right: left - right,
    "Multiply": lambda left, right: left * right,
    "TrueDivide": lambda left, right: left / right,
    "FloorDivide": lambda left, right: left // right,
    "Modulus": lambda left, right: left % right,
}

_NODES: dict[str, Callable[[Any, Scope], pl.Expr]] = {
    "Agg": _aggregate,
    "Alias": _alias,
    "BinaryExpr": _binary,
    "Cast": _cast,
    "Column": _column,
    "Filter": _filter,
    "Function": _function,
    "Len": _length,
    "Literal": _literal,
    "Ternary": _ternary,
}

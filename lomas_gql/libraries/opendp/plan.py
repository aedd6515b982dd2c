"""Polars plans of OpenDP Context queries: walked, rebuilt, given noise, and run.

The analyst's own rows at the leaf are dropped. What comes of a grouping by public keys has a row for each
combination of them; any other grouping hides small groups behind a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import opendp.prelude as dp
import polars as pl

from lomas_gql.libraries.opendp.expressions import Scope, expression, expressions
from lomas_gql.libraries.opendp.literals import FIELD, fields, items, node, refused, text
from lomas_gql.libraries.opendp.text import building, parsed, shown
from lomas_gql.metadata import (
    Column,
    Key,
    Metadata,
)
from lomas_gql.rows import dtype_of

# A context's leaf holds the analyst's dummy rows, a byte at a time.
TEXT_LIMIT = 2_000_000
KEY_LIMIT = 10_000
# Building takes OpenDP about a millisecond for each, some thirty times.
NOISE_LIMIT = 100

_WHY = {
    "Join": "the server supplies the keys of public categories itself, so leave with_keys and joins out",
    "MapFunction": "it may carry Python code",
    "Scan": "a plan reads the dataset only",
    "PythonScan": "it carries Python code",
    "Sink": "nothing is written",
    "SinkMultiple": "nothing is written",
    "Slice": "which rows come first is private",
    "Distinct": "OpenDP has no noise for it; group_by the columns instead",
    "Union": "a plan reads the dataset once",
    "HConcat": "a plan reads the dataset once",
    "ExtContext": "a plan reads the dataset once",
    "Cache": "a plan reads the dataset once",
}


@dataclass(frozen=True)
class Grouping:
    """The columns of a group_by, and every combination of their keys, in order, where those are public.

    `untouched`: all are the metadata's own columns, with cells as they were loaded.
    """

    by: tuple[str, ...] = ()
    keys: tuple[tuple[Key, ...], ...] | None = None
    untouched: bool = False


@dataclass(frozen=True)
class Order:
    """How the analyst wants the released rows sorted."""

    by: list[str]
    descending: list[bool]
    nulls_last: list[bool]


@dataclass(frozen=True)
class Plan:
    """A walked plan: rebuilt upon an empty frame, with the scale that each noise was given."""

    lazy: pl.LazyFrame
    grouping: Grouping
    orders: tuple[Order, ...]
    scales: tuple[float | None, ...]
    columns: tuple[str, ...]


def read(plan_text: str, metadata: Metadata) -> Plan:
    """Walks the JSON of a plan.

    Raises:
        InvalidQuery: a node, expression or option that is not on the list.
    """
    dp.enable_features("contrib")
    value = parsed(plan_text, FIELD, TEXT_LIMIT)
    metadata = _named(value, metadata)
    orders: list[Order] = []
    name, body = node(value)
    while name == "Sort":
        inner, order = _order(body)
        orders.insert(0, order)
        name, body = node(inner)
    with building(FIELD):
        if name == "Select":
            return _selected(body, metadata, tuple(orders))
        if name == "GroupBy":
            return _grouped(body, metadata, tuple(orders))
    raise _not_accepted(name, "the plan must end in select or in group_by and agg")


def _named(plan: Any, metadata: Metadata) -> Metadata:
    """What metadata says of the columns that a plan may name: OpenDP copies whole frames that it is given."""
    words = set(_words(plan))
    named = [column for column in metadata.columns if column.private_id or column.name in words]
    if all(column.private_id for column in named):
        # A count of rows names none, and reads the first.
        named += [column for column in metadata.columns if not column.private_id][:1]
    return replace(metadata, columns=tuple(named))


def _words(value: Any) -> Iterator[str]:
    """All text in a plan but its own rows and their schema."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "DataFrameScan":
                yield from _words(item)


def _selected(body: Any, metadata: Metadata, orders: tuple[Order, ...]) -> Plan:
    listed, below, options = fields(body, "expr", "input", "options")
    _check_options(options)
    lazy, scope = _rows(below, metadata)
    scope.may_release = True
    lazy = lazy.select(_distinct(expressions(listed, scope)))
    return _plan(lazy, Grouping(), orders, scope, metadata)


def _grouped(body: Any, metadata: Metadata, orders: tuple[Order, ...]) -> Plan:
    below, listed, aggregated, maintain_order, options = fields(
        body, "input", "keys", "aggs", "maintain_order", "options"
    )
    if options != {"dynamic": None, "rolling": None, "slice": None} or maintain_order is not False:
        raise refused("group_by takes columns, and neither windows, slices nor maintain_order")
    lazy, scope = _rows(below, metadata)
    by = tuple(_grouping_column(key, scope) for key in items(listed))
    if not by or len(set(by)) < len(by):
        raise refused("group_by needs columns, each of them once")
    scope.may_release = True
    aggregates = _distinct(expressions(aggregated, scope), *by)
    lazy = lazy.group_by(*by).agg(aggregates)
    columns = [scope.columns[name] for name in by]
    keys = _public_keys(columns)
    if keys is not None:
        lazy = _keys_frame(by, keys, scope.schema).join(lazy, how="left", on=list(by), nulls_equal=True)
    grouping = Grouping(by, keys, untouched=None not in columns)
    return _plan(lazy, grouping, orders, scope, metadata)


def _rows(value: Any, metadata: Metadata) -> tuple[pl.LazyFrame, Scope]:
    """The part of a plan that makes rows of rows, and what an expression upon it may read."""
    name, body = node(value)
    if name == "DataFrameScan":
        fields(body, "df", "schema")
        columns = {column.name: column for column in metadata.columns if not column.private_id}
        schema = pl.Schema({name: dtype_of(column) for name, column in columns.items()})
        return pl.LazyFrame(schema=schema), Scope(columns, metadata.private_id, schema)
    if name not in _ROW_NODES:
        raise _not_accepted(name, "rows are filtered, selected, or given columns")
    lazy, scope = _ROW_NODES[name](body, metadata)
    # Run on no rows, since not every mistake of types shows in a schema: no query should be priced that cannot run.
    scope.schema = lazy.clone().collect().schema
    return lazy, scope


def _filtered(body: Any, metadata: Metadata) -> tuple[pl.LazyFrame, Scope]:
    below, predicate = fields(body, "input", "predicate")
    lazy, scope = _rows(below, metadata)
    return lazy.filter(expression(predicate, scope)), scope


def _with_columns(body: Any, metadata: Metadata) -> tuple[pl.LazyFrame, Scope]:
    below, listed, options = fields(body, "input", "exprs", "options")
    _check_options(options)
    lazy, scope = _rows(below, metadata)
    added = _distinct(expressions(listed, scope))
    # A column made anew is no longer the metadata's, whatever its name: neither are its keys.
    scope.columns = dict(scope.columns) | {one.meta.output_name(): None for one in added}
    return lazy.with_columns(added), scope


def _narrowed(body: Any, metadata: Metadata) -> tuple[pl.LazyFrame, Scope]:
    listed, below, options = fields(body, "expr", "input", "options")
    _check_options(options)
    lazy, scope = _rows(below, metadata)
    kept = _distinct(expressions(listed, scope))
    known = scope.columns
    scope.columns = {
        one.meta.output_name(): known.get(one.meta.output_name()) if one.meta.is_column() else None for one in kept
    }
    return lazy.select(kept), scope


_ROW_NODES: dict[str, Callable[[Any, Metadata], tuple[pl.LazyFrame, Scope]]] = {
    "Filter": _filtered,
    "HStack": _with_columns,
    "Select": _narrowed,
}


def _distinct(listed: list[pl.Expr], *taken: str) -> list[pl.Expr]:
    names = [*taken, *(one.meta.output_name() for one in listed)]
    if not listed or len(set(names)) < len(names):
        raise refused("each column of a select, with_columns or agg needs a name of its own: use alias")
    return listed


def _check_options(options: Any) -> None:
    flags = fields(options, "run_parallel", "duplicate_check", "should_broadcast")
    if not all(isinstance(flag, bool) for flag in flags):
        raise refused("it is not what Polars 1.32 writes")


def _not_accepted(name: str, otherwise: str) -> Exception:
    return refused(f"the step {shown(name)} is not accepted: {_WHY.get(name, otherwise)}")


def _order(body: Any) -> tuple[Any, Order]:
    below, listed, cut, options = fields(body, "input", "by_column", "slice", "sort_options")
    descending, nulls_last, _, _, limit = fields(
        options, "descending", "nulls_last", "multithreaded", "maintain_order", "limit"
    )
    by = [text(node(key)[1]) if node(key)[0] == "Column" else "" for key in items(listed)]
    if cut is not None or limit is not None or not all(by) or not by:
        raise refused("sort takes columns of the answer, without slices")
    flags = [items(flag) for flag in (descending, nulls_last)]
    if any(len(flag) not in (1, len(by)) or not all(isinstance(f, bool) for f in flag) for flag in flags):
        raise refused("sort takes one direction, or one for each column")
    spread = [flag * len(by) if len(flag) < len(by) else flag for flag in flags]
    return below, Order(by, spread[0], spread[1])


def _grouping_column(value: Any, scope: Scope) -> str:
    if node(value)[0] != "Column":
        raise refused("group_by takes plain columns; make others with with_columns before it")
    return expression(value, scope).meta.output_name()


def _public_keys(columns: list[Column | None]) -> tuple[tuple[Key, ...], ...] | None:
    keys = [column.keys if column else None for column in columns]
    known = [key for key in keys if key is not None]
    if len(known) < len(keys):
        return None
    if math.prod(map(len, known)) > KEY_LIMIT:
        raise refused(f"group_by has more than {KEY_LIMIT:,} combinations of keys, each of which is answered")
    return tuple(product(*known))


def _keys_frame(by: tuple[str, ...], keys: tuple[tuple[Key, ...], ...], schema: pl.Schema) -> pl.LazyFrame:
    return pl.LazyFrame(list(keys), schema={name: schema[name] for name in by}, orient="row")


def _plan(
    lazy: pl.LazyFrame, grouping: Grouping, orders: tuple[Order, ...], scope: Scope, metadata: Metadata
) -> Plan:
    # The plan is our own by now, so Polars may look at it: at a copy, since looking rewrites what OpenDP reads.
    names = lazy.clone().collect_schema().names()
    if any(name not in names for order in orders for name in order.by):
        raise refused("sort takes columns of the answer")
    if len(scope.scales) > NOISE_LIMIT:
        raise refused(f"it has more than {NOISE_LIMIT} noised statistics")
    columns = tuple(column.name for column in metadata.columns if not column.private_id)
    return Plan(lazy, grouping, orders, tuple(scope.scales), columns)

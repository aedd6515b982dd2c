"""The SELECT under which SmartNoise SQL sees a table in PostgreSQL: each cell fits its metadata, none can raise.

PostgreSQL has no TRY, so each kind of column is read from those types alone of which every value can be read.
A column of another type is the owner's to change, with a view, or the dataset is copied (`push_down: false`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from psycopg import sql

from lomas_gql.datasets.typing import FALSE_WORDS, TRUE_WORDS, public_constant
from lomas_gql.metadata import (
    OTHER,
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    Metadata,
    NumericColumn,
)
from lomas_gql.rows import LONGEST_TEXT, SMALLEST, is_wide

if TYPE_CHECKING:
    from datetime import datetime

_WHOLE = {"int2", "int4", "int8"}
_FLOATS = {"float4", "float8"}
_NUMBERS = _WHOLE | _FLOATS | {"numeric"}
_TIMES = {"date", "timestamp", "timestamptz"}
_TEXTS = {"text", "varchar", "bpchar", "name", "enum"}

# Beyond these a number is no BIGINT.
_BIGINT = sql.SQL("{0} > -9.2e18 AND {0} < 9.2e18")


def unfit_columns(types: Mapping[str, str], metadata: Metadata) -> list[str]:
    """Which of the metadata's columns cannot be read where they are, and why."""
    unfit = []
    for column in metadata.columns:
        found = types.get(column.name)
        if found is None:
            unfit.append(f"has no column {column.name}")
        elif found not in _readable(column):
            unfit.append(f"holds {column.name} as {found}, from which PostgreSQL could fail to read some value")
        elif isinstance(column, NumericColumn) and any(0 < abs(b) < SMALLEST for b in (column.lower, column.upper)):
            unfit.append(f"{column.name} has a bound closer to 0 than {SMALLEST:g}")
    return unfit


def projection(table: sql.Identifier, types: Mapping[str, str], metadata: Metadata) -> sql.Composed:
    """The SELECT whose columns are `metadata.sql_names`.

    With a private_id, at most `max_ids` rows of each individual stay, drawn anew for each query, and rows without an
    identifier belong to nobody and go. A query on a sample of an individual's rows is bounded by it as on any
    other: whatever is drawn, neighbouring datasets differ in at most `max_ids` rows, since what is drawn of one
    individual does not depend on another's rows.
    """
    cells = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(_cell(column, types[column.name]), sql.Identifier(metadata.sql_names[column.name]))
        for column in metadata.columns
    )
    plain = sql.SQL("SELECT {} FROM {}").format(cells, table)
    if metadata.private_id is None:
        return plain
    owner = sql.Identifier(metadata.sql_names[metadata.private_id])
    names = sql.SQL(", ").join(map(sql.Identifier, metadata.sql_names.values()))
    return sql.SQL(
        "SELECT {names} FROM (SELECT {names}, row_number() OVER (PARTITION BY {owner} ORDER BY random()) AS place"
        " FROM ({plain}) AS fitted WHERE {owner} IS NOT NULL) AS placed WHERE place <= {most}"
    ).format(names=names, owner=owner, plain=plain, most=sql.Literal(metadata.max_ids))


def _readable(column: Column) -> set[str]:
    match column:
        case NumericColumn():
            return _NUMBERS
        case CategoricalColumn(integer=True):
            return _NUMBERS
        case BooleanColumn():
            return _TEXTS | _NUMBERS | {"bool"}
        case DatetimeColumn():
            return _TIMES
        case _:
            return _TEXTS | _NUMBERS | _TIMES | {"bool", "uuid"}


def _cell(column: Column, kind: str) -> sql.Composable:
    cell = _typed(sql.Identifier(column.name), column, kind)
    # An absent identifier is not filled in: a shared constant would make strangers one individual.
    if column.nullable or column.private_id or (isinstance(column, CategoricalColumn) and column.integer):
        return cell
    return sql.SQL("coalesce({}, {})").format(cell, _constant(column))


def _constant(column: Column) -> sql.Composable:
    value = public_constant(column)
    if isinstance(column, NumericColumn) and (not column.integer or is_wide(column)):
        # As a double: a cell and its constant are of one type.
        value = 0.0 if abs(value) < SMALLEST else float(value)  # type: ignore[arg-type]
        return sql.SQL("{}::float8").format(sql.Literal(value))
    literal = sql.Literal(value)
    return sql.SQL('({} COLLATE "C")').format(literal) if isinstance(value, str) else literal


def _typed(cell: sql.Composable, column: Column, kind: str) -> sql.Composable:
    match column:
        case NumericColumn():
            return _number(cell, column, kind)
        case CategoricalColumn(integer=True):
            whole = _whole(cell, kind)
            return sql.SQL("CASE WHEN {0} IN ({1}) THEN {0} END").format(whole, _literals(column.categories))
        case CategoricalColumn():
            known = "CASE WHEN {0} IN ({1}) THEN {0} WHEN {0} IS NOT NULL THEN {2} END"
            return sql.SQL(known).format(_text(cell, kind), _literals(column.categories), sql.Literal(OTHER))
        case BooleanColumn():
            return cell if kind == "bool" else _boolean(cell, kind)
        case DatetimeColumn(lower=lower, upper=upper):
            return _time(cell, kind, lower, upper)
        case _:
            return _text(cell, kind)


def _number(cell: sql.Composable, column: NumericColumn, kind: str) -> sql.Composable:
    # Clamped in its own type first: casts raise on what the other type cannot hold.
    if kind == "float4":
        # By its shortest text, as COPY would write it.
        cell = sql.SQL("{}::text::float8").format(cell)
    unfilled = sql.SQL("WHEN {} = 'NaN' THEN NULL ").format(cell) if kind not in _WHOLE else sql.SQL("")
    flushed = sql.SQL(" WHEN abs({}) < {} THEN 0").format(cell, sql.Literal(SMALLEST))
    clamped = sql.SQL("CASE {}WHEN {} < {} THEN {} WHEN {} > {} THEN {}{} ELSE {} END").format(
        *(unfilled, cell, sql.Literal(column.lower), sql.Literal(column.lower)),
        *(cell, sql.Literal(column.upper), sql.Literal(column.upper)),
        *(flushed if kind not in _WHOLE else sql.SQL(""), cell),
    )
    if not column.integer:
        return sql.SQL("({})::float8").format(clamped)
    whole = clamped if kind in _WHOLE else sql.SQL("trunc({})").format(clamped)
    return sql.SQL("({})::{}").format(whole, sql.SQL("float8" if is_wide(column) else "bigint"))


def _whole(cell: sql.Composable, kind: str) -> sql.Composable:
    """A number without its decimals; null where it is no BIGINT."""
    if kind in _WHOLE:
        return sql.SQL("{}::bigint").format(cell)
    return sql.SQL("CASE WHEN {} THEN trunc({})::bigint END").format(_BIGINT.format(cell), cell)


def _text(cell: sql.Composable, kind: str) -> sql.Composable:
    if kind == "timestamptz":
        cell = sql.SQL("({} AT TIME ZONE 'UTC')").format(cell)
    return sql.SQL('left({}::text, {}) COLLATE "C"').format(cell, sql.Literal(LONGEST_TEXT))


def _boolean(cell: sql.Composable, kind: str) -> sql.Composable:
    word = sql.SQL("lower(btrim({}, E' \\t\\n\\r\\f\\v'))").format(_text(cell, kind))
    return sql.SQL("CASE WHEN {0} IN ({1}) THEN true WHEN {0} IN ({2}) THEN false END").format(
        word, _literals(TRUE_WORDS), _literals(FALSE_WORDS)
    )


def _time(cell: sql.Composable, kind: str, lower: datetime, upper: datetime) -> sql.Composable:
    if kind == "timestamptz":
        cell = sql.SQL("({} AT TIME ZONE 'UTC')").format(cell)
    # A date is compared as it is, and cast where it lies within: there are more dates than times.
    return sql.SQL("CASE WHEN {0} < {1} THEN {1} WHEN {0} > {2} THEN {2} ELSE {0} END").format(
        cell, sql.Literal(lower), sql.Literal(upper)
    )


def _literals(values: tuple[str, ...] | tuple[int, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Literal, values))

"""Makes cells fit their metadata. Each cell is handled alone: none can raise, drop a row or move another."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from lomas_gql.metadata import (
    OTHER,
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    Metadata,
    NumericColumn,
)

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (columns hold no zone)
# A unit of each type is so many microseconds: a numerator and a denominator.
_MICROSECONDS = {"ns": (1, 1000), "us": (1, 1), "ms": (1000, 1), "days": (86_400_000_000, 1)}


def unfit_columns(schema: pl.Schema, metadata: Metadata) -> list[str]:
    """Which columns of the metadata a file lacks, or holds in a type from which they cannot be read, and why."""
    unfit = []
    for column in metadata.columns:
        dtype = schema.get(column.name)
        if dtype is None:
            unfit.append(f"has no column {column.name}")
        elif not _is_readable(dtype, column):
            unfit.append(f"holds {column.name} as {dtype}, from which it cannot be read")
    return unfit


def _is_readable(dtype: pl.DataType, column: Column) -> bool:
    if isinstance(column, DatetimeColumn):
        return dtype in (pl.String, pl.Date) or isinstance(dtype, pl.Datetime)
    return (
        dtype in (pl.String, pl.Boolean, pl.Null) or dtype.is_numeric() or isinstance(dtype, pl.Categorical | pl.Enum)
    )


def fit(frame: pl.LazyFrame, metadata: Metadata, key: int) -> pl.LazyFrame:
    """The metadata's columns of `frame`, each cell typed and within its bounds or categories.

    With a private_id, at most `max_ids` rows of each individual stay, chosen by a hash of the row under
    `key`; rows without an identifier belong to nobody and go.
    """
    schema = frame.collect_schema()
    fitted = frame.select(fitted_cell(column, schema[column.name]) for column in metadata.columns)
    if metadata.private_id is None:
        return fitted
    owner = pl.col(metadata.private_id)
    ticket = pl.struct(pl.all()).hash(key)
    return fitted.filter(owner.is_not_null()).filter(ticket.rank("ordinal").over(owner) <= metadata.max_ids)


def fitted_cell(column: Column, dtype: pl.DataType) -> pl.Expr:
    """The expression that makes any cell of `dtype` a cell of `column`."""
    cell = _typed(pl.col(column.name), column, dtype)
    # An absent identifier is not filled in: a shared constant would make strangers one individual.
    if not column.nullable and not column.private_id and not _is_integer_category(column):
        cell = cell.fill_null(pl.lit(public_constant(column)))
    return cell.alias(column.name)


def public_constant(column: Column) -> str | int | float | bool | datetime:
    """What stands for a missing or unreadable cell of a column that is not nullable."""
    match column:
        case NumericColumn(integer=True):
            return int((column.lower + column.upper) // 2)
        case NumericColumn():
            return (column.lower + column.upper) / 2
        case CategoricalColumn():
            return OTHER
        case BooleanColumn():
            return False
        case DatetimeColumn():
            return column.lower
        case _:
            return ""


def _typed(cell: pl.Expr, column: Column, dtype: pl.DataType) -> pl.Expr:
    match column:
        case NumericColumn():
            return _number(cell, column, dtype)
        case CategoricalColumn(integer=True):
            whole = _as_float(cell, dtype).cast(pl.Int64, strict=False)
            return pl.when(whole.is_in(list(column.categories))).then(whole)
        case CategoricalColumn():
            text = cell.cast(pl.String, strict=False)
            known = pl.when(text.is_in(list(column.categories))).then(text).otherwise(pl.lit(OTHER))
            return pl.when(text.is_not_null()).then(known)
        case BooleanColumn():
            return _boolean(cell, dtype)
        case DatetimeColumn():
            return _time(cell, column, dtype)
        case _:
            return cell.cast(pl.String, strict=False)


def _number(cell: pl.Expr, column: NumericColumn, dtype: pl.DataType) -> pl.Expr:
    clamped = _as_float(cell, dtype).clip(float(column.lower), float(column.upper))
    # Clamped first: a cast of a float beyond 2**63 would give null where 1e300 means "upper".
    if column.integer:
        return clamped.cast(pl.Int64, strict=False)
    # Not -0.0: the group of both would be told by the one whose row comes first.
    return pl.when(clamped == 0).then(0.0).otherwise(clamped)


def _as_float(cell: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.String:
        cell = cell.str.strip_chars()
    return cell.cast(pl.Float64, strict=False).fill_nan(None)


def _boolean(cell: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Boolean:
        return cell
    text = cell.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
    yes, no = pl.when(text.is_in(TRUE_WORDS)).then(pl.lit(True)), pl.lit(False)
    return yes.when(text.is_in(FALSE_WORDS)).then(no)


def _time(cell: pl.Expr, column: DatetimeColumn, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.String:
        text = cell.str.strip_chars().str.replace("Z$", "")
        formats = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
        times = [text.str.strptime(pl.Datetime("us"), format=f, strict=False) for f in formats]
        days = [text.str.strptime(pl.Date, format=f, strict=False) for f in ("%Y-%m-%d", "%d.%m.%Y")]
        cell = pl.coalesce(*times, *(day.cast(pl.Datetime("us")) for day in days))
        return cell.clip(column.lower, column.upper)
    # As plain numbers, clamped before they are scaled: casts between times panic on what they cannot hold.
    per_unit, units = _MICROSECONDS[str(getattr(dtype, "time_unit", "days"))]
    lower, upper = ((bound - _EPOCH) // timedelta(microseconds=1) for bound in (column.lower, column.upper))
    number = cell.to_physical().cast(pl.Int64).clip(lower * units // per_unit - 1, upper * units // per_unit + 1)
    return (number * per_unit // units).clip(lower, upper).cast(pl.Datetime("us"))


def _is_integer_category(column: Column) -> bool:
    return isinstance(column, CategoricalColumn) and column.integer

"""Makes cells in Spark fit their metadata, as datasets/typing.py does here: none can fail or change another.

A whole number is a DECIMAL in Spark: its sums and products are exact, and null beyond 38 digits. A BIGINT would
silently start again from below, and no noise would cover that.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from lomas_gql.datasets.files import MISSING
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
from lomas_gql.rows import LONGEST_TEXT, is_wide

if TYPE_CHECKING:
    from pyspark.sql import Column as Cell
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

# What Unicode calls white space.
_WHITE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Nothing is tried twice (++): a long text would else take the square of its length.
_NUMBER = r"^[+-]?([0-9]++\.?[0-9]*+|\.[0-9]++)([eE][+-]?[0-9]++)?\z"
_INFINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
_TIME = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]+)?)?)?\z"
_DAY = r"^([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})\z"


def polars_type(found: DataType) -> pl.DataType:
    """The type in which `unfit_columns` knows what is read from a Spark type; Object where nothing is."""
    from pyspark.sql import types

    kinds: list[tuple[tuple[type, ...], type[pl.DataType]]] = [
        ((types.StringType, types.CharType, types.VarcharType), pl.String),
        ((types.BooleanType,), pl.Boolean),
        ((types.IntegralType,), pl.Int64),
        ((types.FractionalType,), pl.Float64),
        ((types.DateType,), pl.Date),
        ((types.TimestampType, types.TimestampNTZType), pl.Datetime),
        ((types.NullType,), pl.Null),
    ]
    return next((kind() for known, kind in kinds if isinstance(found, known)), pl.Object())


def fitted(frame: DataFrame, metadata: Metadata, *, from_csv: bool) -> DataFrame:
    """The metadata's columns of `frame` under their `sql_names`, each cell typed and within its bounds or categories.

    With a private_id, at most `max_ids` rows of each individual stay, and rows without an identifier go. Which rows
    stay is drawn anew for each query, by a random number for each row. Whatever the draw, neighbouring datasets
    give tables that differ in at most `max_ids` rows, for the numbers of one individual's rows decide nothing about
    another's; so each query keeps its epsilon, and several add up as any do. A task that Spark runs again may draw
    other numbers, but it ranks all rows of an individual together, and its earlier result is not used.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    kinds = {field.name: polars_type(field.dataType) for field in frame.schema.fields}
    names = metadata.sql_names
    sources = [_source(c, kinds[c.name], from_csv=from_csv).alias(names[c.name]) for c in metadata.columns]
    values = [_value(c, f.col(names[c.name]), kinds[c.name]).alias(names[c.name]) for c in metadata.columns]
    cells = [_cell(c, f.col(names[c.name])).alias(names[c.name]) for c in metadata.columns]
    # In steps: what the next one names several times is computed once.
    frame = frame.select(sources).select(values).select(cells)
    if metadata.private_id is None:
        return frame
    owner = f.col(names[metadata.private_id])
    place = f.row_number().over(Window.partitionBy(owner).orderBy(f.rand()))
    placed = frame.filter(owner.isNotNull()).withColumn("place", place)
    return placed.filter(f.col("place") <= metadata.max_ids).drop("place")


def _source(column: Column, kind: pl.DataType, *, from_csv: bool) -> Cell:
    """A cell as it is read, or null."""
    from pyspark.sql import functions as f

    cell = f.col(f"`{column.name.replace('`', '``')}`")
    if kind == pl.String:
        # Without the rules of comparison that a table's owner may have given its texts.
        cell = cell.cast("string")
        if not column.private_id:
            # Texts that differ in bytes that are no UTF-8 would come here as one, and their groups hide each other.
            cell = f.make_valid_utf8(cell)
    return f.when(~cell.isin(list(MISSING)), cell) if from_csv else cell


def _value(column: Column, cell: Cell, kind: pl.DataType) -> Cell:
    """The number, time, boolean or text that a cell means, or null."""
    match column:
        case NumericColumn() | CategoricalColumn(integer=True):
            return _as_double(cell, kind)
        case BooleanColumn():
            return _boolean(cell, kind)
        case DatetimeColumn():
            return _time(cell, column, kind)
        case _:
            return cell.cast("string")


def _stripped(cell: Cell) -> Cell:
    from pyspark.sql import functions as f

    return f.btrim(cell, f.lit(_WHITE))


def _as_double(cell: Cell, kind: pl.DataType) -> Cell:
    from pyspark.sql import functions as f

    if kind == pl.String:
        text = _stripped(cell)
        # Java reads "1d" and "0x1p3" as numbers.
        cell = f.when(text.rlike(_NUMBER) | f.lower(text).isin(list(_INFINITE)), text)
    return f.nanvl(cell.cast("double"), f.lit(None).cast("double"))


def _boolean(cell: Cell, kind: pl.DataType) -> Cell:
    from pyspark.sql import functions as f

    if kind == pl.Boolean:
        return cell
    word = f.lower(_stripped(cell.cast("string")))
    return f.when(word.isin(list(TRUE_WORDS)), True).when(word.isin(list(FALSE_WORDS)), False)


def _time(cell: Cell, column: DatetimeColumn, kind: pl.DataType) -> Cell:
    from pyspark.sql import functions as f

    if kind == pl.String:
        text = f.regexp_replace(f.regexp_replace(_stripped(cell), r"Z\z", ""), _DAY, "$3-$2-$1")
        cell = f.when(text.rlike(_TIME), text)
    elif kind == pl.Date:
        # Clamped before it is cast, which fails on a day that a time cannot hold.
        first, last = (f.lit(str(bound.date())).cast("date") for bound in (column.lower, column.upper))
        inside = f.when(cell < first, first).otherwise(cell).cast("timestamp_ntz")
        return f.when(cell > last, _literal(column.upper)).otherwise(inside)
    return cell.cast("timestamp_ntz")


def _cell(column: Column, value: Cell) -> Cell:
    """A value within its bounds or categories, of the type in which queries see it."""
    from pyspark.sql import functions as f

    value = _bounded(column, value)
    # An absent identifier is not filled in: a shared constant would make strangers one individual.
    if (
        not column.nullable
        and not column.private_id
        and not (isinstance(column, CategoricalColumn) and column.integer)
    ):
        value = f.coalesce(value, _literal(public_constant(column)))
    return value.cast(_sql_type(column))


def _bounded(column: Column, value: Cell) -> Cell:
    from pyspark.sql import functions as f

    match column:
        case NumericColumn(lower=lower, upper=upper):
            clamped = _clamped(value, _literal(float(lower)), _literal(float(upper)))
            return clamped.cast("bigint") if column.integer else clamped
        case DatetimeColumn(lower=earliest, upper=latest):
            return _clamped(value, _literal(earliest), _literal(latest))
        case CategoricalColumn(integer=True, categories=categories):
            # A cast of what a BIGINT cannot hold would give its largest number.
            whole = f.when(f.abs(value) < float(2**63), value.cast("bigint"))
            return f.when(whole.isin(list(categories)), whole)
        case CategoricalColumn(categories=categories):
            return f.when(value.isin(list(categories)), value).when(value.isNotNull(), OTHER)
        case BooleanColumn():
            return value
        case _:
            return f.left(value, f.lit(LONGEST_TEXT))


def _clamped(value: Cell, lower: Cell, upper: Cell) -> Cell:
    from pyspark.sql import functions as f

    return f.when(value < lower, lower).when(value > upper, upper).otherwise(value)


def _literal(value: object) -> Cell:
    from pyspark.sql import functions as f

    # A time as PySpark would take it is one in this machine's zone.
    return f.lit(str(value)).cast("timestamp_ntz") if isinstance(value, datetime) else f.lit(value)


def _sql_type(column: Column) -> str:
    match column:
        case NumericColumn():
            return "decimal(10,0)" if column.integer and not is_wide(column) else "double"
        case CategoricalColumn(integer=True):
            return "decimal(19,0)"
        case BooleanColumn():
            return "boolean"
        case DatetimeColumn():
            return "timestamp_ntz"
        case _:
            return "string"

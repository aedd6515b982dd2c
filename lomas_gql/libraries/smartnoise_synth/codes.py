"""How the cells of a column become codes 0..size-1 and back: from public metadata alone, nothing is fitted.

snsynth would fit its transformers on the rows (`unique` values, approximate bounds); here the categories and
the bin edges are the metadata's, so that no epsilon goes into preprocessing and no row can add a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lomas_gql.metadata import (
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    NumericColumn,
)

DEFAULT_BINS = 10
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (columns hold no zone)


@dataclass(frozen=True)
class Coding:
    """The codes of one column: its bins or its values, and last, where the column admits it, null."""

    column: Column
    bins: int

    @property
    def values(self) -> tuple[str | int | bool, ...] | None:
        """What each code stands for; None for a column in bins."""
        match self.column:
            case CategoricalColumn() | BooleanColumn():
                return tuple(key for key in self.column.keys or () if key is not None)
            case _:
                return None

    @property
    def has_null(self) -> bool:
        return self.column.nullable or None in (self.column.keys or ())

    @property
    def size(self) -> int:
        return (self.bins if self.values is None else len(self.values)) + self.has_null

    @property
    def dtype(self) -> str:
        """The name of the column's type in an answer."""
        match self.column:
            case NumericColumn(integer=True) | CategoricalColumn(integer=True):
                return "int"
            case NumericColumn():
                return "float"
            case BooleanColumn():
                return "boolean"
            case DatetimeColumn():
                return "datetime"
            case _:
                return "string"

    def allowed(self, nullable: bool) -> list[bool]:
        """Which codes may appear in synthetic rows: never OTHER, null only where column and query want it."""
        column = self.column
        declared = set(column.categories) if isinstance(column, CategoricalColumn) else None
        cells = [declared is None or value in declared for value in self.values or range(self.bins)]
        return [*cells, nullable and column.nullable] if self.has_null else cells

    def encoded(self) -> pl.Expr:
        """The expression that turns any prepared cell into its code; it cannot fail on a value."""
        cell, last = pl.col(self.column.name), self.size - 1
        if self.values is None:
            code = _bin(cell, self.column, self.bins).clip(0, self.bins - 1)
        elif isinstance(self.column, BooleanColumn):
            code = pl.when(cell).then(0).otherwise(1)
        else:
            code = cell.replace_strict(
                list(self.values), list(range(len(self.values))), default=last, return_dtype=pl.Int64
            )
        null = pl.lit(last if self.has_null else 0)
        return pl.when(cell.is_null()).then(null).otherwise(code).cast(pl.Int64).alias(self.column.name)

    def decoded(self, codes: NDArray[np.int64], generator: np.random.Generator) -> pl.Series:
        """A cell for each code: its value, or a uniformly random value of its bin."""
        name, dtype = self.column.name, _DTYPES[self.dtype]
        if self.values is not None:
            return pl.Series(name, [*self.values, None], dtype=dtype).gather(codes)
        cells = _unbin(codes.clip(0, self.bins - 1), self.column, self.bins, generator)
        series = pl.Series(name, cells)
        if self.has_null:
            series = series.set(pl.Series(codes == self.size - 1), None)
        return series.cast(dtype)


_DTYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "datetime": pl.Datetime("us"),
}


def coding(column: Column, bins: int | None) -> Coding:
    """The codes of `column`, with `bins` bins (default 10) where it is a number or a time.

    An integer column never has more bins than values, a column whose bounds are equal has one bin.
    """
    match column:
        case NumericColumn(integer=True, lower=lower, upper=upper):
            return Coding(column, min(bins or DEFAULT_BINS, int(upper) - int(lower) + 1))
        case NumericColumn(lower=low, upper=high):
            return Coding(column, (bins or DEFAULT_BINS) if low < high else 1)
        case DatetimeColumn(lower=begin, upper=end):
            return Coding(column, (bins or DEFAULT_BINS) if begin < end else 1)
        case _:
            return Coding(column, 0)


def codes_of(frame: pl.DataFrame, codings: Sequence[Coding]) -> NDArray[np.int64]:
    """The codes of `frame`, rows by columns in the order of `codings`."""
    return frame.select(coding.encoded() for coding in codings).to_numpy().reshape(-1, len(codings))


def _bin(cell: pl.Expr, column: Column, bins: int) -> pl.Expr:
    if bins == 1:
        return pl.lit(0)
    match column:
        case NumericColumn(integer=True, lower=lower, upper=upper):
            # Bounds lie within 2**53 and bins within 200, so the product fits an Int64.
            return (cell - int(lower)) * bins // (int(upper) - int(lower) + 1)
        case NumericColumn(lower=low, upper=high):
            return ((cell.fill_nan(low) - low) / (high - low) * bins).floor().cast(pl.Int64, strict=False)
        case DatetimeColumn(lower=begin, upper=end):
            offset = (cell - pl.lit(begin)).dt.total_microseconds().cast(pl.Float64)
            share = offset / (_microseconds(end) - _microseconds(begin))
            return (share * bins).floor().cast(pl.Int64, strict=False)
        case _:
            raise TypeError(f"{column.name} has no bins")


def _unbin(
    codes: NDArray[np.int64], column: Column, bins: int, generator: np.random.Generator
) -> NDArray[np.int64] | NDArray[np.float64]:
    match column:
        case NumericColumn(integer=True, lower=lower, upper=upper):
            # Bin b holds the integers v with b <= v * bins / count < b + 1, counted from `lower`.
            count = int(upper) - int(lower) + 1
            first, end = -(-codes * count // bins), -(-(codes + 1) * count // bins)
            return generator.integers(first, end) + int(lower)
        case NumericColumn(lower=low, upper=high):
            share = (codes + generator.random(len(codes))) / bins
            return (low + share * (high - low)).clip(low, high)
        case DatetimeColumn(lower=begin, upper=end):
            first_us, last_us = _microseconds(begin), _microseconds(end)
            share = (codes + generator.random(len(codes))) / bins
            times = first_us + (share * (last_us - first_us)).astype(np.int64)
            # Whole seconds: finer digits would only be random ones.
            return (times - times % 1_000_000).clip(first_us, last_us)
        case _:
            raise TypeError(f"{column.name} has no bins")


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND

"""Dummy rows: random cells that fit the metadata and depend on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from lomas_gql.metadata import (
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    Metadata,
    NumericColumn,
)
from lomas_gql.rows import Rows, dtype_of

_NULL_SHARE = 0.05
"""How many cells of a nullable column are null, on average."""


def dummy_rows(metadata: Metadata, rows: int, seed: int) -> Rows:
    """`rows` random rows that fit `metadata`; the same seed gives the same rows."""
    generator = np.random.default_rng(seed & (2**64 - 1))
    columns = [_column(column, metadata, rows, generator) for column in metadata.columns]
    return Rows(pl.DataFrame(columns), metadata)


def _column(column: Column, metadata: Metadata, rows: int, generator: np.random.Generator) -> pl.Series:
    if column.private_id:
        # max_ids rows for each individual, in the column's own type.
        owners = np.arange(rows) // metadata.max_ids
        cells: Any = owners if isinstance(column, NumericColumn) else [f"id{owner}" for owner in owners]
        return pl.Series(column.name, cells, dtype=dtype_of(column))
    cells = _cells(column, rows, generator)
    if column.nullable:
        missing = generator.random(rows) < _NULL_SHARE
        cells = [None if gone else cell for cell, gone in zip(cells, missing, strict=True)]
    return pl.Series(column.name, cells, dtype=dtype_of(column))


def _cells(column: Column, rows: int, generator: np.random.Generator) -> list[Any]:
    match column:
        case NumericColumn(integer=True, lower=lower, upper=upper):
            return [int(n) for n in generator.integers(int(lower), int(upper), rows, endpoint=True)]
        case NumericColumn(lower=lower, upper=upper):
            return [float(x) for x in generator.uniform(lower, upper, rows)]
        case CategoricalColumn(categories=categories):
            return [categories[i] for i in generator.integers(0, len(categories), rows)]
        case BooleanColumn():
            return [bool(b) for b in generator.integers(0, 2, rows)]
        case DatetimeColumn(lower=lower, upper=upper):
            return [lower + share * (upper - lower) for share in generator.random(rows)]
        case _:
            return [f"text{n}" for n in generator.integers(0, 10, rows)]

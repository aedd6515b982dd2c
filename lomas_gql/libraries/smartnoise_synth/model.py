"""A fitted synthesizer as it is stored: conditional probability tables, and nothing else.

Whatever a synthesizer measured with noise becomes a chain of tables, each giving some columns' codes under
codes that are already drawn. Tables are post-processing of noised counts, scaled to probabilities, so no
count, no row and no object of a library is in the bytes, and sampling spends nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomas_gql.libraries.smartnoise_synth.codes import Coding, coding
from lomas_gql.metadata import Metadata

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

_LEAST = 1e-12
"""Stands for a zero weight, so that every allowed cell keeps some probability and nothing divides by zero."""


@dataclass(frozen=True)
class Table:
    """Weights of the codes of columns `new` under those of columns `given`: axes in the order given, new."""

    given: tuple[int, ...]
    new: tuple[int, ...]
    weights: Floats


@dataclass(frozen=True)
class Model:
    """What synthetic rows are drawn from. The tables' columns count within `codings`."""

    synthesizer: str
    codings: tuple[Coding, ...]
    tables: tuple[Table, ...]

    def draw(self, rows: int, generator: np.random.Generator) -> Codes:
        """`rows` independent rows of codes."""
        codes = np.zeros((rows, len(self.codings)), dtype=np.int64)
        for table in self.tables:
            shape = table.weights.shape
            given, new = shape[: len(table.given)], shape[len(table.given) :]
            groups = _flat(codes[:, list(table.given)], given)
            drawn = _draw(table.weights.reshape(math.prod(given), -1), groups, generator)
            codes[:, list(table.new)] = np.stack(np.unravel_index(drawn, new), axis=1)
        return codes

    def to_bytes(self) -> bytes:
        head = {
            "synthesizer": self.synthesizer,
            "columns": [[coding.column.name, coding.bins] for coding in self.codings],
            "tables": [[table.given, table.new] for table in self.tables],
            "metadata": _fingerprint(self.codings),
        }
        arrays: dict[str, Any] = {
            f"table{i}": table.weights.astype(np.float32) for i, table in enumerate(self.tables)
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes, metadata: Metadata) -> Model:
        """The model of `to_bytes`, over the columns of `metadata`.

        Raises:
            ValueError: the metadata of these columns is no longer that under which the model was fitted.
        """
        with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
            head: dict[str, Any] = json.loads(arrays["head"].tobytes())
            weights = [arrays[f"table{i}"].astype(np.float64) for i in range(len(head["tables"]))]
        if not all(name in metadata.by_name for name, _ in head["columns"]):
            raise ValueError("the dataset no longer has the columns of this model")
        codings = tuple(coding(metadata.by_name[name], bins or None) for name, bins in head["columns"])
        if _fingerprint(codings) != head["metadata"]:
            raise ValueError("the dataset's metadata has changed since this model was fitted")
        tables = zip(head["tables"], weights, strict=True)
        return cls(head["synthesizer"], codings, tuple(Table(tuple(g), tuple(n), array) for (g, n), array in tables))


def model_of(synthesizer: str, codings: Sequence[Coding], tables: Sequence[Table], nullable: bool) -> Model:
    """The model that draws from `tables`, given that no row holds OTHER or an unwanted null.

    Exact conditioning by variable elimination from the last table to the first: each table keeps its allowed
    cells only and hands the mass that it keeps, for each code of `given`, to the table before it. That is
    the distribution of rows drawn and thrown away until they fit, without the throwing away. The columns
    `given` of a table must all stand in one table before it.
    """
    allowed = [np.array(coding.allowed(nullable)) for coding in codings]
    handed: list[tuple[tuple[int, ...], Floats]] = []
    fitted: list[Table] = []
    for table in reversed(tables):
        columns = table.given + table.new
        weights = _conditional(table)
        for i, column in enumerate(columns):
            weights = weights * _along(allowed[column].astype(float), i, len(columns))
        for given, mass in [item for item in handed if set(item[0]) <= set(columns)]:
            weights = weights * _spread(mass, given, columns)
        handed = [item for item in handed if not set(item[0]) <= set(columns)]
        kept = weights.sum(axis=tuple(range(len(table.given), len(columns))))
        if table.given:
            handed.append((table.given, np.maximum(kept, _LEAST)))
        fitted.append(Table(table.given, table.new, _normalised(weights, table)))
    return Model(synthesizer, tuple(codings), tuple(reversed(fitted)))


def _conditional(table: Table) -> Floats:
    """The table's weights as probabilities of `new` for each code of `given`, all above zero."""
    weights = np.nan_to_num(table.weights.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(0)
    axes = tuple(range(len(table.given), weights.ndim))
    total = weights.sum(axis=axes, keepdims=True)
    cells = math.prod(weights.shape[len(table.given) :])
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / cells)
    return np.asarray(weights + _LEAST / cells)


def _normalised(weights: Floats, table: Table) -> Floats:
    axes = tuple(range(len(table.given), weights.ndim))
    total = weights.sum(axis=axes, keepdims=True)
    # Only rows of `given` that cannot be drawn sum to zero; they stay there.
    return np.asarray(weights / np.where(total > 0, total, 1))


def _along(vector: Floats, axis: int, axes: int) -> Floats:
    return vector.reshape([-1 if i == axis else 1 for i in range(axes)])


def _spread(mass: Floats, given: tuple[int, ...], columns: tuple[int, ...]) -> Floats:
    """`mass`, with axes `given`, as an array that broadcasts over `columns`."""
    order = sorted(range(len(given)), key=lambda i: columns.index(given[i]))
    shape = [mass.shape[given.index(column)] if column in given else 1 for column in columns]
    return mass.transpose(order).reshape(shape)


def _flat(codes: Codes, shape: tuple[int, ...]) -> Codes:
    if not shape:
        return np.zeros(len(codes), dtype=np.int64)
    return np.asarray(np.ravel_multi_index(tuple(codes.T), shape), dtype=np.int64)


def _draw(weights: Floats, groups: Codes, generator: np.random.Generator) -> Codes:
    """For each group a column of `weights`, drawn by its row of weights."""
    steps = weights.cumsum(axis=1)
    total = steps[:, -1:]
    steps = np.where(total > 0, steps / np.where(total > 0, total, 1), 1.0)
    ladder = (steps + np.arange(len(steps))[:, None]).ravel()
    # 32 random bits: group + share is then exact in a float and never reaches the next group.
    shares = generator.integers(0, 2**32, len(groups)) / 2**32
    found = np.searchsorted(ladder, groups + shares, side="right")
    return np.asarray(found - groups * weights.shape[1], dtype=np.int64).clip(0, weights.shape[1] - 1)


def _fingerprint(codings: Sequence[Coding]) -> str:
    return hashlib.sha256(repr([(coding.column, coding.bins) for coding in codings]).encode()).hexdigest()

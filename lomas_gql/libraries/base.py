"""What a library has to offer, and the shape of what it answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from lomas_gql.errors import InvalidQuery
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import DELTA_UNITS, PrivacyLoss
from lomas_gql.rows import Rows, RowsInPlace
from lomas_gql.words import Engine, Word

T = TypeVar("T")

EPSILON_FLOOR = 1e-6
EPSILON_CAP = 100.0
DELTA_CAP = 0.1


class Library(Word):
    """The differential privacy libraries that this server runs."""

    OPENDP = "OPENDP", "OpenDP: measurements and Polars plans (docs.opendp.org)."
    SMARTNOISE_SQL = "SMARTNOISE_SQL", "SmartNoise SQL: one SELECT of noisy aggregates (docs.smartnoise.org/sql)."
    SMARTNOISE_SYNTH = "SMARTNOISE_SYNTH", "SmartNoise Synth: synthetic rows (docs.smartnoise.org/synth)."
    DIFFPRIVLIB = "DIFFPRIVLIB", "diffprivlib: models and pipelines (diffprivlib.readthedocs.io)."


@dataclass(frozen=True)
class TableColumn:
    """A column of a table in an answer: its name and its type (int, float, string, boolean, datetime)."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Table:
    """Rows in the order of `columns`, as JSON values; a missing or non-finite value is None."""

    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Answer:
    """What a query releases: which library answered, and a value, a table, or both.

    `model` stays on the server: a fitted synthesizer, to be sampled again.
    """

    library: Library
    value: Any = None
    table: Table | None = None
    model: bytes | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        return {"library": self.library.value, "value": self.value} | (
            {"table": asdict(self.table)} if self.table else {}
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Answer:
        table = stored.get("table")
        return cls(
            Library(stored["library"]),
            stored["value"],
            table
            and Table(
                tuple(TableColumn(**column) for column in table["columns"]),
                tuple(tuple(row) for row in table["rows"]),
            ),
        )


@runtime_checkable
class DPQuery(Protocol):
    """One query in one library. Instances travel to worker processes."""

    library: ClassVar[Library]

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        """What a run on private rows would cost. It is never given rows.

        Raises:
            InvalidQuery: the query cannot be run, and why.
        """

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        """Runs the query on `rows`, dummy or private, and spends at most `cost`."""


@runtime_checkable
class InPlaceQuery(DPQuery, Protocol):
    """A query that an engine can answer where the rows are."""

    def run_in_place(self, rows: RowsInPlace, metadata: Metadata) -> Answer:
        """As `run`, on private rows that stay in their engine."""


def runs_in_place(query: DPQuery, metadata: Metadata) -> bool:
    """Whether the query is answered where the rows are; else it needs a prepared copy of them."""
    return metadata.engine is not Engine.DUCKDB and isinstance(query, InPlaceQuery)


def priced(query: DPQuery, metadata: Metadata) -> PrivacyLoss:
    """What a run on private rows would cost, where the query's library can run on this dataset.

    Raises:
        InvalidQuery: the query cannot be run, and why.
    """
    if metadata.engine is Engine.SPARK and not isinstance(query, InPlaceQuery):
        message = "the rows of this dataset stay inside Spark, where SmartNoise SQL alone can run"
        raise InvalidQuery.at("query", message=message)
    return query.cost(metadata)


def checked_epsilon(epsilon: float, *path: str) -> float:
    """`epsilon`, where it is a number that a query may spend.

    Raises:
        InvalidQuery: NaN, infinite, under the floor (1e-6) or over the cap (100).
    """
    if not (EPSILON_FLOOR <= epsilon <= EPSILON_CAP):
        message = f"epsilon must lie between {EPSILON_FLOOR:g} and {EPSILON_CAP:g}"
        raise InvalidQuery.at(*path, message=message)
    return epsilon


def checked_delta(delta: float, *path: str) -> float:
    """`delta`, where it is a number that a query may spend.

    Raises:
        InvalidQuery: NaN, infinite, negative, finer than the ledger counts, or over the cap (0.1).
    """
    if not (delta == 0 or 1 / DELTA_UNITS <= delta <= DELTA_CAP) or math.copysign(1, delta) < 0:
        message = f"delta must be 0 or lie between {1 / DELTA_UNITS:g} and {DELTA_CAP:g}"
        raise InvalidQuery.at(*path, message=message)
    return delta


def checked_cost(cost: PrivacyLoss) -> PrivacyLoss:
    """`cost`, where one query may cost that much.

    Raises:
        InvalidQuery: no epsilon at all, or more epsilon or delta than one query may spend.
    """
    if not (EPSILON_FLOOR <= cost.epsilon <= EPSILON_CAP) or cost.delta > DELTA_CAP:
        message = (
            f"the query would cost epsilon {cost.epsilon_text} and delta {cost.delta_text}; one query may cost "
            f"epsilon {EPSILON_FLOOR:g} to {EPSILON_CAP:g} and delta up to {DELTA_CAP:g}"
        )
        raise InvalidQuery.at("query", message=message)
    return cost


def described(description: str, default: T | Any = ...) -> Any:
    """A dataclass field with the text that clients read about it."""
    metadata = {"description": description}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def json_value(value: Any) -> Any:
    """`value` in JSON's own types: numpy scalars unpacked, times as ISO 8601, non-finite numbers as None."""
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return json_value(float(value))
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(key): json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [json_value(item) for item in value]
        case _:
            return str(value)


def table_of(columns: Sequence[tuple[str, str]], rows: Iterable[Iterable[Any]]) -> Table:
    """A table from (name, dtype) pairs and rows of Python values."""
    return Table(
        tuple(TableColumn(name, dtype) for name, dtype in columns),
        tuple(tuple(json_value(cell) for cell in row) for row in rows),
    )


def first_line(error: BaseException) -> str:
    """The first line of a library's message, without paths and module names: they are the server's own business."""
    # str() of an OpenDPException ends in a backtrace; its message does not.
    lines = str(getattr(error, "message", None) or error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\S*/\S*/\S*|\b[a-z_]\w*(\.\w+){2,}\b", "…", lines[0])[:300]

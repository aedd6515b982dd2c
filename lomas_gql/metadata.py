"""What is public about a dataset: its columns, their bounds and categories, max_ids and row count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from lomas_gql.words import Engine

TABLE = "df"
"""The name under which SQL sees the rows of any dataset."""

OTHER = "OTHER"
"""What a text cell outside its column's categories becomes."""

SMARTNOISE_TABLE_WORDS = frozenset(
    {"rows", "rows_exact", "row_privacy", "max_ids", "sample_max_ids", "clamp_counts", "clamp_columns"}
    | {"use_dpsu", "censor_dims"}
)
"""In SmartNoise's dictionary these stand beside the columns, so no column can have such a name."""

Key = str | int | bool | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """What every column has. `nullable` and `private_id` are false where the owner says nothing."""

    name: str
    nullable: bool = False
    private_id: bool = False
    max_partition_length: int | None = None
    max_influenced_partitions: int | None = None
    max_partition_contributions: int | None = None

    @property
    def keys(self) -> tuple[Key, ...] | None:
        """Every value that a cell can take, where that set is public and finite; else None."""
        return None


@dataclass(frozen=True, kw_only=True)
class NumericColumn(Column):
    """A number, clamped to [lower, upper] at load."""

    integer: bool
    precision: int = 64
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class CategoricalColumn(Column):
    """One of a public list. Outside it, text becomes OTHER and an integer becomes null."""

    categories: tuple[str, ...] | tuple[int, ...]
    integer: bool = False

    @property
    def admits_null(self) -> bool:
        return self.nullable or self.integer

    @property
    def keys(self) -> tuple[Key, ...]:
        other = () if self.integer or OTHER in self.categories else (OTHER,)
        return (*self.categories, *other, *((None,) if self.admits_null else ()))


@dataclass(frozen=True, kw_only=True)
class BooleanColumn(Column):
    """True or false."""

    @property
    def keys(self) -> tuple[Key, ...]:
        return (True, False, *((None,) if self.nullable else ()))


@dataclass(frozen=True, kw_only=True)
class DatetimeColumn(Column):
    """A time without zone, clamped to [lower, upper] at load."""

    lower: datetime
    upper: datetime


@dataclass(frozen=True, kw_only=True)
class TextColumn(Column):
    """Free text, or an identifier."""


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in an owner's file: where in it, and why."""

    path: tuple[str | int, ...]
    reason: str


class MetadataError(ValueError):
    """The metadata cannot be used; `mistakes` says where and why."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(m.reason for m in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Metadata:
    """Public facts about one table, in SmartNoise's terms as Lomas extends them.

    Neighbouring datasets differ in all rows of one individual: at most `max_ids` rows.
    """

    max_ids: int
    rows: int
    row_privacy: bool
    censor_dims: bool
    columns: tuple[Column, ...]
    # What the source says, and no file of an owner's: it is set where a dataset is handed out.
    engine: Engine = Engine.DUCKDB

    @classmethod
    def parse(cls, raw: object) -> Metadata:
        """Reads SmartNoise's dictionary format as Lomas writes it.

        Raises:
            MetadataError: with every mistake, not just the first.
        """
        try:
            table = _RawTable.model_validate(raw)
        except ValidationError as error:
            raise MetadataError(mistakes_in(error)) from None
        mistakes = list(_table_mistakes(table))
        columns: list[Column] = []
        for name, column in table.columns.items():
            try:
                columns.append(_column(name, column))
            except ValueError as error:
                mistakes.append(Mistake(("columns", name), str(error)))
        if mistakes:
            raise MetadataError(mistakes)
        return cls(table.max_ids, table.rows, table.row_privacy, table.censor_dims, tuple(columns))

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def private_id(self) -> str | None:
        """The column that says whose row it is, if there is one."""
        return next((column.name for column in self.columns if column.private_id), None)

    @cached_property
    def sql_names(self) -> Mapping[str, str]:
        """By what name SQL engines see each column: SmartNoise and DuckDB quote and reserve words differently."""
        return {column.name: f"c{index}" for index, column in enumerate(self.columns)}

    def smartnoise(
        self, *, censor_dims: bool | None = None, names: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The dictionary that `snsql.from_connection(metadata=...)` takes.

        Contributions are bounded once, when the rows are loaded, so the library need not sample again.
        """
        names = names or {column.name: column.name for column in self.columns}
        table: dict[str, Any] = {
            "max_ids": self.max_ids,
            "rows": self.rows,
            "row_privacy": self.row_privacy,
            "censor_dims": self.censor_dims if censor_dims is None else censor_dims,
            "sample_max_ids": False,
        }
        return {"": {"": {TABLE: table | {names[c.name]: _smartnoise_column(c) for c in self.columns}}}}


def mistakes_in(error: ValidationError) -> list[Mistake]:
    """The mistakes that pydantic found, in our words."""
    return [Mistake(tuple(e["loc"]), e["msg"].removeprefix("Value error, ")) for e in error.errors()]


class _Raw(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _bound(value: object) -> object:
    if value is None or (isinstance(value, int | float | str | date) and not isinstance(value, bool)):
        return value
    raise ValueError("a bound is a number or a date")


_Bound = Annotated[float | datetime | date | None, BeforeValidator(_bound)]


class _RawColumn(_Raw):
    type: Literal["string", "int", "float", "boolean", "datetime"]
    precision: Literal[8, 16, 32, 64] = 64
    lower: _Bound = None
    upper: _Bound = None
    cardinality: int | None = Field(default=None, ge=0)
    # Strict: YAML reads an unquoted yes or no as a boolean, which must not become "1" or "0".
    categories: list[StrictStr | StrictInt] | None = None
    nullable: bool = False
    private_id: bool = False
    max_partition_length: int | None = Field(default=None, ge=1)
    max_influenced_partitions: int | None = Field(default=None, ge=1)
    max_partition_contributions: int | None = Field(default=None, ge=1)


class _RawTable(_Raw):
    max_ids: int = Field(ge=1, le=10**6)
    rows: int = Field(ge=1, le=10**12)
    row_privacy: bool = False
    censor_dims: bool = False
    columns: dict[str, _RawColumn] = Field(min_length=1)


def _table_mistakes(table: _RawTable) -> list[Mistake]:
    mistakes = []
    ids = [name for name, column in table.columns.items() if column.private_id]
    if len(ids) > 1:
        mistakes.append(Mistake(("columns",), f"only one column can be the private_id, not {len(ids)}"))
    if ids and table.row_privacy:
        reason = "row_privacy says that each row is an individual, so no column can be a private_id"
        mistakes.append(Mistake(("row_privacy",), reason))
    folded = [name.casefold() for name in table.columns]
    for name in table.columns:
        if not name or re.search(r'["\\\x00-\x1f]', name):
            mistakes.append(Mistake(("columns", name), "a name cannot be empty or hold quotes or backslashes"))
        if name in SMARTNOISE_TABLE_WORDS:
            mistakes.append(Mistake(("columns", name), "SmartNoise reads this word as a property of the table"))
        if folded.count(name.casefold()) > 1:
            mistakes.append(Mistake(("columns", name), "two columns differ in upper and lower case only"))
    return mistakes


def _column(name: str, raw: _RawColumn) -> Column:
    common: dict[str, Any] = {"name": name} | {
        field: getattr(raw, field)
        for field in (
            "nullable",
            "private_id",
            "max_partition_length",
            "max_influenced_partitions",
            "max_partition_contributions",
        )
    }
    # An identifier is kept as the text that it is: clamped, rounded or categorised, strangers would become one.
    if raw.private_id:
        return TextColumn(**common)
    if raw.categories is not None:
        return CategoricalColumn(**common, **_categories(raw))
    if raw.type == "string":
        return TextColumn(**common)
    if raw.type == "boolean":
        return BooleanColumn(**common)
    if raw.lower is None or raw.upper is None:
        raise ValueError(f"a {raw.type} column needs lower and upper: values are clamped to them")
    if raw.type == "datetime":
        lower, upper = _time(raw.lower), _time(raw.upper)
        if lower > upper:
            raise ValueError("lower is above upper")
        return DatetimeColumn(**common, lower=lower, upper=upper)
    return NumericColumn(**common, **_bounds(raw))


def _categories(raw: _RawColumn) -> dict[str, Any]:
    assert raw.categories is not None
    if raw.type not in ("string", "int"):
        raise ValueError(f"a {raw.type} column has no categories")
    if not raw.categories or len(set(raw.categories)) != len(raw.categories):
        raise ValueError("categories are missing or repeated")
    if raw.type == "string":
        return {"categories": tuple(str(c) for c in raw.categories)}
    if not all(isinstance(c, int) and abs(c) < 2**63 for c in raw.categories):
        raise ValueError("the categories of an int column are integers")
    return {"categories": tuple(raw.categories), "integer": True}


def _bounds(raw: _RawColumn) -> dict[str, Any]:
    if not isinstance(raw.lower, int | float) or not isinstance(raw.upper, int | float):
        raise ValueError(f"the bounds of a {raw.type} column are numbers")
    # 2**53: within it every integer is a float, so that clamping is exact on every engine.
    if not -(2**53) <= raw.lower <= raw.upper <= 2**53:
        raise ValueError("bounds need lower <= upper, within -2**53 to 2**53")
    integer = raw.type == "int"
    if integer and (raw.lower != int(raw.lower) or raw.upper != int(raw.upper)):
        raise ValueError("the bounds of an int column are integers")
    number = int if integer else float
    return {
        "integer": integer,
        "precision": raw.precision,
        "lower": number(raw.lower),
        "upper": number(raw.upper),
    }


def _time(value: float | date | datetime) -> datetime:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 (columns hold no zone)
    raise ValueError("the bounds of a datetime column are dates")


def _smartnoise_column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"private_id": column.private_id, "nullable": column.nullable}
    match column:
        case NumericColumn(integer=integer, precision=precision, lower=lower, upper=upper):
            kind = "int" if integer else "float"
            return entry | {"type": kind, "precision": precision, "lower": lower, "upper": upper}
        case CategoricalColumn(categories=categories, integer=True):
            bounds = {"lower": min(categories), "upper": max(categories)}
            return entry | {"type": "int", "cardinality": len(categories), "categories": list(categories)} | bounds
        case CategoricalColumn(categories=categories):
            return entry | {"type": "string", "cardinality": len(categories), "categories": list(categories)}
        case BooleanColumn():
            return entry | {"type": "boolean"}
        case DatetimeColumn():
            # The library reads bounds as numbers; those of a time stand in our own columns.
            return entry | {"type": "datetime"}
        case _:
            return entry | {"type": "string"}

"""Typed expressions over rows in place: what kind of value each is, and the bounds within which it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from fractions import Fraction
from typing import Any

from snsql._ast.tokens import Literal

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.smartnoise_sql.dialects import Dialect
from lomas_gql.libraries.smartnoise_sql.gate import refuse
from lomas_gql.metadata import BooleanColumn, CategoricalColumn, Column, DatetimeColumn, NumericColumn
from lomas_gql.rows import LONGEST_TEXT, SMALLEST, is_wide

_LARGEST_WHOLE = 2**53
_LONGEST = 2**26


class Kind(IntEnum):
    """What a value is. Of two kinds of number beside each other, the larger is what both become."""

    WHOLE = 1
    EXACT = 2
    DOUBLE = 3
    TEXT = 4
    BOOLEAN = 5
    TIME = 6

    @property
    def is_number(self) -> bool:
        return self <= Kind.DOUBLE

    @property
    def told(self) -> str:
        return "a number" if self.is_number else f"a {self.name.lower()}"


@dataclass(frozen=True)
class Bounds:
    """What is known of a number: it lies in [lowest, highest], and beside 0 its size is at least `smallest`.

    Those of whole and exact numbers are exact: rounded, 0.1 + 0.2 - 0.3 would not be 0. `decimals` is how many
    digits an exact one may have after its point.
    """

    lowest: float
    highest: float
    smallest: float = 1
    decimals: int = 0

    @property
    def largest(self) -> float:
        return max(abs(self.lowest), abs(self.highest))

    @property
    def doubled(self) -> Bounds:
        """Those of the same number as a double."""
        return Bounds(float(self.lowest), float(self.highest), self.smallest)

    def joined(self, other: Bounds) -> Bounds:
        return Bounds(
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            min(self.smallest, other.smallest),
            max(self.decimals, other.decimals),
        )


@dataclass(frozen=True)
class Term:
    """A value: its kind, its SQL in the engine's words, and its bounds if it is a number.

    `length` is how many characters a text can have. A term without a kind is NULL.
    """

    kind: Kind | None
    sql: str
    bounds: Bounds = Bounds(0, 0)
    length: int = 0


def refused(what: str) -> InvalidQuery:
    """The refusal of something that could fail on one row, or means something else in the engine."""
    return refuse(
        f"{what} is not supported on this dataset: its rows stay in their database, where only what cannot fail on "
        "any row may be evaluated"
    )


def boolean(sql: str) -> Term:
    return Term(Kind.BOOLEAN, sql)


def expect(term: Term, kind: Kind, what: str) -> Term:
    """The term, if it is of that kind.

    Raises:
        InvalidQuery: it is not.
    """
    if term.kind is not kind:
        raise refuse(f"{what} needs {kind.told}, not {'NULL' if term.kind is None else term.kind.told}")
    return term


def of_column(name: str, column: Column) -> Term:
    """A column as the projection shows it."""
    match column:
        case NumericColumn(integer=True, lower=lower, upper=upper):
            return Term(Kind.DOUBLE if is_wide(column) else Kind.WHOLE, name, Bounds(lower, upper))
        case NumericColumn(lower=lower, upper=upper):
            return Term(Kind.DOUBLE, name, Bounds(lower, upper, SMALLEST))
        case CategoricalColumn(categories=categories, integer=True):
            numbers = [int(category) for category in categories]
            return Term(Kind.WHOLE, name, Bounds(min(numbers), max(numbers)))
        case BooleanColumn():
            return boolean(name)
        case DatetimeColumn():
            return Term(Kind.TIME, name)
        case _:
            return Term(Kind.TEXT, name, length=LONGEST_TEXT)


def is_null(node: Any) -> bool:
    return isinstance(node, Literal) and node.value is None


def of_literal(node: Literal, dialect: Dialect) -> Term:
    """A literal. A number with a point is exact, as in DuckDB.

    Raises:
        InvalidQuery: NULL, or a number beyond what can be bounded.
    """
    match node.value:
        case bool():
            return boolean(str(node.value).upper())
        case int() if abs(node.value) <= _LARGEST_WHOLE:
            return Term(Kind.WHOLE, dialect.whole.format(node.value), Bounds(node.value, node.value))
        case float():
            return _decimal(node.value)
        case str():
            return _quoted(node.value.replace("''", "'"), dialect)
        case None:
            raise refused("NULL beside other values; IS NULL is")
        case _:
            raise refused(f"a whole number beyond {_LARGEST_WHOLE}")


def _decimal(value: float) -> Term:
    written = str(value)
    if "e" in written:
        raise refused(f"the number {written}")
    exact: Any = Fraction(written)
    return Term(Kind.EXACT, written, Bounds(exact, exact, abs(value) or 1, len(written.partition(".")[2])))


LARGEST = 1e300
"""No double that an engine computes may be larger, nor, beside 0, smaller than its inverse: both raise somewhere."""


def _quoted(text: str, dialect: Dialect) -> Term:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise refuse("SQL must be valid Unicode")
    return Term(Kind.TEXT, dialect.quoted(text), length=len(text))


def alike(terms: Sequence[Term], nodes: Sequence[Any], dialect: Dialect) -> list[Term]:
    """The terms as one kind, so that they can be compared; a text that stands beside a time is read as one.

    Raises:
        InvalidQuery: they are of different kinds.
    """
    if any(term.kind is Kind.TIME for term in terms):
        terms = [_time(term, node, dialect) for term, node in zip(terms, nodes, strict=True)]
    return united(terms, dialect)


def _time(term: Term, node: Any, dialect: Dialect) -> Term:
    if term.kind is Kind.TIME or not (isinstance(node, Literal) and isinstance(node.value, str)):
        return term
    try:
        time = datetime.fromisoformat(node.value)
    except ValueError:
        raise refuse(f"{node.value} is no time, as 2024-12-31 or 2024-12-31 23:59:59") from None
    if time.tzinfo is not None:
        raise refuse("times have no zone")
    return Term(Kind.TIME, dialect.time.format(time.isoformat(" ")))


def united(terms: Sequence[Term | None], dialect: Dialect) -> list[Term]:
    """The terms as one kind; None is NULL.

    Raises:
        InvalidQuery: they are of different kinds.
    """
    kinds = {term.kind for term in terms if term is not None and term.kind is not None}
    if not kinds:
        raise refused("an expression that is always NULL")
    kind = max(kinds)
    if len(kinds) > 1 and not all(found.is_number for found in kinds):
        told = " and ".join(sorted({found.told for found in kinds}))
        raise refuse(f"{told} cannot stand beside each other")
    if kind is Kind.EXACT:
        # Side by side they get one type, in which each must keep all its digits.
        bounded(joined([term for term in terms if term is not None], ""))
    null = Term(None, "NULL")
    return [null if term is None else converted(term, kind, dialect) for term in terms]


def converted(term: Term, kind: Kind, dialect: Dialect) -> Term:
    """A number as a double where doubles are computed with; else as it is."""
    if kind is not Kind.DOUBLE or term.kind in (Kind.DOUBLE, None):
        return term
    return replace(term, kind=Kind.DOUBLE, sql=dialect.double.format(term.sql), bounds=term.bounds.doubled)


def joined(terms: Sequence[Term], sql: str) -> Term:
    """A value that is one of the terms."""
    known = [term for term in terms if term.kind is not None]
    first, *others = known
    bounds = first.bounds
    for other in others:
        bounds = bounds.joined(other.bounds)
    kind = max(term.kind for term in known if term.kind is not None)
    return Term(kind, sql, bounds, max(term.length for term in known))


def bounded(term: Term) -> Term:
    """The term, if its bounds are such that no engine fails to compute it.

    Raises:
        InvalidQuery: a value could be too large, or too close to 0.
    """
    bounds = term.bounds
    fits = {
        Kind.WHOLE: bounds.largest < 2**62,
        # Engines compute with 38 digits.
        Kind.EXACT: math.log10(max(bounds.largest, 1)) + bounds.decimals < 36,
        Kind.DOUBLE: bounds.largest <= LARGEST and bounds.smallest >= 1 / LARGEST,
        Kind.TEXT: term.length <= _LONGEST,
    }
    if term.kind is not None and not fits.get(term.kind, True):
        raise refused("an expression whose value could become too large, too small or too long")
    return term

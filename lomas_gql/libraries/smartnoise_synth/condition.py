"""Conditions on synthetic rows: a closed little language, so that no client text reaches an SQL engine.

    condition := conjunction (OR conjunction)*
    conjunction := negation (AND negation)*
    negation := NOT negation | "(" condition ")" | predicate
    predicate := column (= != <> < <= > >=) literal | column [NOT] IN (literal, …)
               | column [NOT] BETWEEN literal AND literal | column IS [NOT] NULL
    literal := number | 'text' | TRUE | FALSE

Nulls compare as in SQL: neither equal nor unequal. Columns in "double quotes" may hold spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import polars as pl

from lomas_gql.metadata import (
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    NumericColumn,
)

_MAX_LENGTH = 2_000
_MAX_TOKENS = 200
_MAX_DEPTH = 20
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![\w.])
    |(?P<text>'(?:[^']|'')*')|(?P<quoted>"[^"]+")|(?P<word>[^\W\d]\w*)
    |(?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "=": lambda cell, value: cell == value,
    "==": lambda cell, value: cell == value,
    "!=": lambda cell, value: cell != value,
    "<>": lambda cell, value: cell != value,
    "<": lambda cell, value: cell < value,
    "<=": lambda cell, value: cell <= value,
    ">": lambda cell, value: cell > value,
    ">=": lambda cell, value: cell >= value,
}
_EQUALITY = ("=", "==", "!=", "<>")


def parsed(condition: str, columns: Sequence[Column]) -> pl.Expr:
    """The Polars expression of `condition` over `columns`.

    Raises:
        ValueError: not a condition, or a column is compared with what it cannot hold. It may be shown.
    """
    if len(condition) > _MAX_LENGTH:
        raise ValueError(f"the condition is longer than {_MAX_LENGTH} characters")
    parser = _Parser(_tokens(condition), {column.name.casefold(): column for column in columns})
    expression = parser.condition()
    if parser.position < len(parser.tokens):
        raise ValueError(f"the condition should end before {parser.next_text()}")
    return expression


def _tokens(condition: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(condition.rstrip())
    while position < end:
        found = _TOKEN.match(condition, position)
        if found is None or found.lastgroup is None:
            raise ValueError(f"the condition cannot be read from character {position + 1} on")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        position = found.end()
    if len(tokens) > _MAX_TOKENS:
        raise ValueError(f"the condition has more than {_MAX_TOKENS} words and signs")
    return tokens


class _Parser:
    """Recursive descent over the tokens; `position` is the next one."""

    def __init__(self, tokens: list[tuple[str, str]], columns: Mapping[str, Column]) -> None:
        self.tokens = tokens
        self.columns = columns
        self.position = 0
        self.depth = 0

    def condition(self) -> pl.Expr:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError(f"the condition is nested more than {_MAX_DEPTH} deep")
        parts = [self._conjunction()]
        while self._take("OR"):
            parts.append(self._conjunction())
        self.depth -= 1
        return reduce(pl.Expr.or_, parts)

    def _conjunction(self) -> pl.Expr:
        parts = [self._negation()]
        while self._take("AND"):
            parts.append(self._negation())
        return reduce(pl.Expr.and_, parts)

    def _negation(self) -> pl.Expr:
        negated = False
        while self._take("NOT"):
            negated = not negated
        if self._take("("):
            expression = self.condition()
            self._expect(")")
        else:
            expression = self._predicate()
        return expression.not_() if negated else expression

    def _predicate(self) -> pl.Expr:
        column = self._column()
        cell = pl.col(column.name)
        if self._take("IS"):
            negated = self._take("NOT")
            self._expect("NULL")
            return cell.is_not_null() if negated else cell.is_null()
        negated = self._take("NOT")
        if self._take("IN"):
            expression = cell.is_in(self._list(column))
        elif self._take("BETWEEN"):
            low = self._literal(column, ordered=True)
            self._expect("AND")
            expression = (cell >= low) & (cell <= self._literal(column, ordered=True))
        elif not negated and (sign := self._sign()):
            return _COMPARE[sign](cell, self._literal(column, ordered=sign not in _EQUALITY))
        else:
            raise ValueError(f"after a column, {self.next_text()} is no comparison")
        return expression.not_() if negated else expression

    def _list(self, column: Column) -> list[Any]:
        self._expect("(")
        values = [self._literal(column, ordered=False)]
        while self._take(","):
            values.append(self._literal(column, ordered=False))
        self._expect(")")
        return values

    def _column(self) -> Column:
        kind, text = self._next()
        name = text.strip('"') if kind == "quoted" else text
        if kind not in ("word", "quoted") or name.casefold() not in self.columns:
            raise ValueError(f"{_shown(text)} is not among the synthesised columns")
        return self.columns[name.casefold()]

    def _literal(self, column: Column, *, ordered: bool) -> Any:
        kind, text = self._next()
        match column, kind:
            case NumericColumn() | CategoricalColumn(integer=True), "number":
                return float(text)
            case DatetimeColumn(), "text":
                return pl.lit(_time(text))
            case BooleanColumn(), "word" if text.casefold() in ("true", "false") and not ordered:
                return text.casefold() == "true"
            case CategoricalColumn(categories=categories, integer=False), "text" if not ordered:
                category = text[1:-1].replace("''", "'")
                if category in categories:
                    return category
                raise ValueError(f"{_shown(text)} is not a category of {column.name}")
        raise ValueError(f"{column.name} cannot be compared with {_shown(text)} in this way")

    def _sign(self) -> str | None:
        if self.position < len(self.tokens) and self.tokens[self.position][1] in _COMPARE:
            return self._next()[1]
        return None

    def _take(self, word: str) -> bool:
        if self.position < len(self.tokens):
            kind, text = self.tokens[self.position]
            if kind in ("word", "sign") and text.upper() == word:
                self.position += 1
                return True
        return False

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise ValueError(f"the condition needs {word} where it has {self.next_text()}")

    def _next(self) -> tuple[str, str]:
        if self.position >= len(self.tokens):
            raise ValueError("the condition ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def next_text(self) -> str:
        return _shown(self.tokens[self.position][1]) if self.position < len(self.tokens) else "its end"


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text[1:-1]).replace(tzinfo=None)
    except ValueError:
        raise ValueError(f"{_shown(text)} is not an ISO 8601 time") from None


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"

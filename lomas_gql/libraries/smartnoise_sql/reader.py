"""SmartNoise SQL's readers: over prepared rows in DuckDB, in place of the library's PandasReader, or in place."""

from __future__ import annotations

import copy
import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from snsql._ast import ast
from snsql._ast.tokens import Column, SqlExpr, Token
from snsql.sql._mechanisms.base import AdditiveNoiseMechanism
from snsql.sql.privacy import Mechanisms
from snsql.sql.private_reader import PrivateReader
from snsql.sql.reader.base import SqlReader

from lomas_gql.libraries.smartnoise_sql.completion import completed
from lomas_gql.libraries.smartnoise_sql.conditions import Replaced, asked
from lomas_gql.rows import Rows, RowsInPlace
from lomas_gql.words import Engine

if TYPE_CHECKING:
    from lomas_gql.libraries.smartnoise_sql.gate import Gated


class DuckDBReader(SqlReader):  # type: ignore[misc]
    """Executes the library's rewritten query on rows, in a form in which no row can make it fail."""

    ENGINE = "DuckDB"

    def __init__(self) -> None:
        super().__init__(self.ENGINE)
        self.rows: Rows | None = None
        self.gated: Gated | None = None

    def attach(self, rows: Rows, gated: Gated) -> None:
        self.rows, self.gated = rows, gated

    def _execute_ast(self, query: ast.Query, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        assert self.rows is not None
        assert self.gated is not None
        for where in query.find_nodes(ast.Where):
            where.condition = _Try(asked(where))
        names, found = self.rows.execute(str(query))
        return [tuple(names), *completed(query, self.gated, self.rows.metadata, found)]


def reader_of(rows: Rows | RowsInPlace, gated: Gated) -> SqlReader:
    """The reader that answers the gated query on these rows, wherever they are."""
    if isinstance(rows, Rows):
        reader = DuckDBReader()
        reader.attach(rows, gated)
        return reader
    from lomas_gql.libraries.smartnoise_sql.postgresql import InPostgresReader
    from lomas_gql.libraries.smartnoise_sql.spark import InSparkReader

    readers = {Engine.POSTGRESQL: InPostgresReader, Engine.SPARK: InSparkReader}
    return readers[rows.engine](rows, gated)


class OneQueryReader(PrivateReader):  # type: ignore[misc]
    """The library's reader, used for one query: what it made of an AST once stays, however often it is executed.

    Each execution draws its own noise; parsing and rewriting take longer than counting a million rows.
    """

    _rewritten: tuple[ast.Query, tuple[ast.Query, ast.Query]] | None = None

    def _rewrite_ast(self, query: ast.Query) -> tuple[ast.Query, ast.Query]:
        if self._rewritten is None or self._rewritten[0] is not query:
            subquery, outer = super()._rewrite_ast(query)
            for answered, symbol in zip(outer.select.namedExpressions, outer._select_symbols, strict=True):
                if symbol.expression.type() == "int" and not isinstance(answered.expression, Column):
                    answered.expression = _Rounded(answered.expression)
            self._rewritten = query, (subquery, outer)
        return self._rewritten[1]


class _Rounded(SqlExpr):  # type: ignore[misc]
    """A noisy whole number to the nearest one: the library cuts it off, by which a count is half too small."""

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    def children(self) -> list[Any]:
        return [self.expression]

    def evaluate(self, bindings: Any) -> Any:
        value = self.expression.evaluate(bindings)
        return round(value) if isinstance(value, float) and math.isfinite(value) else value


class ScaledMechanisms(Mechanisms):  # type: ignore[misc]
    """The library's mechanisms, each noise scale searched once: a query asks for the same ones many times."""

    def get_mechanism(self, sensitivity: float, stat: str, t: str) -> Any:
        mechanism = super().get_mechanism(sensitivity, stat, t)
        return mechanism and partial(_scaled_copy, mechanism)


def _scaled_copy(
    mechanism: Any,
    epsilon: float,
    *,
    delta: float,
    sensitivity: float,
    max_contrib: int,
) -> AdditiveNoiseMechanism:
    # A copy, since the library writes delta into the mechanism that counts keys.
    return copy.copy(_scaled(mechanism, epsilon, delta, sensitivity, max_contrib))


@lru_cache(maxsize=1024)
def _scaled(
    mechanism: Any,
    epsilon: float,
    delta: float,
    sensitivity: float,
    max_contrib: int,
) -> AdditiveNoiseMechanism:
    return mechanism(epsilon, delta=delta, sensitivity=sensitivity, max_contrib=max_contrib)


class _Try(Replaced):
    """DuckDB's TRY: null where the expression fails, so that a failure on one row is no answer about it."""

    def children(self) -> list[Any]:
        return [Token("TRY"), Token("("), self.asked, Token(")")]

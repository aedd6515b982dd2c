"""SmartNoise SQL's reader over prepared rows in DuckDB, in place of the library's PandasReader."""

from __future__ import annotations

import copy
import itertools
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from snsql._ast import ast
from snsql._ast.tokens import SqlExpr, Token
from snsql.sql._mechanisms.base import AdditiveNoiseMechanism
from snsql.sql.privacy import Mechanisms
from snsql.sql.private_reader import PrivateReader
from snsql.sql.reader.base import SqlReader

if TYPE_CHECKING:
    from lomas_gql.libraries.smartnoise_sql.gate import Gated
    from lomas_gql.rows import Rows


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
            where.condition = where.condition if isinstance(where.condition, _Try) else _Try(where.condition)
        names, found = self.rows.execute(str(query))
        return [tuple(names), *self._completed(query, found)]

    def _completed(self, query: ast.Query, found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """`found` in an order that no row decides; with public keys, one row for each combination of them.

        A group without rows has no values, which the library takes as 0 before it adds noise.
        """
        assert self.gated is not None
        assert self.rows is not None
        places = {s.expression.colname: i for i, s in enumerate(query._select_symbols) if s.is_grouping_column}
        names = self.rows.metadata.sql_names
        positions = [places[names[name]] for name in self.gated.grouping]
        if not positions:
            return found
        by_key = {tuple(row[i] for i in positions): row for row in found}
        if self.gated.keys is None:
            return [by_key[key] for key in sorted(by_key, key=_order)]
        width = len(query._select_symbols)
        return [by_key.get(key) or _empty(key, positions, width) for key in itertools.product(*self.gated.keys)]


class OneQueryReader(PrivateReader):  # type: ignore[misc]
    """The library's reader, used for one query: what it made of an AST once stays, however often it is executed.

    Each execution draws its own noise; parsing and rewriting take longer than counting a million rows.
    """

    _rewritten: tuple[ast.Query, tuple[ast.Query, ast.Query]] | None = None

    def _rewrite_ast(self, query: ast.Query) -> tuple[ast.Query, ast.Query]:
        if self._rewritten is None or self._rewritten[0] is not query:
            self._rewritten = query, super()._rewrite_ast(query)
        return self._rewritten[1]


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


class _Try(SqlExpr):  # type: ignore[misc]
    """DuckDB's TRY: null where the expression fails, so that a failure on one row is no answer about it."""

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    def children(self) -> list[Any]:
        return [Token("TRY"), Token("("), self.expression, Token(")")]


def _order(key: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, str(value)) for value in key]


def _empty(key: tuple[Any, ...], positions: list[int], width: int) -> tuple[Any, ...]:
    values = dict(zip(positions, key, strict=True))
    return tuple(values.get(i) for i in range(width))

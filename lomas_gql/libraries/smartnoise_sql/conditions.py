"""The gate for rows in place: which conditions an engine other than DuckDB may evaluate on rows, and in what form.

DuckDB has TRY; other engines raise where an expression fails on one row, and that would be an un-noised bit. So
here a condition is typed, its numbers are bounded by what metadata says of the columns, and only what cannot fail
on any row within these bounds passes. What the engine is sent is written anew from the typed tree: no text of a
client's reaches it but literals, quoted as the engine reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snsql._ast import ast
from snsql._ast.expressions import date, logical, numeric, string
from snsql._ast.tokens import Column, Literal, SqlExpr, Token

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.smartnoise_sql import numbers, terms, texts
from lomas_gql.libraries.smartnoise_sql.dialects import DIALECTS, Dialect
from lomas_gql.libraries.smartnoise_sql.gate import Gated, bare, refuse
from lomas_gql.libraries.smartnoise_sql.terms import Kind, Term
from lomas_gql.metadata import Metadata

_COMPARED = {"=", "<>", "!=", "<", "<=", ">", ">="}


class Replaced(SqlExpr):  # type: ignore[misc]
    """Stands where the library put a condition that was asked."""

    def __init__(self, asked: Any) -> None:
        self.asked = asked


class _Written(Replaced):
    """A condition in an engine's own SQL."""

    def __init__(self, asked: Any, sql: str) -> None:
        super().__init__(asked)
        self.sql = sql

    def children(self) -> list[Any]:
        return [Token(self.sql)]


def asked(where: ast.Where) -> Any:
    """The condition as the client asked it."""
    condition = where.condition
    return condition.asked if isinstance(condition, Replaced) else condition


def write_conditions(query: ast.Query, gated: Gated, metadata: Metadata) -> None:
    """Puts conditions into `query` that are total on the metadata's rows in its engine.

    Raises:
        InvalidQuery: a part of one could fail on a row, or would not mean the same there.
    """
    for where in query.find_nodes(ast.Where):
        condition = asked(where)
        try:
            written = _Writer(metadata).condition(condition)
        except InvalidQuery as error:
            raise refuse(gated.told(error.message)) from None
        except RecursionError:
            raise refuse("SQL is nested too deeply") from None
        where.condition = _Written(condition, written.sql)


class _Writer:
    """Types an expression and writes it in the SQL of the metadata's engine."""

    def __init__(self, metadata: Metadata) -> None:
        self.dialect: Dialect = DIALECTS[metadata.engine]
        self.columns: Mapping[str, Term] = {
            name: terms.of_column(name, metadata.by_name[column]) for column, name in metadata.sql_names.items()
        }

    def condition(self, node: Any) -> Term:
        """A condition, which is a boolean."""
        match node:
            case logical.NestedBoolean():
                return self.condition(node.expression)
            case logical.LogicalNot():
                return terms.boolean(f"(NOT {self.condition(node.expression).sql})")
            case logical.BooleanCompare() if str(node.op).upper() in ("AND", "OR"):
                left, right = self.condition(node.left), self.condition(node.right)
                return terms.boolean(f"({left.sql} {str(node.op).upper()} {right.sql})")
            case logical.BooleanCompare():
                return self._comparison(node)
            case logical.PredicatedExpression():
                return self._predicate(node)
            case logical.ColumnBoolean():
                return terms.expect(self.expression(node.expression), Kind.BOOLEAN, "a condition")
            case _:
                raise terms.refused(f"the condition {node}")

    def _comparison(self, node: logical.BooleanCompare) -> Term:
        if str(node.op) not in _COMPARED:
            raise terms.refused(f"the comparison {node.op}")
        left, right = self._alike([node.left, node.right])
        operator = "<>" if str(node.op) == "!=" else str(node.op)
        return terms.boolean(f"({left.sql} {operator} {right.sql})")

    def _predicate(self, node: logical.PredicatedExpression) -> Term:
        predicate = node.predicate
        no = "NOT " if predicate.is_not else ""
        match predicate:
            case logical.InCondition():
                value, *members = self._alike([node.expression, *predicate.expressions.seq])
                return terms.boolean(f"({value.sql} {no}IN ({', '.join(member.sql for member in members)}))")
            case logical.BetweenCondition():
                value, lower, upper = self._alike([node.expression, predicate.lower, predicate.upper])
                return terms.boolean(f"({value.sql} {no}BETWEEN {lower.sql} AND {upper.sql})")
            case logical.IsCondition():
                return self._is(node.expression, predicate.value.value, no)
            case _:
                raise terms.refused(f"the condition {node}")

    def _is(self, node: Any, value: object, no: str) -> Term:
        tested = self.expression(node)
        if value is not None:
            terms.expect(tested, Kind.BOOLEAN, "IS TRUE and IS FALSE")
        return terms.boolean(f"({tested.sql} IS {no}{'NULL' if value is None else str(value).upper()})")

    def expression(self, node: Any) -> Term:
        """A value."""
        match node:
            case Column():
                return self.columns[bare(node.name)]
            case Literal():
                return terms.of_literal(node, self.dialect)
            case ast.NestedExpression():
                return self.expression(node.expression)
            case numeric.ArithmeticExpression():
                return numbers.arithmetic(node, self.expression, self.dialect)
            case numeric.MathFunction():
                return numbers.function(str(node.name).upper(), self.expression(node.expression), self.dialect)
            case logical.CaseExpression():
                return self._case(node)
            case string.CoalesceFunction():
                values = terms.united(self._values(node.expressions), self.dialect)
                return terms.joined(values, f"COALESCE({', '.join(value.sql for value in values)})")
            case date.ExtractFunction() | date.DayNameFunction():
                return self._of_time(node)
            case _:
                return texts.function(node, self.expression, self.dialect)

    def _case(self, node: logical.CaseExpression) -> Term:
        if node.expression is None:
            base, tests = "", [self.condition(when.expression) for when in node.when_exprs]
        else:
            first, *tests = self._alike([node.expression, *(when.expression for when in node.when_exprs)])
            base = f" {first.sql}"
        otherwise = [] if node.else_expr is None else [node.else_expr]
        values = terms.united(self._values([*(when.then for when in node.when_exprs), *otherwise]), self.dialect)
        cases = " ".join(f"WHEN {test.sql} THEN {value.sql}" for test, value in zip(tests, values, strict=False))
        last = f" ELSE {values[-1].sql}" if otherwise else ""
        return terms.joined(values, f"(CASE{base} {cases}{last} END)")

    def _of_time(self, node: Any) -> Term:
        time = terms.expect(self.expression(node.expression), Kind.TIME, "parts of a time")
        if isinstance(node, date.DayNameFunction):
            return Term(Kind.TEXT, self.dialect.day_name.format(time.sql), length=9)
        part = str(node.date_part).upper()
        return numbers.part_of_time(self.dialect.parts[part].format(time.sql))

    def _values(self, found: list[Any]) -> list[Term | None]:
        """The terms of results, None for NULL."""
        return [None if terms.is_null(node) else self.expression(node) for node in found]

    def _alike(self, found: list[Any]) -> list[Term]:
        """Terms that can be compared with each other; a text beside a time is read as one."""
        return terms.alike([self.expression(node) for node in found], found, self.dialect)

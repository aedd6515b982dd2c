"""The gate before SmartNoise SQL: which SQL may pass, read from the library's own syntax tree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snsql._ast import ast
from snsql._ast.expressions import date, logical, numeric, string, types
from snsql._ast.expressions import sql as nodes
from snsql._ast.tokens import Column, Identifier, Literal, Seq, Sql, Token
from snsql.sql.parse import QueryParser
from snsql.sql.parser.SqlSmallLexer import SqlSmallLexer

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import first_line
from lomas_gql.metadata import TABLE, Key, Metadata

MAX_LENGTH = 10_000
MAX_NESTING = 50
MAX_GROUPS = 10_000

_IDENTIFIER = re.compile(r'(?:df\.)?(\w+|"[^"`\[\]]+")')

_REFUSED: dict[type, str] = {
    ast.AliasedSubquery: "sub-queries",
    ast.AliasedRelation: "sub-queries",
    ast.Join: "joins",
    nodes.RankingFunction: "ranking functions",
    nodes.OverClause: "window functions",
    numeric.BareFunction: "functions without arguments (RANDOM, NEWID, PI)",
    date.CurrentTimeFunction: "the current time",
    date.CurrentDateFunction: "the current date",
    date.CurrentTimestampFunction: "the current time",
    # A cast that fails on one person's value would be an un-noised bit.
    types.CastFunction: "casts",
}

_ALLOWED: tuple[type, ...] = (
    *(ast.Query, ast.Select, ast.From, ast.Where, ast.Aggregate, ast.Having, ast.Order, ast.Limit, ast.Top),
    *(ast.Relation, ast.Table, ast.NamedExpression, ast.NestedExpression, Seq, Column, Literal),
    *(nodes.AllColumns, nodes.AggFunction, nodes.GroupingExpression, nodes.SortItem),
    *(numeric.ArithmeticExpression, numeric.MathFunction, numeric.PowerFunction),
    *(numeric.RoundFunction, numeric.TruncFunction),
    *(logical.BooleanCompare, logical.ColumnBoolean, logical.NestedBoolean, logical.LogicalNot),
    *(logical.PredicatedExpression, logical.InCondition, logical.BetweenCondition, logical.IsCondition),
    *(logical.CaseExpression, logical.WhenExpression, logical.ChooseFunction, logical.IIFFunction),
    *(string.LowerFunction, string.UpperFunction, string.TrimFunction, string.CharLengthFunction),
    *(string.PositionFunction, string.SubstringFunction, string.ConcatFunction, string.CoalesceFunction),
    *(date.DayNameFunction, date.ExtractFunction),
)


@dataclass(frozen=True)
class Gated:
    """SQL that passed: its tree in internal names, the analyst's headings, and what it groups by.

    `keys` are the public keys of the grouping columns, if all have some. `names` gives each internal name's own.
    """

    query: ast.Query
    headings: tuple[str, ...]
    grouping: tuple[str, ...]
    keys: tuple[tuple[Key, ...], ...] | None
    names: Mapping[str, str]

    @property
    def censors(self) -> bool:
        """Whether rare groups are dropped by a noisy threshold, since which groups exist is private."""
        return bool(self.grouping) and self.keys is None

    def told(self, text: str) -> str:
        """A text of the library's, in the analyst's names."""
        return re.sub(r"(?<![A-Za-z0-9])c\d+\b", lambda found: self.names.get(found[0], found[0]), text)


def refuse(message: str) -> InvalidQuery:
    return InvalidQuery.at("query", "smartnoiseSql", "sql", message=message)


def gate(sql: str, metadata: Metadata) -> Gated:
    """Parses `sql` and checks that each part of it may pass.

    Raises:
        InvalidQuery: with the first thing that may not.
    """
    _check_text(sql)
    query = _parse(sql, metadata)
    for node in _descendants(query):
        _check_node(node)
    _check_source(query)
    if isinstance(query.select.quantifier, Token):
        raise refuse(f"SELECT {query.select.quantifier} is not supported; use GROUP BY")
    for part in (query.where, query.agg):
        _check_columns(part, metadata)
    grouping = _grouping(query, metadata)
    keys = _keys(grouping, metadata)
    headings = _renamed(query, metadata)
    return Gated(query, headings, grouping, keys, {internal: name for name, internal in metadata.sql_names.items()})


def bare(identifier: str) -> str:
    """An identifier without its quotes and without a table's name before it."""
    found = _IDENTIFIER.fullmatch(identifier)
    return found[1].strip('"') if found else identifier


def _renamed(query: ast.Query, metadata: Metadata) -> tuple[str, ...]:
    """Gives columns and headings names that every engine reads alike; returns the analyst's headings.

    The library loses the value of a quoted name, and reads words of SQL where a name stands unquoted.
    """
    expressions = query.select.namedExpressions
    headings = tuple(bare(str(asked.name or asked.expression)) for asked in expressions)
    aliases = {bare(str(asked.name)): f"answer{i}" for i, asked in enumerate(expressions) if asked.name is not None}
    for part in (query.select, query.where, query.agg):
        _rename(part, metadata.sql_names)
    for part in (query.having, query.order):
        _rename(part, dict(metadata.sql_names) | aliases)
    for asked in expressions:
        if asked.name is not None:
            asked.name = Identifier(aliases[bare(str(asked.name))])
    return headings


def _rename(part: Any, names: Mapping[str, str]) -> None:
    for node in _descendants(part):
        if isinstance(node, Column):
            node.name = names.get(bare(node.name), node.name)


def _check_text(sql: str) -> None:
    if len(sql) > MAX_LENGTH:
        raise refuse(f"SQL can have at most {MAX_LENGTH} characters")
    # The library ends a string at \' later than the engine does: what it reads as one literal, the engine
    # would read as a literal and more SQL.
    if "\\" in sql or re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", sql):
        raise refuse("SQL cannot hold backslashes, control characters or halves of a character")
    depth = 0
    for character in sql:
        depth += (character == "(") - (character == ")")
        if depth > MAX_NESTING:
            raise refuse(f"SQL can nest at most {MAX_NESTING} parentheses")
    if len(re.findall(r"\bNOT\b|\bCASE\b", sql, re.IGNORECASE)) > MAX_NESTING:
        raise refuse(f"SQL can have at most {MAX_NESTING} of NOT and CASE each")


def _parse(sql: str, metadata: Metadata) -> ast.Query:
    try:
        queries = QueryParser().queries(sql)
    except RecursionError:
        raise refuse("SQL is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 (the parser has no error type of its own, and sees no rows)
        words = [name for name in metadata.by_name if name.upper() in SqlSmallLexer.symbolicNames]
        hint = f"; names that are words of SQL stand in double quotes: {', '.join(words)}" if words else ""
        raise refuse(first_line(error) + hint) from None
    if len(queries) != 1:
        raise refuse("give one SELECT")
    return queries[0]


def _descendants(node: Any) -> list[Any]:
    found: dict[int, Any] = {}
    waiting: list[Any] = [node]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in found:
            continue
        found[id(current)] = current
        if isinstance(current, Sql):
            waiting.extend(current.children())
            # Attributes too: a node that keeps a part out of children() must not smuggle it past us.
            waiting.extend(v for k, v in vars(current).items() if isinstance(v, Sql) and not k.startswith("_"))
    return list(found.values())


def _check_node(node: Any) -> None:
    if type(node) in _REFUSED:
        raise refuse(f"{_REFUSED[type(node)]} are not supported")
    if isinstance(node, str | int | float) or node is None:
        return
    if not isinstance(node, _ALLOWED):
        raise refuse(f"{type(node).__name__} is not supported")
    if isinstance(node, Column) and not _IDENTIFIER.fullmatch(node.name):
        raise refuse(f"write column names plainly or in double quotes: {node.name}")
    if isinstance(node, Literal) and isinstance(node.value, float) and not math.isfinite(node.value):
        raise refuse("numbers must be finite")
    if isinstance(node, ast.Limit | ast.Top) and not 0 <= node.n < 2**63:
        raise refuse("LIMIT takes a whole number from 0")
    if isinstance(node, nodes.AggFunction):
        _check_aggregate(node)


def _check_aggregate(node: nodes.AggFunction) -> None:
    if node.name in ("MIN", "MAX", "PERCENTILE_DISC", "PERCENTILE_CONT", "STDEV"):
        raise refuse(f"{node.name} has no differentially private form here; use COUNT, SUM, AVG, VAR or STDDEV")
    if isinstance(node.expression, nodes.AllColumns) and node.name != "COUNT":
        raise refuse(f"{node.name} needs a column")


def _check_source(query: ast.Query) -> None:
    relations = query.source.relations
    names = [str(r.primary.name) for r in relations if isinstance(r.primary, ast.Table)]
    if names != [TABLE] or any(list(relation.joins) for relation in relations):
        raise refuse(f"SELECT from the one table {TABLE}")
    if relations[0].primary.alias is not None:
        raise refuse(f"the table {TABLE} takes no alias")


def _check_columns(part: Any, metadata: Metadata) -> None:
    """What the engine evaluates on rows may name only the metadata's columns, and aggregate nothing."""
    for node in _descendants(part):
        if isinstance(node, Column) and bare(node.name) not in metadata.by_name:
            raise refuse(f"there is no column {bare(node.name)}")
        if isinstance(node, nodes.AggFunction | nodes.AllColumns):
            raise refuse("aggregates stand in SELECT, HAVING or ORDER BY")


def _grouping(query: ast.Query, metadata: Metadata) -> tuple[str, ...]:
    if query.agg is None:
        return ()
    names = []
    for expression in query.agg.groupingExpressions:
        if not isinstance(expression.expression, Column):
            raise refuse("GROUP BY takes columns, not expressions")
        names.append(bare(expression.expression.name))
    if metadata.private_id in names:
        raise refuse(f"{metadata.private_id} says who an individual is; it cannot be grouped by")
    if len(set(names)) != len(names):
        raise refuse("GROUP BY names a column twice")
    return tuple(names)


def _keys(grouping: tuple[str, ...], metadata: Metadata) -> tuple[tuple[Key, ...], ...] | None:
    keys = tuple(k for name in grouping if (k := metadata.by_name[name].keys) is not None)
    if len(keys) < len(grouping):
        return None
    if math.prod(len(k) for k in keys) > MAX_GROUPS:
        raise refuse(f"GROUP BY can make at most {MAX_GROUPS} combinations of categories")
    return keys

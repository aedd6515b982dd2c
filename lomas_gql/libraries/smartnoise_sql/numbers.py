"""Arithmetic on rows in place: with bounds that show that nothing overflows, underflows or is divided by 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snsql._ast.expressions.numeric import ArithmeticExpression

from lomas_gql.libraries.smartnoise_sql.dialects import Dialect
from lomas_gql.libraries.smartnoise_sql.gate import refuse
from lomas_gql.libraries.smartnoise_sql.terms import Bounds, Kind, Term, bounded, converted, refused, united

# The spacing of doubles next to 1: what cancels in a sum of doubles leaves no less of the smaller one.
_SPACING = 2.0**-53
_LARGEST_FLOOR = 2.0**62
_STRENGTH = {"*": 2, "/": 2, "%": 2, "+": 1, "-": 1}


def arithmetic(node: ArithmeticExpression, write: Callable[[Any], Term], dialect: Dialect) -> Term:
    """A chain of operations, in SQL's order: the library's parser reads `a - b + c` as `a - (b + c)`.

    Raises:
        InvalidQuery: an operand is no number, or a result could not be computed for some row.
    """
    operands, operators = _chain(node)
    values = [_number(write(operand)) for operand in operands]
    for strength in (2, 1):
        left, *rest = values
        values, waiting = [left], []
        for operator, right in zip(operators, rest, strict=True):
            if _STRENGTH[operator] == strength:
                values[-1] = _operation(values[-1], operator, right, dialect)
            else:
                waiting.append(operator)
                values.append(right)
        operators = waiting
    return values[0]


def _chain(node: Any) -> tuple[list[Any], list[str]]:
    """Operands and operators as they are written: what stands in parentheses is one operand."""
    if not isinstance(node, ArithmeticExpression):
        return [node], []
    left, before = _chain(node.left)
    right, after = _chain(node.right)
    return left + right, [*before, str(node.op), *after]


def _number(term: Term) -> Term:
    if term.kind is None or not term.kind.is_number:
        raise refuse("arithmetic needs numbers")
    return term


def _operation(left: Term, operator: str, right: Term, dialect: Dialect) -> Term:
    if operator == "/":
        left, right = (converted(term, Kind.DOUBLE, dialect) for term in (left, right))
    left, right = united([left, right], dialect)
    assert left.kind is not None
    kind = left.kind if left.kind is right.kind else Kind.EXACT
    if operator in "/%" and right.bounds.lowest <= 0 <= right.bounds.highest:
        raise refused(f"{operator} by what metadata does not keep from 0")
    if operator == "%" and kind is not Kind.WHOLE:
        raise refused("% of numbers that are not whole")
    bounds = _BOUNDS[operator](left.bounds, right.bounds)
    return bounded(Term(kind, f"({left.sql} {operator} {right.sql})", bounds))


def _sum(left: Bounds, right: Bounds) -> Bounds:
    decimals = max(left.decimals, right.decimals)
    # Of exact numbers, a last digit may be all that is left.
    smallest = min(min(left.smallest, right.smallest) * _SPACING, 10.0**-decimals)
    return Bounds(left.lowest + right.lowest, left.highest + right.highest, smallest, decimals)


def _difference(left: Bounds, right: Bounds) -> Bounds:
    return _sum(left, Bounds(-right.highest, -right.lowest, right.smallest, right.decimals))


def _product(left: Bounds, right: Bounds) -> Bounds:
    corners = [a * b for a in (left.lowest, left.highest) for b in (right.lowest, right.highest)]
    smallest = left.smallest * right.smallest
    return Bounds(min(corners), max(corners), smallest, left.decimals + right.decimals)


def _quotient(left: Bounds, right: Bounds) -> Bounds:
    least = max(min(abs(right.lowest), abs(right.highest)), right.smallest)
    largest = left.largest / least
    return Bounds(-largest, largest, left.smallest / right.largest)


def _remainder(left: Bounds, right: Bounds) -> Bounds:
    return Bounds(-right.largest, right.largest)


_BOUNDS = {"+": _sum, "-": _difference, "*": _product, "/": _quotient, "%": _remainder}


def function(name: str, argument: Term, dialect: Dialect) -> Term:
    """ABS, SIGN, FLOOR or CEIL of a number.

    Raises:
        InvalidQuery: another function; it may have no value for some row, or round otherwise than DuckDB.
    """
    bounds = _number(argument).bounds
    kind = argument.kind
    match name:
        case "ABS":
            lowest = 0 if bounds.lowest <= 0 <= bounds.highest else min(abs(bounds.lowest), abs(bounds.highest))
            absolute = Bounds(lowest, bounds.largest, bounds.smallest, bounds.decimals)
            return Term(kind, f"ABS({argument.sql})", absolute)
        case "SIGN":
            return Term(Kind.WHOLE, f"CAST(SIGN({argument.sql}) AS BIGINT)", Bounds(-1, 1))
        case "FLOOR" | "CEIL" | "CEILING" if kind is Kind.DOUBLE and bounds.largest < _LARGEST_FLOOR:
            # Some engines make a whole number of it.
            sql = dialect.double.format(f"{name}({argument.sql})")
            return Term(kind, sql, Bounds(bounds.lowest - 1, bounds.highest + 1))
        case _:
            raise refused(f"{name} of such a number")


def part_of_time(sql: str) -> Term:
    """A part of a time, as a whole number."""
    return Term(Kind.WHOLE, sql, Bounds(0, 60_000_000))

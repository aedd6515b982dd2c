"""Texts on rows in place: bounded in length, since an engine fails on a text that is too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snsql._ast.expressions import string
from snsql._ast.tokens import Literal

from lomas_gql.libraries.smartnoise_sql.dialects import Dialect
from lomas_gql.libraries.smartnoise_sql.terms import Bounds, Kind, Term, bounded, expect, refused

_NAMES: dict[type, str] = {
    string.LowerFunction: "LOWER",
    string.UpperFunction: "UPPER",
    string.TrimFunction: "TRIM",
    string.CharLengthFunction: "CHAR_LENGTH",
    string.PositionFunction: "POSITION",
    string.SubstringFunction: "SUBSTRING",
    string.ConcatFunction: "CONCAT",
}


def function(node: Any, write: Callable[[Any], Term], dialect: Dialect) -> Term:
    """A function of texts.

    Raises:
        InvalidQuery: the engine has none that is total and means the same, or an argument is no text.
    """
    name = _NAMES.get(type(node), "")
    form = dialect.texts.get(name)
    if form is None:
        raise refused(name or str(node))

    def written(argument: Any) -> Term:
        return expect(write(argument), Kind.TEXT, name)

    match node:
        case string.PositionFunction():
            searched, source = written(node.search), written(node.source)
            return Term(Kind.WHOLE, form.format(searched.sql, source.sql), Bounds(0, source.length + 1))
        case string.SubstringFunction():
            return _substring(node, form, written(node.source))
        case string.ConcatFunction():
            parts = [written(part) for part in node.expressions]
            sql = form.format(", ".join(part.sql for part in parts))
            return bounded(Term(Kind.TEXT, sql, length=sum(part.length for part in parts)))
        case string.CharLengthFunction():
            text = written(node.expression)
            return Term(Kind.WHOLE, form.format(text.sql), Bounds(0, text.length))
        case _:
            text = written(node.expression)
            # The upper case of one character can be three.
            return bounded(Term(Kind.TEXT, form.format(text.sql), length=3 * text.length))


def _substring(node: string.SubstringFunction, form: str, source: Term) -> Term:
    start, length = (
        part.value if isinstance(part, Literal) else None
        for part in (node.start, node.length or Literal(source.length))
    )
    if not (isinstance(start, int) and isinstance(length, int) and 1 <= start < 2**31 and 0 <= length < 2**30):
        raise refused("SUBSTRING but FROM a whole number from 1 on FOR one that is not negative")
    return Term(Kind.TEXT, form.format(source.sql, start, length), length=min(length, source.length))

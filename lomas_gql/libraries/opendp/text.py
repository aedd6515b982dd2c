"""What both forms of an OpenDP query share: reading a client's JSON, and saying why it is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import first_line

DEPTH = 200
TEXT_LENGTH = 1_000
LIST_LENGTH = 10_000
# OpenDP and Polars hold integers in 64 bits with a sign; ctypes would wrap a longer one in silence.
INTEGER_LIMIT = 2**63

_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,60}", re.ASCII)


def refused(field: str, message: str) -> InvalidQuery:
    """The refusal of the input field `field` (camelCase, as clients see it)."""
    return InvalidQuery.at("query", "opendp", field, message=message)


def parsed(text: str, field: str, limit: int) -> Any:
    """The JSON value of `text`.

    Raises:
        InvalidQuery: more than `limit` characters, not JSON, NaN or Infinity in it, or nested too deeply.
    """
    if len(text) > limit:
        raise refused(field, f"it is longer than {limit:,} characters")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise refused(field, "it is not JSON (NaN and Infinity are not either), or nested too deeply") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH:
            raise refused(field, f"it is nested more than {DEPTH} levels deep")
        level = [child for item in level for child in _children(item)]
    return value


@contextmanager
def building(field: str) -> Iterator[None]:
    """Turns what a library raises into a refusal with the first line of its message.

    Only for code that has seen no rows: the message then speaks of public things.
    """
    try:
        yield
    except InvalidQuery:
        raise
    except Exception as error:  # noqa: BLE001 (whatever a library raises here is about the client's text)
        raise refused(field, f"OpenDP refuses it: {first_line(error)}") from None
    except BaseException as error:
        # A panic in Rust comes as a BaseException of pyo3's, which is not importable.
        if type(error).__name__ != "PanicException":
            raise
        raise refused(field, "OpenDP cannot build it") from None


def shown(name: object) -> str:
    """`name` for a message, if it is an identifier; anything else of the client's is not repeated."""
    return name if isinstance(name, str) and _IDENTIFIER.fullmatch(name) else "something unnamed"


def is_number(value: object) -> bool:
    """Whether `value` is a finite number that 64 bits can hold; true and false are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < INTEGER_LIMIT if isinstance(value, int) else math.isfinite(value)


def is_text(value: object) -> bool:
    """Whether `value` is a short string that survives the way into Rust (valid UTF-8, without NUL)."""
    if not isinstance(value, str) or len(value) > TEXT_LENGTH or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)

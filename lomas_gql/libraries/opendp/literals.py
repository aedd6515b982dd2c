"""The leaves of a Polars plan's JSON: nodes, lists and constants, none of which Polars reads itself."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.opendp import text as texts
from lomas_gql.libraries.opendp.text import LIST_LENGTH, is_number, is_text, shown

FIELD = "polarsPlan"
INTEGERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
_NUMBERS = {"Int", "Float", "Float32", "Float64", *INTEGERS}


def refused(message: str) -> InvalidQuery:
    return texts.refused(FIELD, message)


def node(value: Any) -> tuple[str, Any]:
    """The name and the body of a node: {name: body}, or a name alone."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict) and len(value) == 1:
        return next(iter(value.items()))
    raise refused("it is not what Polars 1.32 writes")


def fields(body: Any, *names: str) -> tuple[Any, ...]:
    """The values of exactly `names` in an object."""
    if not isinstance(body, dict) or body.keys() != set(names):
        raise refused(f"it is not what Polars 1.32 writes: expected {', '.join(names)}")
    return tuple(body[name] for name in names)


def items(value: Any, limit: int = LIST_LENGTH) -> list[Any]:
    if not isinstance(value, list) or len(value) > limit:
        raise refused(f"a list of at most {limit:,} belongs there")
    return value


def text(value: Any) -> str:
    if not is_text(value) or not value:
        raise refused("a short text belongs there")
    return str(value)


def constant_of(body: Any) -> Any:
    """The Python value of a literal: a number, a text, a boolean, or a list of numbers or texts."""
    kind, value = node(body)
    if kind in ("Dyn", "Scalar"):
        kind, value = node(value)
    if kind in ("Series", "List"):
        return _series(value)
    if kind == "Boolean" and isinstance(value, bool):
        return value
    if kind in ("String", "Str") and is_text(value):
        return value
    if kind in _NUMBERS and is_number(value):
        return float(value) if kind.startswith("Float") else value
    raise refused(f"a literal {shown(kind)} is not accepted (NaN, infinities, dates and long integers neither)")


def _series(value: Any) -> list[Any]:
    """Reads an Arrow stream of one column with Arrow's own, fully validated reader."""
    octets = items(value, limit=40 * LIST_LENGTH)
    try:
        table = pa.ipc.open_stream(io.BytesIO(bytes(octets))).read_all()
        table.validate(full=True)
    except (TypeError, ValueError, OSError, pa.ArrowException, MemoryError):
        raise refused("a series cannot be read") from None
    if table.num_columns != 1 or not 0 < table.num_rows <= LIST_LENGTH:
        raise refused(f"a series needs one column of at most {LIST_LENGTH:,} values")
    values = table.column(0).to_pylist()
    if not (all(map(is_number, values)) or all(map(is_text, values))):
        raise refused("a series needs finite numbers, or short texts, and no nulls")
    return list(values)


def number(value: Any) -> Any:
    kind, body = node(value)
    constant = constant_of(body) if kind == "Literal" else None
    if not is_number(constant):
        raise refused("a finite number belongs there")
    return constant


def numbers(value: Any) -> list[Any]:
    kind, body = node(value)
    constant = constant_of(body) if kind == "Literal" else None
    if not isinstance(constant, list) or not all(map(is_number, constant)):
        raise refused("a series of numbers belongs there")
    return constant


def literal(value: Any) -> Any:
    kind, body = node(value)
    if kind != "Literal":
        raise refused("a constant belongs there")
    return constant_of(body)

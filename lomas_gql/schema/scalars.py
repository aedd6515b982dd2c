"""Scalars: JSON values and times."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, NewType

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

from lomas_gql.libraries.base import json_value

JSON = NewType("JSON", object)


def _parsed(value: Any) -> Any:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise GraphQLError("JSON cannot represent NaN or an infinity")
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
    return value


def _literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
    return _parsed(value_from_ast_untyped(node, variables))


_JSON = strawberry.scalar(
    name="JSON",
    description="Any JSON value. NaN and infinities never appear, in either direction.",
    serialize=json_value,
    parse_value=_parsed,
    parse_literal=_literal,
)

_DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="A time in ISO 8601. When something happened is in UTC (+00:00); a column's bound has no zone.",
    serialize=datetime.isoformat,
    parse_value=datetime.fromisoformat,
)

SCALARS: dict[object, ScalarDefinition] = {JSON: _JSON, datetime: _DATE_TIME}
"""What stands for a Python type in the schema."""

"""The JSON scalar: any JSON value, in which NaN and infinities never appear, in either direction."""

from __future__ import annotations

import math
from typing import Any, NewType

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped

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


JSON_SCALAR = strawberry.scalar(
    name="JSON",
    description="Any JSON value. NaN and infinities never appear, in either direction.",
    serialize=json_value,
    parse_value=_parsed,
    parse_literal=_literal,
)

"""How answers are completed: tables as they are, and no more of them than one response may hold."""

from __future__ import annotations

from typing import Any

from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from lomas_gql.errors import LimitExceeded
from lomas_gql.schema.limits import MAX_ANSWER_VALUES


class Completion(StrawberryGraphQLCoreExecutionContext):
    """Completes one response, or one event of a subscription.

    The rows of a table are JSON already, and pass as one leaf: cell by cell, a sample takes a second. Aliases
    repeat tables and JSON for a few characters each, so their values are counted where they are written.
    """

    values = 0

    def complete_list_value(self, return_type: Any, fields: Any, info: Any, path: Any, result: Any, at: Any) -> Any:
        if info.field_name == "rows" and info.parent_type.name == "Table":
            self._count(sum(map(len, result)))
            return result
        return super().complete_list_value(return_type, fields, info, path, result, at)

    def complete_leaf_value(self, return_type: Any, result: Any) -> Any:  # type: ignore[override]
        if isinstance(result, dict | list | tuple):
            self._count(_values_in(result))
        return super().complete_leaf_value(return_type, result)

    def _count(self, values: int) -> None:
        # What reaches the limit passes whole: a table or value of any size can be had on its own.
        if self.values >= MAX_ANSWER_VALUES:
            message = f"One answer may have {MAX_ANSWER_VALUES} values in tables and JSON."
            raise LimitExceeded(message, "MAX_ANSWER_VALUES_EXCEEDED")
        self.values += values


def _values_in(value: object) -> int:
    """How many values are in a JSON value, at all levels."""
    found, waiting = 0, [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            inner = list(inner.values())
        if isinstance(inner, list | tuple):
            found += len(inner)
            waiting.extend(inner)
    return found

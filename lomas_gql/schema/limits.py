"""What one operation may ask for, measured before it runs, in time linear in the document's length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

MAX_DEPTH = 15
MAX_FIELDS = 250
MAX_ALIASES = 15
MAX_MUTATIONS = 5
MAX_TOKENS = 10_000


@dataclass(frozen=True)
class Size:
    """How much a selection asks for, its fragments expanded."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    roots: int = 0

    def beside(self, other: Size) -> Size:
        return Size(
            max(self.depth, other.depth),
            self.fields + other.fields,
            self.aliases + other.aliases,
            self.roots + other.roots,
        )


class LimitsRule(ValidationRule):
    """One rule for all limits. Each fragment is measured once, however often it is spread."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.fragments: dict[str, Size] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        size = self._size(node.selection_set, frozenset())
        limits = [("depth", size.depth, MAX_DEPTH), ("fields", size.fields, MAX_FIELDS)]
        limits.append(("aliases", size.aliases, MAX_ALIASES))
        if node.operation is OperationType.MUTATION:
            limits.append(("mutations", size.roots, MAX_MUTATIONS))
        for what, found, most in limits:
            if found > most:
                code = f"MAX_{what.upper()}_EXCEEDED"
                message = f"The operation has {what} of {min(found, 10**9)}; at most {most} is allowed."
                self.report_error(GraphQLError(message, node, extensions={"code": code}))

    def _size(self, selections: SelectionSetNode, within: frozenset[str]) -> Size:
        size = Size()
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                size = size.beside(self._field(selection, within))
            elif isinstance(selection, FragmentSpreadNode):
                size = size.beside(self._fragment(selection.name.value, within))
            else:
                size = size.beside(self._size(selection.selection_set, within))  # type: ignore[attr-defined]
        return size

    def _field(self, node: FieldNode, within: frozenset[str]) -> Size:
        inner = self._size(node.selection_set, within) if node.selection_set else Size()
        aliased = node.alias is not None
        return Size(inner.depth + 1, inner.fields + 1, inner.aliases + aliased, 1)

    def _fragment(self, name: str, within: frozenset[str]) -> Size:
        if name in within:
            return Size()  # a cycle, which another rule refuses
        if name not in self.fragments:
            fragment = self.context.get_fragment(name)
            self.fragments[name] = self._size(fragment.selection_set, within | {name}) if fragment else Size()
        return self.fragments[name]

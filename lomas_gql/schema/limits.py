"""What one operation may ask for, measured before it is validated, in time linear in the document's length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)
from strawberry.extensions import SchemaExtension

MAX_DEPTH = 15
MAX_FIELDS = 250
MAX_ALIASES = 15
MAX_MUTATIONS = 5
MAX_TOKENS = 5_000


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


class LimitsExtension(SchemaExtension):
    """Measures a document as soon as it is parsed.

    Before validation, one of whose stock rules takes time quadratic in the number of fields.
    """

    def on_parse(self) -> Iterator[None]:
        yield
        document = self.execution_context.graphql_document
        if document is not None:
            check(document)


def check(document: DocumentNode) -> None:
    """Raises a GraphQLError with a code where an operation asks for too much."""
    nodes = document.definitions
    measured = _Measured({node.name.value: node for node in nodes if isinstance(node, FragmentDefinitionNode)})
    for node in nodes:
        if isinstance(node, OperationDefinitionNode):
            _check_size(node, measured.size(node.selection_set, frozenset()))


def _check_size(node: OperationDefinitionNode, size: Size) -> None:
    limits = [("depth", size.depth, MAX_DEPTH), ("fields", size.fields, MAX_FIELDS)]
    limits.append(("aliases", size.aliases, MAX_ALIASES))
    if node.operation is OperationType.MUTATION:
        limits.append(("mutations", size.roots, MAX_MUTATIONS))
    for what, found, most in limits:
        if found > most:
            message = f"The operation has {what} of {min(found, 10**9)}; at most {most} is allowed."
            raise GraphQLError(message, node, extensions={"code": f"MAX_{what.upper()}_EXCEEDED"})


class _Measured:
    """Sizes of selections. Each fragment is measured once, however often it is spread."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self.fragments = fragments
        self.sizes: dict[str, Size] = {}

    def size(self, selections: SelectionSetNode, within: frozenset[str]) -> Size:
        size = Size()
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                size = size.beside(self._field(selection, within))
            elif isinstance(selection, FragmentSpreadNode):
                size = size.beside(self._fragment(selection.name.value, within))
            else:
                size = size.beside(self.size(selection.selection_set, within))  # type: ignore[attr-defined]
        return size

    def _field(self, node: FieldNode, within: frozenset[str]) -> Size:
        inner = self.size(node.selection_set, within) if node.selection_set else Size()
        aliased = node.alias is not None
        return Size(inner.depth + 1, inner.fields + 1, inner.aliases + aliased, 1)

    def _fragment(self, name: str, within: frozenset[str]) -> Size:
        if name in within or name not in self.fragments:
            return Size()  # a cycle or an unknown name, which validation refuses
        if name not in self.sizes:
            self.sizes[name] = self.size(self.fragments[name].selection_set, within | {name})
        return self.sizes[name]

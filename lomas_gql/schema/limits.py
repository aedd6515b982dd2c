"""What one operation may ask for, measured as the first step of its validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    specified_rules,
)
from graphql.validation.validate import ValidationAbortedError

MAX_DEPTH = 15
MAX_FIELDS = 250
MAX_ALIASES = 15
MAX_MUTATIONS = 5
MAX_TOKENS = 2_000
MAX_CHARACTERS = 100_000
"""Of a document. Values may be longer, in variables: graphql-core reads a million characters per second."""
MAX_VALUES = 20_000
"""In a request's JSON, at all levels: each costs microseconds when it is coerced to its type."""
MAX_DIGITS = 1_000
"""Of a number in a document; Python refuses to read 4301."""
MAX_NODES = 5_000
"""That all connections of one operation may ask for: pages within pages multiply."""
MAX_ANSWER_VALUES = 200_000
"""In the tables and JSON of one answer: aliases repeat them. 10,000 rows of 20 columns."""
MAX_STORED_CHARACTERS = 5_000_000
"""Of JSON in the stored answers that one operation reads: all others wait while they are parsed."""
MAX_SUBSCRIPTIONS = 50
"""Operations under way on one WebSocket connection."""
MAX_LISTENERS = 1_000
"""WebSocket connections and streams that are open on one server process."""
MAX_LISTENERS_PER_USER = 50
"""Of these, one user's; clients without a valid token are one user together."""
CONNECTION_INIT_SECONDS = 5
"""How long a WebSocket client may take to say who it is."""
CACHED_DOCUMENTS = 128
"""Parsed and validated documents that are kept."""


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


class LimitsRule(ASTValidationRule):
    """Refuses an operation that asks for too much, before any other rule looks at it.

    The first rule of each validation, and of one class, made once: the cache of validations has the rules in its
    key, so a document that is sent again is not measured again. It measures in time linear in the document's
    length and aborts the validation, since graphql-core's own rules are not linear: fields that overlap are
    compared in pairs, which takes seconds for 20 kB of them. So fragments are measured too, used or not.
    """

    def enter_document(self, document: DocumentNode, *_: Any) -> None:
        found = document.definitions
        measured = _Measured({node.name.value: node for node in found if isinstance(node, FragmentDefinitionNode)})
        for node in found:
            if isinstance(node, OperationDefinitionNode):
                _check_size(node, measured.size(node.selection_set, frozenset()))
            elif isinstance(node, FragmentDefinitionNode):
                _check_size(node, measured.fragment(node.name.value, frozenset()))

    def enter_int_value(self, node: IntValueNode, *_: Any) -> None:
        if len(node.value) > MAX_DIGITS:
            message = f"A number has {len(node.value)} digits; at most {MAX_DIGITS} are allowed."
            raise ValidationAbortedError(message, node, extensions={"code": "MAX_DIGITS_EXCEEDED"})

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        if "\0" in node.value:
            raise ValidationAbortedError("A text has a null character, which no database can hold.", node)


RULES: tuple[type[ASTValidationRule], ...] = (LimitsRule, *specified_rules)


def _check_size(node: OperationDefinitionNode | FragmentDefinitionNode, size: Size) -> None:
    limits = [("depth", size.depth, MAX_DEPTH), ("fields", size.fields, MAX_FIELDS)]
    limits.append(("aliases", size.aliases, MAX_ALIASES))
    if isinstance(node, OperationDefinitionNode) and node.operation is OperationType.MUTATION:
        limits.append(("mutations", size.roots, MAX_MUTATIONS))
    for what, found, most in limits:
        if found > most:
            message = f"The operation has {what} of {min(found, 10**9)}; at most {most} is allowed."
            raise ValidationAbortedError(message, node, extensions={"code": f"MAX_{what.upper()}_EXCEEDED"})


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
                size = size.beside(self.fragment(selection.name.value, within))
            else:
                size = size.beside(self.size(selection.selection_set, within))  # type: ignore[attr-defined]
        return size

    def _field(self, node: FieldNode, within: frozenset[str]) -> Size:
        inner = self.size(node.selection_set, within) if node.selection_set else Size()
        aliased = node.alias is not None
        return Size(inner.depth + 1, inner.fields + 1, inner.aliases + aliased, 1)

    def fragment(self, name: str, within: frozenset[str]) -> Size:
        if name in within or name not in self.fragments:
            return Size()  # a cycle or an unknown name, which validation refuses
        if name not in self.sizes:
            self.sizes[name] = self.size(self.fragments[name].selection_set, within | {name})
        return self.sizes[name]

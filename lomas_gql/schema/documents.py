"""Documents of GraphQL: parsed once, validated once, and the one operation in them that is meant."""

from __future__ import annotations

from functools import lru_cache

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    validate,
)
from strawberry.extensions import ParserCache

from lomas_gql.schema.errors import presented
from lomas_gql.schema.limits import CACHED_DOCUMENTS, MAX_CHARACTERS, MAX_TOKENS, RULES

NEEDS_NO_VIEWER = {"serverState", "__typename", "__schema", "__type"}
"""Root fields that answer anybody alike: for them alone, no token is looked up."""

MAX_ERRORS = 10
"""Mistakes that are told of one document."""

# Strawberry's cache, which all operations share. Syntax errors are not kept.
parsed = ParserCache(maxsize=CACHED_DOCUMENTS).cached_parse_document


@lru_cache(maxsize=CACHED_DOCUMENTS)
def validated(schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
    """What is wrong with a document.

    Strawberry's cache of validations would keep what graphql-core says as it is: a hundred mistakes in one long
    literal, each with the whole literal in its text.
    """
    errors = validate(schema, document, RULES, max_errors=MAX_ERRORS)
    return [presented(error) for error in errors]


def document_of(query: str | None) -> DocumentNode:
    """The parsed document.

    Raises:
        GraphQLError: there is none, it is too long, or it has a mistake in its syntax.
    """
    if not isinstance(query, str) or not query:
        raise refusal("The request has no query.")
    if len(query) > MAX_CHARACTERS:
        message = f"The document has {len(query)} characters; at most {MAX_CHARACTERS} are allowed. Use variables."
        raise refusal(message, "MAX_CHARACTERS_EXCEEDED")
    try:
        return parsed(query, max_tokens=MAX_TOKENS)  # type: ignore[no-any-return]
    except GraphQLSyntaxError as error:
        if f"more than {MAX_TOKENS} tokens" in error.message:
            raise refusal(f"The document has more than {MAX_TOKENS} tokens.", "MAX_TOKENS_EXCEEDED") from None
        raise


def operation_of(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """The operation that is meant. Of several, one has to be named: a mutation could hide behind the first.

    Raises:
        GraphQLError: it cannot be told which.
    """
    found = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        found = [node for node in found if node.name is not None and node.name.value == name]
    if not found:
        raise refusal("The document has no operation, or none of that name.")
    if len(found) > 1:
        raise refusal("The request has more than one operation; name one in operationName.")
    return found[0]


def asks_for_viewer(operation: OperationDefinitionNode) -> bool:
    """Whether a field may ask who the viewer is. Where in doubt, it may."""
    selections = operation.selection_set.selections
    return not all(isinstance(node, FieldNode) and node.name.value in NEEDS_NO_VIEWER for node in selections)


def refusal(message: str, code: str = "BAD_REQUEST") -> GraphQLError:
    """The error for a client that asks for what cannot be begun."""
    return GraphQLError(message, extensions={"code": code})

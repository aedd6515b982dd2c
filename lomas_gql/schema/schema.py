"""The schema, joined from its parts, and what happens around each operation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from typing import Any

import strawberry
from graphql import DocumentNode, FieldNode, GraphQLError, GraphQLSyntaxError, OperationDefinitionNode
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from lomas_gql.schema.columns import BooleanColumn, CategoricalColumn, DatetimeColumn, NumericColumn, TextColumn
from lomas_gql.schema.context import Context
from lomas_gql.schema.errors import presented
from lomas_gql.schema.limits import CACHED_DOCUMENTS, MAX_CHARACTERS, MAX_TOKENS, LimitsExtension
from lomas_gql.schema.mutations import Mutation
from lomas_gql.schema.queries import Query
from lomas_gql.schema.scalars import JSON, JSON_SCALAR
from lomas_gql.schema.subscriptions import Subscription

NEEDS_NO_VIEWER = {"serverState", "__typename", "__schema", "__type"}
"""Root fields that answer anybody alike: for them alone, no token is looked up."""

_parsed = ParserCache(maxsize=CACHED_DOCUMENTS).cached_parse_document


class Schema(strawberry.Schema):
    """Strawberry's schema, which refuses what it should not begin, signs the viewer in, and masks errors.

    By whatever transport an operation comes.
    """

    async def execute(self, query: str | None, *args: Any, **kwargs: Any) -> Any:
        if refused := await _begun(query, **kwargs):
            return refused
        return await super().execute(query, *args, **kwargs)

    async def stream(self, query: str | None, *args: Any, **kwargs: Any) -> Any:
        """Each operation on a WebSocket signs in anew and reads anew: the connection may be hours old."""
        kwargs["context_value"] = kwargs["context_value"].anew()
        if refused := await _begun(query, **kwargs):
            return _once(refused)
        return await super().stream(query, *args, **kwargs)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        errors[:] = [presented(error) for error in errors]


async def _begun(
    query: str | None,
    *,
    context_value: Context,
    operation_name: str | None = None,
    allowed_operation_types: Collection[OperationType] = tuple(OperationType),
    **_: Any,
) -> PreExecutionError | None:
    """Signs the viewer in, where the operation asks for one. Why it is refused, where it cannot be begun."""
    try:
        operation = _operation(_document(query), operation_name)
        if (kind := OperationType(operation.operation.value)) not in allowed_operation_types:
            raise _refusal(f"A {kind.value} cannot be answered here.", f"{kind.name}_NOT_ALLOWED")
        if _asks_for_viewer(operation):
            await context_value.sign_in()
    except GraphQLError as error:
        return PreExecutionError(data=None, errors=[presented(error)])
    except Exception as error:  # noqa: BLE001 (the database may be away; whatever it is, it is masked)
        return PreExecutionError(data=None, errors=[presented(GraphQLError("", original_error=error))])
    return None


def _document(query: str | None) -> DocumentNode:
    if not isinstance(query, str) or not query:
        raise _refusal("The request has no query.")
    if len(query) > MAX_CHARACTERS:
        message = f"The document has {len(query)} characters; at most {MAX_CHARACTERS} are allowed. Use variables."
        raise _refusal(message, "MAX_CHARACTERS_EXCEEDED")
    try:
        return _parsed(query, max_tokens=MAX_TOKENS)  # type: ignore[no-any-return]
    except GraphQLSyntaxError as error:
        if f"more than {MAX_TOKENS} tokens" in error.message:
            raise _refusal(f"The document has more than {MAX_TOKENS} tokens.", "MAX_TOKENS_EXCEEDED") from None
        raise


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """The operation that is meant. Of several, one has to be named: a mutation could hide behind the first."""
    found = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        found = [node for node in found if node.name is not None and node.name.value == name]
    if not found:
        raise _refusal("The document has no operation, or none of that name.")
    if len(found) > 1:
        raise _refusal("The request has more than one operation; name one in operationName.")
    return found[0]


def _asks_for_viewer(operation: OperationDefinitionNode) -> bool:
    selections = operation.selection_set.selections
    return not all(isinstance(node, FieldNode) and node.name.value in NEEDS_NO_VIEWER for node in selections)


def _refusal(message: str, code: str = "BAD_REQUEST") -> GraphQLError:
    return GraphQLError(message, extensions={"code": code})


async def _once(result: PreExecutionError) -> AsyncGenerator[PreExecutionError, None]:
    yield result


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[NumericColumn, CategoricalColumn, BooleanColumn, DatetimeColumn, TextColumn],
    extensions=[
        LimitsExtension,
        lambda: ParserCache(maxsize=CACHED_DOCUMENTS),
        lambda: ValidationCache(maxsize=CACHED_DOCUMENTS),
    ],
    config=StrawberryConfig(scalar_map={JSON: JSON_SCALAR}, disable_field_suggestions=True),
)


def printed() -> str:
    """The schema in GraphQL's own language, as `schema.graphql` holds it."""
    return schema.as_str().strip() + "\n"

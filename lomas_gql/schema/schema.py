"""The schema, joined from its parts, and what is done around each operation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterator
from typing import Any

import strawberry
from graphql import (
    DocumentNode,
    GraphQLError,
    execute,
)
from graphql import ExecutionResult as GraphQLExecutionResult
from strawberry.execution import optimized_is_awaitable
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from lomas_gql.schema.columns import BooleanColumn, CategoricalColumn, DatetimeColumn, NumericColumn, TextColumn
from lomas_gql.schema.completion import Completion
from lomas_gql.schema.context import Context
from lomas_gql.schema.documents import asks_for_viewer, document_of, operation_of, parsed, refusal, validated
from lomas_gql.schema.errors import presented
from lomas_gql.schema.limits import MAX_TOKENS
from lomas_gql.schema.mutations import Mutation
from lomas_gql.schema.queries import Query
from lomas_gql.schema.scalars import SCALARS
from lomas_gql.schema.subscriptions import Subscription


class Documents(SchemaExtension):
    """For what Strawberry itself runs: documents come from the two caches."""

    def on_operation(self) -> Iterator[None]:
        context = self.execution_context
        context.graphql_document = parsed(context.query, max_tokens=MAX_TOKENS)
        context.pre_execution_errors = list(validated(context.schema._schema, context.graphql_document))
        yield


class Schema(strawberry.Schema):
    """Strawberry's schema, which refuses what it should not begin, signs the viewer in, and masks errors.

    By whatever transport an operation comes.
    """

    async def execute(self, query: str | None, *_: Any, **asked: Any) -> ExecutionResult:
        """One query or mutation.

        By graphql-core at once: the hooks for extensions, of which there are none here, take as long again.
        """
        try:
            document = await self._begun(query, **asked)
            result = execute(
                self._schema,
                document,
                variable_values=asked.get("variable_values"),
                operation_name=asked.get("operation_name"),
                context_value=asked["context_value"],
                is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
                executor_class=self.execution_context_class,
            )
            done = result if isinstance(result, GraphQLExecutionResult) else await result
        except Exception as error:  # noqa: BLE001 (whatever it is, it is masked)
            return self._ended(error)
        return ExecutionResult(done.data, self._told(done.errors) if done.errors else None)

    async def stream(self, query: str | None, *args: Any, **asked: Any) -> Any:
        """Each operation on a WebSocket signs in anew and reads anew: the connection may be hours old."""
        asked["context_value"] = asked["context_value"].anew()
        try:
            await self._begun(query, **asked)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is masked)
            return _once(self._ended(error))
        return await super().stream(query, *args, **asked)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        errors[:] = [presented(error) for error in errors]

    async def _begun(
        self,
        query: str | None,
        *,
        context_value: Context,
        variable_values: object = None,
        operation_name: str | None = None,
        allowed_operation_types: Collection[OperationType] = tuple(OperationType),
        **_: Any,
    ) -> DocumentNode:
        """A document that may be executed; its viewer is signed in, where it asks for one.

        Raises:
            Invalid: it breaks a rule of GraphQL or one of our limits.
            GraphQLError: it cannot be read, or its operation is not to be had here.
        """
        if not isinstance(variable_values, dict | None):
            raise refusal("variables must be an object, if given.")
        document = document_of(query)
        operation = operation_of(document, operation_name)
        if (kind := OperationType(operation.operation.value)) not in allowed_operation_types:
            raise refusal(f"A {kind.value} cannot be answered here.", f"{kind.name}_NOT_ALLOWED")
        if errors := validated(self._schema, document):
            raise Invalid(errors)
        if asks_for_viewer(operation):
            await context_value.sign_in()
        return document

    def _ended(self, error: Exception) -> PreExecutionError:
        """What a client sees of an operation that was not executed."""
        if isinstance(error, Invalid):
            return PreExecutionError(data=None, errors=self._told(error.errors))
        return PreExecutionError(
            data=None,
            errors=self._told([error if isinstance(error, GraphQLError) else GraphQLError("", original_error=error)]),
        )

    def _told(self, errors: list[GraphQLError]) -> list[GraphQLError]:
        told = list(errors)
        self._process_errors(told)
        return told


class Invalid(Exception):
    """A document that validation refuses."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__()
        self.errors = errors


async def _once(result: PreExecutionError) -> AsyncGenerator[PreExecutionError, None]:
    yield result


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[NumericColumn, CategoricalColumn, BooleanColumn, DatetimeColumn, TextColumn],
    extensions=[Documents],
    execution_context_class=Completion,
    config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
)


def printed() -> str:
    """The schema in GraphQL's own language, as `schema.graphql` holds it."""
    return schema.as_str().strip() + "\n"

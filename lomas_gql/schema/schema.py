"""The schema, joined from its parts."""

from __future__ import annotations

from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from lomas_gql.schema.columns import BooleanColumn, CategoricalColumn, DatetimeColumn, NumericColumn, TextColumn
from lomas_gql.schema.context import Context
from lomas_gql.schema.errors import presented
from lomas_gql.schema.limits import MAX_TOKENS, LimitsExtension
from lomas_gql.schema.mutations import Mutation
from lomas_gql.schema.queries import Query
from lomas_gql.schema.scalars import JSON, JSON_SCALAR
from lomas_gql.schema.subscriptions import Subscription


class Schema(strawberry.Schema):
    """Strawberry's schema, whose errors are presented before they leave by any transport."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        errors[:] = [presented(error) for error in errors]

    async def stream(self, query: str | None, *args: Any, **kwargs: Any) -> Any:
        """Each operation on a WebSocket signs in anew and reads anew: the connection may be hours old."""
        if isinstance(kwargs.get("context_value"), Context):
            kwargs["context_value"] = await kwargs["context_value"].anew()
        return await super().stream(query, *args, **kwargs)


def _extensions() -> list[Any]:
    return [
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        LimitsExtension,
        lambda: ParserCache(maxsize=256),
        lambda: ValidationCache(maxsize=256),
    ]


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[NumericColumn, CategoricalColumn, BooleanColumn, DatetimeColumn, TextColumn],
    extensions=_extensions(),
    config=StrawberryConfig(scalar_map={JSON: JSON_SCALAR}, disable_field_suggestions=True),
)


def printed() -> str:
    """The schema in GraphQL's own language, as `schema.graphql` holds it."""
    return schema.as_str().strip() + "\n"

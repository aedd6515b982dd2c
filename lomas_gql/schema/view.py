"""GraphQL over HTTP, Server-Sent Events and WebSockets."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http.streaming import SSETransport, merge_stream_with_heartbeat
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, SubscribeMessage
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from lomas_gql.errors import DatabaseUnavailable, LimitExceeded
from lomas_gql.schema import playground
from lomas_gql.schema.context import Context
from lomas_gql.schema.errors import presented
from lomas_gql.schema.limits import CONNECTION_INIT_SECONDS, MAX_SUBSCRIPTIONS
from lomas_gql.schema.listeners import Listeners
from lomas_gql.schema.requests import GRAPHQL_TYPE, JSON_TYPE, STREAM_TYPE, Asked, Refused, answer_type, decoded, read
from lomas_gql.schema.schema import schema
from lomas_gql.services.runtime import Runtime

log = logging.getLogger(__name__)

# WebSockets' "try again later" (https://www.iana.org/assignments/websocket/websocket.xml).
_TOO_MANY = 1013

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
# Answers are one viewer's own, and GET's depend on what is accepted.
_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept", "X-Content-Type-Options": "nosniff"}
# Of requests that GraphQL over HTTP calls well-formed, and that are refused all the same.
_STATUSES = {
    "BAD_REQUEST": 400,
    "SUBSCRIPTION_NOT_ALLOWED": 400,
    "MUTATION_NOT_ALLOWED": 405,
    "INTERNAL_SERVER_ERROR": 500,
    "DATABASE_UNAVAILABLE": 503,
}


class Conversation(BaseGraphQLTransportWSHandler[Context, None]):
    """One connection by graphql-transport-ws."""

    view: View

    async def handle(self) -> None:
        try:
            with self.view.listeners.seated(self.context):
                await super().handle()
        except LimitExceeded as full:
            await self.websocket.close(_TOO_MANY, full.message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        try:
            await super().handle_connection_init(message)
        except LimitExceeded as full:
            await self.websocket.close(_TOO_MANY, full.message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        if self.connection_acknowledged and len(self.operations) >= MAX_SUBSCRIPTIONS:
            text = f"At most {MAX_SUBSCRIPTIONS} operations may be under way on one connection."
            error = GraphQLError(text, extensions={"code": "MAX_SUBSCRIPTIONS_EXCEEDED"})
            await self.send_message({"id": message["id"], "type": "error", "payload": [error.formatted]})
            return
        await super().handle_subscribe(message)

    async def handle_task_exception(self, error: Exception) -> None:
        # Without the traceback, which may hold a private value.
        log.error("an operation on a WebSocket ended: %s", type(error).__name__)


class View(GraphQL[Context, None]):
    """The endpoint. HTTP is answered here; WebSockets are Strawberry's."""

    graphql_transport_ws_handler_class = Conversation

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=timedelta(seconds=CONNECTION_INIT_SECONDS),
            max_subscriptions_per_connection=None,
            allowed_origins=runtime.settings.origins,
        )
        self.runtime = runtime
        self.listeners = Listeners()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._converse(WebSocket(scope, receive, send))
            return
        with suppress(ClientDisconnect):
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        media_type = JSON_TYPE
        try:
            if playground.is_asked_for(request):
                return playground.page()
            media_type = answer_type(request)
            asked = await read(request, self.runtime.settings.max_body_bytes)
            context = Context(self.runtime, request.headers.get("authorization"))
            if media_type == STREAM_TYPE:
                return _streamed(self.listeners, asked, context, _allowed(request) | {OperationType.SUBSCRIPTION})
            return _answered(await _executed(asked, context, _allowed(request)), media_type)
        except Refused as refused:
            error = GraphQLError(refused.message, extensions={"code": refused.code})
            return _json({"errors": [error.formatted]}, media_type, refused.status, refused.headers)
        except ClientDisconnect:
            raise
        except Exception as bug:  # noqa: BLE001 (whatever it is, the client sees an id and no more)
            error = presented(GraphQLError("", original_error=bug))
            return _json({"errors": [error.formatted]}, media_type, 500)

    async def _converse(self, websocket: WebSocket) -> None:
        try:
            await self.run(websocket)
        except Exception as error:  # noqa: BLE001 (a message that is no GraphQL: the traceback would hold it)
            log.warning("a WebSocket connection was ended: %s", type(error).__name__)
            with suppress(RuntimeError):
                await websocket.close(4400)

    async def get_context(self, request: Request | WebSocket, response: Any) -> Context:
        return Context(self.runtime, request.headers.get("authorization"))

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Signs in a client that cannot set headers: `{authorization: "Bearer …"}` at connection_init."""
        said = (context.connection_params or {}).get("authorization")
        if isinstance(said, str):
            context.authorization = said
        # Who cannot be told now is told later, at each operation.
        with suppress(DatabaseUnavailable):
            await self.listeners.name(context)
        return UNSET  # type: ignore[no-any-return]

    def decode_json(self, data: str | bytes) -> object:
        try:
            message = decoded(data)
        except Refused:
            message = None
        if not isinstance(message, dict):
            # What Strawberry makes a clean close of.
            raise json.JSONDecodeError("not a JSON object", "", 0)
        return message

    def encode_json(self, data: object) -> str:
        return _ENCODER.encode(data)


def _allowed(request: Request) -> set[OperationType]:
    if request.method == "GET":
        return {OperationType.QUERY}
    return {OperationType.QUERY, OperationType.MUTATION}


def _operation(asked: Asked, context: Context, allowed: set[OperationType]) -> dict[str, Any]:
    return {
        "query": asked.query,
        "variable_values": asked.variables,
        "operation_name": asked.operation_name,
        "context_value": context,
        "allowed_operation_types": allowed,
    }


async def _executed(asked: Asked, context: Context, allowed: set[OperationType]) -> ExecutionResult:
    result: ExecutionResult = await schema.execute(**_operation(asked, context, allowed))
    return result


def _answered(result: ExecutionResult, media_type: str) -> Response:
    answer = _told(result)
    if "data" in answer:
        return _json(answer, media_type)
    code = answer["errors"][0]["extensions"]["code"]
    status = _STATUSES.get(code, 400 if media_type == GRAPHQL_TYPE else 200)
    return _json(answer, media_type, status, {"Allow": "POST"} if status == 405 else None)


def _told(result: ExecutionResult) -> dict[str, Any]:
    """The result in GraphQL's form, which has no `data` where nothing was executed: no field is to blame."""
    if not result.errors:
        return {"data": result.data}
    errors = [error.formatted for error in result.errors]
    if result.data is None and not any(error.path for error in result.errors):
        return {"errors": errors}
    return {"errors": errors, "data": result.data}


def _streamed(listeners: Listeners, asked: Asked, context: Context, allowed: set[OperationType]) -> Response:
    """The results as they come, by graphql-sse's distinct connections mode."""
    transport = SSETransport()

    async def results() -> AsyncGenerator[ExecutionResult, None]:
        try:
            with listeners.seated(context):
                with suppress(DatabaseUnavailable):
                    await listeners.name(context)
                async for result in await schema.stream(**_operation(asked, context, allowed)):
                    yield result
        except LimitExceeded as full:
            yield ExecutionResult(None, [presented(GraphQLError("", original_error=full))])

    async def events() -> AsyncGenerator[str, None]:
        async with aclosing(results()) as found:
            async for result in found:
                yield transport.encode_next(_told(result), _ENCODER.encode)  # type: ignore[arg-type]
        yield transport.encode_complete()

    kept_alive = merge_stream_with_heartbeat(
        events,
        lambda: transport.heartbeat_message(_ENCODER.encode),
        transport.heartbeat_interval,
        send_initial_heartbeat=False,
    )
    return StreamingResponse(
        kept_alive(), headers={**_HEADERS, **transport.headers} | {"Cache-Control": "no-store, no-transform"}
    )


def _json(
    answer: dict[str, Any], media_type: str, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    # A refusal is told in JSON to who wanted a stream, too.
    shown = GRAPHQL_TYPE if media_type == GRAPHQL_TYPE else JSON_TYPE
    return Response(_ENCODER.encode(answer), status, _HEADERS | (headers or {}), f"{shown}; charset=utf-8")

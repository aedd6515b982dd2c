"""GraphQL over HTTP."""

from __future__ import annotations

import json
import logging
import math
from contextlib import suppress
from typing import Any

from cross_web import HTTPException
from graphql import GraphQLError, OperationDefinitionNode, parse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.unset import UNSET, UnsetType

from lomas_gql.schema.context import Context
from lomas_gql.schema.errors import presented
from lomas_gql.schema.limits import MAX_TOKENS
from lomas_gql.schema.schema import schema
from lomas_gql.services.runtime import Runtime

log = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS = 50
"""Operations under way on one WebSocket connection."""


class View(GraphQL[Context, None]):
    """The endpoint: reads requests strictly, signs the viewer in, masks what must not be seen."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            multipart_uploads_enabled=False,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            max_subscriptions_per_connection=MAX_SUBSCRIPTIONS,
        )
        self.runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._converse(WebSocket(scope, receive, send))
            return
        try:
            response = await self.run(_Bounded(scope, receive, self.runtime.settings.max_body_bytes))
        except HTTPException as error:
            response = _refused(error.status_code, error.reason)
        await response(scope, receive, send)

    async def _converse(self, websocket: WebSocket) -> None:
        try:
            await self.run(websocket)
        except Exception as error:  # noqa: BLE001 (a message that is no GraphQL: the traceback would hold it)
            log.warning("a WebSocket connection was ended: %s", type(error).__name__)
            with suppress(RuntimeError):
                await websocket.close(4400)

    async def get_context(self, request: Request | WebSocket, response: Any) -> Context:
        return await Context.signed_in(self.runtime, request.headers.get("authorization"))

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Signs in a client that cannot set headers: `{authorization: "Bearer …"}` at connection_init."""
        said = (context.connection_params or {}).get("authorization")
        if isinstance(said, str):
            context.authorization = said
        return UNSET  # type: ignore[no-any-return]

    def decode_json(self, data: str | bytes) -> object:
        try:
            decoded: Any = json.loads(data, parse_constant=_not_json, parse_float=_finite)
            # Half of a surrogate pair is no text: no database or library can hold it.
            json.dumps(decoded, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            # What Strawberry makes a bad request of over HTTP, and a clean close over WebSockets.
            raise json.JSONDecodeError("not a JSON object", "", 0)
        return decoded

    def encode_json(self, data: object) -> str:
        return json.dumps(data, separators=(",", ":"), allow_nan=False)

    async def parse_http_body(self, request: Any) -> GraphQLRequestData | list[GraphQLRequestData]:
        data = await super().parse_http_body(request)
        if isinstance(data, GraphQLRequestData) and data.query and data.operation_name is None:
            _check_one_operation(data.query)
        return data

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        if result.errors:
            result.errors = [presented(error) for error in result.errors]
        return await super().process_result(request, result)


class _Bounded(Request):
    """A request whose body is read only up to a limit."""

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        super().__init__(scope, receive)
        self._most = most

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > self._most:
                    raise HTTPException(413, f"The body is larger than {self._most} bytes.")
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body


def _check_one_operation(query: str) -> None:
    """Refuses a second operation where none is named: running the first would hide a mutation."""
    # The cheap test first: a document that names no second operation is not parsed twice.
    if query.count("{") < 2:
        return
    try:
        document = parse(query, max_tokens=MAX_TOKENS)
    except (GraphQLError, RecursionError):
        return
    if sum(isinstance(node, OperationDefinitionNode) for node in document.definitions) > 1:
        raise HTTPException(400, "The request has more than one operation; name one in operationName.")


def _refused(status: int, reason: str) -> Response:
    error = {"message": reason, "extensions": {"code": "BAD_REQUEST"}}
    return JSONResponse({"errors": [error]}, status_code=status)


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number

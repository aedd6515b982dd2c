"""The only place where a server is built and its parts are joined."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from lomas_gql.database.engine import SERVER_SECONDS, Database
from lomas_gql.errors import AdministrationError, DatabaseUnavailable
from lomas_gql.schema.playground import Files
from lomas_gql.schema.view import View
from lomas_gql.services import jobs, settling
from lomas_gql.services.leases import lease_of_this_process
from lomas_gql.services.running import keep_lease
from lomas_gql.services.runtime import Runtime
from lomas_gql.settings import Settings, host_name
from lomas_gql.workers.pool import Workers

NOT_MIGRATED = "the database is not migrated; type: lomas-gql db upgrade"
log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Starlette:
    """An ASGI application. Without arguments it reads its settings from the environment."""
    settings = settings or Settings()
    runtime = Runtime(
        settings=settings,
        database=Database(settings.url, SERVER_SECONDS),
        lease=lease_of_this_process(host_name(), settings.lease_seconds),
        # One at a time for each user: who asks for a lot waits for himself. Releases have slots in the ledger.
        public=_workers(settings, settings.public_workers, each=1),
        private=_workers(settings, settings.private_workers),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # A process that is started anew while the database is away waits for it like the others.
        with suppress(DatabaseUnavailable):
            await _take_over(runtime)
        for workers in (runtime.public, runtime.private):
            workers.warm(jobs.warm)
        heartbeat = asyncio.create_task(keep_lease(runtime))
        try:
            yield
        finally:
            heartbeat.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeat
            await asyncio.to_thread(runtime.public.stop)
            await asyncio.to_thread(runtime.private.stop)
            await runtime.database.close()

    logging.getLogger("uvicorn.error").addFilter(_without_urls)
    view = View(runtime)
    app = Starlette(
        routes=[
            # All methods: it refuses the others itself, in JSON.
            Route("/graphql", view),
            WebSocketRoute("/graphql", view),
            Mount("/graphiql", Files()),
            Route("/healthz", _healthz),
        ],
        middleware=_cors(settings),
        lifespan=lifespan,
    )
    app.state.runtime = runtime
    return app


def _workers(settings: Settings, count: int, each: int | None = None) -> Workers:
    return Workers(
        count, settings.worker_megabytes, waiting=settings.queue_length, calls=settings.worker_calls, each=each
    )


async def _take_over(runtime: Runtime) -> None:
    if not await runtime.database.is_current():
        raise AdministrationError(NOT_MIGRATED)
    if interrupted := await settling.interrupt_dead(runtime.database, runtime.lease):
        log.warning("%d releases of dead servers were settled as INTERRUPTED", interrupted)


def _cors(settings: Settings) -> list[Middleware]:
    """Lets pages of the listed origins read answers. Tokens come in a header: no cookies are used or let through."""
    if not settings.origins:
        return []
    headers = ["Authorization", "Content-Type"]
    return [
        Middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST"], allow_headers=headers
        )
    ]


def _without_urls(record: logging.LogRecord) -> bool:
    # One line for each WebSocket, with its URL, in which a client may have put a token.
    return '"WebSocket %s"' not in str(record.msg)


async def _healthz(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")

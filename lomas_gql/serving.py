"""Runs the server in uvicorn: one process, or several behind one socket."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
from multiprocessing.process import BaseProcess

import uvicorn
from starlette.applications import Starlette

from lomas_gql.app import NOT_MIGRATED, create_app
from lomas_gql.database.engine import Database
from lomas_gql.errors import AdministrationError
from lomas_gql.settings import Settings


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serves until it is told to stop.

    Raises:
        AdministrationError: the database is not migrated, or nobody can listen there.
        DatabaseUnavailable: the database does not answer.
    """
    check_migrated(settings)
    check_free(host, port)
    uvicorn.run(
        "lomas_gql.serving:create_served_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="info",
        # The access log would hold what clients write into URLs.
        access_log=False,
        server_header=False,
        ws_max_size=settings.max_body_bytes,
    )


def create_served_app() -> Starlette:
    """The application, in a process that ends when the one that started it has died."""
    supervisor = multiprocessing.parent_process()
    # A single server process has none: a shell or systemd may start it and go.
    if supervisor is not None:
        threading.Thread(target=_end_after, args=(supervisor,), daemon=True).start()
    return create_app()


def _end_after(supervisor: BaseProcess) -> None:
    supervisor.join()
    # As if it had been told to stop: it takes no more requests, and ends once it has answered those it has.
    os.kill(os.getpid(), signal.SIGTERM)


def check_free(host: str, port: int) -> None:
    """Raises AdministrationError where nobody can listen on that address."""
    try:
        [(family, *_), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
    except OSError as error:
        raise AdministrationError(f"cannot listen on {host} port {port}: {error.strerror}") from None


def check_migrated(settings: Settings) -> None:
    """Raises AdministrationError where the database is not what this version expects."""

    async def check() -> None:
        database = Database(settings.url)
        try:
            if not await database.is_current():
                raise AdministrationError(NOT_MIGRATED)
        finally:
            await database.close()

    asyncio.run(check())

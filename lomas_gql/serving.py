"""Runs the server in uvicorn: one process, or several behind one socket."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from lomas_gql.app import NOT_MIGRATED
from lomas_gql.database.engine import Database
from lomas_gql.errors import AdministrationError
from lomas_gql.settings import Settings


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serves until it is told to stop.

    Raises:
        AdministrationError: the database does not answer, or is not migrated.
    """
    check_migrated(settings)
    check_free(host, port)
    uvicorn.run(
        "lomas_gql.app:create_app",
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

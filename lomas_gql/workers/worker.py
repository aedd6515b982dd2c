"""A worker: one isolated process at a time, with limits of time and memory (https://pebble.readthedocs.io)."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import psutil
from pebble import ProcessPool
from pebble.common import ProcessExpired

P = ParamSpec("P")
T = TypeVar("T")


_PAUSE_SECONDS = 0.5
"""Between two attempts to start a process."""


class WorkerLost(Exception):
    """The process died or took too long, and the call has no answer."""


@dataclass(eq=False)
class _Process:
    """One process, as a pool of one: a larger pool of pebble's breaks for good when one dies between two calls."""

    pool: ProcessPool
    calls: int = 0
    held: int = 0
    lost: bool = False


class Worker:
    """A process, followed by a fresh one after `most_calls`, when it has grown, or when it was lost."""

    def __init__(self, megabytes: int, most_calls: int) -> None:
        self._megabytes, self._most_calls = megabytes, most_calls
        self._now = self._started()
        self._fresh: _Process | None = None
        self._ending: dict[_Process, threading.Thread] = {}

    async def call(self, function: Callable[P, T], seconds: float, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)` in the process. A call that is cancelled ends it.

        Raises:
            WorkerLost: the process died, took longer than `seconds` once it had begun, or raised: jobs answer
                with values, since an exception could hold a private one.
        """
        process = self._now
        process.calls += 1
        try:
            future = process.pool.schedule(_measured, args=[function, args, kwargs], timeout=seconds)
            answer: T
            answer, process.held = await asyncio.wrap_future(future)
            return answer
        except FutureTimeoutError:
            process.lost = True
            raise WorkerLost(f"over its limit of {seconds:g} s") from None
        except ProcessExpired:
            process.lost = True
            raise WorkerLost("its process died") from None
        except asyncio.CancelledError:
            process.lost = True
            this = asyncio.current_task()
            if this is None or this.cancelling():
                raise
            # The pool gave up the call: its process ended itself.
            raise WorkerLost("its process ended") from None
        except GeneratorExit:
            process.lost = True
            raise
        except BaseException as error:  # noqa: BLE001 (it may carry the worker's traceback: only its kind goes on)
            raise WorkerLost(type(error).__name__) from None

    @property
    def lost(self) -> bool:
        """Whether its process has gone, in a call or between two."""
        try:
            return self._now.lost or not self._now.pool.active
        except OSError:
            # It has yet to begin, and the system has no process or file to spare.
            return True

    @property
    def worn(self) -> bool:
        """Whether its process has done its share of calls, or keeps half of the memory that it may have."""
        return self._now.calls >= self._most_calls or self._now.held > self._megabytes * 2**19

    def warm(self, function: Callable[[], None]) -> None:
        """Calls `function` in its process before anything else, without waiting."""
        self._now.pool.schedule(function)

    async def renew(self, warm: Callable[[], None] | None) -> None:
        """Puts a fresh process in the place of this one once it is warm. A call under way ends where it is."""
        self._fresh = self._started()
        try:
            if warm is not None:
                await asyncio.wrap_future(self._fresh.pool.schedule(warm))
        except Exception:  # noqa: BLE001 (where it fails, so will the next call, which says so)
            await asyncio.sleep(_PAUSE_SECONDS)
        old, self._now, self._fresh = self._now, self._fresh, None
        if old.lost:
            old.pool.stop()
        else:
            old.pool.close()
        # A thread of its own: the call under way may go on for minutes.
        self._ending[old] = threading.Thread(target=self._join, args=[old], daemon=True)
        self._ending[old].start()

    def stop(self) -> None:
        """Ends the process, and those beside it that begin or end."""
        for ending, thread in list(self._ending.items()):
            ending.pool.stop()
            thread.join()
        for process in filter(None, (self._now, self._fresh)):
            process.pool.stop()
            process.pool.join()

    def _join(self, old: _Process) -> None:
        old.pool.join()
        self._ending.pop(old, None)

    def _started(self) -> _Process:
        # spawn: a forked child would inherit database connections and threads' locks.
        context = multiprocessing.get_context("spawn")
        initial = [os.getpid(), self._megabytes]
        return _Process(ProcessPool(max_workers=1, context=context, initializer=_settle_in, initargs=initial))


def _settle_in(parent: int, megabytes: int) -> None:
    """Runs first in a worker: private values must not reach a log, and no worker outlives its server."""
    # Ctrl-C reaches the whole terminal; the server decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print: a panic or a progress bar can hold a cell's value.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(nowhere, stream.fileno())
    threading.Thread(target=_watch, args=(parent, megabytes * 2**20), daemon=True).start()


def _measured(function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[T, int]:
    """The answer, and how many bytes the process holds afterwards."""
    return function(*args, **kwargs), _own_memory(psutil.Process())


def _watch(parent: int, most: int) -> Any:
    """Ends this process when its server has gone, or when it holds more memory than it may."""
    this = psutil.Process()
    while os.getppid() == parent and _own_memory(this) <= most:
        time.sleep(0.2)
    os._exit(1)


def _own_memory(process: psutil.Process) -> int:
    # Mapped rows are shared by all workers, and the system takes their pages back when it needs them.
    held = process.memory_info()
    return held.rss - getattr(held, "shared", 0)

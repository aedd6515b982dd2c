"""A pool of worker processes with a time limit per call (https://pebble.readthedocs.io)."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, ParamSpec, TypeVar

import psutil
from pebble import ProcessPool
from pebble.common import ProcessExpired

P = ParamSpec("P")
T = TypeVar("T")


class WorkerLost(Exception):
    """The process died or took too long, and the call has no answer."""


class Workers:
    """`count` processes, started at the first call and restarted when they die."""

    def __init__(self, count: int, megabytes: int) -> None:
        # spawn: a forked child would inherit database connections and threads' locks.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(
            max_workers=count, context=context, initializer=_settle_in, initargs=[os.getpid(), megabytes]
        )
        self._count = count

    def warm(self, function: Callable[[], None]) -> None:
        """Calls `function` in every worker, without waiting."""
        for _ in range(self._count):
            self._pool.schedule(function)

    async def call(self, function: Callable[P, T], seconds: float, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)` in a worker. A call that is cancelled ends its worker.

        Raises:
            WorkerLost: the worker died, took longer than `seconds` once it had begun, or raised: jobs answer
                with values, since an exception could hold a private one.
        """
        future = self._pool.schedule(function, args=args, kwargs=kwargs, timeout=seconds)
        try:
            answer: T = await asyncio.wrap_future(future)
            return answer
        except FutureTimeoutError:
            raise WorkerLost(f"over its limit of {seconds:g} s") from None
        except ProcessExpired:
            raise WorkerLost("its process died") from None
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():
                raise
            # The pool gave up the call: its process ended itself.
            raise WorkerLost("its process ended") from None
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 (it may carry the worker's traceback: only its kind goes on)
            raise WorkerLost(type(error).__name__) from None

    def stop(self) -> None:
        """Ends the processes, busy ones too."""
        self._pool.stop()
        self._pool.join()


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

"""The workers of one kind, and the queue before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from lomas_gql.workers.queue import Load, Place, Queue
from lomas_gql.workers.worker import Worker, WorkerLost

__all__ = ["Load", "Worker", "WorkerLost", "Workers"]

Turn = Place[Worker]


class Workers:
    """`count` processes, started at the first call. Each is followed by a fresh one, warmed before it is needed.

    Args:
        count: how many work at the same time.
        megabytes: what one may hold in memory before it ends.
        waiting: how many calls may wait.
        calls: after how many calls a process is followed by a fresh one.
        each: how many calls of one user may run at the same time; None for any number.
    """

    def __init__(
        self, count: int, megabytes: int, *, waiting: int = 500, calls: int = 5000, each: int | None = None
    ) -> None:
        self._all = [Worker(megabytes, calls) for _ in range(count)]
        self._queue = Queue(self._all, waiting, each, self._returned)
        self._warm: Callable[[], None] | None = None
        self._renewing: dict[Worker, asyncio.Task[None]] = {}
        self._stopped = False

    def take(self, whose: Hashable) -> Turn:
        """A place in the queue: `async with` it waits for a worker. To be given back whatever happens.

        Raises:
            ServerBusy: the queue is full, or this user's share of it.
        """
        return self._queue.take(whose)

    def load(self) -> Load:
        """How much there is to do now."""
        return self._queue.load()

    def warm(self, function: Callable[[], None]) -> None:
        """Calls `function` first in every process, without waiting, and in those that follow them."""
        self._warm = function
        for worker in self._all:
            worker.warm(function)

    def _returned(self, worker: Worker) -> None:
        if self._stopped:
            return
        lost = worker.lost
        if (lost or worker.worn) and worker not in self._renewing:
            renewal = self._renewing[worker] = asyncio.create_task(worker.renew(self._warm))
            renewal.add_done_callback(lambda _: self._renewing.pop(worker))
        if lost:
            self._renewing[worker].add_done_callback(lambda _: self._queue.free(worker))
        else:
            # It goes on until the one that follows it is warm.
            self._queue.free(worker)

    def stop(self) -> None:
        """Ends the processes, busy ones too. No other follows them, so what still waits never begins."""
        self._stopped = True
        for worker in self._all:
            worker.stop()

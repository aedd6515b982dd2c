"""Who waits for a worker: a bounded queue in which each user has a fair share."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from lomas_gql.errors import ServerBusy


class Able(Protocol):
    """What works."""

    @property
    def lost(self) -> bool:
        """Whether it cannot be given out, for it has died meanwhile."""


W = TypeVar("W", bound=Able)
_REMEMBERED = 10_000
"""Users whose latest turn is remembered."""


@dataclass(frozen=True)
class Load:
    """How much a queue has to do: calls that run, calls that wait, and how many both may be together."""

    workers: int
    running: int
    waiting: int
    capacity: int


class Place(Generic[W]):
    """One call's place in a queue. `async with place as worker` waits for its turn and gives the place back."""

    def __init__(self, queue: Queue[W], whose: Hashable) -> None:
        self.queue = queue
        self.whose = whose
        self.worker: W | None = None
        self.turn: asyncio.Future[W] | None = None
        self.left = False

    async def __aenter__(self) -> W:
        try:
            return await self.queue.line_up(self)
        except BaseException:
            self.leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Gives the place back, and its worker; does nothing the second time."""
        if not self.left:
            self.left = True
            self.queue.give_back(self)


class Queue(Generic[W]):
    """Gives workers to users in turn: whose last turn was longest ago is next, first come first served within.

    Args:
        workers: those that it gives out.
        length: how many may wait while all workers are taken.
        each: how many one user may have at a time; None for any number.
        returned: is given each worker that comes back, and calls `free` with it or with its successor.
    """

    def __init__(
        self, workers: Iterable[W], length: int, each: int | None = None, returned: Callable[[W], None] | None = None
    ) -> None:
        self._idle = list(workers)
        self._workers = len(self._idle)
        self._capacity = self._workers + length
        self._each = each
        self._returned = returned or self.free
        self._held: Counter[Hashable] = Counter()
        self._running: Counter[Hashable] = Counter()
        self._lines: dict[Hashable, deque[Place[W]]] = {}
        self._turns = 0
        self._latest: LRUCache[Hashable, int] = LRUCache(maxsize=_REMEMBERED)

    def load(self) -> Load:
        """How much there is to do now."""
        running = self._running.total()
        return Load(self._workers, running, self._held.total() - running, self._capacity)

    def take(self, whose: Hashable) -> Place[W]:
        """A place, to be given back whatever happens. It stands in line once it is entered.

        Nobody holds more places than he leaves free, so that one user fills half of the queue at most, two
        three quarters, and who comes next still finds a place.

        Raises:
            ServerBusy: there is no place left, or none for this user.
        """
        if self._held[whose] >= self._capacity - self._held.total():
            raise ServerBusy
        self._held[whose] += 1
        return Place(self, whose)

    async def line_up(self, place: Place[W]) -> W:
        """Waits for a worker."""
        place.turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(place.whose, deque()).append(place)
        self._give_out()
        return await place.turn

    def free(self, worker: W) -> None:
        """Gives out a worker that is ready."""
        self._idle.append(worker)
        self._give_out()

    def give_back(self, place: Place[W]) -> None:
        """Forgets a place, whether it was ever entered, waits, or has a worker."""
        _decrease(self._held, place.whose)
        line = self._lines.get(place.whose, deque())
        if place in line:
            line.remove(place)
            if not line:
                del self._lines[place.whose]
        if place.worker is not None:
            _decrease(self._running, place.whose)
            self._returned(place.worker)
            # Where that one was lost, another may be idle for which this user could not yet be considered.
            self._give_out()

    def _give_out(self) -> None:
        while self._idle and (whose := self._next()) is not None:
            # The one that worked last: what it has read and parsed is still at hand.
            worker = self._idle.pop()
            if worker.lost:
                self._returned(worker)
                continue
            place = self._lines[whose].popleft()
            if not self._lines[whose]:
                del self._lines[whose]
            self._turns += 1
            self._latest[whose] = self._turns
            self._running[whose] += 1
            place.worker = worker
            assert place.turn is not None
            # Whoever is being cancelled at this moment gives the worker back as he leaves.
            if not place.turn.done():
                place.turn.set_result(place.worker)

    def _next(self) -> Hashable | None:
        ready = [user for user in self._lines if self._each is None or self._running[user] < self._each]
        return min(ready, key=lambda user: self._latest.get(user, 0), default=None)


def _decrease(counter: Counter[Hashable], whose: Hashable) -> None:
    counter[whose] -= 1
    if not counter[whose]:
        del counter[whose]

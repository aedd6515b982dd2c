"""The order in which calls get workers, and that no place is ever lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lomas_gql.errors import ServerBusy
from lomas_gql.workers.queue import Load, Place, Queue


@dataclass(eq=False)
class Hand:
    """A worker without a process."""

    lost: bool = False


@dataclass
class Bench:
    """Calls on a queue, each of which ends when it is told to."""

    queue: Queue[Hand]
    began: list[Hashable] = field(default_factory=list)
    ends: list[asyncio.Event] = field(default_factory=list)

    async def work(self, whose: Hashable, place: Place[Hand], end: asyncio.Event) -> None:
        async with place:
            self.began.append(whose)
            self.ends.append(end)
            await end.wait()

    async def come(self, whose: Hashable, times: int = 1) -> list[asyncio.Task[None]]:
        places = [self.queue.take(whose) for _ in range(times)]
        tasks = [asyncio.create_task(self.work(whose, place, asyncio.Event())) for place in places]
        await settled()
        return tasks

    async def finish(self) -> None:
        """Ends the call that has run longest."""
        self.ends.pop(0).set()
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def bench(workers: int, length: int = 1000, each: int | None = None) -> Bench:
    return Bench(Queue([Hand() for _ in range(workers)], length, each))


async def test_a_newcomer_waits_for_one_call_however_many_another_user_has_waiting() -> None:
    calls = bench(1)
    await calls.come("greedy", 50)
    for _ in range(3):
        await calls.finish()
    await calls.come("newcomer")
    await calls.finish()
    assert calls.began == ["greedy"] * 4 + ["newcomer"]


async def test_users_take_turns_and_each_ones_calls_keep_their_order() -> None:
    calls = bench(1)
    for user, times in (("a", 4), ("b", 2), ("c", 3)):
        await calls.come(user, times)
    for _ in range(9):
        await calls.finish()
    assert "".join(map(str, calls.began)) == "abcabcaca"


async def test_who_comes_again_and_again_does_not_push_in() -> None:
    calls = bench(1)
    await calls.come("patient", 10)
    for _ in range(10):
        await calls.come("quick")
        await calls.finish()
    assert calls.began[:6] == ["patient", "quick"] * 3


async def test_a_users_share_leaves_workers_to_others() -> None:
    calls = bench(2, each=1)
    await calls.come("a", 5)
    assert calls.began == ["a"]
    await calls.come("b")
    assert calls.began == ["a", "b"]


async def test_one_user_fills_half_of_the_queue_and_the_next_one_finds_a_place() -> None:
    calls = bench(2, length=98)
    await calls.come("greedy", 50)
    with pytest.raises(ServerBusy):
        await calls.come("greedy")
    await calls.come("second", 25)
    with pytest.raises(ServerBusy):
        await calls.come("second")
    await calls.come("third")
    assert calls.queue.load() == Load(workers=2, running=2, waiting=74, capacity=100)


async def test_a_worker_that_died_meanwhile_is_not_given_out() -> None:
    hands, returned = [Hand(), Hand(lost=True)], []
    calls = Bench(Queue(hands, 10, None, returned.append))
    await calls.come("a", 2)
    assert calls.began == ["a"]
    assert returned == [hands[1]]
    hands[1].lost = False
    calls.queue.free(hands[1])
    await settled()
    assert calls.began == ["a", "a"]


async def test_a_lost_worker_does_not_keep_its_user_from_an_idle_one() -> None:
    calls = Bench(Queue([Hand(), Hand()], 10, 1, lambda _: None))
    [first, _] = await calls.come("a", 2)
    assert calls.began == ["a"]
    first.cancel()
    await settled()
    assert calls.began == ["a", "a"]


USERS = st.sampled_from("abc")
WORKERS, LENGTH, EACH = 3, 7, 2


class Places(RuleBasedStateMachine):
    """Any order of taking, entering, cancelling, ending and losing."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.renewed: list[Hand] = []
        self.queue = Queue([Hand() for _ in range(WORKERS)], LENGTH, EACH, self.returned)
        self.held: list[Place[Hand]] = []
        self.calls: dict[asyncio.Task[None], tuple[Place[Hand], asyncio.Event]] = {}

    def returned(self, hand: Hand) -> None:
        if hand.lost:
            self.renewed.append(hand)
        else:
            self.queue.free(hand)

    def teardown(self) -> None:
        for task in list(self.calls):
            task.cancel()
        self.run(settled())
        for place in self.held:
            place.leave()
            place.leave()
        assert self.queue.load() == Load(WORKERS, 0, 0, WORKERS + LENGTH)
        self.runner.close()

    def run(self, work: Any) -> None:
        self.runner.run(work)
        self.calls = {task: call for task, call in self.calls.items() if not task.done()}

    def running(self) -> list[Place[Hand]]:
        return [place for place, _ in self.calls.values() if place.worker is not None]

    @rule(user=USERS)
    def take(self, user: str) -> None:
        places = [*self.held, *(place for place, _ in self.calls.values())]
        mine = sum(place.whose == user for place in places)
        try:
            self.held.append(self.queue.take(user))
        except ServerBusy:
            assert mine >= WORKERS + LENGTH - len(places)
        else:
            assert mine < WORKERS + LENGTH - len(places)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), at_once=st.booleans())
    def enter(self, data: st.DataObject, at_once: bool) -> None:
        place = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        end = asyncio.Event()

        async def call() -> None:
            async with place:
                await end.wait()

        async def start() -> None:
            task = asyncio.create_task(call())
            task.add_done_callback(lambda _: place.leave())
            if at_once:
                # Before it has begun: its own `async with` never runs.
                task.cancel()
            else:
                self.calls[task] = place, end
            await settled()

        self.run(start())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def leave_unentered(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1))).leave()
        self.run(settled())

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["end", "cancel", "lose", "both"]))
    def end(self, data: st.DataObject, how: str) -> None:
        task = list(self.calls)[data.draw(st.integers(0, len(self.calls) - 1))]
        place, end = self.calls[task]
        if how == "lose" and place.worker is not None:
            place.worker.lost = True
        if how != "cancel":
            end.set()
        if how in ("cancel", "both"):
            task.cancel()
        self.run(settled())

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def cancel_one_as_it_gets_a_worker(self, data: st.DataObject) -> None:
        ending, waiting = self.running()[0], [t for t, (place, _) in self.calls.items() if place.worker is None]

        async def race() -> None:
            # A worker comes back, and whoever is given it is cancelled before he can know.
            next(end for place, end in self.calls.values() if place is ending).set()
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await settled()

        self.run(race())

    @precondition(lambda self: self.renewed)
    @rule()
    def renew(self) -> None:
        hand = self.renewed.pop()
        hand.lost = False
        self.queue.free(hand)
        self.run(settled())

    @invariant()
    def no_worker_is_lost_and_none_is_idle_while_somebody_may_have_it(self) -> None:
        running = self.running()
        assert len({id(place.worker) for place in running}) == len(running)
        busy = Counter(place.whose for place in running)
        assert all(number <= EACH for number in busy.values())
        load = self.queue.load()
        assert load.running == len(running)
        assert load.running + load.waiting == len(self.held) + len(self.calls) <= load.capacity
        waiting = [place for place, _ in self.calls.values() if place.worker is None and busy[place.whose] < EACH]
        assert not waiting or len(running) == WORKERS - len(self.renewed)


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)

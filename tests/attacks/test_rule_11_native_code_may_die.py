"""Rule 11: native code may die, spin or fill the memory. That is one failed release; everybody else is answered.

Enforced in `workers/pool`: each library runs in a process with a limit of time and of memory.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace

import psutil
import pytest

from lomas_gql.auth import Viewer
from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import LibraryFailed
from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.smartnoise_synth.query import (
    Synthesizer,
)
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from lomas_gql.services import administration, releases
from lomas_gql.services.runtime import Runtime
from lomas_gql.workers.pool import WorkerLost, Workers
from tests.libraries import test_smartnoise_synth as synth
from tests.services import test_releases as running
from tests.workers import test_pool as pool


@dataclass(frozen=True)
class Bomb(running.Fake):
    """Fills the memory on private rows."""

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        held = []
        while rows.frame.height != running.PREFLIGHT:
            held.append(b"x" * 2**28)
            time.sleep(0.5)
        return super().run(rows, metadata)


@pytest.mark.parametrize("bomb", [Bomb(), running.Fake(private="spin")], ids=["memory", "time"])
async def test_others_are_answered_while_a_worker_is_worn_out(runtime: Runtime, bomb: running.Fake) -> None:
    await administration.add_user(runtime.database, "other", None, may_query=True)
    await administration.grant(runtime.database, "other", "PENGUIN", "1", "0")
    others = replace(runtime, private=Workers(2, 2048))
    try:
        await asyncio.gather(*(pool.call(others.private, pool.sleep, 60, 0.1) for _ in range(2)))
        attack = asyncio.create_task(releases.execute(others, running.VIEWER, running.asked(bomb), None))
        while await running.history(runtime) != ["RUNNING"]:
            await asyncio.sleep(0.01)
        answered = await releases.execute(others, Viewer(2, "other", True), running.asked(running.Fake()), None)
        assert answered.answer.value == 344
        assert not attack.done()
        with pytest.raises(LibraryFailed):
            await attack
    finally:
        others.private.stop()


def die() -> None:
    os.abort()


async def test_a_worker_that_dies_is_one_failed_call(workers: Workers) -> None:
    with pytest.raises(WorkerLost, match="died"):
        await pool.call(workers, die, 20)
    assert await pool.call(workers, pool.sleep, 20, 0)


async def test_a_worker_that_takes_too_long_is_ended(workers: Workers) -> None:
    pid = await pool.call(workers, os.getpid, 20)
    with pytest.raises(WorkerLost, match="limit"):
        await pool.call(workers, pool.sleep, 0.3, 60)
    assert await pool.call(workers, os.getpid, 20) != pid
    assert not psutil.pid_exists(pid)


def hoard() -> int:
    held = b"x" * 3 * 2**30
    time.sleep(20)
    return len(held)


async def test_a_worker_over_its_memory_limit_is_ended(workers: Workers) -> None:
    with pytest.raises(WorkerLost, match="died"):
        await pool.call(workers, hoard, 60)


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 0.1])
def test_pacsynth_never_panics_where_its_cost_is_given(epsilon: float, delta: float) -> None:
    attempt = synth.query(Synthesizer.PACSYNTH, epsilon=epsilon, delta=delta, columns=["ok", "place"], sample_rows=5)
    attempt.cost(synth.MIXED)
    for rows in (0, 5):
        assert isinstance(attempt.run(dummy_rows(synth.MIXED, rows, 1), synth.MIXED), Answer)

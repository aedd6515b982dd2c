"""Worker processes that really die."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from pebble import ProcessPool

from lomas_gql.workers.pool import WorkerLost, Workers

T = TypeVar("T")
warmed = False


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(1, 2048)
    yield workers
    workers.stop()


async def call(workers: Workers, function: Callable[..., T], *arguments: Any) -> T:
    """One call, given time enough by its second argument."""
    async with workers.take("somebody") as worker:
        return await worker.call(function, *arguments)


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


async def test_a_call_is_answered_by_another_process(workers: Workers) -> None:
    assert await call(workers, os.getpid, 20) != os.getpid()


async def test_a_worker_that_dies_between_two_calls_is_followed_by_another(workers: Workers) -> None:
    async with workers.take("somebody") as worker:
        pid = await worker.call(os.getpid, 20)
    os.kill(pid, signal.SIGKILL)
    while not worker.lost:
        await asyncio.sleep(0.01)
    assert await call(workers, os.getpid, 20) != pid


async def test_a_call_that_is_cancelled_ends_its_process_and_keeps_no_place(workers: Workers) -> None:
    pid = await call(workers, os.getpid, 20)
    sleeping = asyncio.create_task(call(workers, sleep, 60, 60))
    while not workers.load().running:
        await asyncio.sleep(0.01)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert (workers.load().running, workers.load().waiting) == (0, 0)
    assert await call(workers, os.getpid, 20) != pid


def get_warm() -> None:
    global warmed
    warmed = True


def note(folder: Path, name: int) -> tuple[int, bool]:
    """Leaves a trace of each time that it is called; tells in which process, and whether that was warm."""
    with (folder / str(name)).open("a") as file:
        file.write("x")
    return os.getpid(), warmed


@pytest.fixture
def brief(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Workers whose processes do three calls."""
    workers = Workers(request.param, 2048, calls=3)
    workers.warm(get_warm)
    yield workers
    workers.stop()


@pytest.mark.parametrize("brief", [1, 2], indirect=True)
async def test_processes_follow_each_other_and_no_call_is_lost_or_made_twice(brief: Workers, tmp_path: Path) -> None:
    pids: set[int] = set()
    made = 0
    while len(pids) < 6:
        told = await asyncio.gather(*(call(brief, note, 20, tmp_path, made + number) for number in range(10)))
        made += 10
        pids |= {pid for pid, _ in told}
        assert all(warm for _, warm in told)
    assert traces(tmp_path) == {str(number): "x" for number in range(made)}


def traces(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.parametrize("brief", [1], indirect=True)
async def test_a_call_under_way_ends_in_the_process_in_which_it_began(brief: Workers, tmp_path: Path) -> None:
    pids = {await call(brief, os.getpid, 20) for _ in range(2)}
    # The third is the last of its share; the next is followed while it runs.
    pids.add(await call(brief, os.getpid, 20))
    assert await call(brief, sleep, 20, 1) in pids
    assert await call(brief, os.getpid, 20) not in pids


kept: list[bytes] = []


def keep() -> int:
    kept.append(b"x" * 1200 * 2**20)
    return os.getpid()


async def test_a_process_that_keeps_half_of_its_memory_is_followed_by_another(workers: Workers) -> None:
    pid = await call(workers, keep, 60)
    while (now := await call(workers, os.getpid, 20)) == pid:
        await asyncio.sleep(0.05)
    while psutil.pid_exists(pid):
        await asyncio.sleep(0.05)
    assert now != pid


async def test_a_worker_that_cannot_be_started_for_a_while_is_not_gone_for_good(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.warm(get_warm)
    pid = await call(workers, os.getpid, 20)
    start, tried = ProcessPool._start_pool, []

    def fail(pool: ProcessPool) -> None:
        tried.append(pool)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(ProcessPool, "_start_pool", fail)
    with pytest.raises(WorkerLost):
        await call(workers, os.kill, 20, pid, signal.SIGKILL)
    waiting = asyncio.create_task(call(workers, os.getpid, 20))
    while len(tried) < 5:
        await asyncio.sleep(0.01)
    monkeypatch.setattr(ProcessPool, "_start_pool", start)
    assert await waiting != pid


async def test_what_waits_when_workers_stop_never_begins_and_no_process_follows(tmp_path: Path) -> None:
    workers = Workers(1, 2048)
    before = set(psutil.Process().children())
    calls = [asyncio.create_task(call(workers, note_and_sleep, 60, tmp_path, number)) for number in range(3)]
    while not traces(tmp_path):
        await asyncio.sleep(0.01)
    await asyncio.to_thread(workers.stop)
    # Time enough for a process to begin.
    await asyncio.wait(calls, timeout=2)
    assert list(traces(tmp_path)) == ["0"]
    # But for the one that looks after multiprocessing's own things.
    left = set(psutil.Process().children()) - before
    assert [child for child in left if "spawn_main" in " ".join(child.cmdline())] == []
    for each in calls:
        each.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


def note_and_sleep(folder: Path, number: int) -> None:
    note(folder, number)
    time.sleep(60)


def test_busy_workers_end_with_their_server(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio, os, time\n"
        "from lomas_gql.workers.pool import Workers\n"
        "async def main():\n"
        "    workers = Workers(1, 2048)\n"
        "    async with workers.take('somebody') as worker:\n"
        "        print(await worker.call(os.getpid, 20), flush=True)\n"
        "        busy = asyncio.create_task(worker.call(time.sleep, 60, 60))\n"
        "        await asyncio.sleep(0.5)\n"
        "        os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__': asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    worker = int(ended.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)

"""Worker processes that really die."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lomas_gql.workers.pool import WorkerLost, Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(1, 2048)
    yield workers
    workers.stop()


def die() -> None:
    os.abort()


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def shout(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    os.write(2, text.encode())


async def test_a_call_is_answered_by_another_process(workers: Workers) -> None:
    assert await workers.call(os.getpid, 20) != os.getpid()


async def test_a_worker_that_dies_is_one_failed_call(workers: Workers) -> None:
    with pytest.raises(WorkerLost, match="died"):
        await workers.call(die, 20)
    assert await workers.call(sleep, 20, 0)


async def test_a_worker_that_takes_too_long_is_ended(workers: Workers) -> None:
    pid = await workers.call(os.getpid, 20)
    with pytest.raises(WorkerLost, match="limit"):
        await workers.call(sleep, 0.3, 60)
    assert await workers.call(os.getpid, 20) != pid
    assert not psutil.pid_exists(pid)


def panic(kind: type[BaseException]) -> None:
    raise kind("a private value")


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
async def test_of_an_error_only_the_kind_comes_out(workers: Workers, kind: type[BaseException]) -> None:
    with pytest.raises(WorkerLost) as caught:
        await workers.call(panic, 20, kind)
    assert "private" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert await workers.call(sleep, 20, 0)


def hoard() -> int:
    held = b"x" * 3 * 2**30
    time.sleep(20)
    return len(held)


async def test_a_worker_over_its_memory_limit_is_ended(workers: Workers) -> None:
    with pytest.raises(WorkerLost, match="died"):
        await workers.call(hoard, 60)


async def test_what_a_library_prints_goes_nowhere(workers: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    await workers.call(shout, 20, "a private value")
    await asyncio.sleep(0.1)
    assert "private" not in "".join(capfd.readouterr())


def test_busy_workers_end_with_their_server(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio, os, time\n"
        "from lomas_gql.workers.pool import Workers\n"
        "async def main():\n"
        "    workers = Workers(1, 2048)\n"
        "    print(await workers.call(os.getpid, 20), flush=True)\n"
        "    busy = asyncio.create_task(workers.call(time.sleep, 60, 60))\n"
        "    await asyncio.sleep(0.5)\n"
        "    os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__': asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    worker = int(ended.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)

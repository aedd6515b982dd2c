"""Rule 2: once private rows are touched, every failure is one fixed message, and the charge stays.

Enforced in `services/jobs.release`, which makes a value of whatever is raised and keeps its type alone, and in
`services/running._settled`, which has one message for it. What fails on dummy rows may be told, and costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import pytest

from lomas_gql.errors import (
    InvalidQuery,
    LibraryFailed,
)
from lomas_gql.services import releases
from lomas_gql.services.runtime import Runtime
from lomas_gql.workers.pool import WorkerLost, Workers
from tests.services import test_releases as running
from tests.workers import test_pool as pool


@pytest.mark.parametrize("behaviour", ["die", "spin", "raise", "panic", "exit"])
async def test_a_failing_run_is_charged_and_tells_nothing(
    runtime: Runtime, behaviour: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LibraryFailed) as caught:
        await releases.execute(runtime, running.VIEWER, running.asked(running.Fake(private=behaviour)), None)
    assert caught.value.cost.epsilon_text == await running.spent(runtime) == "0.5"
    assert caught.value.message == (
        "OPENDP gave no answer on the private rows. The query was charged; nothing was released."
    )
    assert await running.history(runtime) == ["FAILED"]
    assert running.SECRET not in caplog.text
    # The server goes on: the same user, another query.
    assert (await releases.execute(runtime, running.VIEWER, running.asked(running.Fake()), None)).answer.value == 344


@pytest.mark.parametrize("behaviour", ["die", "raise", "panic"])
async def test_a_query_that_fails_on_dummy_rows_costs_nothing(runtime: Runtime, behaviour: str) -> None:
    for attempt in (
        releases.execute(runtime, running.VIEWER, running.asked(running.Fake(dummy=behaviour)), None),
        releases.run_dummy(
            runtime, running.VIEWER, running.asked(running.Fake(dummy=behaviour)), running.PREFLIGHT, 1
        ),
    ):
        with pytest.raises(InvalidQuery) as caught:
            await attempt
        assert "/a/path" not in caught.value.message
    assert await running.spent(runtime) == "0"
    assert await running.history(runtime) == []


def shout(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    os.write(2, text.encode())


def panic(kind: type[BaseException]) -> None:
    raise kind("a private value")


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
async def test_of_an_error_only_the_kind_comes_out(workers: Workers, kind: type[BaseException]) -> None:
    with pytest.raises(WorkerLost) as caught:
        await pool.call(workers, panic, 20, kind)
    assert "private" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert await pool.call(workers, pool.sleep, 20, 0)


async def test_what_a_library_prints_goes_nowhere(workers: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    await pool.call(workers, shout, 20, "a private value")
    await asyncio.sleep(0.1)
    assert "private" not in "".join(capfd.readouterr())

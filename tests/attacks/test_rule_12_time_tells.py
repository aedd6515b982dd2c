"""Rule 12: how long a run takes depends on the rows. With a grain set, answers leave at its ticks alone.

Enforced in `services/stalling`, at the four places where an outcome leaves: an estimate, a dummy run, what comes before
a reservation, and the end of a release. A release stays RUNNING until its tick: followers, replays, slots and cancellations see
no more than who waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lomas_gql.database.models import ReleaseStatus
from lomas_gql.errors import InvalidQuery, LibraryFailed, SourceUnavailable
from lomas_gql.progress import tell, told_in
from lomas_gql.schema.queries import Query
from lomas_gql.schema.types import Release
from lomas_gql.services import releases, running, stalling
from lomas_gql.services.leases import Lease
from lomas_gql.services.runtime import Runtime
from lomas_gql.settings import Settings
from tests.services.test_releases import PREFLIGHT, VIEWER, Fake, asked, history

GRAIN = 0.5


@pytest.fixture
def stalled(runtime: Runtime) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update={"answer_grain_seconds": GRAIN}))


@pytest.mark.parametrize(("took", "waits"), [(0.0, 0.0), (0.2, 0.3), (0.49, 0.01), (0.5, 0.0), (1.3, 0.2)])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_block_ends_at_a_tick_whether_it_fails_or_not(
    monkeypatch: pytest.MonkeyPatch, took: float, waits: float, fails: bool
) -> None:
    clock, slept = [1000.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(stalling, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(stalling, "asyncio", SimpleNamespace(sleep=sleep))
    try:
        async with stalling.held_back(GRAIN):
            clock[0] += took
            if fails:
                raise LibraryFailed("OPENDP", releases.PrivacyLoss())
    except LibraryFailed:
        assert fails
    assert slept == [pytest.approx(waits, abs=1e-9)]


ESTIMATE: Callable[[Runtime, Fake], Awaitable[Any]] = lambda runtime, query: releases.estimate(  # noqa: E731
    runtime, VIEWER, asked(query)
)
DUMMY: Callable[[Runtime, Fake], Awaitable[Any]] = lambda runtime, query: releases.run_dummy(  # noqa: E731
    runtime, VIEWER, asked(query), PREFLIGHT, 1
)
EXECUTE: Callable[[Runtime, Fake], Awaitable[Any]] = lambda runtime, query: releases.execute(  # noqa: E731
    runtime, VIEWER, asked(query), None
)
SUBMIT: Callable[[Runtime, Fake], Awaitable[Any]] = lambda runtime, query: releases.submit(  # noqa: E731
    runtime, VIEWER, asked(query), None
)


# Never sooner: a machine that is busy can only make it later.
WAYS_OUT = {
    "estimate": (ESTIMATE, Fake(), 1),
    "dummy run": (DUMMY, Fake(), 1),
    "dummy run that fails": (DUMMY, Fake(dummy="raise"), 1),
    "refusal": (EXECUTE, Fake(dummy="raise"), 1),
    "answer": (EXECUTE, Fake(), 2),
    "failure": (EXECUTE, Fake(private="raise"), 2),
    "submission": (SUBMIT, Fake(), 1),
}


async def test_every_way_out_waits_for_its_tick(stalled: Runtime, runtime: Runtime) -> None:
    # The first call starts the processes, and is not held back.
    await releases.execute(runtime, VIEWER, asked(Fake()), None)
    for name, (ask, query, ticks) in WAYS_OUT.items():
        began = time.monotonic()
        with contextlib.suppress(LibraryFailed, InvalidQuery):
            await ask(stalled, query)
        assert time.monotonic() - began >= ticks * GRAIN, name


async def test_a_release_that_has_run_is_running_until_its_tick(
    stalled: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick = asyncio.Event()

    async def sleep(_: float) -> None:
        if stalled.running:
            await tick.wait()

    monkeypatch.setattr(stalling, "asyncio", SimpleNamespace(sleep=sleep))
    waiting = asyncio.create_task(releases.execute(stalled, VIEWER, asked(Fake()), None))
    while not stalled.running:
        await asyncio.sleep(0.005)
    [call] = stalled.running.values()
    await asyncio.wait([call])
    # More than enough to settle it, were it not held back.
    await asyncio.sleep(0.5)
    assert await history(stalled) == ["RUNNING"]
    assert not waiting.done()
    tick.set()
    await waiting
    assert await history(stalled) == ["RELEASED"]


async def test_a_release_outlasts_a_grain_that_is_longer_than_a_lease(stalled: Runtime) -> None:
    short = replace(stalled, lease=Lease(stalled.lease.server, GRAIN / 2))
    heartbeat = asyncio.create_task(running.keep_lease(short))
    try:
        assert (await releases.execute(short, VIEWER, asked(Fake()), None)).answer.value == 344
    finally:
        heartbeat.cancel()
    assert await history(stalled) == ["RELEASED"]


async def test_rows_that_went_while_a_query_waited_for_its_tick_cost_nothing(
    stalled: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        for prepared in stalled.settings.cache_dir.rglob("*.arrow"):
            prepared.unlink()

    monkeypatch.setattr(stalling, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(SourceUnavailable):
        await releases.execute(stalled, VIEWER, asked(Fake()), None)
    assert await history(stalled) == []


def holding(seconds: float, folder: Path) -> Any:
    settings = Settings(data_dir=folder, database_url="", answer_grain_seconds=seconds)
    return SimpleNamespace(settings=settings)


def test_progress_is_not_told_where_time_must_not_tell(tmp_path: Path) -> None:
    release: Any = SimpleNamespace(id=7, status=ReleaseStatus.RUNNING.value)
    (tmp_path / "progress").mkdir()
    told_in(tmp_path / "progress" / "7.json")
    tell(0.5, "choosing pairs of columns")
    told_in(None)
    assert running.progress_of(holding(0, tmp_path), release) is not None
    assert running.progress_of(holding(GRAIN, tmp_path), release) is None


def test_times_are_told_to_the_grain(tmp_path: Path) -> None:
    at = datetime(2026, 5, 4, 3, 2, 1, 765_432, tzinfo=UTC)
    row = SimpleNamespace(row=SimpleNamespace(created_at=at, finished_at=at.replace(second=9)))
    fields = {field.python_name: field for field in Release.__strawberry_definition__.fields}  # type: ignore[attr-defined]

    def told(name: str, grain: float) -> datetime:
        info = SimpleNamespace(context=SimpleNamespace(runtime=holding(grain, tmp_path)))
        return fields[name].base_resolver.wrapped_func(row, info)  # type: ignore[no-any-return]

    assert told("created_at", 0) == at
    assert told("created_at", GRAIN) == at.replace(microsecond=500_000)
    assert told("finished_at", GRAIN) == at.replace(second=9, microsecond=500_000)
    assert told("finished_at", 10) == at.replace(second=0, microsecond=0)


@pytest.mark.parametrize("grain", [0.0, GRAIN])
async def test_how_busy_private_workers_are_is_not_told_beside_a_grain(runtime: Runtime, grain: float) -> None:
    settings = runtime.settings.model_copy(update={"answer_grain_seconds": grain})
    info: Any = SimpleNamespace(context=SimpleNamespace(runtime=replace(runtime, settings=settings)))
    state = Query().server_state(info)
    assert (state.private_workers is None) == bool(grain)

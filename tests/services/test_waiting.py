"""Queries that wait for a worker: each user's in turn, refused for free where too many wait, and none forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.errors import (
    BudgetExceeded,
    DatabaseUnavailable,
    IdempotencyConflict,
    LibraryFailed,
    QueryOngoing,
    ServerBusy,
)
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows
from lomas_gql.services import administration, leases, ledger, releases, running, settling
from lomas_gql.services.importing import import_catalogue
from lomas_gql.services.releases import Input
from lomas_gql.services.runtime import Runtime
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Workers
from tests.conftest import DEMO
from tests.services.test_releases import VIEWER as AMPLE
from tests.services.test_releases import Fake, asked, history, spent

WAITING = 5
OTHER = Viewer(2, "other", may_query=True)


@dataclass(frozen=True)
class Noted:
    """Notes its name when it runs on private rows, and ends once the gate is open."""

    folder: Path
    name: str
    library: ClassVar[Library] = Library.OPENDP

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        return PrivacyLoss.declared("0.1")

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        import time

        if rows.frame.height == 344:
            with (self.folder / "order").open("a") as order:
                order.write(f"{self.name} ")
            while not (self.folder / "gate").exists():
                time.sleep(0.01)
        return Answer(self.library, value=0)


def noted(folder: Path, name: str) -> Input:
    return Input("PENGUIN", Noted(folder, name), {"fake": name})


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    settings = Settings(data_dir=tmp_path, database_url="", preflight_rows=17, query_seconds=20, running_per_user=20)
    workers = [Workers(1, 4096, waiting=WAITING * 2) for _ in range(2)]
    lease = leases.lease_of_this_process("here", 15)
    runtime = Runtime(settings, Database(settings.url), lease, *workers)
    await runtime.database.upgrade()
    await import_catalogue(runtime.database, [DEMO / "catalogue.yaml"])
    await administration.add_user(runtime.database, OTHER.name, None, may_query=True)
    await administration.grant(runtime.database, OTHER.name, "PENGUIN", "10", "0")
    yield runtime
    runtime.public.stop()
    runtime.private.stop()
    await runtime.database.close()


def under_way(workers: Workers) -> int:
    return workers.load().running + workers.load().waiting


async def test_a_user_with_many_waiting_releases_delays_another_ones_first_by_one(
    runtime: Runtime, tmp_path: Path
) -> None:
    for number in range(WAITING):
        await releases.submit(runtime, AMPLE, noted(tmp_path, f"many{number}"), None)
    # One of them runs, and the others wait.
    first = asyncio.create_task(releases.execute(runtime, OTHER, noted(tmp_path, "first"), None))
    while under_way(runtime.private) < WAITING + 1:
        await asyncio.sleep(0.01)
    (tmp_path / "gate").touch()
    await first
    while runtime.running:
        await asyncio.sleep(0.01)
    assert (tmp_path / "order").read_text().split()[:3] == ["many0", "first", "many1"]
    assert (await history(runtime)) == ["RELEASED"] * WAITING


def fill(workers: Workers) -> list[Any]:
    """Takes all places, as many users would."""
    taken = []
    try:
        for number in range(1000):
            taken.append(workers.take(f"stranger {number}"))
    except ServerBusy:
        return taken
    raise AssertionError("it has no bound")


async def test_a_full_queue_costs_nothing_and_starts_nothing(runtime: Runtime) -> None:
    done = await releases.execute(runtime, AMPLE, asked(Fake()), "key")
    taken = fill(runtime.private)
    for attempt in (releases.execute, releases.submit):
        with pytest.raises(ServerBusy):
            await attempt(runtime, AMPLE, asked(Fake()), None)
    assert await spent(runtime) == "0.5"
    assert await history(runtime) == ["RELEASED"]
    # What is already there needs no worker.
    assert (await releases.execute(runtime, AMPLE, asked(Fake()), "key")).replayed
    assert (await releases.execute(runtime, AMPLE, asked(Fake()), None, reuse=True)).release.id == done.release.id
    taken.pop().leave()
    assert (await releases.execute(runtime, AMPLE, asked(Fake()), None)).answer.value == 344


async def test_estimates_and_dummy_runs_are_refused_too_and_only_where_it_is_full(runtime: Runtime) -> None:
    taken = fill(runtime.public)
    for attempt in (
        releases.estimate(runtime, AMPLE, asked(Fake())),
        releases.run_dummy(runtime, AMPLE, asked(Fake()), 17, 1),
        releases.execute(runtime, AMPLE, asked(Fake()), None),
    ):
        with pytest.raises(ServerBusy):
            await attempt
    assert under_way(runtime.private) == 0
    for place in taken:
        place.leave()
    assert (await releases.estimate(runtime, AMPLE, asked(Fake()))).affordable


async def test_rows_that_cannot_be_read_for_want_of_a_place_are_read_later(runtime: Runtime) -> None:
    taken = fill(runtime.private)
    with pytest.raises(ServerBusy):
        await releases.execute(runtime, AMPLE, asked(Fake()), None)
    assert runtime.readings == {}
    for place in taken:
        place.leave()
    assert (await releases.execute(runtime, AMPLE, asked(Fake()), None)).answer.value == 344


async def test_a_place_is_given_back_however_a_run_ends(runtime: Runtime) -> None:
    for behaviour in ("answer", "raise", "die", "overspend", "exit"):
        with pytest.raises(LibraryFailed) if behaviour != "answer" else nullcontext():
            await releases.execute(runtime, AMPLE, asked(Fake(private=behaviour)), None)
        assert under_way(runtime.private) == under_way(runtime.public) == 0, behaviour


REFUSALS = [
    BudgetExceeded(PrivacyLoss.declared("1"), PrivacyLoss()),
    QueryOngoing("ongoing"),
    IdempotencyConflict("conflict"),
    DatabaseUnavailable("away"),
    ConnectionError("a bug"),
    asyncio.CancelledError(),
]


async def test_a_place_is_given_back_where_the_reservation_refuses(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in REFUSALS:
        seen = []

        async def refuse(*_: object, error: BaseException = error, seen: list[int] = seen) -> None:
            seen.append(under_way(runtime.private))
            raise error

        monkeypatch.setattr(ledger, "reserve", refuse)
        with pytest.raises(type(error)):
            await releases.execute(runtime, AMPLE, asked(Fake()), None)
        # The place was there before it was charged, and is free again.
        assert (seen, under_way(runtime.private)) == ([1], 0), error


async def test_a_place_is_given_back_by_a_release_that_is_cancelled(runtime: Runtime, tmp_path: Path) -> None:
    await releases.submit(runtime, OTHER, noted(tmp_path, "long"), None)
    waits = await releases.submit(runtime, AMPLE, noted(tmp_path, "waits"), None)
    new = await releases.submit(runtime, AMPLE, noted(tmp_path, "new"), None)
    # Before its task has made a step.
    runtime.running[new.release.id].cancel()
    for release in (new, waits):
        await running.cancel(runtime, AMPLE, release.release.id)
    while len(runtime.running) > 1 or not (tmp_path / "order").exists():
        await asyncio.sleep(0.01)
    assert under_way(runtime.private) == 1
    [long] = runtime.running
    await running.cancel(runtime, OTHER, long)
    while runtime.running:
        await asyncio.sleep(0.01)
    assert under_way(runtime.private) == 0
    (tmp_path / "gate").touch()
    await releases.execute(runtime, AMPLE, noted(tmp_path, "next"), None)
    # They never ran where they had no worker yet.
    assert (tmp_path / "order").read_text().split() == ["long", "next"]
    assert await history(runtime) == ["RELEASED", "CANCELLED", "CANCELLED"]


async def test_a_place_is_given_back_when_the_answer_cannot_be_kept(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bool:
        raise DatabaseUnavailable("away")

    short = replace(runtime, lease=replace(runtime.lease, seconds=0.3))
    monkeypatch.setattr(settling, "settle", away)
    with pytest.raises(DatabaseUnavailable):
        await releases.execute(short, AMPLE, asked(Fake()), None)
    assert under_way(runtime.private) == 0

"""Followers of releases: one look for all of them, each sees the end, and none leaves anything behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import catalogue, leases, ledger, running, settling
from lomas_gql.services.importing import import_catalogue
from lomas_gql.services.ledger import Reservation
from lomas_gql.services.runtime import Runtime
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Workers
from tests.conftest import DEMO

VIEWER = Viewer(1, "ample", may_query=True)
RELEASES, FOLLOWERS = 3, 30


@pytest.fixture
async def runtime(tmp_path: Path, database_url: str) -> AsyncIterator[Runtime]:
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    lease = leases.lease_of_this_process("here", 15)
    runtime = Runtime(settings, Database(settings.url), lease, Workers(1, 4096), Workers(1, 4096))
    await runtime.database.upgrade()
    await import_catalogue(runtime.database, [DEMO / "catalogue.yaml"])
    yield runtime
    await runtime.database.close()


async def begun(runtime: Runtime) -> list[int]:
    """Releases that run for as long as the test: nobody works on them."""
    async with runtime.database.reading() as session:
        dataset = (await catalogue.granted(session, VIEWER, "PENGUIN")).id
    reservation = Reservation(VIEWER.id, dataset, "OPENDP", PrivacyLoss.declared("0.1"), {}, "digest", None)
    lease = leases.lease_of_this_process("elsewhere", 3600)
    return [(await ledger.reserve(runtime.database, reservation, lease, RELEASES)).id for _ in range(RELEASES)]


async def statuses(runtime: Runtime, id: int, begun: asyncio.Semaphore) -> list[str]:
    seen = []
    async with aclosing(running.follow(runtime, VIEWER, id)) as told:  # type: ignore[type-var]
        async for release in told:
            seen.append(release.status)
            begun.release()
    return seen


async def test_all_followers_see_the_end_in_one_look(runtime: Runtime) -> None:
    ids, started = await begun(runtime), asyncio.Semaphore(0)
    statements: list[str] = []

    def heard(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    following = [asyncio.create_task(statuses(runtime, ids[i % RELEASES], started)) for i in range(FOLLOWERS)]
    for _ in following:
        await started.acquire()
    for id in ids:
        assert await settling.cancel(runtime.database, VIEWER, id)
    event.listen(runtime.database.engine.sync_engine, "before_cursor_execute", heard)
    assert await asyncio.gather(*following) == [["RUNNING", "CANCELLED"]] * FOLLOWERS
    # That look, and one that began before the last release had ended.
    assert 1 <= len(statements) <= 2


async def test_who_leaves_takes_nothing_from_the_others_and_the_last_leaves_nothing(runtime: Runtime) -> None:
    [id, other, _], started = await begun(runtime), asyncio.Semaphore(0)
    before = asyncio.all_tasks()
    first, second, third = (asyncio.create_task(statuses(runtime, id, started)) for _ in range(3))
    for _ in range(3):
        await started.acquire()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - before) == 4, "three followers and one look"
    first.cancel()
    assert await settling.cancel(runtime.database, VIEWER, id)
    assert await asyncio.gather(second, third) == [["RUNNING", "CANCELLED"]] * 2
    assert asyncio.all_tasks() == before

    last = asyncio.create_task(statuses(runtime, other, started))
    while started.locked():
        await asyncio.sleep(0.01)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_nobody_follows_another_ones_release_while_its_owner_does(runtime: Runtime) -> None:
    [id, *_], started = await begun(runtime), asyncio.Semaphore(0)
    owner = asyncio.create_task(statuses(runtime, id, started))
    await started.acquire()
    stranger = Viewer(VIEWER.id + 1, "other", may_query=True)
    assert [release async for release in running.follow(runtime, stranger, id)] == []
    assert await settling.cancel(runtime.database, VIEWER, id)
    assert await owner == ["RUNNING", "CANCELLED"]

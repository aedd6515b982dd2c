"""Estimate, dummy run and execution, with a query whose behaviour on private rows is chosen."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.errors import (
    BudgetExceeded,
    DatabaseUnavailable,
    Forbidden,
    LibraryFailed,
    Overspent,
    QueryOngoing,
    SourceUnavailable,
)
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows
from lomas_gql.services import administration, catalogue, leases, releases, settling
from lomas_gql.services.importing import import_catalogue
from lomas_gql.services.releases import Input
from lomas_gql.services.running import keep_lease
from lomas_gql.services.runtime import Runtime
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Workers
from tests.conftest import DEMO

PREFLIGHT = 17
VIEWER = Viewer(1, "ample", may_query=True)
SECRET = "planted-private-value"


@dataclass(frozen=True)
class Fake:
    """Costs epsilon 0.5; does what it is told, on dummy rows or on the private ones."""

    private: str = "answer"
    dummy: str = "answer"
    library: ClassVar[Library] = Library.OPENDP

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        return PrivacyLoss.declared("0.5")

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        match self.dummy if rows.frame.height == PREFLIGHT else self.private:
            case "die":
                os.abort()
            case "spin":
                time.sleep(60)
            case "wait":
                time.sleep(1)
            case "panic":
                raise KeyboardInterrupt(SECRET)
            case "exit":
                raise SystemExit(SECRET)
            case "raise":
                raise ValueError(f"{SECRET} in /a/path/of/ours.py")
            case "overspend":
                raise Overspent(PrivacyLoss.declared("0.75"))
        return Answer(self.library, value=rows.frame.height)


def asked(query: Fake) -> Input:
    return Input("PENGUIN", query, {"fake": [query.private, query.dummy]})


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    settings = Settings(
        data_dir=tmp_path, database_url="", preflight_rows=PREFLIGHT, query_seconds=3, check_seconds=20
    )
    lease = leases.lease_of_this_process("here", 15)
    runtime = Runtime(settings, Database(settings.url), lease, Workers(1, 4096), Workers(1, 4096))
    await runtime.database.upgrade()
    await import_catalogue(runtime.database, [DEMO / "catalogue.yaml"])
    yield runtime
    runtime.public.stop()
    runtime.private.stop()
    await runtime.database.close()


async def spent(runtime: Runtime) -> str:
    async with runtime.database.reading() as session:
        return (await catalogue.granted(session, VIEWER, "PENGUIN")).grant.spent.epsilon_text


async def history(runtime: Runtime) -> list[str]:
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, VIEWER, "PENGUIN")
        [page] = await catalogue.histories(session, VIEWER, [granted.id], catalogue.HistoryFilter(first=10))
        return [release.status for release in page.items]


async def test_an_execution_runs_on_the_private_rows_and_is_charged(runtime: Runtime) -> None:
    executed = await releases.execute(runtime, VIEWER, asked(Fake()), None)
    assert executed.answer.value == 344
    assert executed.release.cost.epsilon_text == executed.budget.grant.spent.epsilon_text == "0.5"
    assert await history(runtime) == ["RELEASED"]


async def test_a_client_that_goes_away_leaves_a_release_that_finishes(runtime: Runtime) -> None:
    await releases.execute(runtime, VIEWER, asked(Fake()), None)
    waiting = asyncio.create_task(releases.execute(runtime, VIEWER, asked(Fake(private="wait")), None))
    while await spent(runtime) != "1":
        await asyncio.sleep(0.01)
    waiting.cancel()
    deadline = time.monotonic() + 20
    while await history(runtime) != ["RELEASED", "RELEASED"] and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert await history(runtime) == ["RELEASED", "RELEASED"]


async def test_a_second_query_waits_for_no_one(runtime: Runtime) -> None:
    await releases.execute(runtime, VIEWER, asked(Fake()), None)
    first = asyncio.create_task(releases.execute(runtime, VIEWER, asked(Fake(private="wait")), None))
    while await spent(runtime) != "1":
        await asyncio.sleep(0.01)
    with pytest.raises(QueryOngoing) as caught:
        await releases.execute(runtime, VIEWER, asked(Fake()), None)
    assert caught.value.release_id == 2
    await first
    assert await spent(runtime) == "1"


async def test_a_repeat_is_free_on_the_same_version_of_the_dataset(runtime: Runtime) -> None:
    first = await releases.execute(runtime, VIEWER, asked(Fake()), None, reuse=True)
    again = await releases.execute(runtime, VIEWER, asked(Fake()), None, reuse=True)
    assert (first.reused, again.reused, again.release.id) == (False, True, first.release.id)
    assert await spent(runtime) == "0.5"
    assert not (await releases.execute(runtime, VIEWER, asked(Fake()), None)).reused
    other = await releases.execute(runtime, VIEWER, asked(Fake(private="wait")), None, reuse=True)
    assert not other.reused
    async with runtime.database.writing() as session:
        granted = await catalogue.granted(session, VIEWER, "PENGUIN")
        granted.dataset.facts = granted.dataset.facts | {"rows": 345}
        session.add(granted.dataset)
    assert not (await releases.execute(runtime, VIEWER, asked(Fake()), None, reuse=True)).reused
    assert await spent(runtime) == "2"


async def test_too_small_a_budget_is_told_before_any_row_is_read(runtime: Runtime) -> None:
    await administration.grant(runtime.database, "ample", "PENGUIN", "0.4", "0")
    with pytest.raises(BudgetExceeded):
        await releases.execute(runtime, VIEWER, asked(Fake(private="die")), None)
    assert await history(runtime) == []


async def test_who_may_only_look_is_told_so(runtime: Runtime) -> None:
    with pytest.raises(Forbidden):
        await releases.execute(runtime, Viewer(1, "ample", may_query=False), asked(Fake()), None)


async def test_a_release_that_cannot_be_settled_is_interrupted_when_its_lease_runs_out(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionError(SECRET)

    short = replace(runtime, lease=replace(runtime.lease, seconds=0.5))
    with monkeypatch.context() as broken:
        broken.setattr(settling, "settle", away)
        with pytest.raises(LibraryFailed):
            await releases.execute(short, VIEWER, asked(Fake()), None)
    assert await history(runtime) == ["RUNNING"]
    await asyncio.sleep(0.6)
    await leases.renew(runtime.database, short.lease, list(short.running))
    assert await settling.interrupt_dead(runtime.database, short.lease) == 1
    assert await history(runtime) == ["INTERRUPTED"]
    assert await spent(runtime) == "0.5"


async def test_an_answer_whose_confirmation_was_lost_is_released_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, settled = settling.settle, []

    async def unconfirmed(*arguments: Any) -> bool:
        settled.append(await settle(*arguments))
        if len(settled) == 1:
            raise DatabaseUnavailable("lost at the commit")
        return settled[-1]

    monkeypatch.setattr(settling, "settle", unconfirmed)
    executed = await releases.execute(runtime, VIEWER, asked(Fake()), None)
    assert (executed.answer.value, executed.release.status, settled) == (344, "RELEASED", [True, False])
    assert await spent(runtime) == "0.5"


async def test_a_client_is_told_that_a_query_was_charged_before_the_database_was_lost(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bool:
        raise DatabaseUnavailable("away")

    short = replace(runtime, lease=replace(runtime.lease, seconds=0.5))
    monkeypatch.setattr(settling, "settle", away)
    with pytest.raises(DatabaseUnavailable, match="after the query was charged"):
        await releases.execute(short, VIEWER, asked(Fake()), None)
    assert await spent(runtime) == "0.5"
    # Not renewed any more: a heartbeat settles it when its lease has run out.
    heartbeat = asyncio.create_task(keep_lease(short))
    while await history(runtime) == ["RUNNING"]:
        await asyncio.sleep(0.05)
    heartbeat.cancel()
    assert await history(runtime) == ["INTERRUPTED"]


async def test_a_missing_file_costs_nothing(runtime: Runtime) -> None:
    async with runtime.database.writing() as session:
        granted = await catalogue.granted(session, VIEWER, "PENGUIN")
        granted.dataset.source = {"path": "/no/such/file.csv"}
        session.add(granted.dataset)
    with pytest.raises(SourceUnavailable) as caught:
        await releases.execute(runtime, VIEWER, asked(Fake()), None)
    assert "/no/such" not in caught.value.message
    assert await spent(runtime) == "0"

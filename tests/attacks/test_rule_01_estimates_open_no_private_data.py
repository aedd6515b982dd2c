"""Rule 1: what is free never opens private data, and what is not granted looks like what is not there.

Enforced where a query is priced: `cost` takes metadata and no rows, and runs in processes that are handed no path.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any

from sqlalchemy import event

from lomas_gql.database.engine import Database
from lomas_gql.errors import LibraryFailed
from lomas_gql.services import administration, releases
from lomas_gql.services.importing import import_catalogue
from lomas_gql.services.runtime import Runtime
from tests.attacks import neighbours
from tests.attacks.neighbours import DUMMY, ESTIMATE, EXECUTE, FAR, NEAR, Pair, sql
from tests.attacks.traps import trap
from tests.services import test_releases as running


async def test_estimates_and_dummy_runs_read_no_private_file(runtime: Runtime) -> None:
    deadly = running.asked(running.Fake(private="die"))
    estimate = await releases.estimate(runtime, running.VIEWER, deadly)
    tried = await releases.run_dummy(runtime, running.VIEWER, deadly, running.PREFLIGHT, 1)
    assert estimate.cost == tried.cost
    assert estimate.affordable
    assert not runtime.settings.cache_dir.exists()


def test_the_kernel_sees_no_private_file_opened_for_what_is_free(pair: Pair) -> None:
    query = sql("SELECT COUNT(*) AS n FROM df WHERE age > 33")
    pair.ask(EXECUTE, NEAR, query)
    prepared = next((pair.server.data_dir / "prepared").glob("*/*.arrow")).parent
    with trap(prepared) as watched:
        watched.caught()
        for _ in range(2):
            pair.ask(ESTIMATE, NEAR, query)
            pair.ask(DUMMY, NEAR, query)
        assert watched.caught() == []


class Statements:
    """The SQL that is sent to a database, with numbers blotted out."""

    def __init__(self, database: Database) -> None:
        self.seen: list[str] = []
        event.listen(database.engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self.seen.append(re.sub(r"\d+", "#", statement))

    def taken(self) -> list[str]:
        taken, self.seen = self.seen, []
        return taken


async def _outcome(execution: Coroutine[Any, Any, releases.Executed]) -> str:
    try:
        return (await execution).release.status
    except LibraryFailed:
        return "FAILED"


async def test_the_ledger_is_asked_the_same_on_neighbours(runtime: Runtime) -> None:
    catalogue = neighbours.write(runtime.settings.data_dir)
    await import_catalogue(runtime.database, [catalogue])
    for name in (NEAR, FAR):
        await administration.grant(runtime.database, "ample", name, "100", "0.1")
    statements = Statements(runtime.database)
    sent: dict[str, list[list[str]]] = {}
    for name in (NEAR, FAR):
        sent[name] = []
        for behaviour in ("answer", "raise"):
            query = running.Fake(private=behaviour)
            asked = releases.Input(name, query, {"fake": behaviour})
            statements.taken()
            await releases.estimate(runtime, running.VIEWER, asked)
            await _outcome(releases.execute(runtime, running.VIEWER, asked, f"{name} {behaviour}"))
            await _outcome(releases.execute(runtime, running.VIEWER, asked, f"{name} {behaviour}"))
            sent[name].append(statements.taken())
    assert sent[NEAR] == sent[FAR]
    assert all(len(found) > 5 for found in sent[NEAR])

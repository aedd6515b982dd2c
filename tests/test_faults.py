"""Servers and databases that really die. `make faults` does the same for longer."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from gql import Client as GqlClient
from gql import gql

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.schema.ids import opaque
from lomas_gql.services import administration, ledger, settling
from lomas_gql.services.leases import Lease
from lomas_gql.services.ledger import Reservation
from tests import faults
from tests.conftest import Client, Server, free_port, new_server
from tests.faults import Asker
from tests.own_databases import OwnPostgres, OwnSqlite
from tests.test_long_work import websocket

ROUNDS = 2
COST_UNITS = 10**11


@dataclass
class Fleet:
    """Servers on one database, and clients that count what they are answered."""

    database: OwnSqlite | OwnPostgres
    servers: list[Server]
    askers: list[Asker]

    def of(self, server: Server) -> Sequence[Asker]:
        """The clients, turned to that server."""
        for asker in self.askers:
            asker.client.url = server.url
        return self.askers


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three running servers on a database of their own, which may be killed."""
    folder = tmp_path_factory.mktemp("fleet")
    database = OwnSqlite(folder / "lomas.db") if request.param == "sqlite" else OwnPostgres(folder)
    options = {"LOMAS_DATABASE_URL": database.url} | faults.LIGHT
    first = new_server(folder, **options)
    servers = [first, *(Server(folder, options) for _ in range(2))]
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Server.start, servers))
        yield Fleet(database, servers, faults.askers_of(first, 4))
    finally:
        for server in servers:
            server.stop()
        database.cleanup()


@pytest.mark.parametrize("count", [1, 3])
def test_exactly_what_a_cap_over_all_users_allows_is_released(fleet: Fleet, count: int) -> None:
    server = fleet.servers[0]
    before, _ = server.run(lambda database: administration.dataset_and_grants(database, "PENGUIN"))
    cap = f"{(before.spent_epsilon + 50 * COST_UNITS) / 10**12:.12f}"
    clients = [server.user(epsilon="100") for _ in range(20)]
    server.run(lambda database: administration.cap(database, "PENGUIN", {"epsilon": cap}))
    assert faults.race(fleet.servers[:count], clients, 200) == {"Executed": 50, "BudgetExceeded": 150}
    dataset, grants = server.run(lambda database: administration.dataset_and_grants(database, "PENGUIN"))
    assert dataset.spent_epsilon == dataset.cap_epsilon == sum(grant.spent_epsilon for _, grant in grants)
    server.run(lambda database: administration.cap(database, "PENGUIN", {"epsilon": "none"}))


def test_every_answer_is_charged_after_kill_9_of_a_server(fleet: Fleet) -> None:
    server = fleet.servers[0]
    for _ in range(ROUNDS):
        assert faults.kill_server(server, fleet.of(server)) == []


def test_a_server_outlives_a_database_that_is_away(fleet: Fleet) -> None:
    server = fleet.servers[0]
    process = server.process
    assert faults.take_away(server, fleet.of(server), fleet.database.away(), 3) == []
    assert server.process is process


@pytest.mark.parametrize("fleet", ["postgresql"], indirect=True)
def test_every_answer_is_charged_after_kill_9_of_postgresql(fleet: Fleet) -> None:
    assert isinstance(fleet.database, OwnPostgres)
    server = fleet.servers[0]
    for _ in range(ROUNDS):
        assert faults.kill_postgresql(server, fleet.database, fleet.of(server)) == []


@pytest.mark.parametrize("fleet", ["postgresql"], indirect=True)
def test_clients_are_told_that_the_database_is_away(fleet: Fleet) -> None:
    client, stranger = fleet.servers[1].user(), Client(fleet.servers[1].url, None)
    with fleet.database.away():
        answer = client.post("{ viewer { name } }")
        assert answer.headers["content-type"].startswith("application/json")
        [error] = answer.json()["errors"]
        assert error["extensions"] == {"code": "DATABASE_UNAVAILABLE"}
        assert "database does not answer" in error["message"]
        # What needs no database is answered all the same.
        assert stranger.data("{ serverState { live } viewer { name } }") == {
            "serverState": {"live": True},
            "viewer": None,
        }
        assert httpx.get(f"{stranger.url}/healthz").text == "ok\n"
    assert client.data("{ viewer { name } }")["viewer"]["name"].startswith("user")


@pytest.mark.parametrize("fleet", ["postgresql"], indirect=True)
def test_a_subscription_outlives_a_database_that_is_away(fleet: Fleet) -> None:
    [asker] = faults.askers_of(fleet.servers[1], 1)
    release = fleet.servers[1].run(lambda database: begun_elsewhere(database, asker.user_id))
    query = gql("subscription($id: ID!) { release(id: $id) { status } }")
    query.variable_values = {"id": opaque("Release", release.id)}

    async def followed() -> list[str]:
        async with GqlClient(transport=websocket(asker.client)) as session:
            told = session.subscribe(query)
            first = await anext(told)
            with fleet.database.away():
                await asyncio.sleep(1)
            await asyncio.to_thread(
                fleet.servers[1].run,
                lambda database: settling.cancel(
                    database, Viewer(asker.user_id, "asker", may_query=True), release.id
                ),
            )
            return [state["release"]["status"] async for state in told] + [first["release"]["status"]]

    assert asyncio.run(followed()) == ["CANCELLED", "RUNNING"]


async def begun_elsewhere(database: Database, user_id: int) -> Release:
    """A release that a server on another host has promised to run for ten minutes."""
    dataset, _ = await administration.dataset_and_grants(database, "PENGUIN")
    reservation = Reservation(user_id, dataset.id, "OPENDP", PrivacyLoss.declared("0.1"), {}, "digest", None)
    return await ledger.reserve(database, reservation, Lease("elsewhere:1:1.00", 600), 1)


def test_what_a_dead_server_left_running_is_settled_by_another(fleet: Fleet) -> None:
    # The last test of the fleet: this one is not started again.
    dead, other = fleet.servers[2], fleet.servers[0]
    assert faults.kill_for_good(dead, other, fleet.of(dead)) == []


def test_server_processes_end_with_their_supervisor(tmp_path: Path) -> None:
    server = new_server(tmp_path, **faults.LIGHT)
    server.start("--workers", "2")
    assert server.process is not None
    family = psutil.Process(server.process.pid).children(recursive=True)
    server.kill()
    _, alive = psutil.wait_procs(family, faults.PATIENCE)
    for process in alive:
        process.kill()
    assert alive == []
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/healthz")


def test_a_server_outlives_the_shell_that_started_it(tmp_path: Path) -> None:
    server = new_server(tmp_path, **faults.LIGHT, LOMAS_LEASE_SECONDS="1")
    server.port = free_port()
    serve = f"{sys.executable} -m lomas_gql serve --port {server.port} > {tmp_path}/server.log 2>&1 & echo $!"
    shell = subprocess.run(["sh", "-c", serve], env=server.environment(), capture_output=True, text=True, check=True)
    process = psutil.Process(int(shell.stdout))
    try:
        faults.until(lambda: is_live(server), "the server")
        assert server.user().data("{ viewer { name } }")["viewer"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(faults.PATIENCE)


def is_live(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/healthz").text == "ok\n"
    except httpx.TransportError:
        return False

"""Faults, and what must hold after each: clients that count what they were answered, and checks against the tables."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import httpx
from sqlmodel import select

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release
from lomas_gql.schema.ids import number_in
from lomas_gql.services.tokens import viewer_of
from lomas_gql.services.verification import verify
from tests.conftest import Client, Server
from tests.own_databases import OwnPostgres

ASK = """mutation($input: DpQueryInput!, $key: String) { execute(input: $input, idempotencyKey: $key) {
  __typename ... on Executed { release { id } } } }"""
LIGHT = {"LOMAS_PRIVATE_WORKERS": "1", "LOMAS_PUBLIC_WORKERS": "1"}
"""Settings of a server that starts quickly, and keeps releases waiting while they are RUNNING."""
PATIENCE = 120.0
"""Seconds in which whatever is waited for must have happened."""
EXPECTED = {"Executed", "LibraryFailed", "QueryOngoing", "DATABASE_UNAVAILABLE"}
ENDED = {"RELEASED", "INTERRUPTED", "FAILED"}
COUNT = {
    "dataset": "PENGUIN",
    "query": {"smartnoiseSql": {"sql": "SELECT COUNT(*) AS n FROM df", "epsilon": 0.1, "delta": 0}},
}
"""The quickest query there is once a server has started, so that faults meet the ledger."""


@dataclass
class Asker:
    """A client that asks under a key until it has an answer, as one should, and counts what it is told."""

    client: Client
    user_id: int
    received: set[int] = field(default_factory=set)
    failed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    key: str | None = None
    asked: int = 0
    # The longest that a release which nobody ran any more kept this user from the next, in seconds.
    locked: float = 0

    def ask(self, http: httpx.Client) -> str:
        """One request. A key is kept until the request under it has an end."""
        if self.key is None:
            self.asked += 1
            self.key = f"request {self.asked}"
        body = {"query": ASK, "variables": {"input": COUNT, "key": self.key}}
        headers = {"Authorization": f"Bearer {self.client.token}"}
        answer = http.post(f"{self.client.url}/graphql", json=body, headers=headers).json()
        told = (answer.get("data") or {}).get("execute")
        outcome: str = told["__typename"] if told else answer["errors"][0]["extensions"]["code"]
        if outcome == "Executed":
            self.received.add(number_in(told["release"]["id"], "Release") or 0)
        self.failed += outcome == "LibraryFailed"
        if outcome in ("Executed", "LibraryFailed"):
            self.key = None
        self.outcomes[outcome] += 1
        return outcome


def askers_of(server: Server, count: int) -> list[Asker]:
    """New users of a running server, with a budget that does not run out."""

    async def id_of(database: Database, token: str) -> int:
        async with database.reading() as session:
            viewer = await viewer_of(session, f"Bearer {token}")
        assert viewer is not None
        return viewer.id

    clients = [server.user(epsilon="1000000") for _ in range(count)]
    return [Asker(client, server.run(lambda database, c=client: id_of(database, str(c.token)))) for client in clients]


class Load:
    """Clients that ask without a pause for the length of a block, each in a thread of its own."""

    def __init__(self, askers: Sequence[Asker]) -> None:
        self.askers = askers
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._keep_asking, args=(asker,)) for asker in askers]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int, outcome: str = "Executed") -> None:
        """Returns once the clients have been told that outcome so many more times."""
        before = total(self.askers, outcome)
        until(lambda: total(self.askers, outcome) >= before + more, f"{more} more answers {outcome}")

    def _keep_asking(self, asker: Asker) -> None:
        with httpx.Client(timeout=PATIENCE) as http:
            while not self._over.is_set():
                try:
                    if asker.ask(http) != "Executed":
                        self._over.wait(0.05)
                except httpx.TransportError:
                    # The server is gone; what was pending stays pending.
                    self._over.wait(0.05)
                except Exception as error:  # noqa: BLE001 (an answer that is none is a finding)
                    asker.outcomes[f"not GraphQL: {error!r}"] += 1
                    self._over.wait(0.05)


def total(askers: Sequence[Asker], outcome: str) -> int:
    return sum(asker.outcomes[outcome] for asker in askers)


def until(condition: Callable[[], bool], what: str) -> None:
    """Returns when the condition holds; fails where it does not within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def kill_server(server: Server, askers: Sequence[Asker]) -> list[str]:
    """kill -9 of the server at a random moment under load, and a new start. Returns the findings."""
    with Load(askers) as load:
        load.wait_for(len(askers))
        # At a moment that is not always the same one within a query.
        time.sleep(random.uniform(0, 0.2))
        server.kill()
    server.start()
    for asker in askers:
        asker.client.url = server.url
    return findings(server, askers)


def kill_postgresql(server: Server, postgres: OwnPostgres, askers: Sequence[Asker]) -> list[str]:
    """kill -9 of PostgreSQL at a random moment under load. The server has to recover by itself."""
    with Load(askers) as load:
        load.wait_for(len(askers))
        time.sleep(random.uniform(0, 0.2))
        postgres.kill()
        load.wait_for(1, "DATABASE_UNAVAILABLE")
        postgres.start()
        load.wait_for(len(askers))
    return findings(server, askers)


def take_away(
    server: Server, askers: Sequence[Asker], absence: AbstractContextManager[None], seconds: float
) -> list[str]:
    """The database is away for so many seconds. The server has to say so, and to recover by itself."""
    with Load(askers) as load:
        load.wait_for(len(askers))
        with absence:
            time.sleep(seconds)
            load.wait_for(1, "DATABASE_UNAVAILABLE")
        load.wait_for(len(askers))
    return findings(server, askers)


def kill_for_good(dead: Server, other: Server, askers: Sequence[Asker]) -> list[str]:
    """kill -9 of a server that stays dead; its clients go on at another, which settles what it left."""
    with Load(askers) as load:
        load.wait_for(len(askers))
        dead.kill()
    for asker in askers:
        asker.client.url = other.url
    return findings(other, askers)


def findings(server: Server, askers: Sequence[Asker]) -> list[str]:
    """What does not hold after a fault; nothing, if all is well."""
    found = [problem for asker in askers for problem in _locked_out(asker)]
    found += [f"told {told}" for asker in askers for told in asker.outcomes if told not in EXPECTED]
    log = (server.data_dir / "server.log").read_text()
    if "Traceback" in log:
        found.append("a traceback in the log: " + log[log.index("Traceback") :][:2000])
    assert server.process is not None
    if server.process.poll() is not None:
        found.append("the server process has ended")
    return found + _miscounted(server, askers) + audit(server)


def _locked_out(asker: Asker) -> Iterator[str]:
    """No dead release holds a slot; each client learns what became of its last request, and can execute again."""
    began, outcome = time.monotonic(), "a release that nobody runs"
    while asker.client.data("{ viewer { ongoing { id } } }")["viewer"]["ongoing"] and not _in_vain(began):
        time.sleep(0.05)
    asker.locked = max(asker.locked, time.monotonic() - began)
    with httpx.Client(timeout=PATIENCE) as http:
        while asker.key is not None and not _in_vain(began):
            outcome = asker.ask(http)
        while not _in_vain(began) and (outcome := asker.ask(http)) != "Executed":
            time.sleep(0.1)
    if outcome != "Executed":
        yield f"a user stays locked: {outcome}"


def _in_vain(began: float) -> bool:
    return time.monotonic() > began + PATIENCE


def _miscounted(server: Server, askers: Sequence[Asker]) -> list[str]:
    """Where the tables and what the clients were told are not the same."""
    found = []
    releases = server.run(_releases)
    for asker in askers:
        own = {release.id: release.status for release in releases if release.user_id == asker.user_id}
        released = {id for id, status in own.items() if status == "RELEASED"}
        # Each pending request was repeated under its key, so an answer that was lost on its way came again.
        if released != asker.received:
            found.append(f"received only {asker.received - released}, released only {released - asker.received}")
        if len(own) - len(released) != asker.failed:
            found.append(f"{asker.failed} failures were told, {len(own) - len(released)} were charged")
        if not all(release.epsilon for release in releases):
            found.append("a release was not charged")
        if not set(own.values()) <= ENDED:
            found.append(f"statuses {set(own.values())}")
    return found


def race(servers: Sequence[Server], clients: Sequence[Client], times: int) -> Counter[str]:
    """So many executions, as many at a time as there are clients, over all servers in turn. Returns the outcomes."""

    def ask(index: int) -> str:
        url, token = servers[index % len(servers)].url, clients[index % len(clients)].token
        deadline = time.monotonic() + PATIENCE
        while True:
            body = {"query": ASK, "variables": {"input": COUNT}}
            answer = http.post(f"{url}/graphql", json=body, headers={"Authorization": f"Bearer {token}"}).json()
            outcome: str = (answer.get("data") or {"execute": {"__typename": str(answer)}})["execute"]["__typename"]
            if outcome != "QueryOngoing" or time.monotonic() > deadline:
                return outcome
            time.sleep(0.05)

    with httpx.Client(timeout=PATIENCE) as http, ThreadPoolExecutor(len(clients)) as threads:
        return Counter(threads.map(ask, range(times)))


def charged(server: Server, askers: Sequence[Asker]) -> int:
    """How many releases of these clients the ledger has charged for."""
    users = {asker.user_id for asker in askers}
    return sum(release.user_id in users and release.epsilon > 0 for release in server.run(_releases))


def audit(server: Server) -> list[str]:
    """What `lomas-gql audit verify` finds."""
    verified = server.run(verify)
    return list(verified.findings)


async def _releases(database: Database) -> Sequence[Release]:
    async with database.reading() as session:
        return (await session.exec(select(Release))).all()

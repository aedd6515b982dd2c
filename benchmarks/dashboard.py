"""A dashboard of 50 datasets: one request, against the 200 that a REST client of Lomas sends. Ratios in one run.

    make bench

Lomas answers the initial, the spent and the remaining budget and the history of one dataset at a time. Both ways are
timed against the same server of ours, over connections that are kept alive:

- dashboard: one GraphQL request for the budgets and histories of all datasets;
- sequential: four small GraphQL requests for each dataset, one after the other;
- 8 parallel: the same requests over eight connections at once.

Every way collects the same figures, which is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from asking import Client
from penguins import DEMO
from serving import Serving
from timing import in_turn

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Release, User
from lomas_gql.libraries.base import Answer, Library, table_of
from lomas_gql.privacy import EPSILON_UNITS
from lomas_gql.services import administration, importing, tokens
from lomas_gql.settings import Settings

PARALLEL = 8
AMOUNT = "{ epsilon delta }"
HISTORY = f"history(first: 5) {{ totalCount nodes {{ id status createdAt query cost {AMOUNT} }} }}"
PARTS = [f"budget {{ {which} {AMOUNT} }}" for which in ("initial", "spent", "remaining")] + [HISTORY]
DASHBOARD = (
    f"{{ datasets(first: 100) {{ nodes {{ name budget {{ initial {AMOUNT} spent {AMOUNT} remaining {AMOUNT} }} "
    f"{HISTORY} }} }} }}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--releases", type=int, default=20, help="releases on each dataset")
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.datasets, options.releases, options.runs)


def compare(folder: Path, datasets: int, releases: int, runs: int) -> None:
    names = write_catalogue(folder, datasets)
    token = asyncio.run(set_up(folder, names, releases))
    with Serving(folder / "data") as url:
        clients = [Client(url, token) for _ in range(PARALLEL)]
        ways: dict[str, Callable[[], object]] = {
            "dashboard": lambda: dashboard(clients[0]),
            "sequential": lambda: one_by_one(clients[:1], names),
            f"{PARALLEL} parallel": lambda: one_by_one(clients, names),
        }
        answers = [way() for way in ways.values()]
        assert all(answer == answers[0] for answer in answers)
        times = in_turn(list(ways.values()), runs)
    print(f"{datasets} datasets with {releases} releases each; medians of {runs} runs in milliseconds\n")
    print("| way | requests | time | time / dashboard |\n|---|---|---|---|")
    for name, taken in zip(ways, times, strict=True):
        requests = 1 if name == "dashboard" else datasets * len(PARTS)
        print(f"| {name} | {requests} | {taken:.0f} | {taken / times[0]:.1f} |")


def dashboard(client: Client) -> dict[str, Any]:
    return {node.pop("name"): node for node in client.ask(DASHBOARD)["datasets"]["nodes"]}


def one_by_one(clients: list[Client], names: list[str]) -> dict[str, Any]:
    """The same figures by four requests for each dataset, over as many connections as there are clients."""

    def collect(client: Client, some: list[str]) -> dict[str, Any]:
        return {name: collected(client, name) for name in some}

    shares = [names[i :: len(clients)] for i in range(len(clients))]
    with ThreadPoolExecutor(len(clients)) as pool:
        found = [item for part in pool.map(collect, clients, shares) for item in part.items()]
    return dict(sorted(found))


def collected(client: Client, name: str) -> dict[str, Any]:
    answers = [client.ask(f"query($n: String!) {{ dataset(name: $n) {{ {part} }} }}", {"n": name}) for part in PARTS]
    *budgets, history = (answer["dataset"] for answer in answers)
    return {"budget": {k: v for budget in budgets for k, v in budget["budget"].items()}} | history


def write_catalogue(folder: Path, datasets: int) -> list[str]:
    """So many datasets, all of them the demo's penguins."""
    names = [f"PENGUIN_{number:03}" for number in range(datasets)]
    files = {"dataset_access": DEMO / "penguins.csv", "metadata_access": DEMO / "penguin_metadata.yaml"}
    access = {kind: {"database_type": "PATH_DB", "path": str(path)} for kind, path in files.items()}
    catalogue = {"datasets": [{"dataset_name": name} | access for name in names]}
    (folder / "catalogue.yaml").write_text(yaml.safe_dump(catalogue))
    return names


async def set_up(folder: Path, names: list[str], releases: int) -> str:
    database = Database(Settings(data_dir=folder / "data", database_url="").url)
    await database.upgrade()
    await importing.import_catalogue(database, [folder / "catalogue.yaml"])
    await administration.add_user(database, "bench", None, may_query=True)
    for name in names:
        await administration.grant(database, "bench", name, "100", "0.01")
    [user] = await administration.users(database)
    listed = await administration.datasets(database)
    async with database.writing() as session:
        session.add_all(released(user, dataset, number) for number in range(releases) for dataset in listed)
    token = await tokens.create_token(database, "bench", None)
    await database.close()
    return token


def released(user: User, dataset: Dataset, number: int) -> Release:
    """A release as an execution of a GROUP BY leaves it."""
    rows = [["Adelie", 152], ["Chinstrap", 68], ["Gentoo", 124], ["OTHER", 0]]
    table = table_of([("species", "string"), ("n", "int")], rows)
    sql = "SELECT species, COUNT(*) AS n FROM df GROUP BY species"
    return Release(
        user_id=user.id,
        dataset_id=dataset.id,
        library=Library.SMARTNOISE_SQL.value,
        status="RELEASED",
        input_digest=f"{number}",
        query={"smartnoiseSql": {"sql": sql, "epsilon": 1.0, "delta": 0.0, "postprocess": True}},
        epsilon=EPSILON_UNITS,
        answer=Answer(Library.SMARTNOISE_SQL, table=table).to_json(),
        finished_at=datetime.now(UTC),
        server="bench",
        lease_until=datetime.now(UTC),
    )


if __name__ == "__main__":
    main()

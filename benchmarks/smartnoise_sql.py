"""SmartNoise SQL through the server, against the library itself, as ratios in one run.

    make bench

Three ways to the same answer, each timed as a whole and compared by its median:

- server: an `execute` over HTTP, charged and written to the history; of a text that it has seen, and of a new one;
- direct: the library's own PrivateReader in this process, over the same DuckDB reader with its table ready;
- pandas: the CSV read again and handed to the library's PandasReader, as Lomas does on each request.

With many clients, each a user with a budget of its own, what counts is how much is answered: queries per second of
the server, against calls per second of the library in as many processes as the server has private workers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pandas as pd
import penguins
from asking import Client, Query, rate, repeated
from serving import Serving
from timing import in_turn, median, told

from lomas_gql.libraries.smartnoise_sql.gate import gate
from lomas_gql.libraries.smartnoise_sql.reader import DuckDBReader
from lomas_gql.metadata import Metadata
from lomas_gql.settings import Settings

CLIENTS = 16
WORKERS = Settings.model_fields["private_workers"].default
QUERIES = {
    "COUNT": "SELECT COUNT(*) AS n FROM df",
    "COUNT + AVG": "SELECT COUNT(*) AS n, AVG(bill_length_mm) AS m FROM df",
    "GROUP BY + AVG": "SELECT species, AVG(bill_length_mm) AS m FROM df GROUP BY species",
}
MOST_SECONDS = 300
"""For which one process waits for the other: it may have failed."""
_numbers = itertools.count()
_together: Barrier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[344, 1_000_000])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--pandas-runs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5, help="of each loop with many clients")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, library_processes() as processes:
        compare(Path(folder), processes, options)


def compare(folder: Path, processes: ProcessPoolExecutor, options: argparse.Namespace) -> None:
    penguins.write(folder, options.rows, "csv")
    tokens = asyncio.run(penguins.set_up(folder, CLIENTS))
    with Serving(folder / "data") as url:
        clients = [Client(url, token) for token in tokens]
        cases = list(itertools.product(options.rows, QUERIES))
        print(f"One client; medians of {options.runs} runs ({options.pandas_runs} of pandas), in milliseconds.\n")
        print("| rows | query | server | direct | server / direct | added | new text | pandas | pandas / server |")
        print("|---|---|---|---|---|---|---|---|---|")
        for rows, name in cases:
            print(one_client(folder, clients[0], rows, name, options), flush=True)
        print(
            f"\n{CLIENTS} clients, each a user of its own, ask again when they have their answer; the library is called "
            f"as often as it can be in {WORKERS} processes, as many as the server has private workers. "
            f"Two rounds of {options.seconds:g} s of each, in turn; the answers' times in milliseconds.\n"
        )
        print("| rows | query | server, queries / s | direct, calls / s | direct / server | median | 95% within |")
        print("|---|---|---|---|---|---|---|")
        for rows, name in cases:
            print(many_clients(folder, clients, processes, rows, name, options.seconds), flush=True)
        print(f"\nEstimates (`estimateCost`) in milliseconds, by one client and by {CLIENTS} at once.\n")
        print("| query | one client | new text | 16 clients | 95% within |\n|---|---|---|---|---|")
        for name in QUERIES:
            print(estimates(clients, options.rows[-1], name, options), flush=True)


def one_client(folder: Path, client: Client, rows: int, name: str, options: argparse.Namespace) -> str:
    sql, dataset = QUERIES[name], penguins.name(rows)
    server, direct, new = in_turn(
        [
            lambda: client.execute(dataset, query(sql)),
            direct_reader(folder, rows, sql),
            lambda: client.execute(dataset, query(new_text(sql))),
        ],
        options.runs,
    )
    pandas = median(lambda: as_lomas_does(folder, rows, sql), options.pandas_runs)
    return (
        f"| {rows:,} | {name} | {told(server)} | {told(direct)} | {server / direct:.2f} | {server - direct:+.0f} "
        f"| {told(new)} | {told(pandas)} | {pandas / server:.0f} |"
    )


def many_clients(
    folder: Path, clients: list[Client], processes: ProcessPoolExecutor, rows: int, name: str, seconds: float
) -> str:
    sql, dataset = QUERIES[name], penguins.name(rows)
    asking = [partial(client.execute, dataset, query(sql)) for client in clients]
    direct: list[float] = []
    server: list[float] = []
    taken: list[float] = []
    for _ in range(2):
        answered, times = rate(asking, seconds)
        server.append(answered)
        taken += times
        each = [processes.submit(direct_rate, folder, rows, sql, seconds) for _ in range(WORKERS)]
        direct.append(sum(process.result() for process in each))
    answered, called = statistics.mean(server), statistics.mean(direct)
    return (
        f"| {rows:,} | {name} | {answered:.1f} | {called:.1f} | {called / answered:.2f} "
        f"| {told(statistics.median(taken))} | {told(slowest(taken))} |"
    )


def estimates(clients: list[Client], rows: int, name: str, options: argparse.Namespace) -> str:
    sql, dataset = QUERIES[name], penguins.name(rows)
    asking = [partial(client.estimate, dataset, query(sql)) for client in clients]
    rate(asking, 0)
    warm, new = in_turn([asking[0], lambda: clients[0].estimate(dataset, query(new_text(sql)))], options.runs)
    _, taken = rate(asking, options.seconds / 2)
    return f"| {name} | {told(warm)} | {told(new)} | {told(statistics.median(taken))} | {told(slowest(taken))} |"


def query(sql: str) -> Query:
    return {"smartnoiseSql": {"sql": sql, "epsilon": 1, "delta": 0}}


def new_text(sql: str) -> str:
    """The same query in words that no cache knows."""
    return sql.replace(" AS ", f" AS q{next(_numbers)}")


def slowest(taken: list[float]) -> float:
    """The time within which 95% were answered."""
    return sorted(taken)[int(len(taken) * 0.95)]


def direct_reader(folder: Path, rows: int, sql: str) -> Callable[[], object]:
    """The library's PrivateReader over prepared rows, as it would be used without a server."""
    from snsql import Privacy
    from snsql.metadata import Metadata as Theirs
    from snsql.sql.private_reader import PrivateReader

    mapped = penguins.mapped(folder, rows, "csv")
    reader = DuckDBReader()
    gated = gate(sql, mapped.metadata)
    reader.attach(mapped, gated)
    tables = Theirs.from_dict(mapped.metadata.smartnoise(names=mapped.metadata.sql_names))
    private = PrivateReader(reader, tables, privacy=Privacy(epsilon=1.0, delta=0.0))
    return lambda: private.execute(str(gated.query))


@contextmanager
def library_processes() -> Iterator[ProcessPoolExecutor]:
    """Processes for the library alone, which begin to call it at the same moment."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(WORKERS)
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=wait_for, initargs=[together]) as processes:
        yield processes


def wait_for(together: Barrier) -> None:
    global _together
    _together = together


def direct_rate(folder: Path, rows: int, sql: str, seconds: float) -> float:
    call = direct_reader(folder, rows, sql)
    call()
    _together.wait(MOST_SECONDS)
    began = time.perf_counter()
    ended, taken = repeated(call, began + seconds)
    return len(taken) / (ended - began)


def as_lomas_does(folder: Path, rows: int, sql: str) -> None:
    from snsql import Privacy, from_connection

    frame = pd.read_csv(penguins.file(folder, rows, "csv"))
    privacy = Privacy(epsilon=1.0, delta=0.0)
    reader = from_connection(frame, privacy=privacy, metadata=Metadata.parse(penguins.facts(rows)).smartnoise())
    reader.get_privacy_cost(sql)
    reader.execute(sql)


if __name__ == "__main__":
    main()

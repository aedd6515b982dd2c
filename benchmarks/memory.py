"""Memory of a server and its workers on large datasets: at rest, under estimates, and over 500 queries.

    make bench

Figures are proportional set sizes (PSS): a page that several processes map counts once over all of them, so they
may be added up. Private workers are those that have the dataset mapped. Of the queries each is a text that no cache
knows; clients are users of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import penguins
import psutil
from asking import Client, Query
from serving import Serving

CLIENTS = 16
ASKERS = 4
SELECTS = [
    "SELECT COUNT(*) AS n{} FROM df",
    "SELECT species, AVG(bill_length_mm) AS n{} FROM df GROUP BY species",
    "SELECT COUNT(*) AS n{} FROM df WHERE body_mass_g > 4000",
]
_numbers = itertools.count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--queries", type=int, nargs=2, default=[100, 500], help="looked at after so many")
    options = parser.parse_args()
    print("Megabytes (PSS) of the server, its private and its public workers.\n")
    print("| rows | when | server | private workers | server + private | public workers | all |")
    print("|---|---|---|---|---|---|---|")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            observe(Path(folder), rows, options.queries)


def observe(folder: Path, rows: int, queries: list[int]) -> None:
    penguins.write(folder, [rows])
    tokens = asyncio.run(penguins.set_up(folder, CLIENTS))
    serving = Serving(folder / "data")
    with serving as url:
        clients = [Client(url, token) for token in tokens]
        family = Family(serving.process.pid)
        show(rows, "started, nothing asked", family.now())
        together(clients, lambda client: client.execute(penguins.name(rows), new_query()))
        before = family.now()
        show(rows, "first queries answered", before)
        with family.watched() as peaks:
            for _ in range(3):
                together(clients, lambda client: client.estimate(penguins.name(rows), new_query()))
        show(rows, f"peak of {CLIENTS} concurrent estimates", max(peaks, key=sum))
        show(rows, "", tuple(peak - was for peak, was in zip(max(peaks, key=sum), before, strict=True)), "{:+,.0f}")
        done = 0
        for count in queries:
            several(clients[:ASKERS], count - done, lambda client: client.execute(penguins.name(rows), new_query()))
            done = count
            show(rows, f"after {count} queries", family.now())


class Family:
    """The processes of a server, told apart by what they have mapped."""

    def __init__(self, server: int) -> None:
        self.server = psutil.Process(server)

    def now(self) -> tuple[float, float, float]:
        """Megabytes of the server, of the workers that map prepared rows, and of the others."""
        found = [megabytes(self.server), 0.0, 0.0]
        for child in self.server.children(recursive=True):
            found[1 if maps_rows(child) else 2] += megabytes(child)
        return found[0], found[1], found[2]

    @contextmanager
    def watched(self) -> Iterator[list[tuple[float, float, float]]]:
        """What was there at short intervals in the length of a block."""
        seen = [self.now()]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                seen.append(self.now())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield seen
        finally:
            over.set()
            watcher.join()


def megabytes(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / 2**20


def maps_rows(process: psutil.Process) -> bool:
    return any(mapped.path.endswith(".arrow") for mapped in process.memory_maps())


def show(rows: int, when: str, found: tuple[float, ...], form: str = "{:,.0f}") -> None:
    server, private, public = found
    cells = [form.format(cell) for cell in (server, private, server + private, public, sum(found))]
    print(f"| {rows:,} | {when or 'of which the estimates'} | {' | '.join(cells)} |", flush=True)


def together(clients: list[Client], ask: Callable[[Client], None]) -> None:
    """Each client asks once, all at the same time."""
    several(clients, len(clients), ask)


def several(clients: list[Client], count: int, ask: Callable[[Client], None]) -> None:
    """So many questions, shared out among the clients, who ask at the same time."""

    def keep_asking(client: Client, share: int) -> None:
        for _ in range(share):
            ask(client)

    shares = [len(range(place, count, len(clients))) for place in range(len(clients))]
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(keep_asking, clients, shares))


def new_query() -> Query:
    number = next(_numbers)
    sql = SELECTS[number % len(SELECTS)].format(number)
    return {"smartnoiseSql": {"sql": sql, "epsilon": 1, "delta": 0}}


if __name__ == "__main__":
    main()

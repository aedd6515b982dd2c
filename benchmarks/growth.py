"""How the time of a query grows with the rows, one query of each library.

    make bench

What would take more than a minute, by what it took on a tenth of the rows, is left out; so is what the server refuses
or gives up, with what it says. Before the median there is one query that does not count: its worker maps the rows.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import direct
import penguins
from asking import Client, Query, Refused
from serving import Serving
from timing import median, timed, told

MOST = 60_000
"""Milliseconds."""
SQL = "SELECT species, COUNT(*) AS n, AVG(bill_length_mm) AS m FROM df GROUP BY species"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        grow(Path(folder), options.rows, options.runs)


def grow(folder: Path, sizes: list[int], runs: int) -> None:
    penguins.write(folder, sizes)
    [token] = asyncio.run(penguins.set_up(folder))
    queries = queries_of(folder, sizes[0])
    print(f"Milliseconds of an `execute`, medians of up to {runs} runs.\n")
    print(f"| query | {' | '.join(f'{size:,} rows' for size in sizes)} |\n|---|{'---|' * len(sizes)}")
    with Serving(folder / "data", private_workers="1") as url:
        client = Client(url, token)
        count: Query = {"smartnoiseSql": {"sql": "SELECT COUNT(*) AS n FROM df", "epsilon": 1, "delta": 0}}
        read = [told(timed(lambda size=size: client.execute(penguins.name(size), count))) for size in sizes]
        print(f"| COUNT, and the file read, typed and clamped before | {' | '.join(read)} |", flush=True)
        for name, query in queries.items():
            print(f"| {name} | {' | '.join(grown(client, query, sizes, runs))} |", flush=True)


def queries_of(folder: Path, size: int) -> dict[str, Query]:
    rows = penguins.mapped(folder, size)
    return {
        "SmartNoise SQL, GROUP BY": {"smartnoiseSql": {"sql": SQL, "epsilon": 1, "delta": 0}},
        "OpenDP, Polars plan": direct.opendp_plan(rows, ready=False)[0],
        "OpenDP, measurement": direct.opendp_measurement(rows)[0],
        "diffprivlib, GaussianNB": direct.gaussian_nb(rows)[0],
        "Synth, PACSYNTH": direct.synthesizer("PACSYNTH", rows)[0],
        "Synth, MST": direct.synthesizer("MST", rows)[0],
    }


def grown(client: Client, query: Query, sizes: list[int], runs: int) -> list[str]:
    """A cell for each size."""
    cells: list[str] = []
    taken = 0.0
    for place, size in enumerate(sizes):
        expected = taken * (size / sizes[place - 1] if place else 1)
        if expected > MOST:
            return cells + ["left out"] * (len(sizes) - place)
        try:
            taken = timed(lambda size=size: client.execute(penguins.name(size), query))
            # The first of all compiles, so what it took says little of the next.
            taken = median(lambda size=size: client.execute(penguins.name(size), query), runs if taken < 5_000 else 1)
        except Refused as refused:
            return cells + [str(refused).replace("|", "/")] + ["left out"] * (len(sizes) - place - 1)
        cells.append(told(taken))
    return cells


if __name__ == "__main__":
    main()

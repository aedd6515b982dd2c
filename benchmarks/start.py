"""How soon a server answers: the first `serverState` after its process began, and the first private answer.

    make bench

The dataset was prepared by an earlier run, as after a restart; the second row also reads its file first.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import penguins
from asking import Client, Query
from serving import Serving

COUNT: Query = {"smartnoiseSql": {"sql": "SELECT COUNT(*) AS n FROM df", "epsilon": 1, "delta": 0}}
STATE = "{ serverState { live } }"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        penguins.write(folder, [options.rows])
        [token] = asyncio.run(penguins.set_up(folder))
        started(folder, token, options.rows)
        print(f"Seconds since the server's process began; medians of {options.runs} starts.\n")
        print(f"| {options.rows:,} rows | first `serverState` | first private answer |\n|---|---|---|")
        for kind in ("prepared before", "file read anew"):
            times = []
            for _ in range(options.runs):
                if kind == "file read anew":
                    shutil.rmtree(folder / "data" / "prepared")
                times.append(started(folder, token, options.rows))
            cells = (f"{statistics.median(column):.2f}" for column in zip(*times, strict=True))
            print(f"| {kind} | {' | '.join(cells)} |")


def started(folder: Path, token: str, rows: int) -> tuple[float, float]:
    """Seconds to the first answer and to the first private one."""
    began = time.perf_counter()
    serving = Serving(folder / "data", rest=False)
    with serving as url:
        client = Client(url, token)
        client.ask(STATE)
        live = time.perf_counter() - began
        client.execute(penguins.name(rows), COUNT)
        return live, time.perf_counter() - began


if __name__ == "__main__":
    main()

"""OpenDP, diffprivlib and SmartNoise Synth through the server, against each library itself, as ratios in one run.

    make bench

The library is called in this process on rows that are ready for it. The server has one private worker here, so that
what a library compiles or caches at its first call is there at the next.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import direct
import penguins
from asking import Client, Query
from serving import Serving
from timing import Call, in_turn, median, told

from lomas_gql.rows import Rows


@dataclass(frozen=True)
class Case:
    """A query with its direct call, and what the server does beyond it. A slow one is not run often."""

    name: str
    made: Callable[[Rows], tuple[Query, Call]]
    differs: str
    slow: bool = False


SYNTH = "exact totals and domains replaced by noised and public ones"
CASES = [
    Case("OpenDP, Polars plan", partial(direct.opendp_plan, ready=False), "a faster search for the scale"),
    Case(
        "OpenDP, Polars plan, its measurement ready",
        partial(direct.opendp_plan, ready=True),
        "plan, scale and price anew",
    ),
    Case("OpenDP, measurement", direct.opendp_measurement, "walked and built anew; the call has its array ready"),
    Case("diffprivlib, GaussianNB", direct.gaussian_nb, "rows are cut or filled to the public number"),
    Case("diffprivlib, LogisticRegression", direct.logistic_regression, "the solver runs to its end"),
    Case("Synth, MST", partial(direct.synthesizer, "MST"), SYNTH, slow=True),
    Case("Synth, AIM", partial(direct.synthesizer, "AIM"), SYNTH, slow=True),
    Case("Synth, MWEM", partial(direct.synthesizer, "MWEM"), SYNTH, slow=True),
    Case("Synth, PACSYNTH", partial(direct.synthesizer, "PACSYNTH"), "the generator alone is the library's"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[344, 100_000])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--without", nargs="*", default=[], help="words of the names of those that are left out")
    options = parser.parse_args()
    cases = [case for case in CASES if not any(word in case.name for word in options.without)]
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), cases, options.rows, options.runs)


def compare(folder: Path, cases: list[Case], sizes: list[int], runs: int) -> None:
    penguins.write(folder, sizes)
    [token] = asyncio.run(penguins.set_up(folder))
    print(f"Medians of {runs} runs (synthesizers: one run, after a first that does not count), in milliseconds.\n")
    print("| query | rows | server | direct | server / direct | added | what the server does otherwise |")
    print("|---|---|---|---|---|---|---|")
    with Serving(folder / "data", private_workers="1") as url:
        client = Client(url, token)
        for case in cases:
            for rows in sizes:
                print(compared(folder, client, case, rows, runs, first=rows == sizes[0]), flush=True)


def compared(folder: Path, client: Client, case: Case, rows: int, runs: int, *, first: bool) -> str:
    query, call = case.made(penguins.mapped(folder, rows))
    ways: list[Call] = [lambda: client.execute(penguins.name(rows), query), quiet(call)]
    if case.slow and not first:
        server, library = (median(way, 1) for way in ways)
    else:
        server, library = in_turn(ways, 1 if case.slow else runs)
    return (
        f"| {case.name} | {rows:,} | {told(server)} | {told(library)} | {server / library:.2f} "
        f"| {server - library:+,.0f} | {case.differs} |"
    )


def quiet(call: Call) -> Call:
    """The call without what the library prints."""

    def called() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            call()

    return called


if __name__ == "__main__":
    main()

"""A case's line in the table of the audit."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.audit.cases import Case
from tests.audit.statistics import Bound

ALPHA = 1e-4
"""One in so many sound mechanisms may be accused by chance."""


@dataclass(frozen=True)
class Line:
    """What a case was charged, and what its runs showed."""

    mechanism: str
    neighbours: str
    runs: int
    epsilon: float
    delta: float
    bound: Bound


HEAD = (
    "| mechanism | neighbours | runs | charged ε | charged δ | ε seen | share | δ seen |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def row(line: Line) -> str:
    delta, seen = (f"{line.delta:.3f}", f"{line.bound.delta:.3f}") if line.delta else ("0", "-")
    mark = " **more than charged**" if spends_more(line) else ""
    return (
        f"| {line.mechanism} | {line.neighbours} | {line.runs:,} | {line.epsilon:.2f} | {delta} "
        f"| {line.bound.epsilon:.2f} | {line.bound.epsilon / line.epsilon:.0%}{mark} | {seen} |\n"
    )


def spends_more(line: Line) -> bool:
    return line.bound.epsilon > line.epsilon


def cases_of(library: str) -> list[Case]:
    return list(import_module(f"tests.audit.{library}").cases())


def line_of(asked: tuple[str, int, float]) -> Line:
    """The line of a library's case at a place, after so many seconds of runs."""
    warnings.simplefilter("ignore")
    library, place, seconds = asked
    case = cases_of(library)[place]
    charged = case.charged()
    with tempfile.TemporaryDirectory() as folder:
        bound, runs = case.audited(Path(folder), ALPHA, seconds=seconds)
    return Line(str(case), case.neighbours, runs, charged.epsilon, charged.delta, bound)

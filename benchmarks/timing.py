"""Times of calls, in milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

Call = Callable[[], object]


def in_turn(calls: Sequence[Call], runs: int) -> list[float]:
    """The median of each, called in turn, so that a change in the machine's speed meets all. The first do not count."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, taken in zip(calls, times, strict=True):
            taken.append(timed(call))
    return [statistics.median(taken) for taken in times]


def median(call: Call, runs: int) -> float:
    return statistics.median(timed(call) for _ in range(runs))


def timed(call: Call) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def told(milliseconds: float) -> str:
    """A time as a table shows it: three digits that mean something."""
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:,.0f}"

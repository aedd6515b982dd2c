"""A case of the audit: a query, two neighbouring datasets, and what an attacker looks at in its answers.

Each run goes through `jobs.release`, the function that workers call with a charged query: it prices the query
again, maps the prepared file and runs it. Files are made by `fit`, as when a source is loaded. Only HTTP, the
ledger and the process around it are left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lomas_gql.datasets.typing import fit
from lomas_gql.libraries.base import Answer, DPQuery
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import jobs
from tests.audit.statistics import Bound, Floats, audited

RUNS = 4_000
"""How often a case is run on each neighbour."""

FEWEST = 100
"""Fewer runs than these are not worth a bound."""

Cells = dict[str, list[Any]]
ABSENT = -1e9
"""Stands for a number that is not in an answer."""


def numbers(answer: Answer) -> list[float]:
    """Every number in an answer, in order; a missing one is told apart."""
    return list(_numbers([answer.value, answer.table and answer.table.rows]))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif value is None:
        yield ABSENT
    elif isinstance(value, int | float):
        yield float(value)


@dataclass(frozen=True)
class Case:
    """One mechanism, and the neighbours on which it is expected to show most.

    `recording` surrounds all runs; `told` reads what the attacker sees of one of them. `weight` is the case's part
    of the time, for those that take long.
    """

    library: str
    mechanism: str
    neighbours: str
    metadata: Metadata
    query: DPQuery
    rows: tuple[Cells, Cells]
    told: Callable[[Answer], Sequence[float]] = numbers
    recording: Callable[[], AbstractContextManager[object]] = nullcontext
    runs: int = field(default=RUNS, kw_only=True)
    weight: int = field(default=1, kw_only=True)

    def __str__(self) -> str:
        return f"{self.library}: {self.mechanism}"

    def charged(self) -> PrivacyLoss:
        return self.query.cost(self.metadata)

    def answers(self, runs: int, folder: Path, seconds: float = math.inf) -> tuple[Floats, Floats]:
        """What is seen in `runs` runs on each of the neighbours, or in as many as `seconds` allow."""
        charged = self.charged()
        files = [_prepared(cells, self.metadata, folder / f"{place}.arrow") for place, cells in enumerate(self.rows)]
        seen: list[list[list[float]]] = []
        with self.recording():
            # The first run imports what it needs.
            self._seen(charged, files[0])
            end = time.monotonic() + seconds
            while len(seen) < runs and (time.monotonic() < end or len(seen) < FEWEST):
                seen.append([self._seen(charged, file) for file in files])
        first, second = np.array(seen, dtype=np.float64).swapaxes(0, 1)
        return first, second

    def audited(
        self, folder: Path, alpha: float, runs: int | None = None, seconds: float = math.inf
    ) -> tuple[Bound, int]:
        """What the runs show to be spent, and how many runs there were on each neighbour."""
        charged = self.charged()
        answers = self.answers(runs or self.runs, folder, seconds)
        bound = audited(answers, epsilon=float(charged.epsilon), delta=float(charged.delta), alpha=alpha)
        return bound, len(answers[0])

    def _seen(self, charged: PrivacyLoss, file: Path) -> list[float]:
        answer = jobs.release(self.query, self.metadata, charged, file, 600, file.with_suffix(".progress"))
        assert isinstance(answer, Answer), f"{self} failed: {answer}"
        return [number if math.isfinite(number) else ABSENT for number in self.told(answer)]


def _prepared(cells: Cells, metadata: Metadata, file: Path) -> Path:
    frame = pl.LazyFrame({column.name: cells[column.name] for column in metadata.columns}, strict=False)
    fit(frame, metadata, key=1).collect().write_ipc(file)
    return file

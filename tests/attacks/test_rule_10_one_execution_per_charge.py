"""Rule 10: what was charged runs once. A second run would be a second answer for one price.

Enforced in `services/running._called`, the only place that hands private rows to a query: it never tries again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import (
    IdempotencyConflict,
    LibraryFailed,
)
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from lomas_gql.services import releases
from lomas_gql.services.runtime import Runtime
from tests.libraries import test_smartnoise_sql as sql
from tests.services import test_releases as running


@dataclass(frozen=True)
class Counted(running.Fake):
    """Leaves a letter in a file for each run on private rows, and then has no answer."""

    file: str = ""
    library: ClassVar[Library] = Library.DIFFPRIVLIB

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        if rows.frame.height != running.PREFLIGHT:
            with open(self.file, "a") as letters:
                letters.write("x")
        if self.private == "nan" and rows.frame.height != running.PREFLIGHT:
            return Answer(self.library, value=float("nan"))
        return super().run(rows, metadata)


async def test_a_run_without_an_answer_is_not_tried_again(runtime: Runtime, tmp_path: Path) -> None:
    for behaviour in ("raise", "die", "nan"):
        query = Counted(private=behaviour, file=str(tmp_path / behaviour))
        with suppress(LibraryFailed):
            await releases.execute(runtime, running.VIEWER, running.asked(query), None)
        assert (tmp_path / behaviour).read_text() == "x"
    assert await running.spent(runtime) == "1.5"


async def test_a_failed_query_under_a_key_stays_failed_and_never_runs_again(runtime: Runtime) -> None:
    for _ in range(2):
        with pytest.raises(LibraryFailed) as caught:
            await releases.execute(runtime, running.VIEWER, running.asked(running.Fake(private="raise")), "key")
        assert caught.value.cost.epsilon_text == "0.5"
    with pytest.raises(IdempotencyConflict):
        await releases.execute(runtime, running.VIEWER, running.asked(running.Fake()), "key")
    assert await running.spent(runtime) == "0.5"


async def test_the_same_key_waits_for_its_first_run(runtime: Runtime) -> None:
    await releases.execute(runtime, running.VIEWER, running.asked(running.Fake()), None)
    slow = running.asked(running.Fake(private="wait"))
    outcomes = await asyncio.gather(*(releases.execute(runtime, running.VIEWER, slow, "key") for _ in range(4)))
    assert sorted(outcome.replayed for outcome in outcomes) == [False, True, True, True]
    assert len({outcome.release.id for outcome in outcomes}) == 1
    assert await running.spent(runtime) == "1"


def test_a_query_that_is_prepared_once_draws_its_own_noise_on_the_rows_it_is_given(penguin: Metadata) -> None:
    few, many = dummy_rows(penguin, 100, seed=0), dummy_rows(penguin, 10_000, seed=0)
    counts = [sql.run("SELECT COUNT(*) AS n FROM df", few, epsilon=0.01).rows[0][0] for _ in range(10)]
    # Ten equal draws of Laplace noise of scale 100 are less likely than 1e-18.
    assert len(set(counts)) > 1
    assert sql.run("SELECT COUNT(*) AS n FROM df", many, epsilon=0.01).rows[0][0] > 5_000
    keyed = [
        sql.run("SELECT species, COUNT(*) AS n FROM df GROUP BY species", few, epsilon=0.01).rows for _ in range(10)
    ]
    assert len({tuple(map(tuple, rows)) for rows in keyed}) > 1

"""A worker that has run hundreds of queries holds no more memory than after its first ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.opendp.query import OpenDpQuery
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.services import jobs
from lomas_gql.workers.pool import Workers
from tests.libraries.test_lean_reads import METADATA, measurement_of, plan_of

QUERIES, FIRST = 500, 200
MOST_GROWTH = 5 * 2**20


def query(number: int) -> Any:
    """Each another one, of three kinds, so that what is kept of them has to go."""
    match number % 5:
        case 0:
            return OpenDpQuery(polars_plan=plan_of("c0"), epsilon=1.0 + number / QUERIES)
        case 1:
            return OpenDpQuery(measurement=measurement_of(), column=f"c{number % 20}")
    return SmartnoiseSqlQuery(sql=f"SELECT SUM(c{number % 20}) AS s{number} FROM df", epsilon=1.0, delta=0.0)


def own_memory() -> int:
    held = psutil.Process().memory_info()
    return held.rss - held.shared


async def test_memory_is_flat_over_many_queries(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    dummy_rows(METADATA, 5_000, seed=1).frame.write_ipc(path, compression="uncompressed")
    workers = Workers(1, 4096)
    try:
        async with workers.take("somebody") as worker:
            held = []
            for number in range(QUERIES):
                one = query(number)
                answer = await worker.call(
                    jobs.release, 60, one, METADATA, one.cost(METADATA), path, 60, tmp_path / "progress.json"
                )
                assert isinstance(answer, Answer), answer
                if number >= FIRST:
                    held.append(await worker.call(own_memory, 20))
    finally:
        workers.stop()
    assert max(held[-50:]) < max(held[:50]) + MOST_GROWTH, (held[0], held[-1])

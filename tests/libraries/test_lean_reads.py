"""A query reads the columns that it names and no others: the prepared file is cut off behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.libraries.base import Answer, DPQuery
from lomas_gql.libraries.diffprivlib.estimators import DiffprivlibEstimator
from lomas_gql.libraries.diffprivlib.query import DiffprivlibQuery, PipelineStep
from lomas_gql.libraries.opendp.query import OpenDpQuery
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.libraries.smartnoise_synth.plan import Synthesizer
from lomas_gql.libraries.smartnoise_synth.query import SmartnoiseSynthQuery
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from lomas_gql.workers.pool import WorkerLost, Workers

ROWS, COLUMNS = 20_000, 20
FLOAT = {"type": "float", "lower": 0, "upper": 1}
METADATA = Metadata.parse(
    {
        "max_ids": 1,
        "rows": ROWS,
        "row_privacy": True,
        "columns": {f"c{number}": FLOAT for number in range(COLUMNS)}
        | {"kind": {"type": "string", "categories": ["a", "b"]}},
    }
)


def plan_of(column: str) -> str:
    context = dp.Context.compositor(
        data=pl.LazyFrame(schema={column: pl.Float64}),
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(epsilon=1.0),
        split_evenly_over=1,
    )
    text: str = (
        context.query().select(pl.col(column).fill_null(0.0).dp.sum((0.0, 1.0))).polars_plan.serialize(format="json")
    )
    return text


def measurement_of() -> str:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=float, nan=True)), dp.symmetric_distance()
    text: str = dp.serialize(
        space
        >> dp.t.then_impute_constant(0.5)
        >> dp.t.then_clamp((0.0, 1.0))
        >> dp.t.then_sum()
        >> dp.m.then_laplace(1.0)
    )
    return text


def scaler(*columns: str) -> DiffprivlibQuery:
    step = PipelineStep(name="scaler", estimator=DiffprivlibEstimator.STANDARD_SCALER, params={"epsilon": 1.0})
    return DiffprivlibQuery(steps=[step], feature_columns=list(columns))


def synth(*columns: str) -> SmartnoiseSynthQuery:
    return SmartnoiseSynthQuery(
        synthesizer=Synthesizer.MST, epsilon=1.0, delta=1e-6, columns=list(columns), sample_rows=10
    )


dp.enable_features("contrib")
QUERIES: dict[str, Any] = {
    "sql": lambda column: SmartnoiseSqlQuery(sql=f"SELECT SUM({column}) AS s FROM df", epsilon=1.0, delta=0.0),
    "plan": lambda column: OpenDpQuery(polars_plan=plan_of(column), epsilon=1.0),
    "measurement": lambda column: OpenDpQuery(measurement=measurement_of(), column=column),
    "model": lambda column: scaler("c1", column),
    "synthesizer": lambda column: synth("c1", column),
}


def run_on_what_is_left(query: DPQuery, path: Path) -> Answer:
    """Maps the rows, cuts off all but the first columns, and runs: who reads what is gone dies of a SIGBUS."""
    rows = Rows.mapped(path, METADATA)
    # In the file's order: c0, c1 and one to spare for the file's own head.
    os.truncate(path, path.stat().st_size * 3 // (COLUMNS + 1))
    return query.run(rows, METADATA)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers(1, 4096)
    yield workers
    workers.stop()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "rows.arrow"
    dummy_rows(METADATA, ROWS, seed=1).frame.write_ipc(path, compression="uncompressed")
    return path


@pytest.mark.parametrize("library", QUERIES)
async def test_a_query_touches_the_columns_that_it_names_alone(
    library: str, workers: Workers, prepared: Path
) -> None:
    async with workers.take("somebody") as worker:
        answer = await worker.call(run_on_what_is_left, 120, QUERIES[library]("c0"), prepared)
    assert answer.value is not None or answer.table is not None


async def test_a_query_of_another_column_would_be_seen(workers: Workers, prepared: Path) -> None:
    async with workers.take("somebody") as worker:
        with pytest.raises(WorkerLost, match="died"):
            await worker.call(run_on_what_is_left, 120, QUERIES["sql"]("c9"), prepared)

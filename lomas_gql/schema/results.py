"""What queries answer, and what they cost."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import strawberry

from lomas_gql.libraries import base
from lomas_gql.libraries.diffprivlib.estimators import DiffprivlibEstimator
from lomas_gql.libraries.smartnoise_synth.plan import Synthesizer
from lomas_gql.privacy import PrivacyLoss as ExactLoss
from lomas_gql.schema.context import Info
from lomas_gql.schema.scalars import JSON
from lomas_gql.schema.words import described_enum
from lomas_gql.services import releases
from lomas_gql.services.releases import Fitted

for _words in (base.Library, Synthesizer, DiffprivlibEstimator):
    described_enum(_words)


@strawberry.type(description="Privacy loss under (epsilon, delta)-differential privacy.")
class PrivacyLoss:
    epsilon: float = strawberry.field(
        description="The pure part of the loss, in nats. Exact to 1e-12; costs are rounded up."
    )
    delta: float = strawberry.field(
        description="The probability by which the pure part may be exceeded. Exact to 1e-18; costs are rounded up."
    )

    @classmethod
    def of(cls, exact: ExactLoss) -> PrivacyLoss:
        return cls(epsilon=exact.epsilon, delta=exact.delta)


@strawberry.type(description="A column of a table in an answer.")
class TableColumn:
    name: str = strawberry.field(description="The column's name.")
    dtype: str = strawberry.field(
        description="The type of its cells: int, float, string, boolean or datetime (as ISO 8601 text)."
    )


@strawberry.type(description="Rows in the order of `columns`; a missing value is null.")
class Table:
    columns: list[TableColumn] = strawberry.field(description="The columns, from left to right.")
    rows: list[list[JSON | None]] = strawberry.field(description="The rows, each a list of cells from left to right.")
    row_count: int = strawberry.field(description="How many rows there are.")

    @classmethod
    def of(cls, table: base.Table) -> Table:
        return cls(
            columns=[TableColumn(name=column.name, dtype=column.dtype) for column in table.columns],
            rows=table.rows,  # type: ignore[arg-type]
            row_count=len(table.rows),
        )


@strawberry.type(description="What OpenDP releases: a number or a list of numbers, or for a Polars plan a table.")
class OpenDpResult:
    value: JSON | None = strawberry.field(description="What the measurement released; null for a plan.")
    table: Table | None = strawberry.field(description="What the plan released; null for a measurement.")


@strawberry.type(description="The noisy table that SmartNoise SQL answers.")
class SmartnoiseSqlResult:
    table: Table = strawberry.field(
        description="One row for each group, or one in all. Every cell that is no group key carries noise."
    )


@strawberry.type(description="Rows drawn from a fitted synthesizer; `sampleRows` of them.")
class SmartnoiseSynthSamples:
    synthesizer: Synthesizer = strawberry.field(description="The synthesizer that was fitted.")
    table: Table = strawberry.field(description="The synthetic rows.")


@strawberry.type(description="The fitted model stays on the server; sampling it is free post-processing.")
class SmartnoiseSynthModel:
    synthesizer: Synthesizer = strawberry.field(description="The synthesizer that was fitted.")
    fitted: strawberry.Private[Fitted]

    @strawberry.field(description="New synthetic rows at each call. Free: it reads the model, not the private rows.")
    async def sample(
        self,
        info: Info,
        rows: Annotated[
            int, strawberry.argument(description="How many rows, exactly, from 1 to `limits.maxSampleRows`.")
        ] = 100,
        condition: Annotated[
            str | None,
            strawberry.argument(description="Keep only rows for which this holds, e.g. \"species = 'Gentoo'\"."),
        ] = None,
    ) -> Table:
        runtime = info.context.runtime
        info.context.check(rows, runtime.settings.max_sample_rows, "rows")
        return Table.of(await releases.sampled(runtime, info.context.viewer, self.fitted, rows, condition))


@strawberry.type(description="A fitted step of a pipeline.")
class FittedStep:
    name: str = strawberry.field(description="The step's name, as the query gave it, or its estimator's.")
    estimator: DiffprivlibEstimator = strawberry.field(description="The model that was fitted.")
    parameters: JSON = strawberry.field(
        description="The fitted parameters that are themselves differentially private, by scikit-learn's names."
    )


@strawberry.type(description="A fitted model or pipeline: the parameters that are themselves differentially private.")
class DiffprivlibResult:
    steps: list[FittedStep] = strawberry.field(description="The steps, in order.")
    score: float | None = strawberry.field(
        description="The noisy score on the test rows, where the query spent a `scoreEpsilon` on it: the share of a "
        "classifier's right answers; for a regressor 1 less the mean error as a share of the target's bounds."
    )


Result: TypeAlias = (
    OpenDpResult | SmartnoiseSqlResult | SmartnoiseSynthSamples | SmartnoiseSynthModel | DiffprivlibResult
)
DpResult: TypeAlias = Annotated[
    Result, strawberry.union("DpResult", description="What a query releases, by library.")
]


def result_of(answer: base.Answer, fitted: Fitted | None) -> Result:
    """An answer in GraphQL's terms; `fitted` says where its model is, if it has one."""
    table = Table.of(answer.table) if answer.table else None
    match answer.library:
        case base.Library.SMARTNOISE_SQL:
            assert table is not None
            return SmartnoiseSqlResult(table=table)
        case base.Library.SMARTNOISE_SYNTH:
            synthesizer = Synthesizer(answer.value["synthesizer"])
            if table is None:
                assert fitted is not None
                return SmartnoiseSynthModel(synthesizer=synthesizer, fitted=fitted)
            return SmartnoiseSynthSamples(synthesizer=synthesizer, table=table)
        case base.Library.DIFFPRIVLIB:
            steps = [
                FittedStep(
                    name=step["name"],
                    estimator=DiffprivlibEstimator(step["estimator"]),
                    parameters=JSON(step["parameters"]),
                )
                for step in answer.value["steps"]
            ]
            return DiffprivlibResult(steps=steps, score=answer.value["score"])
        case _:
            return OpenDpResult(value=answer.value, table=table)

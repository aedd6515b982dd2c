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
from lomas_gql.services import releases
from lomas_gql.services.releases import Fitted

strawberry.enum(base.Library, description=base.Library.__doc__)


@strawberry.type(description="Privacy loss under (epsilon, delta)-differential privacy.")
class PrivacyLoss:
    epsilon: float = strawberry.field(description="The pure part of the loss, in nats.")
    delta: float = strawberry.field(description="The probability by which the pure part may be exceeded.")

    @classmethod
    def of(cls, exact: ExactLoss) -> PrivacyLoss:
        return cls(epsilon=exact.epsilon, delta=exact.delta)


@strawberry.type(description="A column of a table.")
class TableColumn:
    name: str = strawberry.field(description="The column's name.")
    dtype: str = strawberry.field(description="int, float, string, boolean or datetime.")


@strawberry.type(description="Rows in the order of `columns`; a missing value is null.")
class Table:
    columns: list[TableColumn] = strawberry.field(description="The columns, from left to right.")
    rows: list[list[JSON | None]] = strawberry.field(description="The rows, cell by cell.")
    row_count: int = strawberry.field(description="How many rows there are.")

    @classmethod
    def of(cls, table: base.Table) -> Table:
        return cls(
            columns=[TableColumn(name=column.name, dtype=column.dtype) for column in table.columns],
            rows=[list(row) for row in table.rows],
            row_count=len(table.rows),
        )


@strawberry.type(description="A number, a list of numbers, or for a Polars plan a table.")
class OpenDpResult:
    value: JSON | None = strawberry.field(description="The measurement's release.")
    table: Table | None = strawberry.field(description="The plan's release.")


@strawberry.type(description="The noisy table that SmartNoise SQL answers.")
class SmartnoiseSqlResult:
    table: Table = strawberry.field(description="One row for each group, or one in all.")


@strawberry.type(description="Rows drawn from a fitted synthesizer.")
class SmartnoiseSynthSamples:
    synthesizer: Synthesizer = strawberry.field(description="Which synthesizer.")
    table: Table = strawberry.field(description="The synthetic rows.")


@strawberry.type(description="The fitted model stays on the server; sampling it is free post-processing.")
class SmartnoiseSynthModel:
    synthesizer: Synthesizer = strawberry.field(description="Which synthesizer.")
    fitted: strawberry.Private[Fitted]

    @strawberry.field(description="New synthetic rows at each call. Free.")
    async def sample(
        self,
        info: Info,
        rows: Annotated[int, strawberry.argument(description="How many rows, exactly.")] = 100,
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
    name: str = strawberry.field(description="The step's name.")
    estimator: DiffprivlibEstimator = strawberry.field(description="Its estimator.")
    parameters: JSON = strawberry.field(
        description="The fitted parameters that are themselves differentially private, by scikit-learn's names."
    )


@strawberry.type(description="The fitted parameters that are themselves differentially private.")
class DiffprivlibResult:
    steps: list[FittedStep] = strawberry.field(description="The steps, in order.")
    score: float | None = strawberry.field(description="The noisy score on the test rows, for scoreEpsilon.")


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

"""What queries answer, and what they cost."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import strawberry

from lomas_gql.libraries import base
from lomas_gql.privacy import PrivacyLoss as ExactLoss
from lomas_gql.schema.scalars import JSON

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


DpResult: TypeAlias = Annotated[
    OpenDpResult | SmartnoiseSqlResult,
    strawberry.union("DpResult", description="What a query releases, by library."),
]


def result_of(answer: base.Answer) -> OpenDpResult | SmartnoiseSqlResult:
    """An answer in GraphQL's terms."""
    table = Table.of(answer.table) if answer.table else None
    if answer.library is base.Library.SMARTNOISE_SQL:
        assert table is not None
        return SmartnoiseSqlResult(table=table)
    return OpenDpResult(value=answer.value, table=table)

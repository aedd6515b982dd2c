"""What is public about a dataset and its columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from lomas_gql import metadata as public
from lomas_gql.schema.scalars import JSON


@strawberry.interface(description="A column of a dataset, as its owner describes it.")
class Column:
    name: str = strawberry.field(description="The column's name, as queries call it.")
    nullable: bool = strawberry.field(
        description="Whether a cell may be missing. If not, a public constant stands for a missing cell."
    )
    private_id: bool = strawberry.field(
        description="Whether the column says whose row it is. No query may group by it, measure or model it."
    )


@strawberry.type(
    description="Numbers, clamped to [lower, upper] when the rows are loaded, so the bounds hold for every row."
)
class NumericColumn(Column):
    integer: bool = strawberry.field(description="Whether the numbers are whole.")
    precision: int = strawberry.field(description="Bits of a number (8, 16, 32 or 64), as the owner declares it.")
    lower: float = strawberry.field(description="The lower clamping bound, in the column's own unit.")
    upper: float = strawberry.field(description="The upper clamping bound, in the column's own unit.")


@strawberry.type(
    description="One of a public list of values; text outside the list reads as OTHER, an integer outside it as null."
)
class CategoricalColumn(Column):
    categories: list[str] = strawberry.field(description="The public list, integers as text.")


@strawberry.type(description="True or false.")
class BooleanColumn(Column):
    pass


@strawberry.type(description="Times without zone, clamped to [lower, upper] when the rows are loaded.")
class DatetimeColumn(Column):
    lower: datetime = strawberry.field(description="The lower clamping bound.")
    upper: datetime = strawberry.field(description="The upper clamping bound.")


@strawberry.type(description="Free text, or an identifier: it has no public list of values.")
class TextColumn(Column):
    pass


def column_of(column: public.Column) -> Column:
    """A column in GraphQL's terms."""
    common: dict[str, Any] = {"name": column.name, "nullable": column.nullable, "private_id": column.private_id}
    match column:
        case public.NumericColumn(integer=integer, precision=precision, lower=lower, upper=upper):
            return NumericColumn(**common, integer=integer, precision=precision, lower=lower, upper=upper)
        case public.CategoricalColumn(categories=categories):
            return CategoricalColumn(**common, categories=[str(category) for category in categories])
        case public.BooleanColumn():
            return BooleanColumn(**common)
        case public.DatetimeColumn(lower=lower, upper=upper):
            return DatetimeColumn(**common, lower=lower, upper=upper)
        case _:
            return TextColumn(**common)


@strawberry.type(
    description="What is public about a dataset, in its owner's words; nothing of it is read off private rows."
)
class DatasetMetadata:
    max_ids: int = strawberry.field(description="The most rows that belong to one individual: noise hides that many.")
    rows: int = strawberry.field(
        description="The number of rows that the owner declares; it is not counted from the data."
    )
    row_privacy: bool = strawberry.field(description="Whether each row is an individual of its own.")
    censor_dims: bool = strawberry.field(
        description="Whether small groups are always hidden behind a threshold, which needs a delta above 0."
    )
    columns: list[Column] = strawberry.field(description="The columns, in the owner's order.")
    smartnoise: JSON = strawberry.field(
        description="The same in the dictionary format of SmartNoise SQL, ready for its `from_dict`."
    )

    @classmethod
    def of(cls, metadata: public.Metadata) -> DatasetMetadata:
        return cls(
            max_ids=metadata.max_ids,
            rows=metadata.rows,
            row_privacy=metadata.row_privacy,
            censor_dims=metadata.censor_dims,
            columns=[column_of(column) for column in metadata.columns],
            smartnoise=JSON(metadata.smartnoise()),
        )

"""What is public about a dataset's columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from lomas_gql import metadata as public


@strawberry.interface(description="A column of a dataset, as its owner describes it.")
class Column:
    name: str = strawberry.field(description="The column's name.")
    nullable: bool = strawberry.field(description="Whether a cell may be missing.")
    private_id: bool = strawberry.field(description="Whether the column says whose row it is.")


@strawberry.type(description="Numbers, clamped to [lower, upper] when the rows are loaded.")
class NumericColumn(Column):
    integer: bool = strawberry.field(description="Whether the numbers are whole.")
    precision: int = strawberry.field(description="Bits of a number, as the owner declares it.")
    lower: float = strawberry.field(description="The lower clamping bound.")
    upper: float = strawberry.field(description="The upper clamping bound.")


@strawberry.type(description="One of a public list; text outside it is OTHER, an integer outside it null.")
class CategoricalColumn(Column):
    categories: list[str] = strawberry.field(description="The public list, integers as text.")


@strawberry.type(description="True or false.")
class BooleanColumn(Column):
    pass


@strawberry.type(description="Times without zone, clamped to [lower, upper] when the rows are loaded.")
class DatetimeColumn(Column):
    lower: datetime = strawberry.field(description="The lower clamping bound.")
    upper: datetime = strawberry.field(description="The upper clamping bound.")


@strawberry.type(description="Free text, or an identifier.")
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

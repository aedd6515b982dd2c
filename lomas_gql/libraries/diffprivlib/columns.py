"""Which columns a model may read, and how: as numbers within public bounds, or as public classes."""

from __future__ import annotations

from dataclasses import dataclass

from lomas_gql.libraries.diffprivlib.estimators import MAX_CLASSES, Box, Role
from lomas_gql.libraries.diffprivlib.params import is_narrow, shown
from lomas_gql.metadata import (
    OTHER,
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    Key,
    NumericColumn,
)


@dataclass(frozen=True)
class Feature:
    """A column as an estimator reads it: numbers within public bounds. True is 1."""

    name: str
    lower: float
    upper: float
    integer: bool
    nullable: bool


def box_of(features: tuple[Feature, ...]) -> Box:
    """The public bounds of all features."""
    return Box(tuple(f.lower for f in features), tuple(f.upper for f in features))


def unfit_feature(column: Column | None, name: str) -> str | None:
    """Why a column cannot be a feature, or None."""
    if column is None:
        return f"there is no column {shown(name)}"
    if column.private_id:
        return f"{shown(name)} says whose row it is, so no model may read it"
    match column:
        case NumericColumn() | BooleanColumn() | CategoricalColumn(integer=True):
            feature = feature_of(column)
            if is_narrow(feature.lower, feature.upper):
                return f"the bounds of {shown(name)} leave no room between them"
            return None
        case CategoricalColumn() | DatetimeColumn():
            kind = "a time" if isinstance(column, DatetimeColumn) else "text"
            return f"{shown(name)} is {kind}; these estimators read numbers, integers and booleans"
        case _:
            return f"{shown(name)} has neither bounds nor categories"


def feature_of(column: Column) -> Feature:
    match column:
        case NumericColumn(lower=lower, upper=upper, integer=integer):
            return Feature(column.name, float(lower), float(upper), integer, may_be_null(column))
        case CategoricalColumn(categories=categories):
            numbers = [float(category) for category in categories]
            return Feature(column.name, min(numbers), max(numbers), True, may_be_null(column))
        case _:
            return Feature(column.name, 0.0, 1.0, True, may_be_null(column))


def may_be_null(column: Column) -> bool:
    return column.nullable or (isinstance(column, CategoricalColumn) and column.admits_null)


def unfit_target(column: Column | None, name: str, role: Role) -> str | None:
    """Why a column cannot be the target, or None."""
    if column is None:
        return f"there is no column {shown(name)}"
    if column.private_id:
        return f"{shown(name)} says whose row it is, so no model may read it"
    if role is Role.REGRESSOR:
        if not isinstance(column, NumericColumn) or is_narrow(column.lower, column.upper):
            return f"{shown(name)} is not a number with bounds apart, which a regressor needs"
        return None
    if isinstance(column, NumericColumn) and column.integer and column.upper - column.lower >= MAX_CLASSES:
        return f"{shown(name)} has over {MAX_CLASSES} values"
    if not 2 <= len(classes_of(column)) <= MAX_CLASSES:
        return f"{shown(name)} has no public list of 2 to {MAX_CLASSES} classes, which a classifier needs"
    return None


def classes_of(column: Column) -> tuple[Key, ...]:
    """Every label that a row may bear, sorted as scikit-learn sorts them; OTHER among them."""
    match column:
        case BooleanColumn():
            return (False, True)
        case CategoricalColumn(categories=categories, integer=True):
            return tuple(sorted(int(category) for category in categories))
        case CategoricalColumn(categories=categories):
            return tuple(sorted({*(str(category) for category in categories), OTHER}))
        case NumericColumn(integer=True, lower=lower, upper=upper):
            return tuple(range(int(lower), int(upper) + 1))
        case _:
            return ()

"""Reads what an analyst sets: only what the table has, within its range, only narrowing the metadata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lomas_gql.libraries.base import EPSILON_CAP
from lomas_gql.libraries.diffprivlib.estimators import (
    MAX_TREE_CELLS,
    REFUSED,
    SPECS,
    Box,
    DiffprivlibEstimator,
    Flag,
    Number,
    Parameter,
    Setting,
    Spec,
    Special,
)
from lomas_gql.metadata import Key

NARROWEST = 1e-9
"""Bounds closer than this, relative to their size, leave floats no room between them."""
LARGEST_BOUND = 2.0**53
MOST_REFUSALS = 10
"""How many unknown names are spoken of."""


def checked_params(
    estimator: DiffprivlibEstimator, params: Mapping[str, Any], setting: Setting
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The values of all parameters, epsilon among them, and what is wrong: (name, message) pairs."""
    spec = SPECS[estimator]
    values: dict[str, Any] = {}
    mistakes = list(_refusals(spec, params))
    if params.get("epsilon") is None:
        mistakes.append(("epsilon", "epsilon is required: what this step may spend"))
    wanted = {"epsilon": Number(spec.floor, EPSILON_CAP, None)} | dict(spec.parameters)
    for name, parameter in wanted.items():
        try:
            values[name] = _read(name, parameter, params.get(name), setting, params)
        except ValueError as error:
            mistakes.append((name, str(error)))
    if not mistakes:
        mistakes = list(_together(estimator, values, setting))
    return values, mistakes


def _refusals(spec: Spec, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    allowed = ("epsilon", *spec.parameters)
    for name in [name for name in params if name not in allowed][:MOST_REFUSALS]:
        reason = REFUSED.get(name, "it is not among this estimator's parameters")
        yield shown(name), f"{shown(name)} cannot be set: {reason}. These can: {', '.join(allowed)}"


def _together(
    estimator: DiffprivlibEstimator, values: Mapping[str, Any], setting: Setting
) -> Iterator[tuple[str, str]]:
    """Mistakes that show only when several parameters are seen together."""
    if estimator is DiffprivlibEstimator.STANDARD_SCALER and not (values["with_mean"] or values["with_std"]):
        yield "with_std", "with_mean and with_std are both false: nothing is left to learn"
    if estimator is DiffprivlibEstimator.PCA and (values["n_components"] or 0) > setting.width:
        yield "n_components", f"n_components is more than the {setting.width} columns that this step reads"
    if "max_depth" in values:
        classes = len(values["classes"] or setting.classes)
        nodes = values.get("n_estimators", 1) * (2 ** (values["max_depth"] + 1) - 1)
        if nodes * classes > MAX_TREE_CELLS:
            yield "max_depth", f"nodes times classes are over {MAX_TREE_CELLS}: grow fewer trees, or flatter"


def _read(name: str, parameter: Parameter, value: Any, setting: Setting, params: Mapping[str, Any]) -> Any:
    if value is None:
        return parameter.default if isinstance(parameter, Number | Flag) else None
    match parameter:
        case Number(lower=lower, upper=upper, integer=True):
            return whole(name, value, int(lower), int(upper))
        case Number(lower=lower, upper=upper):
            return number(name, value, lower, upper)
        case Flag():
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false")
            return value
        case Special.BOUNDS:
            return _bounds(name, value, setting.width, setting.features)
        case Special.TARGET_BOUNDS:
            return _bounds(name, value, 1, setting.target)
        case Special.NORM:
            return _norm(name, value, setting.features, as_is=True)
        case Special.CENTERED_NORM:
            return _norm(name, value, setting.features, as_is=params.get("centered") is True)
        case Special.CLASSES:
            return _classes(name, value, setting.classes)
        case Special.PRIORS:
            return _priors(name, value, len(setting.classes))


def number(name: str, value: Any, lower: float, upper: float) -> float:
    """`value` as a float.

    Raises:
        ValueError: not a JSON number, NaN, or outside [lower, upper].
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not lower <= value <= upper:
        raise ValueError(f"{name} must be a number between {lower:g} and {upper:g}")
    return float(value)


def whole(name: str, value: Any, lower: int, upper: int) -> int:
    """`value` as an int.

    Raises:
        ValueError: not a whole JSON number, or outside [lower, upper].
    """
    if isinstance(value, bool) or not isinstance(value, int) or not lower <= value <= upper:
        raise ValueError(f"{name} must be a whole number between {lower} and {upper}")
    return value


def shown(text: object) -> str:
    """What a client wrote, short enough to be said back."""
    words = str(text)
    return words if len(words) <= 60 else words[:60] + "…"


def is_narrow(lower: float, upper: float) -> bool:
    """Whether bounds are equal, reversed, or too close for floats."""
    return not upper - lower >= NARROWEST * max(1.0, abs(lower), abs(upper))


def _bounds(name: str, value: Any, width: int, known: Box | None) -> Box:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name} must be [lower, upper], each a number or a list of {width} numbers")
    box = Box(*(_per_column(name, side, width) for side in value))
    for column, (low, high) in enumerate(zip(box.lower, box.upper, strict=True)):
        if is_narrow(low, high):
            raise ValueError(f"{name} need a lower under the upper, and room between them")
        if known and not known.lower[column] <= low < high <= known.upper[column]:
            public = f"[{known.lower[column]:g}, {known.upper[column]:g}]"
            raise ValueError(f"{name} may only narrow the metadata's: column {column + 1} has {public}")
    return box


def _per_column(name: str, side: Any, width: int) -> tuple[float, ...]:
    sides = side if isinstance(side, list | tuple) else [side] * width
    if len(sides) != width:
        raise ValueError(f"{name} must be [lower, upper], each a number or a list of {width} numbers")
    return tuple(number(name, one, -LARGEST_BOUND, LARGEST_BOUND) for one in sides)


def _norm(name: str, value: Any, known: Box | None, *, as_is: bool) -> float:
    """`as_is`: rows are taken as they come; else their mean is subtracted first."""
    given = number(name, value, NARROWEST, LARGEST_BOUND)
    if known is not None:
        largest = known.corner_norm if as_is else known.diagonal
        if given > largest * (1 + 1e-9):
            raise ValueError(f"{name} may only narrow what the metadata's bounds give: {largest:g}")
    return given


def _classes(name: str, value: Any, known: tuple[Key, ...]) -> tuple[Key, ...]:
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= len(known):
        raise ValueError(f"{name} must be a list of 2 to {len(known)} of the metadata's")
    if not all(_is_one_of(one, known) for one in value):
        raise ValueError(f"{name} may only narrow the metadata's")
    kept = tuple(key for key in known if _is_one_of(key, value))
    if len(kept) != len(value):
        raise ValueError(f"{name} must name each class once")
    return kept


def _is_one_of(value: Any, keys: Any) -> bool:
    # True == 1 in Python, and a hostile list need not be hashable.
    return any(type(value) is type(key) and value == key for key in keys)


def _priors(name: str, value: Any, classes: int) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != classes:
        raise ValueError(f"{name} must be a list of {classes} numbers, one for each class in sorted order")
    priors = tuple(number(name, one, 1e-9, 1) for one in value)
    if not math.isclose(math.fsum(priors), 1, rel_tol=1e-6):
        raise ValueError(f"{name} must add up to 1")
    return priors

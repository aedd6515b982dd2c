"""What a step learns from, and what the fits share. Imported in workers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diffprivlib.mechanisms import Laplace

from lomas_gql.libraries.diffprivlib.estimators import Box
from lomas_gql.libraries.diffprivlib.rows import Array, Mask
from lomas_gql.metadata import Key

Parameters = dict[str, Any]
"""Fitted attributes by scikit-learn's names, in JSON's types once they are released."""

DIGITS = 8
"""How many significant digits leave."""

SMALLEST_DEVIATION = 1e-4
"""A standard deviation is at least this share of the bounds' width: noise may take a variance to zero."""


@dataclass(frozen=True)
class Training:
    """What one step learns from. Rows of `x` lie within [lower, upper], and targets within `target`."""

    x: Array
    y: Array
    lower: Array
    upper: Array
    classes: tuple[Key, ...]
    target: tuple[float, float]

    @property
    def middle(self) -> Array:
        return (self.lower + self.upper) / 2

    @property
    def half(self) -> Array:
        return (self.upper - self.lower) / 2

    def within(self, box: Box | None) -> Training:
        """The same, clipped to narrower bounds: a claim about rows is made true, never believed."""
        if box is None:
            return self
        lower, upper = np.array(box.lower), np.array(box.upper)
        return replace(self, x=np.clip(self.x, lower, upper), lower=lower, upper=upper)

    def only(self, rows: Mask) -> Training:
        """Some of the rows."""
        return replace(self, x=self.x[rows], y=self.y[rows])


def unit_frame(training: Training, with_intercept: bool) -> tuple[Array, Array]:
    """The centre and scale that map the public bounds into [-1, 1]; the origin stays without an intercept."""
    if with_intercept:
        return training.middle, training.half
    return np.zeros_like(training.half), np.maximum(np.abs(training.lower), np.abs(training.upper))


def laplace(values: Array, epsilon: float, sensitivities: Array) -> Array:
    """Each of `values` with Laplace noise for its own sensitivity, and `epsilon` for each."""
    pairs = zip(values, sensitivities, strict=True)
    return np.array([Laplace(epsilon=epsilon, sensitivity=s).randomise(float(v)) for v, s in pairs])


def clipped_to_norm(x: Array, norm: float) -> Array:
    """Rows longer than `norm` are shortened to it."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x * np.minimum(1, norm / np.maximum(lengths, norm)))


def rounded(value: Any) -> Any:
    """`value` in JSON's types, floats to DIGITS significant digits: the last bits of a float can tell."""
    match value:
        case np.ndarray() | np.generic():
            return rounded(value.tolist())
        case float():
            return float(f"{value:.{DIGITS}g}")
        case list() | tuple():
            return [rounded(item) for item in value]
        case Mapping():
            return {key: rounded(item) for key, item in value.items()}
        case _:
            return value

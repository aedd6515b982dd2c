"""The eight estimators: which parameters an analyst may set, in which range, and which attributes leave.

Every parameter that is absent here is refused by name. Why each released attribute is differentially
private stands with the function that fits it, in the siblings of this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from lomas_gql.libraries.base import EPSILON_FLOOR
from lomas_gql.metadata import Key
from lomas_gql.words import Word

MAX_FEATURES = 50
MAX_CLASSES = 100
MAX_TREE_CELLS = 100_000
"""Nodes times classes of all trees together: what a forest may weigh in an answer."""


class DiffprivlibEstimator(Word):
    """diffprivlib's models. Beside `epsilon`, each takes the parameters that its description names."""

    STANDARD_SCALER = "STANDARD_SCALER", "Transformer to mean 0 and variance 1. with_mean, with_std, bounds."
    PCA = "PCA", "Transformer to principal components. n_components, centered, bounds, data_norm."
    GAUSSIAN_NB = "GAUSSIAN_NB", "Classifier: naive Bayes with normal features. bounds, priors, var_smoothing."
    LOGISTIC_REGRESSION = (
        "LOGISTIC_REGRESSION",
        "Classifier: logistic regression. data_norm, C, tol, max_iter, fit_intercept.",
    )
    DECISION_TREE_CLASSIFIER = "DECISION_TREE_CLASSIFIER", "Classifier: one random tree. max_depth, bounds, classes."
    RANDOM_FOREST_CLASSIFIER = (
        "RANDOM_FOREST_CLASSIFIER",
        "Classifier: a vote of random trees. n_estimators, max_depth, bounds, classes.",
    )
    LINEAR_REGRESSION = "LINEAR_REGRESSION", "Regressor: least squares. bounds_X, bounds_y, fit_intercept."
    K_MEANS = "K_MEANS", "Clustering by centres. n_clusters, bounds."


class Role(Enum):
    """What an estimator does with a target, and whether another step may follow it."""

    TRANSFORMER = "transformer"
    CLASSIFIER = "classifier"
    REGRESSOR = "regressor"
    CLUSTERER = "clustering"


@dataclass(frozen=True)
class Box:
    """Public bounds, one pair for each column."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @property
    def corner_norm(self) -> float:
        """The largest l2 norm of a row within."""
        sides = zip(self.lower, self.upper, strict=True)
        return math.hypot(*(max(abs(low), abs(high)) for low, high in sides))

    @property
    def diagonal(self) -> float:
        """The largest l2 distance between two rows within."""
        sides = zip(self.lower, self.upper, strict=True)
        return math.hypot(*(high - low for low, high in sides))


@dataclass(frozen=True)
class Setting:
    """What is public about the rows that a step reads.

    `features` is None behind a transformer: there, the bounds follow from what the transformer released.
    """

    width: int
    features: Box | None
    target: Box | None
    classes: tuple[Key, ...]


@dataclass(frozen=True)
class Number:
    """A number within [lower, upper]."""

    lower: float
    upper: float
    default: float | None
    integer: bool = False


@dataclass(frozen=True)
class Flag:
    """True or false."""

    default: bool


class Special(Enum):
    """Parameters that may only narrow what the metadata say; left out, they follow from them."""

    BOUNDS = "the bounds of the features"
    TARGET_BOUNDS = "the bounds of the target"
    NORM = "the largest l2 norm of a row"
    CENTERED_NORM = "the largest l2 norm of a row, after its mean is subtracted"
    CLASSES = "the classes"
    PRIORS = "a probability for each class"


Parameter = Number | Flag | Special


@dataclass(frozen=True)
class Spec:
    """One estimator: its role, its smallest epsilon, its parameters beside epsilon, and what it releases."""

    role: Role
    floor: float
    parameters: Mapping[str, Parameter]
    released: tuple[str, ...]


_TREE: dict[str, Parameter] = {
    "max_depth": Number(1, 10, 5, integer=True),
    "bounds": Special.BOUNDS,
    "classes": Special.CLASSES,
}

SPECS: Mapping[DiffprivlibEstimator, Spec] = MappingProxyType(
    {
        # The library draws a variance by rejection: under 1e-3, nearly every draw may be rejected.
        DiffprivlibEstimator.STANDARD_SCALER: Spec(
            Role.TRANSFORMER,
            1e-3,
            {"with_mean": Flag(True), "with_std": Flag(True), "bounds": Special.BOUNDS},
            ("mean_", "var_", "scale_"),
        ),
        # singular_values_**2 / explained_variance_ is n - 1, so only one of the two leaves.
        DiffprivlibEstimator.PCA: Spec(
            Role.TRANSFORMER,
            1e-5,
            {
                "n_components": Number(1, MAX_FEATURES, None, integer=True),
                "centered": Flag(False),
                "bounds": Special.BOUNDS,
                "data_norm": Special.CENTERED_NORM,
            },
            ("components_", "mean_", "explained_variance_", "explained_variance_ratio_"),
        ),
        DiffprivlibEstimator.GAUSSIAN_NB: Spec(
            Role.CLASSIFIER,
            1e-5,
            {
                "bounds": Special.BOUNDS,
                "priors": Special.PRIORS,
                "var_smoothing": Number(1e-12, 1.0, 1e-9),
            },
            ("classes_", "theta_", "var_", "class_prior_"),
        ),
        DiffprivlibEstimator.LOGISTIC_REGRESSION: Spec(
            Role.CLASSIFIER,
            1e-5,
            {
                "data_norm": Special.NORM,
                "C": Number(1e-6, 1e6, 1.0),
                "tol": Number(1e-12, 1e-2, 1e-4),
                # No fewer: the noise is argued for the optimum, not for a stop on the way to it.
                "max_iter": Number(100, 10_000, 1000, integer=True),
                "fit_intercept": Flag(True),
            },
            ("classes_", "coef_", "intercept_"),
        ),
        DiffprivlibEstimator.DECISION_TREE_CLASSIFIER: Spec(
            Role.CLASSIFIER, EPSILON_FLOOR, _TREE, ("classes_", "tree_")
        ),
        DiffprivlibEstimator.RANDOM_FOREST_CLASSIFIER: Spec(
            Role.CLASSIFIER,
            EPSILON_FLOOR,
            _TREE | {"n_estimators": Number(1, 100, 10, integer=True)},
            ("classes_", "estimators_"),
        ),
        DiffprivlibEstimator.LINEAR_REGRESSION: Spec(
            Role.REGRESSOR,
            1e-5,
            {
                "bounds_X": Special.BOUNDS,
                "bounds_y": Special.TARGET_BOUNDS,
                "fit_intercept": Flag(True),
            },
            ("coef_", "intercept_"),
        ),
        DiffprivlibEstimator.K_MEANS: Spec(
            Role.CLUSTERER,
            1e-5,
            {"n_clusters": Number(1, 30, 8, integer=True), "bounds": Special.BOUNDS},
            ("cluster_centers_",),
        ),
    }
)

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "random_state": "a seed would let the noise be drawn again and subtracted",
        "accountant": "the server keeps one accountant for each query",
        "warm_start": "each query starts from nothing",
        "n_jobs": "the server decides how many processors a query has",
        "verbose": "nothing is printed",
        "shuffle": "rows are always dealt to the trees at random",
        "whiten": "a noisy variance near zero would blow the rows up",
        "delta": "these estimators spend epsilon only",
        "classes": "the classes come from the metadata",
        "bounds": "bounds go by other names here",
    }
)
"""Why some names are refused; the others are merely unknown. An estimator's own parameters come first."""


@dataclass(frozen=True)
class Step:
    """One step, checked. A bound, norm or class list that the analyst left out is None."""

    name: str
    estimator: DiffprivlibEstimator
    epsilon: float
    params: Mapping[str, Any]

    @property
    def spec(self) -> Spec:
        return SPECS[self.estimator]

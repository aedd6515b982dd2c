"""GaussianNB and LogisticRegression, with noise for a replaced row, label included."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from diffprivlib import BudgetAccountant, models
from diffprivlib.mechanisms import GeometricTruncated

from lomas_gql.libraries.diffprivlib.rows import Array
from lomas_gql.libraries.diffprivlib.training import (
    SMALLEST_DEVIATION,
    Parameters,
    Training,
    clipped_to_norm,
    laplace,
    unit_frame,
)

SOLVER_TOLERANCE = 1e-10
"""How near its optimum a logistic regression is solved, whatever looser tolerance is allowed."""

SOLVER_ITERATIONS = 10_000
CONDITIONED_EPSILON = 5.0


class _GaussianNB(models.GaussianNB):  # type: ignore[misc]
    """The library's model with the noise of its three statistics set for a replaced row, label included.

    A fifth of epsilon counts the classes; sums and sums of squares have two fifths each, divided among the
    columns. `x` is centred on the bounds, so its values lie in [-half, half].
    """

    def _noisy_class_counts(self, y: Any, random_state: Any) -> list[int]:
        """Two counts change by 1. They need not add up to n, so the priors do not tell it either."""
        mechanism = GeometricTruncated(epsilon=self.epsilon / 5, sensitivity=2, lower=1, upper=len(y))
        return [mechanism.randomise(int((y == label).sum())) for label in self.classes_]

    def _update_mean_variance(
        self,
        n_past: Any,
        mu: Any,
        var: Any,
        X: Any,  # noqa: N803 (scikit-learn's own name)
        random_state: Any,
        sample_weight: Any = None,
        n_noisy: int = 1,
    ) -> tuple[Array, Array]:
        """The noisy mean and variance of each column, for one class.

        A label that changes moves the sums of two classes by up to `half`, a changed value one sum by up to
        twice that: over all classes, 2 `half`. Squares less `half`²/2 lie within `half`²/2 of zero, so their
        sums change by `half`² over all classes; the noisy count puts back what is taken off. A variance
        under the standard deviation of its own noise is lifted to that.
        """
        epsilon = 0.4 * self.epsilon / X.shape[1]
        half = self.bounds[1]
        sums = laplace(X.sum(axis=0), epsilon, 2 * half)
        squares = laplace((X**2 - half**2 / 2).sum(axis=0), epsilon, half**2)
        mean = np.clip(sums / n_noisy, -half, half)
        variance = squares / n_noisy + half**2 / 2 - mean**2
        return mean, np.clip(variance, np.minimum(1, math.sqrt(2) / epsilon / n_noisy) * half**2, half**2)


def gaussian_nb(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """Noise: integer noise on class counts, Laplace noise on each class's sums and sums of squares.

    `class_prior_` is of noisy counts over their noisy total, or what the analyst gave.
    """
    half = training.half
    model = _GaussianNB(
        epsilon=epsilon,
        bounds=(-half, half),
        priors=params["priors"],
        var_smoothing=params["var_smoothing"],
        accountant=accountant,
    ).fit(training.x - training.middle, training.y.astype(np.int64))
    return {
        "theta_": model.theta_ + training.middle,
        "var_": np.maximum(model.var_, (SMALLEST_DEVIATION * 2 * half) ** 2),
        "class_prior_": _readable_priors(np.asarray(model.class_prior_)),
    }


def _readable_priors(priors: Array) -> list[float]:
    """Three decimals, at least 0.001 each, adding up to 1."""
    rough = [max(1, round(1000 * float(p))) for p in priors]
    largest = rough.index(max(rough))
    rough[largest] += 1000 - sum(rough)
    return [r / 1000 for r in rough]


def logistic_regression(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """One against the rest, epsilon divided among the classes. Noise: a random vector in each objective.

    Objective perturbation (Chaudhuri, Monteleoni, Sarwate, JMLR 2011, algorithm 2) is proved for rows of norm
    at most 1 and a penalty on every coefficient. The library uses a norm where the square of it belongs, and
    leaves the intercept without penalty. So rows, with the intercept's 1 as a column of theirs, are scaled
    to norm 1 and the library fits no intercept; C is scaled along. C is also no larger than half of epsilon
    allows (the proof's other half pays for the noise), a rule that the library has too, but follows late.

    The proof is for the optimum, so the solver goes on until it makes no more progress, whatever looser `tol`
    and `max_iter` are allowed, and C grows no further than CONDITIONED_EPSILON allows: beyond it the objective
    is so flat that the solver stops visibly short. What distance remains is not covered by the proof.
    Without `data_norm`, columns are first mapped to [-1, 1] by their public bounds, and coefficients back.
    """
    center, scale, norm = _row_frame(training, params)
    z = clipped_to_norm((training.x - center) / scale, norm)
    if params["fit_intercept"]:
        z, norm = np.hstack([z, np.ones((len(z), 1))]), math.hypot(norm, 1)
    classifiers = 1 if len(training.classes) == 2 else len(training.classes)
    model = models.LogisticRegression(
        epsilon=epsilon,
        data_norm=1.0,
        C=min(params["C"] * norm**2, 4 * math.expm1(min(epsilon / classifiers, CONDITIONED_EPSILON) / 4)),
        tol=min(params["tol"], SOLVER_TOLERANCE),
        max_iter=max(params["max_iter"], SOLVER_ITERATIONS),
        fit_intercept=False,
        accountant=accountant,
    ).fit(z / norm, training.y.astype(np.int64))
    weights = np.nan_to_num(model.coef_) / norm
    coefficients = weights[:, : len(scale)] / scale
    offset = weights[:, -1] if params["fit_intercept"] else np.zeros(len(weights))
    return {"coef_": coefficients, "intercept_": offset - coefficients @ center}


def _row_frame(training: Training, params: Mapping[str, Any]) -> tuple[Array, Array, float]:
    """The public centre and scale of rows, and the norm that they are clipped to."""
    columns = training.x.shape[1]
    if params["data_norm"]:
        return np.zeros(columns), np.ones(columns), params["data_norm"]
    return *unit_frame(training, params["fit_intercept"]), math.sqrt(columns)


def most_likely(parameters: Parameters, x: Array) -> Array:
    """The number of the class that GaussianNB finds likeliest for each row."""
    likelihoods = [
        math.log(prior) - 0.5 * (np.log(var) + (x - mean) ** 2 / var).sum(axis=1)
        for prior, mean, var in zip(
            parameters["class_prior_"],
            np.array(parameters["theta_"]),
            np.array(parameters["var_"]),
            strict=True,
        )
    ]
    return np.asarray(np.argmax(likelihoods, axis=0), dtype=np.float64)

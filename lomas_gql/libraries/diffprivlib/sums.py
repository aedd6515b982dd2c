"""LinearRegression and KMeans: models that are solved from noisy sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from diffprivlib import BudgetAccountant, models
from diffprivlib.mechanisms import GeometricFolded
from diffprivlib.models.linear_regression import _construct_regression_obj

from lomas_gql.libraries.diffprivlib.estimators import Box
from lomas_gql.libraries.diffprivlib.rows import Array
from lomas_gql.libraries.diffprivlib.training import Parameters, Training, laplace, unit_frame


def linear_regression(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """The functional mechanism (Zhang et al., VLDB 2012). Noise: Laplace on each entry of X'X, X'y and y'y.

    The library spends epsilon (1 + 1 / (columns + 1)) when it fits an intercept, and reads the lower bound
    twice where a square's sensitivity needs the upper. So columns and target are mapped to [-1, 1], where
    both bounds are alike, the intercept is one more column of ones, and the library's objective is built
    without one. The noisy quadratic form may have no minimum: its eigenvalues are lifted to the noise's own
    scale, and it is solved at once.
    """
    with_intercept = params["fit_intercept"]
    target = _target_frame(params["bounds_y"], training, with_intercept)
    center, scale = unit_frame(training, with_intercept)
    z = (training.x - center) / scale
    y = np.clip((training.y - target[0]) / target[1], -1, 1)
    low, high = -np.ones(z.shape[1]), np.ones(z.shape[1])
    if with_intercept:
        z, low, high = np.hstack([z, np.ones((len(z), 1))]), np.append(low, 1), np.append(high, 1)
    accountant.spend(epsilon, 0)
    bounds_y = (-np.ones(1), np.ones(1))
    _, noisy = _construct_regression_obj(z, y, (low, high), bounds_y, epsilon, 0, None)
    size = z.shape[1]
    weights = _least_squares(noisy[2], noisy[1][:, 0], 2 * (1 + size + size * (size + 1) / 2) / epsilon)
    coefficients = target[1] * weights[: len(scale)] / scale
    intercept = target[0] + target[1] * weights[-1] - coefficients @ center if with_intercept else 0.0
    return {"coef_": coefficients, "intercept_": float(intercept)}


def _target_frame(narrowed: Box | None, training: Training, with_intercept: bool) -> tuple[float, float]:
    """The target's centre and scale, like `unit_frame`."""
    low, high = (narrowed.lower[0], narrowed.upper[0]) if narrowed else training.target
    return ((low + high) / 2, (high - low) / 2) if with_intercept else (0.0, max(abs(low), abs(high)))


def _least_squares(matrix: Array, moments: Array, smallest: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors @ ((vectors.T @ moments) / np.maximum(values, smallest)))


class _KMeans(models.KMeans):  # type: ignore[misc]
    """The library's DPLloyd with every cluster noised, empty ones too, and the budget of an iteration kept.

    The library leaves the centre of an empty cluster as it was, which tells that it is empty; it mixes up the
    shares of counts and sums, which overspends from five columns on. `x` is centred on the bounds.
    """

    def _update_centers(
        self,
        X: Any,  # noqa: N803 (scikit-learn's own name)
        centers: Any,
        labels: Any,
        dims: int,
        total_iters: int,
        random_state: Any,
    ) -> Array:
        """A replaced row changes two counts by 1; the sums of a column by 2 `half` over all clusters."""
        share = float(np.cbrt(4 * dims * 0.225**2))  # Su et al., as in the library
        epsilon = self.epsilon / total_iters / (dims + share)
        half = self.bounds[1]
        counter = GeometricFolded(epsilon=epsilon * share, sensitivity=2, lower=0.5, upper=float("inf"))
        for cluster in range(self.n_clusters):
            own = X[labels == cluster]
            count = counter.randomise(len(own))
            centers[cluster] = np.clip(laplace(own.sum(axis=0), epsilon, 2 * half) / count, -half, half)
        return np.asarray(centers)


def k_means(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """Noise: integer noise on cluster sizes and Laplace on sums, in a public number of iterations."""
    bounds = (-training.half, training.half)
    model = _KMeans(params["n_clusters"], epsilon=epsilon, bounds=bounds, accountant=accountant)
    return {"cluster_centers_": model.fit(training.x - training.middle).cluster_centers_ + training.middle}

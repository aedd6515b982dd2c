"""StandardScaler and PCA: how they are fitted, and what is public about the rows behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from diffprivlib import BudgetAccountant, models, tools

from lomas_gql.libraries.diffprivlib.estimators import Box, DiffprivlibEstimator
from lomas_gql.libraries.diffprivlib.rows import Array
from lomas_gql.libraries.diffprivlib.training import (
    SMALLEST_DEVIATION,
    Parameters,
    Training,
    clipped_to_norm,
    laplace,
)


def standard_scaler(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """Means and variances, half of epsilon each, divided among the columns.

    Noise: truncated Laplace on each mean (sensitivity width / n) and bounded Laplace on each variance
    (width² (n - 1) / n²), both exact for a replaced row and public n; there are no nulls here, which the
    library's `nanmean` would count as rows. A variance of zero is lifted to a public floor.
    """
    model = models.StandardScaler(
        epsilon=epsilon,
        bounds=(training.lower, training.upper),
        with_mean=params["with_mean"],
        with_std=params["with_std"],
        accountant=accountant,
    ).fit(training.x)
    columns = training.x.shape[1]
    variance = np.ones(columns)
    if params["with_std"]:
        variance = np.maximum(model.var_, (SMALLEST_DEVIATION * 2 * training.half) ** 2)
    mean = model.mean_ if params["with_mean"] else np.zeros(columns)
    return {"mean_": mean, "var_": variance, "scale_": np.sqrt(variance)}


def pca(training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant) -> Parameters:
    """Half of epsilon for the mean (unless `centered`), the rest for X'X; the axes follow from the noisy X'X.

    Noise: truncated Laplace on the means, and Laplace on each entry of X'X. Rows are clipped to `data_norm`
    after centring and scaled to norm 1, so what one row contributes to the entries on and above the diagonal
    adds up to (|x|_1² + |x|_2²) / 2 <= (columns + 1) / 2; replacing a row changes them by twice that.

    The library's own PCA draws eigenvectors from a Bingham distribution by rejection, with an acceptance
    probability divided by what should multiply it (mechanisms/bingham.py; Kent, Ganeiben and Mardia, 2013).
    That is not the exponential mechanism, keeps no epsilon, and accepts next to nothing when rows are many.
    """
    columns, rows = training.x.shape[1], len(training.x)
    box = Box(tuple(training.lower), tuple(training.upper))
    bounds = (training.lower, training.upper)
    mean = np.zeros(columns)
    if not params["centered"]:
        epsilon /= 2
        mean = tools.mean(training.x, epsilon=epsilon, bounds=bounds, axis=0, accountant=accountant)
    norm = params["data_norm"] or (box.corner_norm if params["centered"] else box.diagonal)
    z = clipped_to_norm(training.x - mean, norm) / norm
    accountant.spend(epsilon, 0)
    above = np.triu_indices(columns)
    noisy = np.zeros((columns, columns))
    noisy[above] = laplace((z.T @ z)[above], epsilon, np.full(len(above[0]), columns + 1.0))
    values, vectors = np.linalg.eigh(noisy, UPLO="U")
    variance = np.maximum(values[::-1], 0) * norm**2 / (rows - 1)
    return _axes(mean, variance, vectors.T[::-1], params["n_components"] or columns)


def _axes(mean: Array, variance: Array, axes: Array, components: int) -> Parameters:
    """The first components, each with its largest weight positive, as scikit-learn turns them."""
    largest = np.abs(axes).argmax(axis=1)
    signs = np.sign(axes[np.arange(len(axes)), largest])
    return {
        "mean_": mean,
        "components_": (axes * signs[:, np.newaxis])[:components],
        "explained_variance_": variance[:components],
        "explained_variance_ratio_": (variance / max(float(variance.sum()), 1e-300))[:components],
    }


def transform(estimator: DiffprivlibEstimator, parameters: Parameters, x: Array) -> Array:
    """What scikit-learn's `transform` would give with these parameters."""
    centered = x - np.array(parameters["mean_"])
    if estimator is DiffprivlibEstimator.STANDARD_SCALER:
        return np.asarray(centered / np.array(parameters["scale_"]))
    return np.asarray(centered @ np.array(parameters["components_"]).T)


def transformed(estimator: DiffprivlibEstimator, parameters: Parameters, training: Training) -> Training:
    """The next step's rows and bounds.

    Both transformers are affine, so bounds before and released parameters give bounds after, by interval
    arithmetic: nothing here reads a row but to transform it, and all is clipped to the bounds again.
    """
    mean = np.array(parameters["mean_"])
    if estimator is DiffprivlibEstimator.STANDARD_SCALER:
        weights = np.diag(1 / np.array(parameters["scale_"]))
    else:
        weights = np.array(parameters["components_"])
    ends = weights * (training.lower - mean), weights * (training.upper - mean)
    # A component may weigh nothing at all; bounds must still have room between them.
    slack = 1e-6 * (1 + np.abs(np.stack(ends)).max(axis=0).sum(axis=1))
    lower = np.minimum(*ends).sum(axis=1) - slack
    upper = np.maximum(*ends).sum(axis=1) + slack
    x = np.clip(transform(estimator, parameters, training.x), lower, upper)
    return replace(training, x=x, lower=lower, upper=upper)

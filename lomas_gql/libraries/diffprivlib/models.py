"""Runs a plan: rows, steps, score. Imported in workers only: it brings scikit-learn.

Two training sets are neighbours if they have the same public number of rows and differ in one, label
included (see `rows`). diffprivlib 0.6.6 does not keep its epsilon for that relation everywhere;
each fit says where its noise comes from, and where and why it departs from the library:

- a replaced label changes two class counts, two leaves or two clusters, for which some models pay once;
- a sum over a class changes by max(|lower|, |upper|) when a row leaves it, not by upper - lower;
- some budgets are added up wrongly, and some sensitivities read the wrong bound.

Mechanisms get no `random_state`, so that diffprivlib draws their noise from the operating system. What is
released is rounded to DIGITS digits, and every later step reads the released figures, never finer ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from diffprivlib import BudgetAccountant
from diffprivlib.utils import PrivacyLeakWarning

from lomas_gql.errors import Overspent
from lomas_gql.libraries.diffprivlib.classifiers import gaussian_nb, logistic_regression, most_likely
from lomas_gql.libraries.diffprivlib.estimators import DiffprivlibEstimator, Role, Step
from lomas_gql.libraries.diffprivlib.plan import Plan
from lomas_gql.libraries.diffprivlib.rows import Array, Sides, noisy_mean, sides
from lomas_gql.libraries.diffprivlib.sums import k_means, linear_regression
from lomas_gql.libraries.diffprivlib.training import Parameters, Training, rounded
from lomas_gql.libraries.diffprivlib.transformers import pca, standard_scaler, transform, transformed
from lomas_gql.libraries.diffprivlib.trees import decision_tree, random_forest, voted
from lomas_gql.privacy import PrivacyLoss

if TYPE_CHECKING:
    from lomas_gql.libraries.diffprivlib.query import DiffprivlibQuery


def answer(query: DiffprivlibQuery, plan: Plan, frame: pl.DataFrame) -> dict[str, Any]:
    """Fits, releases and scores, and compares what was spent with what was declared."""
    accountant = BudgetAccountant()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        # Bounds are always given, so this one would be a mistake of ours: no answer then.
        warnings.simplefilter("error", PrivacyLeakWarning)
        released = fitted(query, plan, frame, accountant)
    spent = accountant.total()
    if spent[0] > plan.cost.epsilon * (1 + 1e-12) or spent[1] > 0:
        raise Overspent(PrivacyLoss.charged(float(spent[0]), float(spent[1])))
    return released


def fitted(query: DiffprivlibQuery, plan: Plan, frame: pl.DataFrame, accountant: BudgetAccountant) -> dict[str, Any]:
    """The answer, with everything spent on `accountant`."""
    rows = sides(query, plan, frame, accountant)
    training = _training(plan, rows)
    test = rows.test_x
    released: list[dict[str, Any]] = []
    for place, step in enumerate(plan.steps):
        epsilon = step.epsilon - (rows.counted if place == 0 else 0.0)
        parameters = _fit(step, training, epsilon, accountant)
        released.append({"name": step.name, "estimator": step.estimator.value, "parameters": parameters})
        if step.spec.role is Role.TRANSFORMER and place < len(plan.steps) - 1:
            training = transformed(step.estimator, parameters, training)
            test = np.clip(transform(step.estimator, parameters, test), training.lower, training.upper)
    score = None
    if query.score_epsilon is not None:
        predicted = predict(plan.steps[-1].estimator, released[-1]["parameters"], test)
        score = _score(plan, predicted, rows.test_y, query.score_epsilon, accountant)
    return {"steps": released, "score": score}


def _training(plan: Plan, rows: Sides) -> Training:
    target = plan.target_box
    return Training(
        rows.x,
        rows.y,
        np.array(plan.box.lower),
        np.array(plan.box.upper),
        plan.classes,
        (target.lower[0], target.upper[0]) if target else (0.0, 0.0),
    )


def _fit(step: Step, training: Training, epsilon: float, accountant: BudgetAccountant) -> Parameters:
    """Fits one step on clipped rows, and keeps what the table says may leave, rounded."""
    clipped = training.within(step.params.get("bounds") or step.params.get("bounds_X"))
    parameters = _FITS[step.estimator](clipped, epsilon, step.params, accountant)
    if step.spec.role is Role.CLASSIFIER:
        parameters["classes_"] = list(training.classes)
    kept = {name: rounded(parameters[name]) for name in step.spec.released}
    return kept | {"n_features_in_": training.x.shape[1]}


def _score(plan: Plan, predicted: Array, true: Array, epsilon: float, accountant: BudgetAccountant) -> float:
    """Accuracy, or 1 - |error| / width of the target's bounds: a noisy sum over a noisy count of test rows.

    Each row's score lies in [0, 1], so replacing one row changes the sum by at most 1, also where it was or
    comes on the training side; what it does to the model is that model's epsilon.
    """
    if plan.role is Role.REGRESSOR and plan.target_box:
        width = plan.target_box.upper[0] - plan.target_box.lower[0]
        scores = np.clip(1 - np.nan_to_num(np.abs(predicted - true) / width, nan=1.0), 0, 1)
    else:
        scores = (predicted == true).astype(np.float64)
    noisy = noisy_mean(scores, epsilon, accountant, sensitivity=1)
    return float(rounded(min(1.0, max(0.0, noisy))))


def predict(estimator: DiffprivlibEstimator, parameters: Parameters, x: Array) -> Array:
    """What scikit-learn would predict with these parameters; for a classifier, the number of the class."""
    match estimator:
        case DiffprivlibEstimator.GAUSSIAN_NB:
            return most_likely(parameters, x)
        case DiffprivlibEstimator.LOGISTIC_REGRESSION | DiffprivlibEstimator.LINEAR_REGRESSION:
            values = x @ np.array(parameters["coef_"]).T + np.array(parameters["intercept_"])
            if estimator is DiffprivlibEstimator.LINEAR_REGRESSION:
                return np.asarray(values)
            best = values.argmax(axis=1) if values.shape[1] > 1 else values[:, 0] > 0
            return np.asarray(best, dtype=np.float64)
        case DiffprivlibEstimator.DECISION_TREE_CLASSIFIER:
            return voted([parameters], x)
        case _:
            return voted(parameters["estimators_"], x)


_FITS: Mapping[DiffprivlibEstimator, Callable[[Training, float, Mapping[str, Any], BudgetAccountant], Parameters]] = {
    DiffprivlibEstimator.STANDARD_SCALER: standard_scaler,
    DiffprivlibEstimator.PCA: pca,
    DiffprivlibEstimator.GAUSSIAN_NB: gaussian_nb,
    DiffprivlibEstimator.LOGISTIC_REGRESSION: logistic_regression,
    DiffprivlibEstimator.DECISION_TREE_CLASSIFIER: decision_tree,
    DiffprivlibEstimator.RANDOM_FOREST_CLASSIFIER: random_forest,
    DiffprivlibEstimator.LINEAR_REGRESSION: linear_regression,
    DiffprivlibEstimator.K_MEANS: k_means,
}

"""Decision trees and forests: random splits that read no row, and noisy labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from diffprivlib import BudgetAccountant
from diffprivlib.mechanisms import PermuteAndFlip
from diffprivlib.models.forest import _FittingTree

from lomas_gql.libraries.diffprivlib.rows import Array, Whole
from lomas_gql.libraries.diffprivlib.training import Parameters, Training, rounded

TREE_SHARE = 0.5
"""What one leaf gets of epsilon: a replaced row may leave one leaf and join another."""


def decision_tree(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """Splits are random within the public bounds and read no row. Noise: each leaf's label.

    A label is drawn by permute and flip on the leaf's class counts, also in an empty leaf, where it is
    uniform. A replaced row leaves one leaf and joins another: so each gets TREE_SHARE of epsilon. The library
    pays for one, and draws an empty leaf's label from the generator whose output the thresholds show.
    """
    accountant.spend(epsilon, 0)
    return {"tree_": _tree(training, epsilon * TREE_SHARE, params["max_depth"])}


def random_forest(
    training: Training, epsilon: float, params: Mapping[str, Any], accountant: BudgetAccountant
) -> Parameters:
    """Trees as above on disjoint rows: each row is in one tree, so all of them cost what one does.

    Rows are dealt at random, not by their place, since a replaced row may shift the place of all others. The
    library seeds each tree with 31 bits that its thresholds give away, and the labels' noise with them.
    """
    accountant.spend(epsilon, 0)
    trees = params["n_estimators"]
    dealt = np.random.default_rng().permutation(len(training.x)) % trees
    grown = []
    for place in range(trees):
        part = training.only(dealt == place)
        grown.append({"tree_": _tree(part, epsilon * TREE_SHARE, params["max_depth"])})
    return {"estimators_": grown}


def _tree(training: Training, epsilon: float, depth: int) -> Parameters:
    """A random tree with noisy labels, by the attribute names of scikit-learn's `Tree`."""
    columns, classes = training.x.shape[1], len(training.classes)
    bounds = (training.lower, training.upper)
    builder = _FittingTree(depth, columns, range(classes), epsilon, bounds, np.random.RandomState())
    nodes = builder.build().nodes
    tree = {
        "children_left": np.array([node.left_child for node in nodes]),
        "children_right": np.array([node.right_child for node in nodes]),
        "feature": np.array([node.feature for node in nodes]),
        "threshold": rounded([float(node.threshold) for node in nodes]),
    }
    cells = leaves(tree, training.x) * classes + training.y.astype(np.int64)
    counts = np.bincount(cells, minlength=len(nodes) * classes).reshape(len(nodes), classes)
    value = np.zeros((len(nodes), 1, classes))
    for node in np.flatnonzero(tree["children_left"] < 0):
        utility = [int(count) for count in counts[node]]
        mechanism = PermuteAndFlip(epsilon=epsilon, sensitivity=1, monotonic=True, utility=utility)
        value[node, 0, mechanism.randomise()] = 1
    return tree | {"max_depth": depth, "value": value}


def leaves(tree: Mapping[str, Any], x: Array) -> Whole:
    """The leaf in which each row ends."""
    left, right = np.array(tree["children_left"]), np.array(tree["children_right"])
    feature, threshold = np.array(tree["feature"]), np.array(tree["threshold"])
    at = np.zeros(len(x), dtype=np.int64)
    rows = np.arange(len(x))
    while len(x) and (left[at] >= 0).any():
        inner = left[at] >= 0
        goes_left = x[rows, np.where(inner, feature[at], 0)] <= threshold[at]
        at = np.where(inner, np.where(goes_left, left[at], right[at]), at)
    return at


def voted(trees: list[Parameters], x: Array) -> Array:
    """The number of the class that most trees give to each row."""
    votes = sum(np.array(tree["tree_"]["value"])[leaves(tree["tree_"], x), 0] for tree in trees)
    return np.asarray(np.argmax(votes, axis=1), dtype=np.float64)

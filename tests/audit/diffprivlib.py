"""diffprivlib's eight estimators and the score, each on a row that is replaced, label included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.diffprivlib.query import DiffprivlibEstimator, DiffprivlibQuery, PipelineStep
from lomas_gql.metadata import Metadata
from tests.audit.cases import Case, Cells

COLUMNS = {
    "x": {"type": "float", "lower": -1, "upper": 1},
    "y": {"type": "float", "lower": -1, "upper": 1},
    "label": {"type": "int", "lower": 0, "upper": 1},
}
METADATA = Metadata.parse({"max_ids": 1, "rows": 40, "row_privacy": True, "columns": COLUMNS})
PURE = 2.0
Row = tuple[float, float, int]
Kind = DiffprivlibEstimator


def table(rows: list[Row]) -> Cells:
    return {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)}


def asked(estimator: Kind, target: str | None, epsilon: float = PURE, **fields: Any) -> DiffprivlibQuery:
    params = {
        name: fields.pop(name) for name in list(fields) if name not in ("score_epsilon", "test_size", "columns")
    }
    return DiffprivlibQuery(
        steps=[PipelineStep(estimator=estimator, params={"epsilon": epsilon} | params)],
        feature_columns=fields.pop("columns", ["x"]),
        target_columns=target and [target],  # type: ignore[arg-type]
        **({"test_size": 0.0} | fields),
    )


def label_at(x: float) -> Callable[[Answer], list[float]]:
    """What the answered trees say of a row, and the thresholds."""

    def labels(tree: Mapping[str, Any]) -> float:
        node = 0
        while tree["children_left"][node] >= 0:
            goes_left = x <= tree["threshold"][node]
            node = tree["children_left" if goes_left else "children_right"][node]
        return float(tree["value"][node][0][1])

    def told(answer: Answer) -> list[float]:
        parameters = answer.value["steps"][0]["parameters"]
        trees = parameters.get("estimators_") or [parameters]
        return [sum(labels(tree["tree_"]) for tree in trees)]

    return told


def cases() -> Iterator[Case]:
    moved, labelled = "one value, from bound to bound", "one label"
    line = [(0.0, 0.0, place % 2) for place in range(9)]
    flat = [(-1.0, 0.0, 0)] * 9
    edge = [(1.0, 0.0, 0)] * 4 + [(-1.0, 0.0, 1)] * 4
    still, few = [(0.5, 0.0, 0)] * 2, [(0.5, 0.0, 0)] * 1
    squares: list[Row] = [(1.0, 1.0, 0)] * 30
    for estimator, what, target, rows, row, replaced, more in [
        (Kind.STANDARD_SCALER, moved, None, line, (1.0, 0.0, 0), (-1.0, 0.0, 0), {"with_std": False}),
        (Kind.STANDARD_SCALER, moved, None, flat, (1.0, 0.0, 0), (-1.0, 0.0, 0), {}),
        (Kind.PCA, moved, None, line, (1.0, 0.0, 0), (-1.0, 0.0, 0), {}),
        (Kind.PCA, moved, None, line, (1.0, 0.0, 0), (0.0, 0.0, 0), {"centered": True}),
        (Kind.GAUSSIAN_NB, labelled, "label", edge, (1.0, 0.0, 0), (1.0, 0.0, 1), {}),
        (Kind.GAUSSIAN_NB, moved, "label", line, (1.0, 0.0, 0), (-1.0, 0.0, 0), {}),
        (Kind.LOGISTIC_REGRESSION, labelled, "label", edge, (1.0, 0.0, 0), (1.0, 0.0, 1), {}),
        (Kind.LOGISTIC_REGRESSION, labelled, "label", [], (1.0, 0.0, 0), (1.0, 0.0, 1), {"fit_intercept": False}),
        (Kind.LOGISTIC_REGRESSION, moved, "label", [], (1.0, 0.0, 0), (-1.0, 0.0, 0), {"C": 1e6}),
        (Kind.LINEAR_REGRESSION, "one target, from bound to bound", "y", squares, (1.0, 1.0, 0), (1.0, -1.0, 0), {}),
        (Kind.LINEAR_REGRESSION, moved, "y", squares, (1.0, 1.0, 0), (-1.0, 1.0, 0), {"fit_intercept": False}),
        (Kind.K_MEANS, moved, None, line, (1.0, 0.0, 0), (-1.0, 0.0, 0), {"n_clusters": 1}),
        (Kind.K_MEANS, moved, None, edge, (1.0, 0.0, 0), (-1.0, 0.0, 0), {"n_clusters": 2}),
    ]:
        named = f"{estimator.value}{''.join(f', {name} {value}' for name, value in more.items())}"
        both = table([*rows, row]), table([*rows, replaced])
        weight = 5 if estimator is Kind.LOGISTIC_REGRESSION else 1
        yield Case("diffprivlib", named, what, METADATA, asked(estimator, target, **more), both, weight=weight)
    # Two rows of one leaf: with both labels alike, a second of the other comes as a tie.
    for estimator, rows, more in [
        (Kind.DECISION_TREE_CLASSIFIER, few, {"max_depth": 1}),
        (Kind.RANDOM_FOREST_CLASSIFIER, few, {"max_depth": 1, "n_estimators": 1}),
        (Kind.RANDOM_FOREST_CLASSIFIER, still, {"max_depth": 1, "n_estimators": 3}),
    ]:
        named = f"{estimator.value}{''.join(f', {name} {value}' for name, value in more.items())}"
        both = table([*rows, (0.5, 0.0, 0)]), table([*rows, (0.5, 0.0, 1)])
        query = asked(estimator, "label", **more)
        yield Case("diffprivlib", named, labelled, METADATA, query, both, label_at(0.5))
    yield from _scores()


def _scores() -> Iterator[Case]:
    """The one row of the test side is right or wrong: of a model that reads next to nothing."""

    def told(answer: Answer) -> list[float]:
        return [*label_at(0.5)(answer), answer.value["score"]]

    query = asked(Kind.DECISION_TREE_CLASSIFIER, "label", 1e-6, max_depth=1, score_epsilon=PURE, test_size=0.9)
    rows: list[Row] = [(0.5, 0.0, 1)] * 3
    both = table([*rows, (0.5, 0.0, 0)]), table([*rows, (0.5, 0.0, 1)])
    yield Case("diffprivlib", "the score of a classifier", "one label", METADATA, query, both, told)

    def regression(answer: Answer) -> list[float]:
        return [answer.value["score"]]

    query = asked(Kind.LINEAR_REGRESSION, "y", 1e-5, score_epsilon=PURE, test_size=0.9)
    both = table([(0.0, 0.0, 0)] * 3 + [(0.0, 1.0, 0)]), table([(0.0, 0.0, 0)] * 4)
    yield Case("diffprivlib", "the score of a regressor", "one target", METADATA, query, both, regression)

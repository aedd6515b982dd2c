"""diffprivlib: what it costs, what it refuses, what leaves, and that no row shows."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.typing import fit
from lomas_gql.errors import InvalidQuery, Overspent
from lomas_gql.libraries.diffprivlib.estimators import SPECS, Role
from lomas_gql.libraries.diffprivlib.plan import planned
from lomas_gql.libraries.diffprivlib.query import DiffprivlibEstimator, DiffprivlibQuery, Imputation, PipelineStep
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows

Est = DiffprivlibEstimator
BILLS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]
PENGUIN = {
    "max_ids": 1,
    "rows": 344,
    "row_privacy": True,
    "columns": {
        "species": {"type": "string", "categories": ["Adelie", "Chinstrap", "Gentoo"]},
        "island": {"type": "string", "categories": ["Torgersen", "Biscoe", "Dream"], "nullable": True},
        "bill_length_mm": {"type": "float", "lower": 30, "upper": 65, "nullable": True},
        "bill_depth_mm": {"type": "float", "lower": 13, "upper": 23, "nullable": True},
        "flipper_length_mm": {"type": "float", "lower": 150, "upper": 250, "nullable": True},
        "body_mass_g": {"type": "float", "lower": 2000, "upper": 7000, "nullable": True},
        "sex": {"type": "string", "categories": ["male", "female"], "nullable": True},
        "year": {"type": "int", "lower": 2007, "upper": 2009},
    },
}
MIXED = {
    "max_ids": 1,
    "rows": 300,
    "columns": {
        "x": {"type": "float", "lower": -3, "upper": 10},
        "z": {"type": "float", "lower": 100, "upper": 200},
        "whole": {"type": "int", "lower": 0, "upper": 5},
        "flag": {"type": "boolean"},
        "level": {"type": "int", "categories": [1, 2, 4]},
        "label": {"type": "string", "categories": ["a", "b"]},
        "when": {"type": "datetime", "lower": "2020-01-01", "upper": "2021-01-01"},
        "words": {"type": "string"},
        "flat": {"type": "float", "lower": 1, "upper": 1},
        "who": {"type": "string", "private_id": True},
    },
}


@pytest.fixture(scope="module")
def penguin() -> Metadata:
    return Metadata.parse(PENGUIN)


@pytest.fixture(scope="module")
def mixed() -> Metadata:
    return Metadata.parse(MIXED)


@pytest.fixture(scope="module")
def raw_penguins() -> pl.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package reads its own files through a deprecated interface
        from palmerpenguins import load_penguins

        frame = load_penguins()
    return pl.DataFrame({name: [None if cell != cell else cell for cell in frame[name].tolist()] for name in frame})


@pytest.fixture(scope="module")
def penguins(raw_penguins: pl.DataFrame, penguin: Metadata) -> Rows:
    return Rows(fit(raw_penguins.lazy(), penguin, 1).collect(), penguin)


def step(estimator: Est, epsilon: Any = 1.0, name: str | None = None, **params: Any) -> PipelineStep:
    return PipelineStep(name=name, estimator=estimator, params={"epsilon": epsilon} | params)


def query(*steps: PipelineStep, **fields: Any) -> DiffprivlibQuery:
    """A query over the penguins' bills, with the target that its last step needs."""
    target = {Role.CLASSIFIER: ["species"], Role.REGRESSOR: ["body_mass_g"]}
    fields = {
        "feature_columns": BILLS,
        "target_columns": target.get(SPECS[steps[-1].estimator].role) if steps else None,
    } | fields
    return DiffprivlibQuery(steps=list(steps), **fields)


def refusal(of: DiffprivlibQuery, metadata: Metadata) -> list[tuple[str, str]]:
    """Where and why a query is refused; both by cost and by run."""
    with pytest.raises(InvalidQuery) as caught:
        of.cost(metadata)
    with pytest.raises(InvalidQuery) as again:
        of.run(dummy_rows(metadata, 20, 1), metadata)
    assert again.value.issues == caught.value.issues
    assert all(issue.path[:2] == ("query", "diffprivlib") for issue in caught.value.issues)
    return [(".".join(issue.path[2:]), issue.message) for issue in caught.value.issues]


def rebuilt(result: dict[str, Any]) -> Any:
    """A scikit-learn pipeline from an answer, as the README shows it."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier
    from sklearn.tree._tree import NODE_DTYPE, Tree

    kinds = [KMeans, PCA, RandomForestClassifier, LinearRegression, LogisticRegression, GaussianNB]
    kinds += [StandardScaler, DecisionTreeClassifier]
    classes = {kind.__name__.lower(): kind for kind in kinds}

    def tree(columns: int, labels: int, t: dict[str, Any]) -> Tree:
        nodes = np.zeros(len(t["feature"]), NODE_DTYPE)
        for ours, theirs in [("children_left", "left_child"), ("children_right", "right_child")]:
            nodes[theirs] = t[ours]
        nodes["feature"], nodes["threshold"] = t["feature"], t["threshold"]
        made = Tree(columns, np.array([labels]), 1)
        values = np.array(t["value"], dtype=float)
        made.__setstate__({"max_depth": t["max_depth"], "node_count": len(nodes), "nodes": nodes, "values": values})
        return made

    def estimator(kind: str, parameters: dict[str, Any]) -> Any:
        model = classes[kind.replace("_", "").lower()]()
        for name, value in parameters.items():
            setattr(model, name, np.array(value) if isinstance(value, list) else value)
        labels = len(parameters.get("classes_", []))
        model.n_outputs_, model.n_classes_, model._n_threads = 1, labels, 1
        if "tree_" in parameters:
            model.tree_ = tree(model.n_features_in_, labels, parameters["tree_"])
        if "estimators_" in parameters:
            common = {"classes_": list(range(labels)), "n_features_in_": model.n_features_in_}
            trees: list[dict[str, Any]] = parameters["estimators_"]
            model.estimators_ = [estimator("DECISION_TREE_CLASSIFIER", t | common) for t in trees]
        return model

    return Pipeline([(s["name"], estimator(s["estimator"], s["parameters"])) for s in result["steps"]])


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("estimator", list(Est))
def test_each_estimator_costs_what_it_declares_and_releases_what_its_table_says(
    estimator: Est, penguin: Metadata, penguins: Rows
) -> None:
    asked = query(step(estimator, 0.7, name="model"))
    assert asked.cost(penguin) == PrivacyLoss.declared("0.7")
    for rows in (dummy_rows(penguin, 300, 3), penguins):
        value = json.loads(json.dumps(asked.run(rows, penguin).value, allow_nan=False))
        [fitted] = value["steps"]
        assert (fitted["name"], fitted["estimator"]) == ("model", estimator.value)
        assert set(fitted["parameters"]) == {*SPECS[estimator].released, "n_features_in_"}
        assert value["score"] is None
        assert all(math.isfinite(number) for number in numbers_in(value))


@pytest.mark.parametrize("estimator", list(Est))
def test_no_attribute_of_rows_leaves_without_noise(estimator: Est, penguin: Metadata, penguins: Rows) -> None:
    asked = query(step(estimator, 0.5))
    answers = [asked.run(penguins, penguin).value["steps"][0]["parameters"] for _ in range(4)]
    for name in SPECS[estimator].released:
        if name != "classes_":
            assert any(answer[name] != answers[0][name] for answer in answers[1:]), name


@pytest.mark.parametrize("imputation", list(Imputation))
@pytest.mark.parametrize(
    "steps",
    [[step(estimator, 0.3)] for estimator in Est]
    + [
        [
            step(Est.STANDARD_SCALER, 0.1),
            step(Est.PCA, 0.2, n_components=2),
            step(Est.LOGISTIC_REGRESSION, 0.3),
        ]
    ],
    ids=lambda steps: steps[-1].estimator.value + str(len(steps)),
)
def test_the_accountant_agrees_with_the_cost(
    steps: list[PipelineStep], imputation: Imputation, penguin: Metadata, penguins: Rows
) -> None:
    from diffprivlib import BudgetAccountant

    from lomas_gql.libraries.diffprivlib.models import fitted

    scored = SPECS[steps[-1].estimator].role in (Role.CLASSIFIER, Role.REGRESSOR)
    asked = query(*steps, imputation=imputation, imputation_epsilon=0.1, score_epsilon=0.2 if scored else None)
    accountant = BudgetAccountant()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as `answer` does: the library calls SciPy in a deprecated way
        fitted(asked, planned(asked, penguin), penguins.frame, accountant)
    assert accountant.total()[0] == pytest.approx(asked.cost(penguin).epsilon, rel=1e-12)
    assert accountant.total()[1] == 0


def test_a_library_that_spends_more_than_declared_gives_no_answer(
    penguin: Metadata, penguins: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lomas_gql.libraries.diffprivlib import models as diffprivlib_models

    honest = diffprivlib_models._FITS[Est.K_MEANS]

    def greedy(training: Any, epsilon: float, params: Any, accountant: Any) -> Any:
        return honest(training, epsilon * 1.001, params, accountant)

    monkeypatch.setitem(diffprivlib_models._FITS, Est.K_MEANS, greedy)  # type: ignore[arg-type]
    with pytest.raises(Overspent):
        query(step(Est.K_MEANS)).run(penguins, penguin)


def test_costs_add_up_exactly(penguin: Metadata) -> None:
    steps = [step(Est.STANDARD_SCALER, 0.1), step(Est.GAUSSIAN_NB, 0.2)]
    assert query(*steps).cost(penguin) == PrivacyLoss.declared("0.3")
    assert query(*steps, score_epsilon=0.1).cost(penguin) == PrivacyLoss.declared("0.4")
    filled = query(*steps, imputation=Imputation.MEDIAN, imputation_epsilon=0.1)
    assert filled.cost(penguin) == PrivacyLoss.declared("0.6")  # three nullable features
    years = query(*steps, imputation=Imputation.MEDIAN, imputation_epsilon=0.1, feature_columns=["year"])
    assert years.cost(penguin) == PrivacyLoss.declared("0.3")  # never null


def test_a_bayes_classifier_predicts_species_from_the_json_alone(
    penguin: Metadata, penguins: Rows, raw_penguins: pl.DataFrame
) -> None:
    complete = raw_penguins.drop_nulls(BILLS)
    for imputation in (Imputation.DROP, Imputation.MEAN):
        asked = query(step(Est.GAUSSIAN_NB, 5), imputation=imputation, imputation_epsilon=1.0)
        model = rebuilt(json.loads(json.dumps(asked.run(penguins, penguin).value)))
        predicted = model.predict(complete.select(BILLS).to_numpy())
        assert (predicted == complete["species"].to_numpy()).mean() > 0.7  # the largest class has 0.44


@pytest.mark.parametrize(
    "steps",
    [
        [step(Est.GAUSSIAN_NB, 5)],
        [step(Est.LOGISTIC_REGRESSION, 8)],
        [step(Est.DECISION_TREE_CLASSIFIER, 5)],
        [step(Est.RANDOM_FOREST_CLASSIFIER, 5)],
        [step(Est.STANDARD_SCALER, 5), step(Est.PCA, 5), step(Est.LOGISTIC_REGRESSION, 8)],
        [step(Est.STANDARD_SCALER, 5), step(Est.LINEAR_REGRESSION, 8)],
    ],
    ids=lambda steps: steps[-1].estimator.value + str(len(steps)),
)
def test_scikit_learn_predicts_from_the_json_what_the_server_scored(
    steps: list[PipelineStep], penguin: Metadata, penguins: Rows, raw_penguins: pl.DataFrame
) -> None:
    complete = raw_penguins.drop_nulls([*BILLS, "body_mass_g"])
    value = query(*steps, score_epsilon=90.0 / len(steps), test_size=0.5).run(penguins, penguin).value
    predicted = rebuilt(json.loads(json.dumps(value))).predict(complete.select(BILLS).to_numpy())
    if steps[-1].estimator is Est.LINEAR_REGRESSION:
        error = np.abs(predicted - complete["body_mass_g"].to_numpy()) / 5000
        assert np.clip(1 - error, 0, 1).mean() == pytest.approx(value["score"], abs=0.15)
        assert value["score"] > 0.25
    else:
        hits = (predicted == complete["species"].to_numpy()).mean()
        assert hits == pytest.approx(value["score"], abs=0.15)
        assert value["score"] > 0.25


def test_eight_digits_leave(penguin: Metadata, penguins: Rows) -> None:
    for estimator in Est:
        for number in numbers_in(query(step(estimator)).run(penguins, penguin).value):
            assert number == float(f"{number:.8g}")


def test_the_training_set_has_about_as_many_rows_as_are_complete(penguin: Metadata) -> None:
    from diffprivlib import BudgetAccountant

    from lomas_gql.libraries.diffprivlib.rows import sides

    frame = dummy_rows(penguin, 1000, 1).frame
    half = frame.with_columns(pl.when(pl.int_range(1000) < 600).then("bill_depth_mm").alias("bill_depth_mm"))
    asked = query(step(Est.GAUSSIAN_NB, 20), test_size=0)
    got = sides(asked, planned(asked, penguin), half, BudgetAccountant())
    complete = len(half.drop_nulls(BILLS))
    assert complete + 4 - 30 < len(got.x) < complete + 4 + 30
    assert got.counted == 1.0


@pytest.mark.parametrize("estimator", [e for e in Est if e is not Est.LOGISTIC_REGRESSION])
def test_rows_are_clipped_to_whatever_bounds_are_claimed(
    estimator: Est, penguin: Metadata, penguins: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lomas_gql.libraries.diffprivlib import models as diffprivlib_models

    seen = []

    def spy(training: Any, *_: Any) -> dict[str, Any]:
        seen.append((training.x.min(axis=0).tolist(), training.x.max(axis=0).tolist()))
        return dict.fromkeys(SPECS[estimator].released, 0.0)

    monkeypatch.setitem(diffprivlib_models._FITS, estimator, spy)  # type: ignore[arg-type]
    bounds = [[40, 16, 190], [41, 17, 200]]
    name = "bounds_X" if estimator is Est.LINEAR_REGRESSION else "bounds"
    query(step(estimator, 1.0, **{name: bounds})).run(penguins, penguin)
    assert seen == [(bounds[0], bounds[1])]


def test_clusters_and_axes_are_near_the_truth_at_a_large_epsilon(mixed: Metadata) -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(0, 0.3, 3000) + 6.0 * (np.arange(3000) % 2)
    frame = dummy_rows(mixed, 3000, 1).frame.with_columns(x=pl.Series(x), z=pl.Series(150 + 4 * x))
    rows = Rows(frame, mixed)
    asked = query(step(Est.PCA, 90, n_components=1), feature_columns=["x", "z"])
    [axis] = asked.run(rows, mixed).value["steps"][0]["parameters"]["components_"]
    assert axis[1] / axis[0] == pytest.approx(4, abs=0.5)
    asked = query(step(Est.K_MEANS, 90, n_clusters=2), feature_columns=["x", "z"])
    found = rebuilt(asked.run(rows, mixed).value).predict([[0.0, 150.0], [6.0, 174.0]])
    assert found[0] != found[1]


# ---- neighbours


PLANTED = {
    "rare label": {"species": "Macaroni", "bill_length_mm": 41.23456789},
    "extreme value": {"bill_length_mm": 64.98765432, "flipper_length_mm": 1e300},
    "null": {"bill_length_mm": None, "bill_depth_mm": 21.23456789},
    "not a number": {"bill_length_mm": math.nan},
    "unseen category": {"island": "Atlantis", "bill_length_mm": 33.45678912},
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_row_shows_in_no_answer(
    planted: dict[str, Any], raw_penguins: pl.DataFrame, penguin: Metadata
) -> None:
    head, tail = raw_penguins.slice(0, 7), raw_penguins.slice(8)
    changed = raw_penguins.slice(7, 1).with_columns(
        pl.lit(cell, dtype=raw_penguins.schema[name]).alias(name) for name, cell in planted.items()
    )
    neighbour = Rows(fit(pl.concat([head, changed, tail]).lazy(), penguin, 1).collect(), penguin)
    for estimator in Est:
        scored = 1.0 if SPECS[estimator].role in (Role.CLASSIFIER, Role.REGRESSOR) else None
        value = query(step(estimator, 1.0), score_epsilon=scored).run(neighbour, penguin).value
        text = json.dumps(value)
        for cell in planted.values():
            shown = f"{cell:.8g}" if isinstance(cell, float) else str(cell)
            assert cell is None or shown not in text
        if "classes_" in value["steps"][0]["parameters"]:
            classes = value["steps"][0]["parameters"]["classes_"]
            assert classes == ["Adelie", "Chinstrap", "Gentoo", "OTHER"]


@pytest.mark.parametrize("estimator", list(Est))
def test_a_small_epsilon_tells_nothing_even_of_all_rows(estimator: Est, mixed: Metadata) -> None:
    """Twenty rows, all in one corner or all in the other: at epsilon 0.01 no attribute tells which."""
    base = dummy_rows(mixed, 20, 1).frame
    corners = [
        base.with_columns(x=pl.lit(x), z=pl.lit(z), label=pl.lit(label))
        for x, z, label in ((-3.0, 100.0, "a"), (10.0, 200.0, "b"))
    ]
    role = SPECS[estimator].role
    target = {Role.CLASSIFIER: ["label"], Role.REGRESSOR: ["z"]}.get(role)
    small = {"max_depth": 1} if "max_depth" in SPECS[estimator].parameters else {}
    asked = query(step(estimator, 0.01, **small), feature_columns=["x"], target_columns=target, test_size=0)
    runs = [
        [asked.run(Rows(frame, mixed), mixed).value["steps"][0]["parameters"] for _ in range(40)] for frame in corners
    ]
    for name in SPECS[estimator].released:
        if name != "classes_":
            for place in range(len(list(flat(runs[0][0][name])))):
                one, other = (np.array([list(flat(run[name]))[place] for run in side]) for side in runs)
                higher = (one[:, None] > other).mean() + (one[:, None] == other).mean() / 2
                assert 0.15 < higher < 0.85, (name, place)


def flat(value: Any) -> Iterator[float]:
    """All numbers within, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield float(value)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(5, 60),
    split=st.integers(-5, 5),
    test_size=st.sampled_from([0, 0.2, 0.5, 0.9]),
    size=st.integers(1, 60),
    estimator=st.sampled_from([Est.GAUSSIAN_NB, Est.LINEAR_REGRESSION, Est.PCA]),
)
def test_neighbouring_rows_give_neighbouring_training_sets_of_one_size(
    seed: int, rows: int, split: int, test_size: float, size: int, estimator: Est
) -> None:
    from diffprivlib import BudgetAccountant

    from lomas_gql.libraries.diffprivlib import rows as diffprivlib_rows

    metadata = Metadata.parse(PENGUIN)
    asked = query(step(estimator), split_seed=split, test_size=test_size)
    frame = dummy_rows(metadata, rows, seed).frame
    other = pl.concat([frame[:2], dummy_rows(metadata, 1, seed + 1).frame, frame[3:]])
    sets = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(diffprivlib_rows, "_noisy_count", lambda *_: size)
        for one in (frame, other):
            got = diffprivlib_rows.sides(asked, planned(asked, metadata), one, BudgetAccountant())
            sets.append([tuple(row) for row in np.column_stack([got.x, got.y]).tolist()])
    assert len(sets[0]) == len(sets[1])
    left = list(sets[1])
    for row in sets[0]:
        if row in left:
            left.remove(row)
    assert len(left) <= 1


def test_a_rows_side_depends_on_its_own_content_alone(penguin: Metadata) -> None:
    from diffprivlib import BudgetAccountant

    from lomas_gql.libraries.diffprivlib.rows import sides

    asked = query(step(Est.GAUSSIAN_NB), test_size=0.5)
    frame = dummy_rows(penguin, 200, 5).frame
    plan = planned(asked, penguin)
    whole = {tuple(row) for row in sides(asked, plan, frame, BudgetAccountant()).test_x.tolist()}
    half = {tuple(row) for row in sides(asked, plan, frame[::-2], BudgetAccountant()).test_x.tolist()}
    assert half < whole
    other = query(step(Est.GAUSSIAN_NB), test_size=0.5, split_seed=2)
    moved = {tuple(row) for row in sides(other, plan, frame, BudgetAccountant()).test_x.tolist()}
    assert moved != whole
    assert 40 < len(whole) < 140


@pytest.mark.parametrize("estimator", list(Est))
def test_no_rows_make_a_query_fail(estimator: Est, penguin: Metadata) -> None:
    empty = dummy_rows(penguin, 0, 1)
    nulls = dummy_rows(penguin, 30, 1).frame.with_columns(pl.lit(None, pl.Float64).alias(b) for b in BILLS)
    same = dummy_rows(penguin, 1, 1).frame
    for frame in (empty.frame, nulls, pl.concat([same] * 30)):
        for imputation in Imputation:
            asked = query(step(estimator, 0.5), imputation=imputation, imputation_epsilon=0.5)
            value = asked.run(Rows(frame, penguin), penguin).value
            assert all(math.isfinite(number) for number in numbers_in(value))


# ---- refusals


PARAMS = {
    "random_state": "random_state",
    "accountant": "accountant",
    "warm_start": "warm_start",
    "n_jobs": "n_jobs",
    "verbose": "verbose",
    "nonsense": "nonsense",
}


@pytest.mark.parametrize("estimator", list(Est))
@pytest.mark.parametrize("name", PARAMS)
def test_parameters_off_the_list_are_refused_by_name(estimator: Est, name: str, penguin: Metadata) -> None:
    [(path, message)] = refusal(query(step(estimator, 1.0, **{name: 1})), penguin)
    assert path == f"steps.0.params.{name}"
    assert message.startswith(f"{name} cannot be set")


@pytest.mark.parametrize("estimator", list(Est))
def test_epsilon_is_required_finite_and_above_the_floor(estimator: Est, penguin: Metadata) -> None:
    path = "steps.0.params.epsilon"
    for params in (None, {}, {"epsilon": None}):
        missing = PipelineStep(estimator=estimator, params=params)
        assert path in dict(refusal(query(missing), penguin))
    floor = SPECS[estimator].floor
    for epsilon in (0, -1, floor * 0.99, 101, math.nan, math.inf, "1", True, [1], 10**400):
        assert [where for where, _ in refusal(query(step(estimator, epsilon)), penguin)] == [path]
    query(step(estimator, floor)).cost(penguin)


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    [
        (Est.STANDARD_SCALER, "bounds", [0, 10]),
        (Est.STANDARD_SCALER, "bounds", [[31, 14, 160], [60, 20]]),
        (Est.STANDARD_SCALER, "bounds", [[60, 14, 160], [31, 20, 200]]),
        (Est.STANDARD_SCALER, "bounds", [[31, 14, 160], [31, 20, 200]]),
        (Est.STANDARD_SCALER, "bounds", [math.nan, math.nan]),
        (Est.STANDARD_SCALER, "with_mean", 1),
        (Est.PCA, "data_norm", 1e6),
        (Est.PCA, "data_norm", 0),
        (Est.PCA, "n_components", 4),
        (Est.PCA, "n_components", 0.5),
        (Est.PCA, "n_components", "mle"),
        (Est.PCA, "whiten", True),
        (Est.GAUSSIAN_NB, "priors", [0.5, 0.5]),
        (Est.GAUSSIAN_NB, "priors", [0.5, 0.5, 0.5, 0.5]),
        (Est.GAUSSIAN_NB, "var_smoothing", -1),
        (Est.LOGISTIC_REGRESSION, "C", 0),
        (Est.LOGISTIC_REGRESSION, "C", math.inf),
        (Est.LOGISTIC_REGRESSION, "max_iter", 1),
        (Est.LOGISTIC_REGRESSION, "max_iter", 10**9),
        (Est.LOGISTIC_REGRESSION, "data_norm", 1000),
        (Est.LINEAR_REGRESSION, "bounds_y", [0, 10_000]),
        (Est.K_MEANS, "n_clusters", 10**6),
        (Est.DECISION_TREE_CLASSIFIER, "max_depth", 40),
        (Est.DECISION_TREE_CLASSIFIER, "classes", ["Adelie", "Macaroni"]),
        (Est.DECISION_TREE_CLASSIFIER, "classes", ["Adelie", "Adelie"]),
        (Est.DECISION_TREE_CLASSIFIER, "classes", [[], {}]),
        (Est.RANDOM_FOREST_CLASSIFIER, "n_estimators", 10**6),
        (Est.RANDOM_FOREST_CLASSIFIER, "shuffle", False),
    ],
)
def test_values_out_of_range_are_refused_where_they_stand(
    estimator: Est, name: str, value: Any, penguin: Metadata
) -> None:
    [(path, message)] = refusal(query(step(estimator, 1.0, **{name: value})), penguin)
    assert path == f"steps.0.params.{name}"
    assert name in message


def test_a_forest_too_large_to_answer_is_refused(penguin: Metadata) -> None:
    large = step(Est.RANDOM_FOREST_CLASSIFIER, 1.0, n_estimators=100, max_depth=10)
    assert refusal(query(large), penguin)[0][0] == "steps.0.params.max_depth"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"feature_columns": []}, "featureColumns"),
        ({"feature_columns": ["year", "year"]}, "featureColumns"),
        ({"feature_columns": ["bill_length"]}, "featureColumns.0"),
        ({"feature_columns": ["island"]}, "featureColumns.0"),
        ({"target_columns": None}, "targetColumns"),
        ({"target_columns": ["species", "sex"]}, "targetColumns"),
        ({"target_columns": ["specie"]}, "targetColumns.0"),
        ({"target_columns": ["bill_length_mm"]}, "targetColumns"),
        ({"target_columns": ["body_mass_g"]}, "targetColumns.0"),
        ({"test_size": 0.95}, "testSize"),
        ({"test_size": -0.1}, "testSize"),
        ({"test_size": math.nan}, "testSize"),
        ({"score_epsilon": math.nan}, "scoreEpsilon"),
        ({"score_epsilon": 0}, "scoreEpsilon"),
        ({"score_epsilon": 1.0, "test_size": 0}, "scoreEpsilon"),
        ({"imputation": Imputation.MEAN}, "imputationEpsilon"),
        ({"imputation": Imputation.MEAN, "feature_columns": ["year"]}, "imputationEpsilon"),
        ({"imputation": Imputation.MEDIAN, "imputation_epsilon": math.inf}, "imputationEpsilon"),
        ({"split_seed": 2**80}, "splitSeed"),
    ],
)
def test_bad_fields_are_refused_where_they_stand(fields: dict[str, Any], path: str, penguin: Metadata) -> None:
    found = refusal(query(step(Est.GAUSSIAN_NB), **fields), penguin)
    assert [where for where, _ in found] == [path]
    assert "did you mean" not in found[0][1].lower()


@pytest.mark.parametrize("column", ["label", "when", "words", "flat", "who"])
def test_columns_that_are_no_numbers_are_refused_as_features(column: str, mixed: Metadata) -> None:
    [(path, message)] = refusal(query(step(Est.K_MEANS), feature_columns=["x", column]), mixed)
    assert path == "featureColumns.1"
    assert column in message


def test_whole_numbers_booleans_and_levels_are_features_and_classes(mixed: Metadata) -> None:
    rows = dummy_rows(mixed, 100, 2)
    expected = {
        "flag": [False, True],
        "level": [1, 2, 4],
        "whole": [0, 1, 2, 3, 4, 5],
        "label": ["OTHER", "a", "b"],
    }
    for target, classes in expected.items():
        features = [name for name in ("x", "z", "whole", "flag", "level") if name != target]
        for estimator in (Est.GAUSSIAN_NB, Est.LOGISTIC_REGRESSION, Est.DECISION_TREE_CLASSIFIER):
            asked = query(step(estimator), feature_columns=features, target_columns=[target], score_epsilon=1.0)
            value = asked.run(rows, mixed).value
            assert value["steps"][0]["parameters"]["classes_"] == classes
            assert 0 <= value["score"] <= 1


def test_nobody_models_who_a_row_belongs_to(mixed: Metadata) -> None:
    asked = query(step(Est.GAUSSIAN_NB), feature_columns=["x"], target_columns=["who"])
    assert "whose row" in refusal(asked, mixed)[0][1]


def test_several_rows_of_one_individual_are_refused() -> None:
    metadata = Metadata.parse(MIXED | {"max_ids": 2})
    assert "max_ids" in refusal(query(step(Est.K_MEANS), feature_columns=["x"]), metadata)[0][1]


def test_pipelines_that_cannot_be_are_refused(penguin: Metadata) -> None:
    scaler, bayes = step(Est.STANDARD_SCALER), step(Est.GAUSSIAN_NB)
    assert refusal(query(bayes, scaler, target_columns=None), penguin)[0][0] == "steps.0.estimator"
    assert refusal(query(scaler, scaler), penguin)[0][0] == "steps.1.name"
    assert refusal(query(step(Est.GAUSSIAN_NB, name="a__b")), penguin)[0][0] == "steps.0.name"
    assert refusal(query(*[scaler] * 6), penguin)[0][0] == "steps"
    assert refusal(query(), penguin)[0][0] == "steps"
    assert refusal(query(step(Est.K_MEANS), score_epsilon=1.0), penguin)[0][0] == "scoreEpsilon"
    assert refusal(query(step(Est.K_MEANS), target_columns=["species"]), penguin)[0][0] == "targetColumns"
    listed = PipelineStep(estimator=Est.K_MEANS, params=[1])
    assert refusal(query(listed), penguin)[0][0] == "steps.0.params"


def test_several_mistakes_are_told_at_once(penguin: Metadata) -> None:
    found = refusal(query(step(Est.LOGISTIC_REGRESSION, -1, C=0, seed=1)), penguin)
    assert {path.rsplit(".", 1)[1] for path, _ in found} == {"epsilon", "C", "seed"}


def test_false_claims_behind_a_transformer_are_made_true(penguin: Metadata, penguins: Rows) -> None:
    """Bounds there cannot be checked beforehand, so rows are clipped to them: centres stay within."""
    asked = query(step(Est.STANDARD_SCALER), step(Est.K_MEANS, bounds=[-0.01, 0.01], n_clusters=2))
    centers = asked.run(penguins, penguin).value["steps"][1]["parameters"]["cluster_centers_"]
    assert np.abs(centers).max() <= 0.0101


def test_narrower_classes_are_the_only_ones(penguin: Metadata, penguins: Rows) -> None:
    for estimator in (Est.DECISION_TREE_CLASSIFIER, Est.RANDOM_FOREST_CLASSIFIER):
        asked = query(step(estimator, 5, classes=["Gentoo", "Adelie"]), score_epsilon=20.0)
        value = asked.run(penguins, penguin).value
        assert value["steps"][0]["parameters"]["classes_"] == ["Adelie", "Gentoo"]
        assert value["score"] > 0.25


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, -(10**400), 1e308, 5e-324, -0.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted({"epsilon", *(name for spec in SPECS.values() for name in spec.parameters), "random_state"})


@settings(max_examples=100, deadline=None)
@given(
    estimator=st.sampled_from(list(Est)),
    params=JSON | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON, max_size=4),
    honest=st.booleans(),
)
def test_any_params_have_a_cost_or_are_refused(estimator: Est, params: Any, honest: bool) -> None:
    if honest and isinstance(params, dict):
        params = params | {"epsilon": 1.0}
    asked = query(PipelineStep(estimator=estimator, params=params))
    metadata = Metadata.parse(PENGUIN)
    try:
        cost = asked.cost(metadata)
    except InvalidQuery as error:
        refused = error
    else:
        assert cost == PrivacyLoss.charged(params["epsilon"])
        asked.run(dummy_rows(metadata, 30, 1), metadata)
        return
    assert refused.issues
    assert all(len(issue.message) < 400 for issue in refused.issues)


def test_the_server_can_import_the_query_without_scikit_learn() -> None:
    code = (
        "import sys, lomas_gql.libraries.diffprivlib.query; "
        "print([m for m in ('sklearn', 'scipy', 'pandas', 'diffprivlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

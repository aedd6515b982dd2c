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
from lomas_gql.errors import InvalidQuery
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


# ---- refusals


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

"""Numbers: NaN, infinities, zeros and giants as epsilon, delta and scale.

Enforced in `libraries/base.checked_epsilon` and `checked_delta`, and in each library's readers of parameters. Every
other place that takes a number: `test_numbers_everywhere.py`.
"""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import opendp.prelude as dp
import pytest

from lomas_gql.libraries.diffprivlib.estimators import SPECS
from lomas_gql.libraries.diffprivlib.query import PipelineStep
from lomas_gql.metadata import Metadata
from tests import test_main_path as main
from tests.conftest import Server
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_opendp_measurement as measurements

BAD_NUMBERS = ["NaN", "Infinity", "-Infinity", "-1", "-0.0001", "1e-320", "1e308", "1e999", '"1"', "null"]


@pytest.mark.parametrize("number", [*BAD_NUMBERS, "0", "1e-7", "101"])
def test_a_bad_epsilon_is_refused_and_costs_nothing(server: Server, number: str) -> None:
    assert_refused(server, "epsilon", number)


@pytest.mark.parametrize("number", [*BAD_NUMBERS, "1", "1.5", "0.2"])
def test_a_bad_delta_is_refused_and_costs_nothing(server: Server, number: str) -> None:
    assert_refused(server, "delta", number)


def assert_refused(server: Server, field: str, number: str) -> None:
    client = server.user()
    values = {"epsilon": "1", "delta": "0.001"} | {field: number}
    query = f'{{"sql": "SELECT COUNT(*) AS n FROM df", "epsilon": {values["epsilon"]}, "delta": {values["delta"]}}}'
    variables = f'{{"input": {{"dataset": "PENGUIN", "query": {{"smartnoiseSql": {query}}}}}}}'
    for operation in (main.EXECUTE, main.ESTIMATE, main.DUMMY):
        body = f'{{"query": {json.dumps(operation)}, "variables": {variables}}}'
        headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
        response = httpx.post(f"{server.url}/graphql", content=body, headers=headers, timeout=60)
        assert response.status_code in (200, 400)
        answer = response.json()
        if "errors" not in answer:
            [outcome] = answer["data"].values()
            assert outcome["__typename"] == "InvalidQuery", outcome
    assert client.data(main.BUDGET)["dataset"]["budget"]["spent"] == {"epsilon": 0.0, "delta": 0.0}
    assert client.data(main.BUDGET)["dataset"]["history"]["totalCount"] == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1.0", "0.0", "1e-320", "1e308", "1e999", "null"])
def test_a_bad_scale_inside_a_measurement_is_refused_and_costs_nothing(server: Server, number: str) -> None:
    client = server.user()
    text = main.laplace_sum(12345.0).replace("12345.0", number)
    assert number in text
    for operation in (main.EXECUTE, main.ESTIMATE, main.DUMMY):
        [outcome] = client.data(operation, main.opendp(measurement=text, column="bill_length_mm")).values()
        assert outcome["__typename"] == "InvalidQuery", outcome
    assert client.data(main.BUDGET)["dataset"]["history"]["totalCount"] == 0


def test_a_scale_that_is_no_scale_is_refused() -> None:
    stock = dp.serialize(measurements.counted())
    for scale in ("0.0", "-1.0", "NaN", "Infinity", "1e999", "true", '"1"', "null", "9" * 400, "9" * 5000):
        assert (
            measurements.refusal(stock.replace('"scale": 1.0', f'"scale": {scale}'), column="species")[0]
            == "measurement"
        )
    for scale in ("1e-320", "1e308", "1e-9", "1e9"):
        assert measurements.refusal(stock.replace('"scale": 1.0', f'"scale": {scale}'), column="species")


@pytest.mark.parametrize("estimator", list(models.Est))
def test_epsilon_is_required_finite_and_above_the_floor(estimator: models.Est, bird: Metadata) -> None:
    path = "steps.0.params.epsilon"
    for params in (None, {}, {"epsilon": None}):
        missing = PipelineStep(estimator=estimator, params=params)
        assert path in dict(models.refusal(models.query(missing), bird))
    floor = SPECS[estimator].floor
    for epsilon in (0, -1, floor * 0.99, 101, math.nan, math.inf, "1", True, [1], 10**400):
        assert [where for where, _ in models.refusal(models.query(models.step(estimator, epsilon)), bird)] == [path]
    models.query(models.step(estimator, floor)).cost(bird)


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    [
        (models.Est.STANDARD_SCALER, "bounds", [0, 10]),
        (models.Est.STANDARD_SCALER, "bounds", [[31, 14, 160], [60, 20]]),
        (models.Est.STANDARD_SCALER, "bounds", [[60, 14, 160], [31, 20, 200]]),
        (models.Est.STANDARD_SCALER, "bounds", [[31, 14, 160], [31, 20, 200]]),
        (models.Est.STANDARD_SCALER, "bounds", [math.nan, math.nan]),
        (models.Est.STANDARD_SCALER, "with_mean", 1),
        (models.Est.PCA, "data_norm", 1e6),
        (models.Est.PCA, "data_norm", 0),
        (models.Est.PCA, "n_components", 4),
        (models.Est.PCA, "n_components", 0.5),
        (models.Est.PCA, "n_components", "mle"),
        (models.Est.PCA, "whiten", True),
        (models.Est.GAUSSIAN_NB, "priors", [0.5, 0.5]),
        (models.Est.GAUSSIAN_NB, "priors", [0.5, 0.5, 0.5, 0.5]),
        (models.Est.GAUSSIAN_NB, "var_smoothing", -1),
        (models.Est.LOGISTIC_REGRESSION, "C", 0),
        (models.Est.LOGISTIC_REGRESSION, "C", math.inf),
        (models.Est.LOGISTIC_REGRESSION, "max_iter", 1),
        (models.Est.LOGISTIC_REGRESSION, "max_iter", 10**9),
        (models.Est.LOGISTIC_REGRESSION, "data_norm", 1000),
        (models.Est.LINEAR_REGRESSION, "bounds_y", [0, 10_000]),
        (models.Est.K_MEANS, "n_clusters", 10**6),
        (models.Est.DECISION_TREE_CLASSIFIER, "max_depth", 40),
        (models.Est.DECISION_TREE_CLASSIFIER, "classes", ["Adelie", "Macaroni"]),
        (models.Est.DECISION_TREE_CLASSIFIER, "classes", ["Adelie", "Adelie"]),
        (models.Est.DECISION_TREE_CLASSIFIER, "classes", [[], {}]),
        (models.Est.RANDOM_FOREST_CLASSIFIER, "n_estimators", 10**6),
        (models.Est.RANDOM_FOREST_CLASSIFIER, "shuffle", False),
    ],
)
def test_values_out_of_range_are_refused_where_they_stand(
    estimator: models.Est, name: str, value: Any, bird: Metadata
) -> None:
    [(path, message)] = models.refusal(models.query(models.step(estimator, 1.0, **{name: value})), bird)
    assert path == f"steps.0.params.{name}"
    assert name in message

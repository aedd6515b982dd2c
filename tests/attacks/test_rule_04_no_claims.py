"""Rule 4: what holds of the rows is in the owner's metadata. A client's claim is refused, or made true by clipping.

Enforced at load (`datasets/typing.fit`), in `opendp/measurement.check_input`, and in diffprivlib's
`training.Training.within`, through which each step's rows go.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import opendp.prelude as dp
import polars as pl
import pytest

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.typing import fit
from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.diffprivlib.estimators import SPECS
from lomas_gql.metadata import Metadata, MetadataError
from lomas_gql.rows import Rows
from tests.datasets import test_typing as typing
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_opendp_measurement as measurements
from tests.libraries import test_smartnoise_sql as sql


@pytest.mark.parametrize(
    ("column", "atom", "word"),
    [
        ("bill_length_mm", {"T": float, "nan": False, "bounds": (31.0, 65.0)}, "tighter"),
        ("bill_length_mm", {"T": float, "nan": False, "bounds": (30.0, 64.0)}, "tighter"),
        ("bill_length_mm", {"T": "i32"}, "T=float"),
        ("body_mass_g", {"T": float, "nan": False}, "nan=True"),
        ("legs", {"T": "i32"}, "nan=True"),
        ("stage", {"T": "i32"}, "nan=True"),
        ("stage", {"T": float, "bounds": (1.0, 3.0)}, "bounds"),
        ("parasites", {"T": "i32"}, "hold"),
        ("year", {"T": bool}, "T=String"),
        ("species", {"T": float}, "T=String"),
        ("who", {"T": str}, "private_id"),
        ("absent", {"T": str}, "no column"),
    ],
)
def test_a_domain_that_claims_more_than_metadata_is_refused(column: str, atom: dict[str, Any], word: str) -> None:
    measurement = measurements.over(**atom) >> dp.t.then_count() >> dp.m.then_laplace(1.0)
    assert word in measurements.refusal(measurement, column=column)[1]


def test_a_nullable_boolean_is_refused_as_boolean() -> None:
    columns = {"ringed": {"type": "boolean", "nullable": True}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 9, "columns": columns})
    ringed = measurements.over(T=bool) >> dp.t.then_count() >> dp.m.then_laplace(1.0)
    assert "T=String" in measurements.refusal(ringed, metadata, column="ringed")[1]


def test_a_known_size_is_refused_even_where_it_is_true() -> None:
    domain = dp.vector_domain(dp.atom_domain(T=float, nan=False, bounds=(30.0, 65.0)), size=200)
    mean = (domain, dp.symmetric_distance()) >> dp.t.then_mean() >> dp.m.then_laplace(1.0)
    assert "known size" in measurements.refusal(mean, column="bill_length_mm")[1]


def test_a_claim_amid_a_chain_is_refused() -> None:
    cast = measurements.over(T=str) >> dp.t.then_cast_inherent(float)
    clamp = dp.t.make_clamp(*measurements.over(**measurements.FLOATS), bounds=(0.0, 1.0))
    summed = clamp >> dp.t.then_resize(10, 0.5) >> dp.t.then_sum()
    call = {
        "__function__": "make_chain_tt",
        "__module__": "combinators",
        "__kwargs__": {
            "transformation1": json.loads(dp.serialize(summed)),
            "transformation0": json.loads(dp.serialize(cast)),
        },
        "__version__": dp.__version__,
    }
    noisy = json.loads(dp.serialize(summed >> dp.m.then_laplace(1.0)))
    noisy["__kwargs__"]["transformation0"] = call
    assert "domain" in measurements.refusal(json.dumps(noisy), column="species")[1].lower()


def test_other_metrics_and_the_wrong_reading_are_refused() -> None:
    ordered = dp.serialize(measurements.counted()).replace("symmetric_distance", "insert_delete_distance")
    assert "insert_delete_distance" in measurements.refusal(ordered, column="species")[1]
    bare = dp.m.make_laplace(dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float), 1.0)
    assert "SymmetricDistance" in measurements.refusal(bare, column="bill_length_mm")[1]
    assert measurements.refusal(measurements.counted())[0] == "column"


def test_who_an_individual_is_cannot_be_grouped_by() -> None:
    columns = {"id": {"type": "string", "private_id": True}, "age": {"type": "int", "lower": 0, "upper": 9}}
    metadata = Metadata.parse({"max_ids": 2, "rows": 10, "columns": columns})
    with pytest.raises(InvalidQuery, match="cannot be grouped by"):
        sql.query("SELECT id, COUNT(*) AS n FROM df GROUP BY id", delta=1e-5).cost(metadata)
    table = sql.run("SELECT COUNT(DISTINCT id) AS people FROM df", dummy_rows(metadata, 200, 1), epsilon=20.0)
    assert abs(table.rows[0][0] - 100) < 5


def test_max_ids_rows_of_one_individual_are_covered_by_the_noise() -> None:
    def scale(max_ids: int) -> float:
        columns = {"id": {"type": "string", "private_id": True}, "age": {"type": "int", "lower": 0, "upper": 9}}
        metadata = Metadata.parse({"max_ids": max_ids, "rows": 10, "columns": columns})
        rows = dummy_rows(metadata, 10, 1)
        draws = [
            abs(sql.run("SELECT COUNT(*) AS n FROM df", rows, postprocess=False).rows[0][0] - 10) for _ in range(300)
        ]
        return sum(draws) / len(draws)

    # Laplace noise of scale max_ids / epsilon has that mean deviation.
    assert scale(20) > 4 * scale(1)


@pytest.mark.parametrize("estimator", [e for e in models.Est if e is not models.Est.LOGISTIC_REGRESSION])
def test_rows_are_clipped_to_whatever_bounds_are_claimed(
    estimator: models.Est, bird: Metadata, birds: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lomas_gql.libraries.diffprivlib import models as diffprivlib_models

    seen = []

    def spy(training: Any, *_: Any) -> dict[str, Any]:
        seen.append((training.x.min(axis=0).tolist(), training.x.max(axis=0).tolist()))
        return dict.fromkeys(SPECS[estimator].released, 0.0)

    monkeypatch.setitem(diffprivlib_models._FITS, estimator, spy)  # type: ignore[arg-type]
    bounds = [[40, 16, 190], [41, 17, 200]]
    name = "bounds_X" if estimator is models.Est.LINEAR_REGRESSION else "bounds"
    models.query(models.step(estimator, 1.0, **{name: bounds})).run(birds, bird)
    assert seen == [(bounds[0], bounds[1])]


def test_nobody_models_who_a_row_belongs_to(mixed: Metadata) -> None:
    asked = models.query(models.step(models.Est.GAUSSIAN_NB), feature_columns=["x"], target_columns=["who"])
    assert "whose row" in models.refusal(asked, mixed)[0][1]


def test_several_rows_of_one_individual_are_refused() -> None:
    metadata = Metadata.parse(models.MIXED | {"max_ids": 2})
    assert (
        "max_ids"
        in models.refusal(models.query(models.step(models.Est.K_MEANS), feature_columns=["x"]), metadata)[0][1]
    )


def test_false_claims_behind_a_transformer_are_made_true(bird: Metadata, birds: Rows) -> None:
    """Bounds there cannot be checked beforehand, so rows are clipped to them: centres stay within."""
    asked = models.query(
        models.step(models.Est.STANDARD_SCALER), models.step(models.Est.K_MEANS, bounds=[-0.01, 0.01], n_clusters=2)
    )
    centers = asked.run(birds, bird).value["steps"][1]["parameters"]["cluster_centers_"]
    assert np.abs(centers).max() <= 0.0101


def test_at_most_max_ids_rows_of_an_individual_stay() -> None:
    kept = typing.owned("a", "a", "a", "b", "a", None)
    assert sorted(owner for owner, _ in kept) == ["a", "a", "b"]


def test_an_individual_does_not_decide_which_rows_of_another_stay() -> None:
    # The same x for the others' rows in both: only the individual c is added.
    without = set(typing.owned("a", "a", "a", "b"))
    with_c = {row for row in typing.owned("a", "a", "a", "b", "c", "c", "c") if row[0] != "c"}
    assert without == with_c


@pytest.mark.parametrize(
    "column", [{"type": "int", "lower": 0, "upper": 9}, {"type": "string", "categories": ["a", "b"]}]
)
def test_strangers_identifiers_are_never_made_one(column: dict[str, Any]) -> None:
    columns = {"id": column | {"private_id": True}, "x": {"type": "float", "lower": 0, "upper": 100}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 9, "columns": columns})
    frame = pl.LazyFrame({"id": ["500", "501", "zed", "a"], "x": [1.0, 2.0, 3.0, 4.0]})
    assert fit(frame, metadata, key=7).collect().height == 4


def test_a_grouping_column_does_not_escape_clamping(penguin: Metadata) -> None:
    # Of a thousand years each, and so many of them that every threshold lets them pass.
    rows = sql.rows_of(penguin, age=[1000] * 500)
    assert [row[0] for row in sql.run("SELECT age, COUNT(*) AS n FROM df GROUP BY age", rows, delta=1e-5).rows] == [
        30
    ]
    [[_, total]] = sql.run("SELECT age, SUM(age) AS s FROM df GROUP BY age", rows, epsilon=20.0, delta=1e-5).rows
    assert abs(total - 500 * 30) < 100


def test_a_row_is_the_individual_where_the_owner_says_so() -> None:
    """Repeated names change nothing under row_privacy: the promise is for a row, and the noise is that of one row.

    An owner for whom a person has several rows names the private_id instead, and cannot say both.
    """
    columns = {"name": {"type": "string"}, "age": {"type": "int", "lower": 0, "upper": 9}}
    per_row = {"max_ids": 5, "rows": 10, "row_privacy": True, "columns": columns}
    assert sql.query("SELECT COUNT(*) AS n FROM df").cost(Metadata.parse(per_row)).epsilon == 1
    both = per_row | {"columns": columns | {"name": {"type": "string", "private_id": True}}}
    with pytest.raises(MetadataError, match="each row is an individual"):
        Metadata.parse(both)
    neither = Metadata.parse(per_row | {"row_privacy": False})
    with pytest.raises(InvalidQuery, match="No private_id column"):
        sql.query("SELECT COUNT(*) AS n FROM df").cost(neither)

"""Rule 7: an exact figure is not smuggled out beside, inside or after a noised one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.opendp.query import OpenDpQuery
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from tests.attacks.neighbours import EXECUTE, Pair
from tests.attacks.queries import ORDINARY
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_opendp_plan as plans
from tests.libraries import test_smartnoise_sql as sql

BILL, MASS = plans.BILL, plans.MASS


@pytest.mark.parametrize(
    "made",
    [
        lambda q: q.with_columns(z=pl.len()).select(pl.col("z").dp.sum((0, 1000))),
        lambda q: q.with_columns(z=BILL.sum()).select(dp.len()),
        lambda q: q.with_columns(z=MASS.drop_nulls()).select(dp.len()),
        lambda q: q.filter(BILL.sum() > 14_000.0).select(dp.len()),
        lambda q: q.filter(BILL.sum() / pl.len() < BILL).select(dp.len()),
        lambda q: q.select(MASS.fill_null(MASS.sum() / MASS.count()).dp.sum((0, 1))),
        lambda q: q.with_columns(z=MASS.fill_null(BILL.sum())).select(pl.col("z").dp.sum((0, 1))),
        lambda q: q.select(dp.len() + pl.len()),
        lambda q: q.select(dp.len() * 0 + BILL.n_unique()),
        lambda q: q.select(BILL.clip(30.0, 65.0).sum().dp.noise() - BILL.sum()),
        lambda q: q.select((BILL.sum() / pl.len()).dp.noise()),
        lambda q: q.select(dp.len(), MASS.null_count().alias("exact")),
        lambda q: q.select(pl.len()).select(dp.len()),
        lambda q: q.select(BILL.sum()).select(BILL.dp.sum((0, 1))),
        lambda q: q.select(BILL.filter(BILL.sum() < BILL).dp.sum((30.0, 65.0))),
        lambda q: q.group_by("species").agg(dp.len() - pl.len()),
        lambda q: q.group_by("species").agg(dp.len(), (BILL.n_unique() == 1).alias("alone")),
    ],
)
def test_no_aggregate_of_rows_gets_past_the_noise_of_a_plan(made: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidQuery):
        OpenDpQuery(polars_plan=plans.plan(made), epsilon=1.0).cost(plans.PENGUINS)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT COUNT(*) + age AS n FROM df",
        "SELECT COUNT(*) AS n, age AS a FROM df",
        "SELECT SUM(age * 1000) AS s FROM df",
        "SELECT SUM(CASE WHEN age > 29 THEN 1000000 ELSE 0 END) AS s FROM df",
        "SELECT SUM(COALESCE(age, 1000000)) AS s FROM df",
        "SELECT COUNT(CASE WHEN age > 29 THEN 1 END) AS n FROM df",
        "SELECT COUNT(*) AS n FROM df HAVING age > 3",
        "SELECT COUNT(*) * 0 + 1 AS n FROM df WHERE MAX(age) > 29",
        "SELECT species, FIRST(tag) AS t FROM df GROUP BY species",
        "SELECT STRING_AGG(tag) AS t FROM df",
    ],
)
def test_no_figure_of_rows_gets_past_the_noise_of_sql(penguin: Metadata, text: str) -> None:
    rows = sql.rows_of(penguin, age=[3, 29, 30] * 20, tag=["secret"] * 60)
    try:
        answer = sql.query(text).run(rows, penguin).table
    except (InvalidQuery, ValueError):
        # A ValueError is the library's for what it cannot evaluate: on dummy rows alike, so it is refused there.
        return
    pytest.fail(f"answered: {answer}")


def test_the_denominator_of_a_prior_is_not_told(bird: Metadata, birds: Rows) -> None:
    asked = models.query(models.step(models.Est.GAUSSIAN_NB, 90.0), test_size=0.0)
    for rows in (birds, Rows(birds.frame.head(343), bird)):
        [fitted] = asked.run(rows, bird).value["steps"]
        priors = fitted["parameters"]["class_prior_"]
        # In thousandths, whatever the number of rows is: 344 is no thousandth.
        assert [round(prior, 3) for prior in priors] == priors
        assert sum(priors) == pytest.approx(1)


TELLTALE = {
    "n_samples",
    "n_samples_",
    "n_samples_seen_",
    "class_count_",
    "labels_",
    "inertia_",
    "_fit_vals",
    "n_iter_",
}
TELLTALE |= {
    "n_node_samples",
    "weighted_n_node_samples",
    "impurity",
    "singular_values_",
    "noise_variance_",
    "rows_exact",
}


@pytest.mark.parametrize("query", ORDINARY.values(), ids=ORDINARY)
def test_no_attribute_that_counts_rows_is_answered(pair: Pair, query: dict[str, Any]) -> None:
    near, _ = pair.both(EXECUTE, query)
    assert names_in(near.outcome) & TELLTALE == set()


def names_in(value: Any) -> set[str]:
    """All names of fields within."""
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def test_the_names_of_a_model_are_looked_at(pair: Pair) -> None:
    near, _ = pair.both(EXECUTE, ORDINARY["a classifier"])
    assert {"theta_", "class_prior_"} <= names_in(near.outcome)

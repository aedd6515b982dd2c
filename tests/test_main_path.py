"""The main job over HTTP, as a researcher meets it."""

from __future__ import annotations

from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest

from tests.conftest import Client, Server

EXECUTE = """
mutation($input: DpQueryInput!, $key: String) {
  execute(input: $input, idempotencyKey: $key) {
    __typename
    ... on Executed {
      replayed
      release { id status cost { epsilon delta } }
      cost { epsilon delta }
      budget { initial { epsilon } spent { epsilon delta } remaining { epsilon delta } }
      result { ... on SmartnoiseSqlResult { table { ...T } } ... on OpenDpResult { value frame: table { ...T } } }
    }
    ... on UserError { code message }
    ... on BudgetExceeded { requested { epsilon delta } remaining { epsilon delta } }
    ... on InvalidQuery { issues { path message } }
  }
}
fragment T on Table { columns { name dtype } rows rowCount }
"""
ESTIMATE = """
mutation($input: DpQueryInput!) { estimateCost(input: $input) {
  __typename ... on Estimate { cost { epsilon delta } affordable } ... on UserError { code message }
  ... on InvalidQuery { issues { path message } } } }
"""
DUMMY = """
mutation($input: DpQueryInput!) { runDummy(input: $input) {
  __typename
  ... on DummyRun { cost { epsilon delta } result { ... on SmartnoiseSqlResult { table { rowCount } }
    ... on OpenDpResult { value } } }
  ... on UserError { code message } } }
"""
BUDGET = """{ dataset(name: "PENGUIN") { budget { spent { epsilon delta } remaining { epsilon } }
  history { totalCount nodes { id status query cost { epsilon } library } } } }"""


def sql(text: str, epsilon: float = 1.0, delta: float = 0.0, dataset: str = "PENGUIN", **more: Any) -> dict[str, Any]:
    query = {"sql": text, "epsilon": epsilon, "delta": delta, **more}
    return {"input": {"dataset": dataset, "query": {"smartnoiseSql": query}}}


def opendp(**query: Any) -> dict[str, Any]:
    return {"input": {"dataset": "PENGUIN", "query": {"opendp": query}}}


def laplace_sum(scale: float = 10.0) -> str:
    """A noisy sum of bill lengths in OpenDP's own words: sensitivity 65, so epsilon 65 / scale."""
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=float, nan=True)), dp.symmetric_distance()
    impute = space >> dp.t.then_impute_constant(40.0)
    return str(dp.serialize(impute >> dp.t.then_clamp((30.0, 65.0)) >> dp.t.then_sum() >> dp.m.then_laplace(scale)))


def plan() -> str:
    """Mean bill length by species, as a Context query serialises it."""
    dp.enable_features("contrib")
    frame = pl.LazyFrame(schema={"species": pl.String, "bill_length_mm": pl.Float64})
    context = dp.Context.compositor(
        data=frame,
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(epsilon=1.0),
        split_evenly_over=1,
    )
    length = pl.col("bill_length_mm").fill_null(40.0)
    query = context.query().group_by("species").agg(dp.len(), length.dp.sum((30.0, 65.0)))
    return str(query.polars_plan.serialize(format="json"))


def test_species_counts_are_near_the_truth_and_charged_as_estimated(server: Server) -> None:
    client = server.user(epsilon="10")
    query = sql("SELECT species, COUNT(*) AS n FROM df GROUP BY species")
    estimate = client.data(ESTIMATE, query)["estimateCost"]
    assert estimate == {"__typename": "Estimate", "cost": {"epsilon": 1.0, "delta": 0.0}, "affordable": True}

    executed = client.data(EXECUTE, query)["execute"]

    table = executed["result"]["table"]
    assert [column["name"] for column in table["columns"]] == ["species", "n"]
    assert [row[0] for row in table["rows"]] == ["Adelie", "Chinstrap", "Gentoo", "OTHER"]
    assert abs(sum(row[1] for row in table["rows"]) - 344) < 60
    assert executed["cost"] == estimate["cost"]
    assert executed["budget"]["remaining"] == {"epsilon": 9.0, "delta": 0.1}
    dataset = client.data(BUDGET)["dataset"]
    assert dataset["budget"]["spent"] == {"epsilon": 1.0, "delta": 0.0}
    assert dataset["history"]["totalCount"] == 1
    assert dataset["history"]["nodes"][0]["id"] == executed["release"]["id"]
    assert dataset["history"]["nodes"][0]["query"]["smartnoiseSql"]["sql"].startswith("SELECT species")


@pytest.mark.parametrize(
    ("query", "epsilon"),
    [
        (sql("SELECT COUNT(*) AS n, AVG(bill_length_mm) AS m FROM df"), 3.0),
        (sql("SELECT COUNT(*) AS n FROM df WHERE island = 'Dream'", 0.1), 0.1),
        (sql("SELECT STDDEV(bill_length_mm) AS s FROM df", 0.3), 0.9),
        (opendp(measurement=laplace_sum(), column="bill_length_mm"), 6.5),
        (opendp(polarsPlan=plan(), epsilon=2.0), 2.0),
        (opendp(polarsPlan=plan(), epsilon=1.5, noise="GAUSSIAN", fixedDelta=1e-6), 1.5),
    ],
    ids=["count and mean", "where", "deviation", "measurement", "plan", "Gaussian plan"],
)
def test_estimate_dummy_run_and_execution_name_the_same_cost(
    server: Server, query: dict[str, Any], epsilon: float
) -> None:
    client = server.user(epsilon="20")
    estimated = client.data(ESTIMATE, query)["estimateCost"]["cost"]
    dummy = client.data(DUMMY, query)["runDummy"]["cost"]
    executed = client.data(EXECUTE, query)["execute"]
    assert estimated == dummy == executed["cost"] == executed["budget"]["spent"]
    assert estimated["epsilon"] == pytest.approx(epsilon, rel=1e-7)


def test_ten_queries_of_a_tenth_fit_in_one_and_the_eleventh_changes_nothing(server: Server) -> None:
    client = server.user(epsilon="1", delta="0")
    query = sql("SELECT COUNT(*) AS n FROM df", 0.1)
    for _ in range(10):
        assert client.data(EXECUTE, query)["execute"]["__typename"] == "Executed"
    before = client.data(BUDGET)

    refused = client.data(EXECUTE, query)["execute"]

    assert refused["__typename"] == "BudgetExceeded"
    assert refused["requested"] == {"epsilon": 0.1, "delta": 0.0}
    assert refused["remaining"] == {"epsilon": 0.0, "delta": 0.0}
    assert client.data(BUDGET) == before
    assert before["dataset"]["budget"]["spent"] == {"epsilon": 1.0, "delta": 0.0}


def test_each_of_two_charges_in_one_request_shows_the_budget_after_it(server: Server) -> None:
    fields = "... on Executed { budget { spent { epsilon } } release { dataset { budget { spent { epsilon } } } } }"
    query = f"mutation($input: DpQueryInput!) {{ a: execute(input: $input) {{ {fields} }} b: execute(input: $input) {{ {fields} }} }}"
    data = server.user().data(query, sql("SELECT COUNT(*) AS n FROM df"))
    for name, spent in (("a", {"epsilon": 1.0}), ("b", {"epsilon": 2.0})):
        assert data[name]["budget"]["spent"] == spent
        assert data[name]["release"]["dataset"]["budget"]["spent"] == spent


def test_one_request_returns_all_datasets_with_metadata_budgets_and_history(server: Server) -> None:
    client = server.user(epsilon="5")
    client.data(EXECUTE, sql("SELECT COUNT(*) AS n FROM df"))
    data = client.data(
        """{ viewer { name mayQuery ongoing { id } } datasets { totalCount nodes { name
        metadata { maxIds rows smartnoise columns { name nullable privateId ... on NumericColumn { lower upper } } }
        budget { initial { epsilon } spent { epsilon } remaining { epsilon } }
        history(first: 1) { totalCount pageInfo { hasNextPage endCursor } nodes { status cost { epsilon } } } } } }"""
    )
    [dataset] = data["datasets"]["nodes"]
    assert dataset["name"] == "PENGUIN"
    assert dataset["budget"]["spent"] == {"epsilon": 1.0}
    assert dataset["history"]["nodes"] == [{"status": "RELEASED", "cost": {"epsilon": 1.0}}]
    assert {"name": "bill_length_mm", "nullable": True, "privateId": False, "lower": 30.0, "upper": 65.0} in dataset[
        "metadata"
    ]["columns"]


def test_history_pages_meet_without_gap_or_overlap(server: Server) -> None:
    client = server.user(epsilon="5")
    for _ in range(5):
        client.data(EXECUTE, sql("SELECT COUNT(*) AS n FROM df", 0.1))
    page = """query($after: String) { dataset(name: "PENGUIN") { history(first: 2, after: $after) {
      totalCount nodes { id } pageInfo { hasNextPage hasPreviousPage endCursor } } } }"""
    original = [node["id"] for node in client.data(BUDGET)["dataset"]["history"]["nodes"]]
    seen: list[str] = []
    after = None
    for expected in (2, 2, 1):
        history = client.data(page, {"after": after})["dataset"]["history"]
        assert len(history["nodes"]) == expected
        assert history["pageInfo"]["hasNextPage"] is (expected == 2)
        assert history["pageInfo"]["hasPreviousPage"] is (after is not None)
        seen += [node["id"] for node in history["nodes"]]
        after = history["pageInfo"]["endCursor"]
        # What is released meanwhile does not move the pages that follow.
        client.data(EXECUTE, sql("SELECT COUNT(*) AS n FROM df", 0.1))
    assert seen == original


def test_without_a_valid_token_only_the_servers_state_answers(server: Server) -> None:
    for token in (None, "lomas_wrong"):
        client = Client(server.url, token)
        open_to_all = client.data("{ serverState { live libraries { library version } } viewer { name } }")
        assert open_to_all["serverState"]["live"] is True
        assert open_to_all["viewer"] is None
        for query in (
            "{ datasets { totalCount } }",
            '{ dataset(name: "PENGUIN") { id } }',
            '{ release(id: "x") { id } }',
        ):
            [error] = client.post(query).json()["errors"]
            assert error["extensions"]["code"] == "UNAUTHENTICATED"
        [error] = client.post(EXECUTE, sql("SELECT COUNT(*) AS n FROM df")).json()["errors"]
        assert error["extensions"]["code"] == "UNAUTHENTICATED"


def test_who_may_not_query_may_still_look(server: Server) -> None:
    client = server.user(may_query=False)
    assert client.data(ESTIMATE, sql("SELECT COUNT(*) AS n FROM df"))["estimateCost"]["__typename"] == "Estimate"
    assert client.data("{ viewer { mayQuery } datasets { totalCount } }")["datasets"]["totalCount"] == 1
    [error] = client.post(EXECUTE, sql("SELECT COUNT(*) AS n FROM df")).json()["errors"]
    assert error["extensions"]["code"] == "FORBIDDEN"


def test_an_idempotency_key_is_charged_once(server: Server) -> None:
    client = server.user(epsilon="1")
    query = sql("SELECT COUNT(*) AS n FROM df", 0.4) | {"key": "a"}
    first = client.data(EXECUTE, query)["execute"]
    again = client.data(EXECUTE, query)["execute"]
    assert again == first | {"replayed": True}
    other = client.data(EXECUTE, sql("SELECT COUNT(*) AS n FROM df", 0.5) | {"key": "a"})["execute"]
    assert other["__typename"] == "IdempotencyConflict"
    assert client.data(BUDGET)["dataset"]["budget"]["spent"]["epsilon"] == 0.4


def test_dummy_rows_are_the_same_for_the_same_seed(server: Server) -> None:
    client = server.user()
    rows = 'query($s: Int!) { dataset(name: "PENGUIN") { dummy(rows: 5, seed: $s) { rows rowCount } } }'
    first, again, other = (client.data(rows, {"s": seed})["dataset"]["dummy"] for seed in (1, 1, 2))
    assert first == again != other
    assert first["rowCount"] == 5

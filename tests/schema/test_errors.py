"""How failures look: expected ones are members of a union, the others are errors with a code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from gql import Client as GqlClient
from gql import gql
from gql.transport.exceptions import TransportQueryError

from tests.conftest import Client, Server
from tests.test_long_work import synth, websocket
from tests.test_main_path import sql

COUNT = "SELECT COUNT(*) AS n FROM df"
MISSPELT = [
    "{ serverStat { live } }",
    "{ datasets { node { id } } }",
    "{ datasets(firs: 1) { totalCount } }",
    "{ viewer { ... on Datset { id } } }",
    '{ node(id: "x") { budget { initial { epsilon } } } }',
    '{ dataset(name: "x") { history(status: RELEASE) { totalCount } } }',
    '{ dataset(name: "x") { dummy(row: 1) { rowCount } } }',
    "{ viewer @skp(if: true) { id } }",
    "{ viewer @skip(iff: true) { id } }",
    "mutation { exec { id } }",
    'mutation { estimateCost(input: {datast: "x", query: {}}) { __typename } }',
    'mutation { estimateCost(input: {dataset: "x", query: {smartnoisSql: {sql: "", epsilon: 1, delta: 0}}}) { __typename } }',
    "query($input: DpQueryInpt!) { viewer { id } }",
    "query($id: ID!) { node(id: $idd) { id } }",
    '{ ...A } fragment A on Qury { viewer { id } }',
]  # fmt: skip
MISSPELT_VARIABLES: list[dict[str, Any]] = [
    {"datast": "x"},
    {"dataset": "x", "query": {"smartnoisSql": {}}},
    {"dataset": "x", "query": {"smartnoiseSql": {"sql": "", "epsilo": 1, "delta": 0}}},
    {"dataset": "x", "query": {"smartnoiseSynth": {"synthesizer": "MSTT", "epsilon": 1}}},
    {"dataset": "x", "query": {"diffprivlib": {"steps": [{"estimator": "K_MEAN"}], "featureColumns": []}}},
]
ESTIMATE = "mutation($input: DpQueryInput!) { estimateCost(input: $input) { __typename } }"


@pytest.mark.parametrize("query", MISSPELT)
def test_what_is_misspelt_is_named_without_a_guess_at_what_was_meant(server: Server, query: str) -> None:
    check_no_guess(Client(server.url, None).post(query).json())


@pytest.mark.parametrize("value", MISSPELT_VARIABLES, ids=str)
def test_a_variable_that_is_misspelt_is_named_without_a_guess(server: Server, value: dict[str, Any]) -> None:
    check_no_guess(server.user().post(ESTIMATE, {"input": value}).json())


def check_no_guess(answer: dict[str, Any]) -> None:
    assert answer["errors"]
    for error in answer["errors"]:
        assert "mean" not in error["message"].lower().replace("k_mean", "")
        assert error["extensions"]["code"] == "BAD_USER_INPUT"


def test_a_guess_is_left_out_over_websockets_too(server: Server) -> None:
    client = server.user()

    async def ask() -> str:
        async with GqlClient(transport=websocket(client)) as session:
            with pytest.raises(TransportQueryError) as refused:
                await session.execute(gql("{ datasets(firs: 1) { totalCount } }"))
        return str(refused.value)

    message = asyncio.run(ask())
    assert "firs" in message
    assert "mean" not in message


# Who asks for what, and the code of the one error: sign-in, limits and what the request itself gets wrong.
CODES = [
    ("nobody", "{ datasets { totalCount } }", "UNAUTHENTICATED"),
    ("nobody", '{ dataset(name: "PENGUIN") { id } }', "UNAUTHENTICATED"),
    ("nobody", '{ release(id: "x") { id } }', "UNAUTHENTICATED"),
    ("nobody", '{ node(id: "x") { id } }', "UNAUTHENTICATED"),
    ("nobody", "mutation($input: DpQueryInput!) { estimateCost(input: $input) { __typename } }", "UNAUTHENTICATED"),
    ("nobody", "mutation($input: DpQueryInput!) { runDummy(input: $input) { __typename } }", "UNAUTHENTICATED"),
    ("nobody", "mutation($input: DpQueryInput!) { execute(input: $input) { __typename } }", "UNAUTHENTICATED"),
    ("nobody", "mutation($input: DpQueryInput!) { submit(input: $input) { __typename } }", "UNAUTHENTICATED"),
    ("nobody", 'mutation { cancel(release: "x") { __typename } }', "UNAUTHENTICATED"),
    ("stranger", "{ datasets { totalCount } }", "UNAUTHENTICATED"),
    ("onlooker", "mutation($input: DpQueryInput!) { execute(input: $input) { __typename } }", "FORBIDDEN"),
    ("onlooker", "mutation($input: DpQueryInput!) { submit(input: $input) { __typename } }", "FORBIDDEN"),
    ("user", "{ datasets(first: 101) { totalCount } }", "MAX_PAGE_SIZE_EXCEEDED"),
    ("user", '{ dataset(name: "PENGUIN") { history(first: -1) { totalCount } } }', "BAD_USER_INPUT"),
    ("user", '{ dataset(name: "PENGUIN") { dummy(rows: 10001) { rowCount } } }', "MAX_ROWS_EXCEEDED"),
    (
        "user",
        "mutation($input: DpQueryInput!) { runDummy(input: $input, dummy: {rows: 10001}) { __typename } }",
        "MAX_ROWS_EXCEEDED",
    ),
    (
        "user",
        f'mutation($input: DpQueryInput!) {{ execute(input: $input, idempotencyKey: "{"k" * 201}") {{ __typename }} }}',
        "LIMIT_EXCEEDED",
    ),
    ("user", '{ datasets(after: "x") { totalCount } }', "BAD_CURSOR"),
    ("user", '{ dataset(name: "PENGUIN") { history(after: "x") { totalCount } } }', "BAD_CURSOR"),
    ("user", "{ viewer { secret } }", "BAD_USER_INPUT"),
    ("user", "query($n: String!) { dataset(name: $n) { id } }", "BAD_USER_INPUT"),
]


@pytest.mark.parametrize(("who", "query", "code"), CODES)
def test_sign_in_limits_and_mistakes_have_a_code(server: Server, who: str, query: str, code: str) -> None:
    asking = {
        "nobody": lambda: Client(server.url, None),
        "stranger": lambda: Client(server.url, "lomas_unknown"),
        "onlooker": lambda: server.user(may_query=False),
        "user": server.user,
    }[who]()
    [error] = asking.post(query, sql(COUNT) if "$input" in query else None).json()["errors"]
    assert error["extensions"]["code"] == code
    assert error["message"]


EXPECTED = """__typename ... on UserError { code message
  ... on BudgetExceeded { requested { epsilon delta } remaining { epsilon delta } }
  ... on InvalidQuery { issues { path message } }
  ... on LibraryFailed { library cost { epsilon delta } } }"""


def ask(client: Client, mutation: str, query: dict[str, Any], **more: Any) -> dict[str, Any]:
    key = "$key: String" if mutation in ("execute", "submit") else ""
    arguments = "input: $input, idempotencyKey: $key" if key else "input: $input"
    text = f"mutation($input: DpQueryInput! {key}) {{ {mutation}({arguments}) {{ {EXPECTED} }} }}"
    return client.data(text, query | more)[mutation]  # type: ignore[no-any-return]


@pytest.mark.parametrize("mutation", ["estimateCost", "runDummy", "execute", "submit"])
def test_each_mutation_answers_an_expected_failure_as_a_member_of_its_union(server: Server, mutation: str) -> None:
    client = server.user(epsilon="1")
    unknown = ask(client, mutation, sql(COUNT, dataset="NO_SUCH"))
    assert (unknown["__typename"], unknown["code"]) == ("DatasetUnavailable", "DATASET_UNAVAILABLE")
    invalid = ask(client, mutation, sql("SELECT bill_length_mm FROM df"))
    assert (invalid["__typename"], invalid["code"]) == ("InvalidQuery", "INVALID_QUERY")
    assert invalid["issues"][0]["path"]
    assert invalid["issues"][0]["message"]


@pytest.mark.parametrize("mutation", ["execute", "submit"])
def test_each_mutation_that_charges_answers_why_it_did_not(server: Server, mutation: str) -> None:
    client = server.user(epsilon="4")
    dear = ask(client, mutation, sql(COUNT, 5.0))
    assert (dear["__typename"], dear["code"]) == ("BudgetExceeded", "BUDGET_EXCEEDED")
    assert (dear["requested"]["epsilon"], dear["remaining"]["epsilon"]) == (5.0, 4.0)
    ask(client, "submit", synth("AIM"), key="first")
    busy = ask(client, mutation, sql(COUNT))
    assert (busy["__typename"], busy["code"]) == ("QueryOngoing", "QUERY_ONGOING")
    other = ask(client, mutation, sql(COUNT), key="first")
    assert (other["__typename"], other["code"]) == ("IdempotencyConflict", "IDEMPOTENCY_CONFLICT")


def test_a_run_that_failed_says_what_it_cost(server: Server) -> None:
    rare = synth(
        "MWEM", None, epsilon=3.0, columns=["flipper_length_mm"], sampleRows=10_000,
        bins=[{"column": "flipper_length_mm", "bins": 200}], condition="flipper_length_mm < 150.5",
    )  # fmt: skip
    failed = ask(server.user(), "execute", rare)
    assert (failed["__typename"], failed["code"]) == ("LibraryFailed", "LIBRARY_FAILED")
    assert (failed["library"], failed["cost"]) == ("SMARTNOISE_SYNTH", {"epsilon": 3.0, "delta": 0.0})


@pytest.mark.parametrize("id", ["", "x", "UmVsZWFzZTo5OTk5OTk5OTk5"])
def test_nothing_to_cancel_is_an_expected_answer(server: Server, id: str) -> None:
    query = "mutation($id: ID!) { cancel(release: $id) { __typename ... on UserError { code } } }"
    answer = server.user().data(query, {"id": id})["cancel"]
    assert answer == {"__typename": "ReleaseNotRunning", "code": "RELEASE_NOT_RUNNING"}


def test_mistakes_of_clients_leave_nothing_in_the_log(server: Server) -> None:
    log = server.data_dir / "server.log"
    begun = len(log.read_text())
    client, stranger = server.user(), Client(server.url, "lomas_unknown")
    for _, query, _ in CODES:
        for asking in (client, stranger):
            asking.post(query, sql("SELECT bill_length_mm FROM df") if "$input" in query else None)
    for query in MISSPELT:
        client.post(query)
    for value in MISSPELT_VARIABLES:
        client.post(ESTIMATE, {"input": value})
    httpx.get(f"{server.url}/graphql", params={"query": "{ viewer { secret } }", "token": client.token})
    # What ends meanwhile is the work of other tests.
    assert [line for line in log.read_text()[begun:].splitlines() if not line.startswith("release ")] == []


def test_every_code_is_documented() -> None:
    top = Path(__file__).parent.parent.parent
    source = "".join(file.read_text() for file in (top / "lomas_gql").rglob("*.py"))
    named = set(re.findall(r'"([A-Z_]+_(?:EXCEEDED|ALLOWED|ACCEPTABLE|TYPE|REQUEST|INPUT|CURSOR|ERROR))"', source))
    named |= set(re.findall(r'\bcode = "([A-Z_]+)"', source))
    named |= {f"MAX_{what}_EXCEEDED" for what in ("DEPTH", "FIELDS", "ALIASES", "MUTATIONS")}
    told = (top / "docs" / "api.md").read_text()
    assert len(named) > 20
    assert {code for code in named - {"BUDGET_EXCEEDED"} if f"`{code}`" not in told} == set()

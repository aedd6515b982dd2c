"""What one request may ask for: the limits that serverState lists are the ones that hold, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant
from lomas_gql.schema.context import Context
from lomas_gql.schema.documents import parsed, validated
from lomas_gql.schema.limits import RULES
from lomas_gql.schema.schema import schema
from tests.conftest import Client, Server

LIMITS = """{ serverState { limits {
  maxDepth maxFields maxAliases maxMutations maxTokens maxCharacters maxDigits maxValues maxNodes
  maxBodyBytes maxSubscriptions connectionInitSeconds maxPageSize maxDummyRows maxSampleRows
  maxAnswerValues maxStoredCharacters maxListeners maxListenersPerUser } } }"""


@pytest.fixture(scope="module")
def limits(server: Server) -> dict[str, int]:
    return Client(server.url, None).data(LIMITS)["serverState"]["limits"]  # type: ignore[no-any-return]


def test_every_limit_is_listed(limits: dict[str, int]) -> None:
    fields = schema._schema.type_map["Limits"].fields  # type: ignore[union-attr]
    assert set(limits) == set(fields)
    defaults = {"maxDepth": 15, "maxFields": 250, "maxAliases": 15, "maxMutations": 5, "maxPageSize": 100}
    assert defaults.items() <= limits.items()


def deep(levels: int) -> str:
    """An even number of levels, by a cycle of the schema's own types."""
    return "{ __schema { types { " + "ofType { " * (levels - 3) + "name" + " }" * (levels - 3) + " } } }"


def padded(text: str, length: int) -> str:
    return "#" + "x" * (length - len(text) - 2) + "\n" + text


# What meets a limit exactly, for each field of `limits`.
DOCUMENTS: dict[str, Callable[[int], str]] = {
    "maxDepth": deep,
    "maxFields": lambda n: "{" + "__typename " * n + "}",
    "maxAliases": lambda n: "{" + " ".join(f"a{i}: __typename" for i in range(n)) + "}",
    "maxMutations": lambda n: "mutation {" + "__typename " * n + "}",
    # A token for each brace, each name and each comment.
    "maxTokens": lambda n: "{ __typename }" + "\n#" * (n - 3),
    "maxCharacters": lambda n: padded("{ __typename }", n),
    "maxDigits": lambda n: "{ __type(name: " + "9" * n + ") { name } }",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_may_meet_a_limit_and_not_pass_it(server: Server, limits: dict[str, int], name: str) -> None:
    client, most = Client(server.url, None), limits[name]
    code = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name) + "_EXCEEDED"
    meets, passes = (client.post(DOCUMENTS[name](size)).json() for size in (most, most + 1))
    assert code not in str(meets)
    assert [error["extensions"]["code"] for error in passes["errors"]] == [code]
    assert "data" not in passes


def test_a_fragment_counts_where_it_is_spread(server: Server, limits: dict[str, int]) -> None:
    client, half = Client(server.url, None), limits["maxFields"] // 2
    fragment = "fragment F on Query {" + "__typename " * half + "}"
    assert "errors" not in client.post("{ ...F ...F }" + fragment).json()
    for more in ("{ ...F ...F __typename }", "{ ...F ... on Query { ...F __typename } }", "{ ...F ...F ...F }"):
        [error] = client.post(more + fragment).json()["errors"]
        assert error["extensions"]["code"] == "MAX_FIELDS_EXCEEDED"


def body(server: Server, content: bytes) -> tuple[int, Any]:
    answer = httpx.post(f"{server.url}/graphql", content=content, headers={"Content-Type": "application/json"})
    return answer.status_code, answer.json().get("errors", [{"extensions": {"code": None}}])[0]["extensions"]["code"]


def test_a_body_may_meet_its_limits_and_not_pass_them(server: Server, limits: dict[str, int]) -> None:
    text = json.dumps({"query": "{ __typename }"}).encode()
    spaces = limits["maxBodyBytes"] - len(text)
    assert body(server, text + b" " * spaces) == (200, None)
    assert body(server, text + b" " * (spaces + 1)) == (413, "MAX_BODY_BYTES_EXCEEDED")
    # The query, the variables and the list are values too.
    for more, outcome in ((0, (200, None)), (1, (413, "MAX_VALUES_EXCEEDED"))):
        variables = {"a": [1] * (limits["maxValues"] - 3 + more)}
        assert body(server, json.dumps({"query": "{ __typename }", "variables": variables}).encode()) == outcome


@pytest.mark.parametrize(
    ("query", "limit", "code"),
    [
        ("query($n: Int!) { datasets(first: $n) { totalCount } }", "maxPageSize", "MAX_PAGE_SIZE_EXCEEDED"),
        (
            'query($n: Int!) { dataset(name: "PENGUIN") { history(first: $n) { totalCount } } }',
            "maxPageSize",
            "MAX_PAGE_SIZE_EXCEEDED",
        ),
        (
            'query($n: Int!) { dataset(name: "PENGUIN") { dummy(rows: $n) { rowCount } } }',
            "maxDummyRows",
            "MAX_ROWS_EXCEEDED",
        ),
    ],
)
def test_what_a_variable_asks_for_is_checked_when_it_is_known(
    server: Server, limits: dict[str, int], query: str, limit: str, code: str
) -> None:
    client = server.user()
    assert "errors" not in client.post(query, {"n": limits[limit]}).json()
    for number, refused in ((limits[limit] + 1, code), (2**31 - 1, code), (-1, "BAD_USER_INPUT")):
        [error] = client.post(query, {"n": number}).json()["errors"]
        assert error["extensions"]["code"] == refused


def with_copies(server: Server, count: int) -> Client:
    """A user of that many datasets more."""
    client = server.user()

    async def copy(database: Database) -> None:
        async with database.writing() as session:
            penguin = (await session.exec(select(Dataset).where(Dataset.name == "PENGUIN"))).one()
            newest = select(Grant).where(Grant.dataset_id == penguin.id).order_by(col(Grant.user_id).desc())
            grant = (await session.exec(newest)).first()
            assert grant is not None
            copies = [Dataset(name=f"COPY{i}", source=penguin.source, facts=penguin.facts) for i in range(count)]
            session.add_all(copies)
            await session.flush()
            for dataset in copies:
                session.add(Grant(user_id=grant.user_id, dataset_id=dataset.id, initial_epsilon=1, initial_delta=0))

    server.run(copy)
    return client


def test_pages_within_pages_add_up(server: Server, limits: dict[str, int]) -> None:
    size = limits["maxPageSize"]
    most = (limits["maxNodes"] - size) // size
    client = with_copies(server, most)  # one more, with PENGUIN
    query = "query($n: Int!) { datasets(first: 100) { nodes { history(first: $n) { totalCount } } } }"
    assert "errors" not in client.post(query, {"n": size - 2}).json()
    refused = client.post(query, {"n": size}).json()["errors"]
    assert {error["extensions"]["code"] for error in refused} == {"MAX_NODES_EXCEEDED"}


def test_rows_add_up_over_one_answer(server: Server, limits: dict[str, int]) -> None:
    query = """query($n: Int!) { dataset(name: "PENGUIN") {
      dummy(rows: $n) { rowCount } again: dummy(rows: 1) { rowCount } } }"""
    client = server.user()
    assert "errors" not in client.post(query, {"n": limits["maxDummyRows"] - 1}).json()
    [error] = client.post(query, {"n": limits["maxDummyRows"]}).json()["errors"]
    assert error["extensions"]["code"] == "MAX_ROWS_EXCEEDED"


async def test_a_document_that_is_sent_again_is_neither_parsed_nor_validated_again() -> None:
    context = Context(None, None)  # type: ignore[arg-type]
    document = "query Again { __typename serverState { __typename } }"

    async def ask(query: str) -> tuple[int, int]:
        before = [cache.cache_info().hits for cache in (parsed, validated)]  # type: ignore[attr-defined]
        await schema.execute(query, context_value=context)
        after = [cache.cache_info().hits for cache in (parsed, validated)]  # type: ignore[attr-defined]
        return after[0] - before[0], after[1] - before[1]

    assert await ask(document) == (0, 0)
    assert await ask(document) == (1, 1)
    refused = "{" + "viewer { id } " * 200 + "}"
    assert await ask(refused) == (0, 0)
    assert await ask(refused) == (1, 1)
    assert RULES[0].__name__ == "LimitsRule"

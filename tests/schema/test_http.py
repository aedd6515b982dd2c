"""Requests as hostile or careless clients send them."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.conftest import Server


def post(server: Server, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return httpx.post(f"{server.url}/graphql", content=body, headers={"Content-Type": content_type}, timeout=60)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'"abc"',
        b"123",
        b"null",
        b"[]",
        b'[{"query": "{ serverState { live } }"}]',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"query": ' + b"9" * 100_000 + b"}",
        b'{"query": 1}',
        b'{"query": "{ serverState { live } }", "variables": NaN}',
        b'{"query": "{ serverState { live } }", "variables": {"a": 1e999}}',
        b'{"query": "{ serverState { live } }", "variables": []}',
        b'{"query": "query A { viewer { id } } mutation B { __typename }"}',
        b"{}",
        b'{"query": "{ dataset(name: \\"\\ud800\\") { id } }"}',
        b'{"query": "query($n: String!) { dataset(name: $n) { id } }", "variables": {"n": "\\ud800"}}',
    ],
)
def test_a_malformed_body_is_a_bad_request_in_json(server: Server, body: bytes) -> None:
    response = post(server, body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["message"]


def test_a_body_over_the_limit_is_413(server: Server) -> None:
    response = post(server, b'{"query": "' + b" " * 5 * 2**20 + b'"}')
    assert response.status_code == 413
    assert response.json()["errors"][0]["message"]


def test_a_mutation_by_get_is_refused(server: Server) -> None:
    assert httpx.get(f"{server.url}/graphql", params={"query": "mutation { __typename }"}).status_code == 400
    read = httpx.get(f"{server.url}/graphql", params={"query": "{ serverState { live } }"})
    assert read.json() == {"data": {"serverState": {"live": True}}}


def nest(levels: int) -> str:
    """Fragments that each spread the next twice: expanded, 2 ** levels fields."""
    fragments = [f"fragment F{i} on ServerState {{ ...F{i + 1} ...F{i + 1} }}" for i in range(levels)]
    return "{ serverState { ...F0 } } " + " ".join(fragments) + f" fragment F{levels} on ServerState {{ live }}"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (nest(100), "MAX_FIELDS_EXCEEDED"),
        ("{" + " ".join(f"a{i}: serverState {{ live }}" for i in range(16)) + "}", "MAX_ALIASES_EXCEEDED"),
        (
            "{ datasets " + "{ nodes { history { nodes { dataset " * 4 + "{ id }" + "} } } }" * 4 + "}",
            "MAX_DEPTH_EXCEEDED",
        ),
        ("mutation {" + " ".join("__typename" for _ in range(6)) + "}", "MAX_MUTATIONS_EXCEEDED"),
        ("{" + "serverState { live } " * 200 + "}", "MAX_FIELDS_EXCEEDED"),
        # Stock validation takes seconds for it, quadratic in the fields.
        ("{" + "viewer { id } " * 1200 + "}", "MAX_FIELDS_EXCEEDED"),
    ],
)
def test_an_operation_over_a_limit_is_refused_with_its_code(server: Server, query: str, code: str) -> None:
    answer = post(server, json.dumps({"query": query}).encode()).json()
    assert code in [error["extensions"]["code"] for error in answer["errors"]]


def test_introspection_passes_the_limits(server: Server) -> None:
    from graphql import get_introspection_query

    answer = post(server, json.dumps({"query": get_introspection_query()}).encode()).json()
    assert "errors" not in answer


def test_an_unknown_field_is_named_without_suggestions(server: Server) -> None:
    [error] = post(server, b'{"query": "{ serverStat { live } }"}').json()["errors"]
    assert "serverStat" in error["message"]
    assert "mean" not in error["message"]

"""Whole requests: mutated variables of the API's own examples, over HTTP.

Whatever is sent is answered in JSON with a typed outcome, or an error whose code says what was wrong with the request.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Client, Server
from tests.fuzz.mutation import fuzzed, mutated
from tests.test_api_examples import examples

ASK = """mutation ($input: DpQueryInput!) {
  estimateCost(input: $input) { __typename ... on UserError { code message } }
  runDummy(input: $input, dummy: {rows: 20, seed: 1}) { __typename ... on UserError { code message } }
}"""
CORPUS = [example.variables["input"] for example in examples() if "query" in (example.variables.get("input") or {})]
CORPUS = [{"dataset": "PENGUIN", "query": value["query"]} for value in CORPUS] + [
    {"dataset": "PENGUIN", "query": {"opendp": {"measurement": "{}", "column": "species", "fixedDelta": 1e-6}}},
    {
        "dataset": "PENGUIN",
        "query": {
            "smartnoiseSynth": {"synthesizer": "MST", "epsilon": 1.0, "delta": 1e-6, "condition": "sex = 'MALE'"}
        },
    },
]


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return server.user()


def sent(client: Client, body: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    return httpx.post(f"{client.url}/graphql", content=body.encode(), headers=headers, timeout=60)


def check(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 400, 413), (answer.status_code, answer.text[:500])
    content = answer.json()
    for error in content.get("errors", []):
        assert error["extensions"]["code"] != "INTERNAL_SERVER_ERROR", error


@fuzzed(12)
@given(value=mutated(CORPUS))
def test_mutated_variables_are_answered_with_a_typed_outcome(client: Client, value: Any) -> None:
    check(sent(client, json.dumps({"query": ASK, "variables": {"input": value}})))


@fuzzed(6)
@given(
    text=st.sampled_from(["\ud800", "\x00", "\x1b", "\u2028", "\U0001f427", "'", '"'])
    | st.text(st.characters(codec=None), min_size=1, max_size=4)
)
def test_any_character_in_any_text_is_answered(client: Client, text: str) -> None:
    for query in (
        {"smartnoiseSql": {"sql": f"SELECT {text} FROM df WHERE species = '{text}'", "epsilon": 1.0, "delta": 0.0}},
        {"smartnoiseSql": {"sql": f"SELECT COUNT(*) FROM df WHERE species = '{text}'", "epsilon": 1.0, "delta": 0.0}},
        {"smartnoiseSynth": {"synthesizer": "MWEM", "epsilon": 1.0, "columns": [text], "params": {text: text}}},
        {"smartnoiseSynth": {"synthesizer": "MWEM", "epsilon": 1.0, "columns": ["sex"], "condition": text}},
        {
            "diffprivlib": {
                "steps": [{"estimator": "PCA", "name": text, "params": {text: text}}],
                "featureColumns": [text],
            }
        },
        {"opendp": {"measurement": text, "column": text}},
        {"opendp": {"polarsPlan": json.dumps({text: text})}},
    ):
        check(
            sent(client, json.dumps({"query": ASK, "variables": {"input": {"dataset": "PENGUIN", "query": query}}}))
        )
    check(sent(client, json.dumps({"query": ASK, "variables": {"input": {"dataset": text, "query": query}}})))
    check(sent(client, json.dumps({"query": text, "variables": {text: text}, "operationName": text})))

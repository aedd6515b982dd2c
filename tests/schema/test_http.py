"""Requests over HTTP: the audits of GraphQL over HTTP, and what hostile or careless clients send."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from graphql import get_introspection_query

from benchmarks.probes import STATE, URQL, Probe, probes
from tests.conftest import Client, Server, new_server

CLIENTS = Path(__file__).parent.parent / "clients"
PROBES = probes()


def test_all_audits_of_graphql_over_http_pass(server: Server) -> None:
    if shutil.which("node") is None or not (CLIENTS / "node_modules" / "graphql-http").exists():
        pytest.skip("Node or its packages are not here: make clients")
    command = ["node", "audit.js", f"{server.url}/graphql"]
    audits = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=120, check=False)
    assert [line for line in audits.stdout.splitlines() if not line.startswith("ok ")] == []
    assert audits.stdout.count("\n") == 61, audits.stderr


@dataclass
class Probed:
    """A server that only the probes reach, so that its log is theirs, and a user of it."""

    server: Server
    user: Client
    http: httpx.Client

    def send(self, probe: Probe) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.user.token}"} | probe.headers
        url = self.server.url + probe.url
        return self.http.request(probe.method, url, content=probe.body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probed]:
    server = new_server(tmp_path_factory.mktemp("probed"))
    server.start()
    with httpx.Client() as http:
        yield Probed(server, server.user(), http)
    server.stop()


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_hostile_request_is_answered_in_json_with_its_code(probed: Probed, probe: Probe) -> None:
    answer = probed.send(probe)
    assert answer.status_code == probe.status
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    errors = answer.json().get("errors", [])
    assert probe.code in {"*", errors[0]["extensions"]["code"] if errors else None}
    assert "INTERNAL_SERVER_ERROR" not in answer.text
    # A mistake is not told with all that was sent.
    assert len(answer.content) < 50_000


def test_the_server_has_survived_them_and_its_log_tells_no_secrets(probed: Probed) -> None:
    server, client = probed.server, probed.user
    for probe in PROBES:
        probed.send(probe)
    half = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(half)
    careless = f"{server.url.replace('http', 'ws')}/graphql?token={client.token}"
    with websockets.sync.client.connect(careless, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
        connection.send('{"type": "xxxx"}')
    assert client.post(STATE).json() == {"data": {"serverState": {"live": True}}}
    server.stop()
    log = (server.data_dir / "server.log").read_text()
    server.start()
    client.url = server.url
    assert "Uvicorn running" in log
    assert str(client.token) not in log
    for word in ("ERROR", "error ", "Traceback", "PENGUIN", "SELECT", "xxxx"):
        assert word not in log


def test_a_refusal_by_media_type_has_the_status_of_http(server: Server) -> None:
    headers = {"Accept": "application/graphql-response+json"}
    for query, status in ((STATE, 200), ("{", 400), ("{ nope }", 400), ("{ datasets { totalCount } }", 200)):
        answer = httpx.post(f"{server.url}/graphql", json={"query": query}, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/graphql-response+json; charset=utf-8"
        # Executed, with or without errors: there is data, if only null.
        assert ("data" in answer.json()) == (status == 200)


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (URQL, "application/graphql-response+json"),
        ("application/json, application/graphql-response+json", "application/json"),
        ("application/json;q=0.5, application/graphql-response+json", "application/graphql-response+json"),
        ("application/graphql-response+json;q=0.5, */*;q=0.1", "application/graphql-response+json"),
        ("text/html, */*", "application/json"),
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream, application/json", "text/event-stream"),
        ("application/json;q=0.9, text/event-stream", "text/event-stream"),
        ("text/event-stream;q=0, */*", "application/json"),
    ],
)
def test_the_answer_is_of_the_type_that_the_client_likes_best(server: Server, accept: str, answered: str) -> None:
    answer = httpx.post(f"{server.url}/graphql", json={"query": STATE}, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(answered)
    assert '{"data":{"serverState":{"live":true}}}' in answer.text


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json", "text/event-stream"])
@pytest.mark.parametrize("query", [STATE, "{ nope }", ""])
def test_nothing_between_keeps_an_answer_or_guesses_at_its_type(server: Server, accept: str, query: str) -> None:
    answer = httpx.get(f"{server.url}/graphql", params={"query": query}, headers={"Accept": accept})
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_mutation_cannot_hide_behind_a_query(server: Server) -> None:
    document = "query A { __typename } mutation B { __typename }"
    client = server.user()
    refused = client.post(document)
    assert refused.status_code == 400
    assert "operationName" in refused.json()["errors"][0]["message"]
    assert client.post(document, operationName="B").json() == {"data": {"__typename": "Mutation"}}
    for name in ("A", "B"):
        answer = httpx.get(f"{server.url}/graphql", params={"query": document, "operationName": name})
        assert answer.status_code == (200 if name == "A" else 405)
    assert answer.headers["allow"] == "POST"


def test_introspection_with_all_options_passes_the_limits(server: Server) -> None:
    every = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
        one_of=True,
    )
    assert "errors" not in Client(server.url, None).post(every).json()


def test_an_unknown_field_is_named_without_suggestions(server: Server) -> None:
    [error] = Client(server.url, None).post("{ serverStat { live } }").json()["errors"]
    assert "serverStat" in error["message"]
    assert "mean" not in error["message"]


def test_variables_may_be_long_where_documents_may_not(server: Server) -> None:
    query = "query($name: String!) { dataset(name: $name) { id } }"
    assert server.user().post(query, {"name": "x," * 1_000_000}).json() == {"data": {"dataset": None}}


def test_text_beyond_ascii_arrives_whole(server: Server) -> None:
    query = '{ __type(name: "Run🏃Swim🏊") { name } }'
    for body in (json.dumps({"query": query}), json.dumps({"query": query}, ensure_ascii=False)):
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(f"{server.url}/graphql", content=body.encode(), headers=headers)
        assert answer.json() == {"data": {"__type": None}}

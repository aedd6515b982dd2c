"""The clients that people use work against the started server and its schema. Their scripts stand in tests/clients."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from gql import Client as GqlClient
from gql import gql
from gql.transport.httpx import HTTPXTransport

from tests.conftest import Client, Server
from tests.test_main_path import sql

APPS = Path(__file__).parent / "clients" / "apps"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (APPS / "node_modules").exists(),
    reason="Node or its packages are not here: make clients",
)


def run(*command: str, **environment: str) -> str:
    """What a script prints; where it fails, its complaint is the test's."""
    ended = subprocess.run(
        command, cwd=APPS, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def client(server: Server) -> Client:
    return server.user(epsilon="1.5")


@needs_node
@pytest.mark.parametrize("script", ["apollo.js", "urql.js", "request.js"])
def test_a_client_executes_pages_and_learns_of_failures(client: Client, script: str) -> None:
    assert run("node", script, f"{client.url}/graphql", str(client.token)) == "ok\n"


@needs_node
def test_relay_compiles_a_component_and_its_artifacts_run(client: Client, tmp_path: Path) -> None:
    assert run("node", "relay.js", f"{client.url}/graphql", str(client.token), str(tmp_path)) == "ok\n"


@needs_node
def test_codegen_makes_types_of_the_served_schema(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "types.ts"
    codegen = "node_modules/.bin/graphql-codegen"
    run(
        "node", codegen, "--config", "codegen.js",
        URL=f"{client.url}/graphql", TOKEN=str(client.token), OUT=str(out),
    )  # fmt: skip
    types = out.read_text()
    for made in ("export type DashboardQuery =", "export type ExecuteMutation =", "export type FollowSubscription ="):
        assert made in types
    assert "'BUDGET_EXCEEDED'" in types
    assert "createdAt: string" in types


def test_python_gql_checks_its_queries_against_the_served_schema(client: Client) -> None:
    headers = {"Authorization": f"Bearer {client.token}"}
    transport = HTTPXTransport(url=f"{client.url}/graphql", headers=headers)
    with GqlClient(transport=transport, fetch_schema_from_transport=True, parse_results=True) as session:
        execute = gql("""mutation($input: DpQueryInput!) { execute(input: $input) { __typename
          ... on Executed { release { createdAt } result { ... on SmartnoiseSqlResult { table { rows } } } } } }""")
        execute.variable_values = sql("SELECT COUNT(*) AS n FROM df", 0.5)
        executed = session.execute(execute)["execute"]
    assert executed["__typename"] == "Executed"
    assert isinstance(executed["result"]["table"]["rows"][0][0], int)

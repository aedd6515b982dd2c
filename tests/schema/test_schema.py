"""The schema is the one that is printed, is described, keeps the contract with clients, and is logged where it changes."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLError
from graphql.utilities import build_schema, find_breaking_changes

from lomas_gql.schema.errors import presented
from lomas_gql.schema.schema import printed, schema

ROOT = Path(__file__).parent.parent.parent
CONTRACT = ROOT.parent / "shared" / "schema.graphql"
CHANGE = re.compile(r"^\+?- `([0-9a-f]{12})`: (.+)$", re.MULTILINE)


def test_schema_graphql_is_the_printed_schema() -> None:
    assert (ROOT / "schema.graphql").read_text() == printed(), "type: make schema"


@pytest.mark.skipif(not CONTRACT.exists(), reason="the contract stands beside the checkout, not in it")
def test_the_contract_with_clients_is_kept() -> None:
    changes = find_breaking_changes(build_schema(CONTRACT.read_text()), build_schema(printed()))
    assert [change.description for change in changes] == []


def test_everything_in_the_schema_is_described() -> None:
    found = dict(described(schema.introspect()["__schema"]))
    assert {"Query", "Query.datasets", "Query.datasets(first:)", "SqlMechanism.LAPLACE", "JSON"} <= set(found)
    assert [name for name, text in found.items() if len(text or "") < 10] == []


def described(schema: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Everything that has a name in the schema, with its description."""
    for kind in schema["types"]:
        if kind["name"].startswith("__"):
            continue
        yield kind["name"], kind["description"]
        for part in (kind["fields"] or []) + (kind["inputFields"] or []) + (kind["enumValues"] or []):
            name = f"{kind['name']}.{part['name']}"
            yield name, part["description"]
            for argument in part.get("args", ()):
                yield f"{name}({argument['name']}:)", argument["description"]
    for directive in schema["directives"]:
        yield f"@{directive['name']}", directive["description"]
        for argument in directive["args"]:
            yield f"@{directive['name']}({argument['name']}:)", argument["description"]


def test_the_changelog_says_what_has_changed_in_the_schema() -> None:
    digest = hashlib.sha256((ROOT / "schema.graphql").read_bytes()).hexdigest()[:12]
    newest, *_ = CHANGE.findall((ROOT / "CHANGELOG.md").read_text())
    assert newest[0] == digest, f"add to CHANGELOG.md, on top of the schema's changes: - `{digest}`: what has changed"


def test_no_change_of_the_schema_is_forgotten() -> None:
    """A new digest on an old line would say nothing: what was committed once stays."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    command = ["git", "log", "-p", "--unified=0", "--format=", "--", "CHANGELOG.md"]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if log.returncode != 0:
        pytest.skip("this is no git checkout")
    now = {digest for digest, _ in CHANGE.findall((ROOT / "CHANGELOG.md").read_text())}
    assert {digest for digest, _ in CHANGE.findall(log.stdout)} <= now


def test_an_unexpected_error_is_masked_under_an_id(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("a private value")
    except RuntimeError as cause:
        shown = presented(GraphQLError("a private value", original_error=cause))
    assert "private" not in shown.message
    assert (shown.extensions or {})["code"] == "INTERNAL_SERVER_ERROR"
    assert (shown.extensions or {})["id"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "private" not in caplog.text

"""The schema is the one that is printed, and keeps the contract with clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import GraphQLError
from graphql.utilities import BreakingChangeType, build_schema, find_breaking_changes

from lomas_gql.schema.errors import presented
from lomas_gql.schema.schema import printed

ROOT = Path(__file__).parent.parent.parent
CONTRACT = ROOT.parent / "shared" / "schema.graphql"
# Types, fields and members of the contract that are not built yet.
ABSENT = {
    BreakingChangeType.TYPE_REMOVED,
    BreakingChangeType.FIELD_REMOVED,
    BreakingChangeType.TYPE_REMOVED_FROM_UNION,
}


def test_schema_graphql_is_the_printed_schema() -> None:
    assert (ROOT / "schema.graphql").read_text() == printed(), "type: make schema"


@pytest.mark.skipif(not CONTRACT.exists(), reason="the contract stands beside the checkout, not in it")
def test_what_is_built_keeps_the_contract() -> None:
    changes = find_breaking_changes(build_schema(CONTRACT.read_text()), build_schema(printed()))
    assert [change.description for change in changes if change.type not in ABSENT] == []


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

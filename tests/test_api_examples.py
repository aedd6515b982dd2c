"""docs/api.md cannot rot: its examples are run from top to bottom, and answer in the shape that it shows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gql import Client as GqlClient
from gql import gql
from graphql import FieldNode, OperationDefinitionNode, OperationType, build_schema, parse

from lomas_gql.schema.schema import printed
from tests.conftest import Client, new_server
from tests.test_long_work import websocket

API = Path(__file__).parent.parent / "docs" / "api.md"
BLOCK = re.compile(r"^```(graphql|json variables|python variables|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Example:
    """One request of the document, and the answer beside it."""

    query: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    answer: Any = None

    @property
    def operation(self) -> OperationDefinitionNode:
        [operation] = parse(self.query).definitions
        assert isinstance(operation, OperationDefinitionNode)
        return operation

    @property
    def fields(self) -> list[str]:
        return [node.name.value for node in self.operation.selection_set.selections if isinstance(node, FieldNode)]


def examples() -> Iterator[Example]:
    """The document's examples: a query, its variables before or behind it, and last the answer."""
    example = Example()
    for kind, text in BLOCK.findall(API.read_text()):
        if kind == "graphql":
            assert not example.query, f"no answer stands behind:\n{example.query}"
            example.query = text
        elif kind == "json variables":
            example.variables = json.loads(text)
        elif kind == "python variables":
            built: dict[str, Any] = {}
            exec(text, built)
            example.variables = built["variables"]
        else:
            example.answer = json.loads(text)
            yield example
            example = Example()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A user of a new server, on whose database nothing was released yet."""
    server = new_server(tmp_path)
    server.start()
    yield server.user(epsilon="100", delta="0.01")
    server.stop()


def test_every_example_answers_in_the_shape_that_is_shown(client: Client) -> None:
    for example in examples():
        answer = asked(client, example)
        assert shape(answer) == shape(example.answer), (example.query, json.dumps(answer, indent=2))


def test_every_operation_and_library_has_an_example() -> None:
    schema = build_schema(printed())
    shown = {(e.operation.operation, name) for e in examples() for name in e.fields}
    for operation in OperationType:
        root = schema.get_root_type(operation)
        assert root is not None
        assert [name for name in root.fields if (operation, name) not in shown] == []
    libraries = {name for e in examples() if "execute" in e.fields for name in e.variables["input"]["query"]}
    assert libraries == set(schema.type_map["LibraryQueryInput"].fields)  # type: ignore[attr-defined]


def asked(client: Client, example: Example) -> Any:
    if example.operation.operation is OperationType.SUBSCRIPTION:
        return {"data": asyncio.run(last_told(client, example))}
    return client.post(example.query, example.variables).json()


async def last_told(client: Client, example: Example) -> Any:
    query = gql(example.query)
    query.variable_values = example.variables
    async with GqlClient(transport=websocket(client)) as session:
        return [told async for told in session.subscribe(query)][-1]


def shape(value: Any) -> Any:
    """The names and kinds in an answer, without its figures: lists are as long as they are."""
    match value:
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case list():
            return sorted({json.dumps(shape(item), sort_keys=True) for item in value})
        case bool() | None:
            return value
        case int() | float():
            return "a number"
        case _:
            return "a text"

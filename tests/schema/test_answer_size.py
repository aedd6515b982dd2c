"""How much one response may hold of what is stored: aliases and pages repeat it for a few characters each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlmodel import col, select

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant, Release
from lomas_gql.libraries.base import Answer, Library, table_of
from lomas_gql.schema.ids import opaque
from lomas_gql.schema.limits import MAX_ANSWER_VALUES
from tests.conftest import Client, Server
from tests.schema.test_streams import events

COLUMNS = 20
FULL = 10_000
"""Rows of the largest sample that may be asked for."""
TABLE = "{ ... on SmartnoiseSqlResult { table { rows } } }"
TOO_MANY = "MAX_ANSWER_VALUES_EXCEEDED"
TOO_LONG = "MAX_STORED_CHARACTERS_EXCEEDED"


def with_answers(server: Server, count: int, rows: int, **more: Any) -> tuple[Client, list[str]]:
    """A user who has that many releases of that many rows, and their ids."""
    client = server.user()
    table = table_of([(f"c{i}", "float") for i in range(COLUMNS)], [[0.5, None, "a", 1] * 5] * rows)
    answer = Answer(Library.SMARTNOISE_SQL, table=table).to_json()
    values = {"library": "SMARTNOISE_SQL", "status": "RELEASED", "input_digest": "", "query": {}, "epsilon": 1}
    values |= {"answer": answer, "server": "here", "lease_until": datetime(2100, 1, 1, tzinfo=UTC)} | more

    async def add(database: Database) -> list[str]:
        async with database.writing() as session:
            newest = select(Grant).join(Dataset).where(Dataset.name == "PENGUIN").order_by(col(Grant.user_id).desc())
            grant = (await session.exec(newest)).first()
            assert grant is not None
            added = [Release(user_id=grant.user_id, dataset_id=grant.dataset_id, **values) for _ in range(count)]
            session.add_all(added)
            await session.flush()
            return [opaque("Release", release.id) for release in added]

    return client, server.run(add)


def codes(answer: dict[str, Any]) -> set[str]:
    return {error["extensions"]["code"] for error in answer.get("errors", [])}


def test_a_table_has_its_cells_whatever_their_types(server: Server) -> None:
    client, [id] = with_answers(server, 1, 3)
    found = client.data(f'{{ release(id: "{id}") {{ result {TABLE} }} }}')["release"]["result"]["table"]
    assert found["rows"] == [[0.5, None, "a", 1] * 5] * 3


def test_the_largest_answer_passes_alone_and_not_twice(server: Server) -> None:
    assert FULL * COLUMNS >= MAX_ANSWER_VALUES
    client, [id] = with_answers(server, 1, FULL)
    release = f'release(id: "{id}") {{ status query result {TABLE} }}'
    assert len(client.data(f"{{ {release} }}")["release"]["result"]["table"]["rows"]) == FULL
    twice = client.post(f"{{ {release} again: {release} }}").json()
    assert codes(twice) == {TOO_MANY}
    inside = release.replace("{ rows }", "{ rows again: rows }")
    assert codes(client.post(f"{{ {inside} }}").json()) == {TOO_MANY}


def test_json_counts_at_all_levels(server: Server) -> None:
    half = {"deep": [[0] * 100] * (MAX_ANSWER_VALUES // 200)}
    client, [id] = with_answers(server, 1, 0, query=half)
    assert codes(client.post(f'{{ release(id: "{id}") {{ query a: query }} }}').json()) == set()
    assert codes(client.post(f'{{ release(id: "{id}") {{ query a: query b: query }} }}').json()) == {TOO_MANY}


def test_a_page_of_long_answers_is_refused_before_they_are_read(server: Server) -> None:
    client, [id, *_] = with_answers(server, 8, FULL)
    page = 'query($n: Int!) { dataset(name: "PENGUIN") { history(first: $n) { nodes { result { __typename } } } } }'
    assert codes(client.post(page, {"n": 1}).json()) == set()
    assert codes(client.post(page, {"n": 8}).json()) == {TOO_LONG}
    # The same one many times is read once.
    aliases = " ".join(f'a{i}: release(id: "{id}") {{ result {{ __typename }} }}' for i in range(15))
    assert codes(client.post(f"{{ {aliases} }}").json()) == set()


def test_a_table_in_a_subscription_is_the_same(server: Server) -> None:
    client, [id] = with_answers(server, 1, 2)
    query = f'subscription {{ release(id: "{id}") {{ result {TABLE} }} }}'
    (_, told), _ = events(client, query)
    assert told["data"]["release"]["result"]["table"]["rows"] == [[0.5, None, "a", 1] * 5] * 2

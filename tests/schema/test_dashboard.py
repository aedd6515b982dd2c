"""A dashboard is one request and a fixed number of SQL statements, however much it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from lomas_gql.app import create_app
from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant, Release, User
from lomas_gql.libraries.base import Answer, Library, table_of
from lomas_gql.privacy import EPSILON_UNITS
from lomas_gql.schema.ids import opaque
from lomas_gql.services import tokens
from lomas_gql.settings import Settings
from tests.conftest import PENGUIN

RELEASES = 7
LATER = datetime(2100, 1, 1, tzinfo=UTC)
ANSWER = Answer(Library.SMARTNOISE_SQL, table=table_of([("n", "int")], [[1]])).to_json()

DASHBOARD = """{
  viewer { name mayQuery ongoing { id dataset { name } } }
  datasets(first: 100) { totalCount pageInfo { hasNextPage } nodes {
    name cap { remainingEpsilon }
    metadata { maxIds rows columns { __typename name ... on NumericColumn { lower upper } } }
    budget { initial { epsilon delta } spent { epsilon delta } remaining { epsilon delta } }
    history(first: 5) { totalCount pageInfo { hasNextPage endCursor } edges { cursor node {
      id status createdAt cost { epsilon delta } query error { message } } } }
  } } }"""
WITH_ANSWERS = """{ datasets(first: 100) { nodes {
  history(first: 5) { nodes {
    result { ... on SmartnoiseSqlResult { table { rows } } }
    dataset { name budget { spent { epsilon } } history(first: 2, status: RELEASED) { totalCount nodes { id } } } } }
  failed: history(status: FAILED) { totalCount } } } }"""
HISTORY = """query($first: Int!, $after: String) { dataset(name: "D000") { history(first: $first, after: $after) {
  totalCount edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""
DATASETS = """query($first: Int!, $after: String) { datasets(first: $first, after: $after) {
  totalCount edges { cursor node { name } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


@dataclass
class App:
    """The application in this process, one user's way into it, and the statements that its database has run."""

    database: Database
    client: httpx.AsyncClient
    user_id: int
    statements: list[str] = field(default_factory=list)

    async def post(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        self.statements.clear()
        response = await self.client.post("/graphql", json={"query": query, "variables": variables or {}})
        return response.json()  # type: ignore[no-any-return]

    async def data(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.post(query, variables)
        assert "errors" not in answer, answer
        return answer["data"]  # type: ignore[no-any-return]

    async def refused(self, query: str, variables: dict[str, Any] | None = None) -> str:
        """The code of the one error."""
        [error] = (await self.post(query, variables))["errors"]
        return error["extensions"]["code"]  # type: ignore[no-any-return]

    async def add_datasets(self, numbers: range) -> list[Dataset]:
        """Datasets with a budget and releases on each."""
        async with self.database.writing() as session:
            added = [Dataset(name=f"D{i:03}", source={"path": "d.csv"}, facts=PENGUIN) for i in numbers]
            session.add_all(added)
            await session.flush()
            initial = 10 * EPSILON_UNITS
            session.add_all(Grant(user_id=self.user_id, dataset_id=d.id, initial_epsilon=initial) for d in added)
        for dataset in added:
            await self.add_releases(dataset.id, RELEASES)
        return added

    async def add_releases(self, dataset_id: int, count: int, **more: Any) -> None:
        values = {
            "library": "SMARTNOISE_SQL",
            "status": "RELEASED",
            "input_digest": "",
            "query": {"smartnoiseSql": {}},
            "epsilon": EPSILON_UNITS,
            "answer": ANSWER,
            "server": "here",
            "lease_until": LATER,
        } | more
        async with self.database.writing() as session:
            session.add_all(Release(user_id=self.user_id, dataset_id=dataset_id, **values) for _ in range(count))


@pytest.fixture
async def app(tmp_path: Path, database_url: str) -> AsyncIterator[App]:
    application = create_app(Settings(data_dir=tmp_path, database_url=database_url))
    database: Database = application.state.runtime.database
    await database.upgrade()
    async with database.writing() as session:
        session.add(user := User(name="analyst"))
    headers = {"Authorization": f"Bearer {await tokens.create_token(database, 'analyst', None)}"}
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers) as client:
        used = App(database, client, user.id)

        def heard(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            used.statements.append(statement)

        event.listen(database.engine.sync_engine, "before_cursor_execute", heard)
        yield used
    await database.close()


async def test_the_statements_of_a_dashboard_do_not_grow_with_its_datasets(app: App) -> None:
    counts = []
    for numbers in (range(1), range(1, 10), range(10, 100)):
        added = await app.add_datasets(numbers)
        if numbers == range(1):
            await app.add_releases(added[0].id, 1, status="RUNNING", slot=0, answer=None)
        data = await app.data(DASHBOARD)
        plain = app.statements.copy()
        nested = await app.data(WITH_ANSWERS)
        counts.append((len(plain), len(app.statements)))
        nodes = data["datasets"]["nodes"]
        assert len(nodes) == data["datasets"]["totalCount"] == numbers.stop
        assert all(len(node["history"]["edges"]) == 5 for node in nodes)
        assert nodes[-1]["history"]["totalCount"] >= RELEASES
        assert data["viewer"]["ongoing"]["dataset"]["name"] == "D000"
        assert nested["datasets"]["nodes"][-1]["history"]["nodes"][-1]["result"]["table"]["rows"] == [[1]]
    assert counts[0] == counts[1] == counts[2]
    # Sign-in, datasets and their count, releases and their counts, what runs and its dataset; and the begins.
    assert len([s for s in plain if not s.startswith("BEGIN")]) == 7


async def test_a_dashboard_does_not_read_the_answers_that_it_does_not_show(app: App) -> None:
    await app.add_datasets(range(1))
    await app.data(DASHBOARD)
    assert not any("answer" in statement for statement in app.statements)


@pytest.mark.parametrize("field", ["node", "release", "dataset", "viewer"])
async def test_one_object_or_many_by_their_ids_take_the_same_statements(app: App, field: str) -> None:
    [dataset, *_] = await app.add_datasets(range(3))
    releases = (await app.data(HISTORY, {"first": 7}))["dataset"]["history"]["edges"]
    ids = [opaque("Dataset", dataset.id), *(edge["node"]["id"] for edge in releases)]
    asked = {
        "node": [f'node(id: "{id}") {{ id ... on Release {{ dataset {{ name }} }} }}' for id in ids],
        "release": [f'release(id: "{id}") {{ id dataset {{ name }} result {{ __typename }} }}' for id in ids[1:]],
        "dataset": [f'dataset(name: "D00{i}") {{ id history {{ totalCount }} }}' for i in (0, 1, 2, 9)],
        "viewer": ["viewer { ongoing { id } }"] * 5,
    }[field]
    counts = []
    for some in (asked[1:2], asked):
        query = "{" + " ".join(f"a{i}: {one}" for i, one in enumerate(some)) + "}"
        found = await app.data(query)
        counts.append(len([s for s in app.statements if not s.startswith("BEGIN")]))
    assert len(found) == len(asked)
    assert counts[1] - counts[0] <= (2 if field == "node" else 0), "a node is a dataset or a release"


async def test_pages_meet_while_releases_are_inserted(app: App) -> None:
    [dataset, other] = await app.add_datasets(range(2))
    original = [edge["node"]["id"] for edge in await history(app, first=100)]
    seen, after = [], None
    for _ in range(4):
        page = (await app.data(HISTORY, {"first": 2, "after": after}))["dataset"]["history"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        assert page["pageInfo"]["startCursor"] == page["edges"][0]["cursor"]
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]
        after = page["pageInfo"]["endCursor"]
        await app.add_releases(dataset.id, 3)
        await app.add_releases(other.id, 3)
    assert seen == original
    assert page["pageInfo"]["hasNextPage"] is False
    # Each page counts what had come before it.
    assert page["totalCount"] == RELEASES + 9


async def history(app: App, **variables: Any) -> list[dict[str, Any]]:
    return (await app.data(HISTORY, variables))["dataset"]["history"]["edges"]  # type: ignore[no-any-return]


async def test_pages_of_datasets_meet_while_datasets_are_added(app: App) -> None:
    await app.add_datasets(range(0, 10, 2))
    seen, after = [], None
    for number in (1, 7, 9):
        page = (await app.data(DATASETS, {"first": 2, "after": after}))["datasets"]
        seen += [edge["node"]["name"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        await app.add_datasets(range(number, number + 1))
    # D001 came behind the cursor, D007 before it, and D009 after the end.
    assert seen == ["D000", "D002", "D004", "D006", "D007", "D008"]


@pytest.mark.parametrize("query", [HISTORY, DATASETS])
async def test_a_page_of_none_says_whether_there_are_any(app: App, query: str) -> None:
    await app.add_datasets(range(1))
    data = await app.data(query, {"first": 0})
    page = data["datasets"] if query is DATASETS else data["dataset"]["history"]
    nothing = {"hasNextPage": True, "hasPreviousPage": False, "startCursor": None, "endCursor": None}
    assert page["edges"] == []
    assert page["pageInfo"] == nothing
    assert page["totalCount"] == (1 if query is DATASETS else RELEASES)


@pytest.mark.parametrize("query", [HISTORY, DATASETS])
@pytest.mark.parametrize("first", [-1, 101, 2**31 - 1])
async def test_a_page_outside_the_limits_is_refused(app: App, query: str, first: int) -> None:
    await app.add_datasets(range(1))
    assert await app.refused(query, {"first": first}) == ("BAD_USER_INPUT" if first < 0 else "MAX_PAGE_SIZE_EXCEEDED")


async def test_a_cursor_holds_in_its_own_list_alone(app: App) -> None:
    await app.add_datasets(range(2))
    releases = (await history(app, first=1))[0]["cursor"]
    datasets = (await app.data(DATASETS, {"first": 1}))["datasets"]["edges"][0]["cursor"]
    other = HISTORY.replace("D000", "D001")
    assert await app.refused(other, {"first": 1, "after": releases}) == "BAD_CURSOR"
    assert await app.refused(DATASETS, {"first": 1, "after": releases}) == "BAD_CURSOR"
    assert await app.refused(HISTORY, {"first": 1, "after": datasets}) == "BAD_CURSOR"
    strangers = opaque(f"releases of {app.user_id + 1} on 1", 5)
    assert await app.refused(HISTORY, {"first": 1, "after": strangers}) == "BAD_CURSOR"


def bad_cursors(kind: str) -> list[str]:
    good = opaque(kind, "1")
    forged = [opaque(kind, value) for value in ("", "x", "-1", "1.5", "٣", "9" * 30, "\0")]
    return ["", "x", "ÿ", "====", good + "=", good + "\n", good[:-1], good * 2, "A" * 5000, "🐧", *forged]


async def test_a_bad_cursor_is_a_clear_error(app: App) -> None:
    [dataset] = await app.add_datasets(range(1))
    for cursor in bad_cursors(f"releases of {app.user_id} on {dataset.id}"):
        assert await app.refused(HISTORY, {"first": 1, "after": cursor}) == "BAD_CURSOR", cursor
    for cursor in [*bad_cursors("datasets of 0"), opaque(f"datasets of {app.user_id}", "\0"), "A" * 5000]:
        assert await app.refused(DATASETS, {"first": 1, "after": cursor}) == "BAD_CURSOR", cursor


async def test_what_no_database_can_hold_is_not_found(app: App) -> None:
    await app.add_datasets(range(1))
    found = (
        "query($name: String!, $id: ID!) { dataset(name: $name) { id } node(id: $id) { id } release(id: $id) { id } }"
    )
    nothing = {"dataset": None, "node": None, "release": None}
    for text in ("", "9" * 100, opaque("Dataset", "9" * 18), opaque("Release", "\0"), opaque("X", 1)):
        assert await app.data(found, {"name": text, "id": text}) == nothing


async def test_a_mutation_reads_what_is_so_after_it(app: App) -> None:
    [dataset] = await app.add_datasets(range(1))
    for slot in (0, 1):
        await app.add_releases(dataset.id, 1, status="RUNNING", slot=slot, answer=None)
    running = "dataset { history(status: RUNNING) { totalCount nodes { id } } }"
    before = await app.data('{ dataset(name: "D000") { history(status: RUNNING) { nodes { id } } } }')
    first, second = (node["id"] for node in before["dataset"]["history"]["nodes"])
    query = f"""mutation {{
      a: cancel(release: "{first}") {{ ... on Cancelled {{ release {{ {running} }} }} }}
      b: cancel(release: "{second}") {{ ... on Cancelled {{ release {{ {running} }} }} }} }}"""
    data = await app.data(query)
    assert [data[name]["release"]["dataset"]["history"]["totalCount"] for name in "ab"] == [1, 0]

"""The YAML that Lomas owners already have comes in as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lomas_gql.database.engine import Database
from lomas_gql.errors import AdministrationError
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services.administration import add_user, dataset_and_grants, datasets, grant, remove_user, users
from lomas_gql.services.importing import import_catalogue
from lomas_gql.services.tokens import create_token, viewer_of

METADATA = """
max_ids: 1
rows: 3
row_privacy: True
censor_dims: False
columns:
  name:
    private_id: False
    nullable: True
    max_partition_length:
    max_influenced_partitions: 1
    max_partition_contributions:
    type: string
    cardinality: 2
    categories: ["a", "b"]
  size:
    private_id: False
    nullable: False
    type: int
    precision: 32
    cardinality: 3
    categories: [1, 2, 3]
  when:
    type: datetime
    lower: "2000-01-01"
    upper: 2100-01-01
"""
DATASETS = """
datasets:
  - dataset_name: "D"
    dataset_access: {database_type: "PATH_DB", path: "data/d.csv"}
    metadata_access: {database_type: "PATH_DB", path: "meta/d.yaml"}
"""
USERS = """
users:
  - user_name: "Dr. Antartica"
    may_query: True
    datasets_list:
      - dataset_name: "D"
        initial_epsilon: 10
        initial_delta: 0.005
        total_spent_epsilon: 0.25
        total_spent_delta: 1e-5
  - id: {name: "Jack", email: "jack@example.org"}
    may_query: False
    datasets_list: []
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for folder in ("data", "meta"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "d.csv").write_text("name,size,when,extra\na,1,2001-01-01,x\n")
    (tmp_path / "meta" / "d.yaml").write_text(METADATA)
    (tmp_path / "datasets.yaml").write_text(DATASETS)
    (tmp_path / "users.yaml").write_text(USERS)
    return [tmp_path / "datasets.yaml", tmp_path / "users.yaml"]


async def test_lomas_collections_come_in_and_a_second_import_changes_nothing(
    database: Database, files: list[Path]
) -> None:
    first = await import_catalogue(database, files)
    assert first.changes == [
        "dataset D: added",
        "user Dr. Antartica: added",
        "grant of Dr. Antartica on D: set",
        "user Jack: added",
    ]
    assert (await import_catalogue(database, files)).changes == []
    [dataset] = await datasets(database)
    assert dataset.source == {"path": str(files[0].parent / "data" / "d.csv")}
    antartica, jack = await users(database)
    assert (jack.email, jack.may_query, antartica.may_query) == ("jack@example.org", False, True)
    _, [(_, granted)] = await dataset_and_grants(database, "D")
    assert granted.initial == PrivacyLoss.declared("10", "0.005")
    assert granted.spent == PrivacyLoss.declared("0.25", "0.00001")


async def test_an_import_never_lowers_what_was_spent(database: Database, files: list[Path]) -> None:
    await import_catalogue(database, files)
    files[1].write_text(USERS.replace("0.25", "0.125").replace("initial_epsilon: 10", "initial_epsilon: 5"))
    await import_catalogue(database, files)
    _, [(_, granted)] = await dataset_and_grants(database, "D")
    assert (granted.initial.epsilon, granted.spent.epsilon) == (5, 0.25)
    files[1].write_text(USERS.replace("0.25", "0.5"))
    await import_catalogue(database, files)
    _, [(_, granted)] = await dataset_and_grants(database, "D")
    assert granted.spent.epsilon == 0.5


async def test_a_user_who_comes_back_has_spent_what_was_spent(database: Database, files: list[Path]) -> None:
    await import_catalogue(database, files)
    secret = await create_token(database, "Dr. Antartica", None)
    await remove_user(database, "Dr. Antartica")
    assert [user.name for user in await users(database)] == ["Jack"]
    await add_user(database, "Dr. Antartica", None, may_query=True)
    assert (await grant(database, "Dr. Antartica", "D", "20", "0")).spent.epsilon == 0.25
    async with database.reading() as session:
        assert await viewer_of(session, f"Bearer {secret}") is None


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("users.yaml", "initial_epsilon: 10", "initial_epsilon: .nan", ["users.yaml", "users.0", "finite"]),
        ("users.yaml", "initial_epsilon: 10", "initial_epsilon: 1e8", ["users.yaml", "more than the ledger holds"]),
        ("users.yaml", "initial_epsilon: 10", "initial_epsilon: -1", ["users.yaml", "at least 0"]),
        ("users.yaml", 'dataset_name: "D"', 'dataset_name: "E"', ["users.yaml", "no dataset E"]),
        ("users.yaml", "may_query: True", "may_query: perhaps", ["users.yaml", "users.0.may_query", "boolean"]),
        ("users.yaml", "users:", "users: [", ["users.yaml", "not YAML"]),
        ("users.yaml", USERS, "", ["users.yaml", "is empty"]),
        ("users.yaml", USERS, "a: 1", ["users.yaml", "neither datasets nor users"]),
        (
            "datasets.yaml",
            "data/d.csv",
            "data/none.csv",
            ["datasets.yaml", "datasets.0.D", "none.csv cannot be read"],
        ),
        ("datasets.yaml", "meta/d.yaml", "meta/none.yaml", ["none.yaml", "No such file"]),
        ("datasets.yaml", '"PATH_DB", path: "data', '"ORACLE", path: "data', ["datasets.yaml", "database_type"]),
        ("meta/d.yaml", "  size:", "  sizes:", ["datasets.yaml", "has no column sizes"]),
        ("meta/d.yaml", "categories: [1, 2, 3]", "categories: [1, 1]", ["d.yaml", "columns.size", "repeated"]),
        ("meta/d.yaml", 'categories: ["a", "b"]', "categories: [yes, no]", ["d.yaml", "columns.name.categories"]),
        ("meta/d.yaml", 'lower: "2000-01-01"', "lower: !!binary MzA=", ["d.yaml", "a number or a date"]),
        ("meta/d.yaml", METADATA, "", ["d.yaml", "is empty"]),
        ("meta/d.yaml", "max_ids: 1", "max_ids: many", ["d.yaml", "max_ids", "integer"]),
    ],
)
async def test_a_mistake_is_told_with_its_file_and_place_and_nothing_is_imported(
    database: Database, files: list[Path], file: str, old: str, new: str, told: list[str]
) -> None:
    path = files[0].parent / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(AdministrationError) as caught:
        await import_catalogue(database, files)
    for part in told:
        assert part in caught.value.message
    assert await datasets(database) == []
    assert await users(database) == []


async def test_every_mistake_is_told_at_once(database: Database, files: list[Path]) -> None:
    files[1].write_text(
        USERS.replace("initial_epsilon: 10", "initial_epsilon: -1").replace("initial_delta: 0.005", "")
    )
    files[0].write_text(DATASETS.replace("d.csv", "none.csv").replace("d.yaml", "none.yaml"))
    with pytest.raises(AdministrationError) as caught:
        await import_catalogue(database, files)
    assert "initial_delta" in caught.value.message
    assert "none.yaml" in caught.value.message

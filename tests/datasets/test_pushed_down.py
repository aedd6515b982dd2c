"""A table in PostgreSQL on a real server, over HTTP: SmartNoise SQL runs inside it, other libraries on a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lomas_gql.database.engine import Database
from lomas_gql.datasets.postgresql import PostgresSource
from lomas_gql.datasets.preparing import version
from lomas_gql.datasets.sources import source_from, stored
from lomas_gql.errors import AdministrationError
from lomas_gql.metadata import Metadata
from lomas_gql.services import administration
from lomas_gql.services.importing import import_catalogue
from lomas_gql.words import Engine
from tests.conftest import DEMO, Client, Server
from tests.datasets.conftest import READER, READERS_PASSWORD, Warehouse
from tests.test_main_path import ESTIMATE, EXECUTE, laplace_sum, sql

ENTRY = """
- dataset_name: "{name}"
  dataset_access: {{database_type: POSTGRES_DB, url: "{url}", table: {table}, credentials_name: warehouse{more}}}
  metadata_access: {{database_type: "PATH_DB", path: "penguin_metadata.yaml"}}
"""
ANSWERED = "SELECT species, COUNT(*) AS n, AVG(body_mass_g) AS m FROM df WHERE bill_length_mm > 40.5 GROUP BY species"


def collection(folder: Path, *entries: str) -> Path:
    (folder / "penguin_metadata.yaml").write_bytes((DEMO / "penguin_metadata.yaml").read_bytes())
    file = folder / "datasets.yaml"
    file.write_text("datasets:" + "".join(entries))
    return file


def entry(warehouse: Warehouse, name: str, table: str = "penguins", more: str = "") -> str:
    return ENTRY.format(name=name, url=warehouse.url, table=table, more=more)


@pytest.fixture
def served(tmp_path: Path, warehouse: Warehouse) -> Iterator[Server]:
    """A server with one table three times: queried in place, copied, and a table of a test's own."""
    warehouse.run("DROP TABLE IF EXISTS moving")
    warehouse.run("CREATE TABLE moving AS TABLE penguins")
    warehouse.run(f"GRANT SELECT ON moving TO {READER}")
    entries = (
        entry(warehouse, "PLACED"),
        entry(warehouse, "COPIED", more=", push_down: false"),
        entry(warehouse, "MOVING", "moving"),
    )
    file = collection(tmp_path, *entries)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    options = {
        "LOMAS_CREDENTIALS__WAREHOUSE__USERNAME": READER,
        "LOMAS_CREDENTIALS__WAREHOUSE__PASSWORD": READERS_PASSWORD,
    }
    server = Server(data_dir, options)

    async def build(database: Database) -> None:
        await database.upgrade()
        await import_catalogue(database, [file])

    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            patch.setenv(name, value)
        server.run(build)
    server.start()
    yield server
    server.stop()


def user_of(server: Server, *datasets: str) -> Client:
    client = server.user("1000", "0.1", dataset=datasets[0])
    [name] = [user.name for user in server.run(administration.users)]
    for dataset in datasets[1:]:
        server.run(lambda database, of=dataset: administration.grant(database, name, of, "1000", "0.1"))
    return client


def prepared_files(server: Server) -> list[Path]:
    return list((server.data_dir / "prepared").rglob("*.arrow"))


def executed(client: Client, dataset: str, query: str, epsilon: float = 20.0) -> dict[str, Any]:
    found: dict[str, Any] = client.data(EXECUTE, sql(query, epsilon, dataset=dataset))["execute"]
    assert found["__typename"] == "Executed", found
    return found


def test_sql_runs_in_place_with_a_role_that_may_only_read_and_no_file_is_written(served: Server) -> None:
    client = user_of(served, "PLACED", "COPIED")
    placed = executed(client, "PLACED", ANSWERED)
    assert prepared_files(served) == []
    copied = executed(client, "COPIED", ANSWERED)
    assert len(prepared_files(served)) == 1
    assert placed["cost"] == copied["cost"]
    pairs = zip(placed["result"]["table"]["rows"], copied["result"]["table"]["rows"], strict=True)
    for (species, n, mean), (other, m, average) in pairs:
        assert species == other
        assert n == pytest.approx(m, abs=10)
        if species != "OTHER":
            assert mean == pytest.approx(average, rel=0.2)
    # OpenDP takes a copy, of the same version.
    measured = {"opendp": {"measurement": laplace_sum(), "column": "bill_length_mm"}}
    found = client.data(EXECUTE, {"input": {"dataset": "PLACED", "query": measured}})["execute"]
    assert found["__typename"] == "Executed", found
    assert len(prepared_files(served)) == 2
    with sqlite3.connect(served.data_dir / "lomas.db") as database:
        versions = database.execute("SELECT dataset_version FROM release ORDER BY id").fetchall()
    database.close()
    assert len(set(versions)) == 1


def test_what_could_fail_in_place_is_refused_for_free_and_answered_on_a_copy(served: Server) -> None:
    client = user_of(served, "PLACED", "COPIED")
    query = sql("SELECT COUNT(*) AS n FROM df WHERE SQRT(body_mass_g) > 60", dataset="PLACED")
    for asked in (ESTIMATE, EXECUTE):
        [refusal] = client.data(asked, query).values()
        assert refusal["__typename"] == "InvalidQuery"
        assert refusal["issues"][0]["path"] == ["query", "smartnoiseSql", "sql"]
        assert "SQRT" in refusal["issues"][0]["message"]
    budget = '{ dataset(name: "PLACED") { budget { spent { epsilon } } } }'
    assert client.data(budget)["dataset"]["budget"]["spent"]["epsilon"] == 0
    executed(client, "COPIED", query["input"]["query"]["smartnoiseSql"]["sql"], 1.0)


def test_an_answer_is_repeated_until_the_table_changes(served: Server, warehouse: Warehouse) -> None:
    client = user_of(served, "MOVING")
    again = EXECUTE.replace("idempotencyKey: $key", "idempotencyKey: $key, reuse: true")
    query = sql("SELECT COUNT(*) AS n FROM df", 20.0, dataset="MOVING")
    first = executed(client, "MOVING", "SELECT COUNT(*) AS n FROM df")
    [[before]] = first["result"]["table"]["rows"]
    assert client.data(again, query)["execute"]["release"]["id"] == first["release"]["id"]
    warehouse.run("INSERT INTO moving SELECT * FROM moving")
    while True:
        found = client.data(again, query)["execute"]
        if found["release"]["id"] != first["release"]["id"]:
            break
    [[after]] = found["result"]["table"]["rows"]
    assert after == pytest.approx(2 * before, abs=10)


def test_a_column_that_can_no_longer_be_read_in_place_costs_nothing(served: Server, warehouse: Warehouse) -> None:
    client = user_of(served, "MOVING")
    warehouse.run("ALTER TABLE moving ALTER COLUMN body_mass_g TYPE text")
    found = client.data(EXECUTE, sql("SELECT COUNT(*) AS n FROM df", dataset="MOVING"))["execute"]
    assert "cannot be read now" in found["message"], found
    assert "holds body_mass_g as text" in (served.data_dir / "server.log").read_text()
    assert "push_down: false" in (served.data_dir / "server.log").read_text()


async def test_an_import_names_columns_that_cannot_be_read_in_place(
    tmp_path: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOMAS_CREDENTIALS__WAREHOUSE__USERNAME", READER)
    monkeypatch.setenv("LOMAS_CREDENTIALS__WAREHOUSE__PASSWORD", READERS_PASSWORD)
    warehouse.run("DROP TABLE IF EXISTS texts")
    warehouse.run("CREATE TABLE texts AS SELECT *, 1 AS more FROM penguins")
    warehouse.run("ALTER TABLE texts ALTER COLUMN body_mass_g TYPE text")
    warehouse.run(f"GRANT SELECT ON texts TO {READER}")
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'lomas.db'}")
    try:
        await database.upgrade()
        with pytest.raises(AdministrationError) as caught:
            await import_catalogue(database, [collection(tmp_path, entry(warehouse, "TEXTS", "texts"))])
        assert "holds body_mass_g as text" in caught.value.message
        assert "push_down: false" in caught.value.message
        file = collection(tmp_path, entry(warehouse, "TEXTS", "texts", ", push_down: false"))
        assert (await import_catalogue(database, [file])).changes == ["dataset TEXTS: added"]
        [dataset] = await administration.datasets(database)
        assert dataset.source["push_down"] is False
    finally:
        await database.close()


def test_what_was_stored_before_push_down_stays_as_it_was() -> None:
    facts = {"kind": "postgresql", "url": "u", "table_schema": "s", "table": "t", "credentials": "c"}
    source = source_from(facts)
    assert source.engine is Engine.POSTGRESQL
    assert stored(source) == facts
    kept = PostgresSource("u", "s", "t", "c", push_down=False)
    assert kept.engine is Engine.DUCKDB
    assert source_from(stored(kept)) == kept


def test_where_queries_run_does_not_make_another_version(
    penguins: Metadata, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOMAS_CREDENTIALS__WAREHOUSE__USERNAME", READER)
    monkeypatch.setenv("LOMAS_CREDENTIALS__WAREHOUSE__PASSWORD", READERS_PASSWORD)
    source = PostgresSource(warehouse.url, "public", "penguins", "warehouse")
    placed = replace(penguins, engine=Engine.POSTGRESQL)
    assert version(source, placed) == version(replace(source, push_down=False), penguins)

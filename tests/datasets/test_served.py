"""Datasets from remote sources, imported as Lomas describes them and queried on a real server."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.datasets.preparing import prepare
from lomas_gql.errors import AdministrationError, SourceUnavailable
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.services import administration, audit, catalogue, leases, preparation, releases, running
from lomas_gql.services.catalogue import Granted, source_of
from lomas_gql.services.importing import import_catalogue
from lomas_gql.services.runtime import Runtime
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Workers
from tests.conftest import DEMO, Client, Server
from tests.datasets.conftest import (
    PENGUINS,
    READER,
    READERS_PASSWORD,
    WEB_PASSWORD,
    WEB_USER,
    ObjectStore,
    Warehouse,
    Web,
    credential_variables,
)
from tests.test_main_path import EXECUTE, laplace_sum, sql

pytestmark = pytest.mark.usefixtures("credentials")

# The S3 block has every field of Lomas's own examples.
CATALOGUE = """
datasets:
- dataset_name: "BUCKET"
  dataset_access:
    database_type: "S3_DB"
    bucket: "example"
    key: "data/penguins.csv"
    endpoint_url: "{s3}"
    credentials_name: "minio"
  metadata_access:
    database_type: "S3_DB"
    bucket: "example"
    key: "metadata/penguin_metadata.yaml"
    endpoint_url: "{s3}"
    access_key_id: "planted-key-in-the-file"
    secret_access_key: "planted-secret-in-the-file"
    credentials_name: "minio"
- dataset_name: "SITE"
  dataset_access: {{database_type: "PATH_DB", path: "{web}/closed/penguins.csv", credentials_name: WEB}}
  metadata_access: {{database_type: "PATH_DB", path: "{web}/penguin_metadata.yaml"}}
- dataset_name: "TABLE"
  dataset_access: {{database_type: POSTGRES_DB, url: "{postgres}", schema: public, table: penguins, credentials_name: warehouse}}
  metadata_access: {{database_type: "PATH_DB", path: "penguin_metadata.yaml"}}
- dataset_name: "FILE"
  dataset_access: {{database_type: "PATH_DB", path: "penguins.csv"}}
  metadata_access: {{database_type: "PATH_DB", path: "penguin_metadata.yaml"}}
"""
NAMES = ("BUCKET", "SITE", "TABLE", "FILE")
COUNT = "SELECT species, COUNT(*) AS n FROM df GROUP BY species"


@pytest.fixture
def collection(tmp_path: Path, object_store: ObjectStore, web: Web, warehouse: Warehouse) -> Path:
    """A collection with a dataset of every kind."""
    for name in ("penguins.csv", "penguin_metadata.yaml"):
        (tmp_path / name).write_bytes((DEMO / name).read_bytes())
    web.files["/penguin_metadata.yaml"] = (DEMO / "penguin_metadata.yaml").read_bytes()
    file = tmp_path / "datasets.yaml"
    file.write_text(CATALOGUE.format(s3=object_store.url, web=web.url, postgres=warehouse.url))
    return file


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.close()


async def test_lomas_blocks_come_in_as_they_are_and_without_their_secrets(
    database: Database, collection: Path, object_store: ObjectStore
) -> None:
    imported = await import_catalogue(database, [collection])
    assert imported.changes == [f"dataset {name}: added" for name in NAMES]
    assert (await import_catalogue(database, [collection])).changes == []
    bucket, file, site, table = sorted(await administration.datasets(database), key=lambda found: found.name)
    assert bucket.source == {
        "kind": "s3",
        "endpoint": object_store.url,
        "bucket": "example",
        "key": "data/penguins.csv",
        "credentials": "minio",
        "region": "us-east-1",
    }
    assert file.source == {"path": str(collection.parent / "penguins.csv")}
    assert source_of(bucket).describe().startswith("s3://example/data/penguins.csv at http://127.0.0.1:")
    assert source_of(site).describe().endswith("/closed/penguins.csv")
    assert source_of(table).describe().startswith("public.penguins in postgresql:///warehouse?host=")
    assert bucket.facts == file.facts == site.facts == table.facts


def put_mistake(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("data/penguins.csv", "data/none.csv", "datasets.0.BUCKET.dataset_access: s3://example/data/none.csv"),
        ("metadata/penguin_metadata.yaml", "none.yaml", "datasets.0.BUCKET.metadata_access: s3://example/none.yaml"),
        ("metadata/penguin_metadata.yaml", "data/penguins.csv", "s3://example/data/penguins.csv at http"),
        ('credentials_name: "minio"', 'credentials_name: "other"', "set LOMAS_CREDENTIALS__OTHER__USERNAME"),
        ('    credentials_name: "minio"\n', "", "datasets.0.dataset_access.S3_DB.credentials_name: Field required"),
        ("http://127", "http://planted:planted@127", "datasets.0.dataset_access.S3_DB.endpoint_url: a user or"),
        ("http://127", "ftp://127", "datasets.0.dataset_access.S3_DB.endpoint_url: is no http"),
        ("/closed/penguins.csv", "/closed/none.csv", "datasets.1.SITE.dataset_access: http://127.0.0.1"),
        ("credentials_name: WEB", "credentials_name: warehouse", "answers with status 401"),
        ('path: "http://', 'path: "http://planted:planted@', "datasets.1.dataset_access.PATH_DB.path: a user or"),
        ('path: "http://127', 'path: "http:///planted', "datasets.1.dataset_access.PATH_DB.path: is no http"),
        ("postgresql:///", "postgresql://planted:planted@/", "datasets.2.dataset_access.POSTGRES_DB.url: a user"),
        ("postgresql:///", "postgresql://[planted/", "POSTGRES_DB.url: is no URL of PostgreSQL"),
        ("?host=", "?passfile=planted&host=", "POSTGRES_DB.url: passfile: not known"),
        ("postgresql:///warehouse", "postgresql:///", "POSTGRES_DB.url: names no database"),
        ("table: penguins", "table: none", "datasets.2.TABLE.dataset_access: public.none in postgresql"),
        ("table: penguins", 'table: ""', "datasets.2.dataset_access.POSTGRES_DB.table: String should have"),
        ("schema: public, table: penguins", "schema: pg_catalog, table: pg_class", "has no column species"),
        ('type: "PATH_DB", path: "penguin_', 'type: POSTGRES_DB, path: "penguin_', "datasets.2.metadata_access"),
    ],
)
async def test_a_mistake_is_told_with_its_place_and_without_a_secret(
    database: Database, collection: Path, old: str, new: str, told: str
) -> None:
    put_mistake(collection, old, new)
    with pytest.raises(AdministrationError) as caught:
        await import_catalogue(database, [collection])
    assert told in caught.value.message, caught.value.message
    assert str(collection) in caught.value.message or "at http" in told
    assert "planted" not in caught.value.message
    assert await administration.datasets(database) == []


async def test_metadata_that_is_too_large_is_not_cut(database: Database, collection: Path, web: Web) -> None:
    web.files["/penguin_metadata.yaml"] += b"#" * 2**22
    with pytest.raises(AdministrationError, match=r"datasets.1.SITE.metadata_access: .* is too large"):
        await import_catalogue(database, [collection])


@pytest.fixture
async def runtime(tmp_path: Path, collection: Path) -> AsyncIterator[Runtime]:
    """What a server is made of, with one user who may query all datasets."""
    settings = Settings(database_url="")
    lease = leases.lease_of_this_process("here", 15)
    settings.data_dir.mkdir(exist_ok=True)
    runtime = Runtime(settings, Database(settings.url), lease, Workers(1, 4096), Workers(2, 4096))
    await runtime.database.upgrade()
    await import_catalogue(runtime.database, [collection])
    await administration.add_user(runtime.database, "reader", None, may_query=True)
    for name in NAMES:
        await administration.grant(runtime.database, "reader", name, "100", "0.1")
    yield runtime
    runtime.public.stop()
    runtime.private.stop()
    await runtime.database.close()


async def granted(runtime: Runtime, name: str) -> Granted:
    async with runtime.database.reading() as session:
        return await catalogue.granted(session, Viewer(1, "reader", may_query=True), name)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is believed for longer than any test takes."""
    monkeypatch.setattr(preparation, "TRUST_SECONDS", 3600.0)


@pytest.mark.usefixtures("trusting")
async def test_a_remote_source_is_asked_once_for_many_queries(runtime: Runtime, web: Web) -> None:
    site = await granted(runtime, "SITE")
    web.asked.clear()
    files = await asyncio.gather(*(preparation.prepared(runtime, site) for _ in range(20)))
    assert len(set(files)) == 1
    # One look by the server; the worker looks again before it fetches.
    assert web.asked == ["HEAD /closed/penguins.csv", "HEAD /closed/penguins.csv", "GET /closed/penguins.csv"]
    web.asked.clear()
    assert await preparation.prepared(runtime, site) == files[0]
    assert web.asked == []


async def test_a_change_is_seen_once_the_last_look_is_no_longer_believed(
    runtime: Runtime, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "TRUST_SECONDS", 0.0)
    site = await granted(runtime, "SITE")
    before = await preparation.prepared(runtime, site)
    web.files["/penguins.csv"] = PENGUINS.replace(b"39.1", b"39.2")
    after = await preparation.prepared(runtime, site)
    assert after != before
    assert before.exists()
    os.utime(before, (0, 0))
    assert await preparation.prepared(runtime, site) == after
    assert [file.name for file in after.parent.iterdir()] == [after.name]


def wait_for(file: Path) -> None:
    """Keeps a worker busy until there is that file."""
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def keep_busy(runtime: Runtime, gate: Path) -> None:
    """Keeps one private worker busy."""
    async with runtime.private.take("nobody") as worker:
        await worker.call(wait_for, 60, gate)


async def test_a_release_that_waits_for_a_worker_answers_on_the_rows_it_was_reserved_on(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "KEEP_SECONDS", 0.1)
    file, gate = await granted(runtime, "FILE"), tmp_path / "gate"
    before = await preparation.prepared(runtime, file)
    busy = [asyncio.create_task(keep_busy(runtime, gate)) for _ in range(2)]
    query = SmartnoiseSqlQuery(sql="SELECT COUNT(*) AS n FROM df", epsilon=50.0, delta=0.0)
    asked = releases.Input("FILE", query, {"sql": "count"})
    waiting = asyncio.create_task(releases.execute(runtime, Viewer(1, "reader", may_query=True), asked, None))
    while not runtime.running:
        await asyncio.sleep(0.01)
    # It has waited for long, and its file is held all the same when another server prepares the next version.
    os.utime(before, (0, 0))
    async with asyncio.timeout(30):
        while before.stat().st_mtime == 0:
            await asyncio.sleep(0.01)
    (tmp_path / "penguins.csv").write_bytes(PENGUINS.split(b"\n")[0])
    assert await asyncio.to_thread(prepare, file.source, file.metadata, before.parent) != before
    gate.touch()
    executed = await waiting
    assert executed.release.dataset_version == before.stem
    assert executed.answer.table is not None
    [[count]] = executed.answer.table.rows
    assert 300 < count < 400
    await asyncio.gather(*busy)


async def test_a_slow_source_holds_up_nobody_else(runtime: Runtime, web: Web) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        assert may_answer.wait(20)
        web.send(request, 200, PENGUINS)

    web.answers["/closed/penguins.csv"] = answer
    slow = asyncio.create_task(preparation.version(runtime, await granted(runtime, "SITE")))
    await asyncio.to_thread(asked.wait, 20)
    # The server has not answered, and the event loop goes on; another source is looked up meanwhile.
    assert await preparation.version(runtime, await granted(runtime, "BUCKET"))
    assert not slow.done()
    may_answer.set()
    assert await slow


async def test_who_gives_up_waiting_stops_nobody_else(runtime: Runtime, web: Web) -> None:
    may_answer = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        assert may_answer.wait(20)
        web.send(request, 200, PENGUINS)

    web.answers["/closed/penguins.csv"] = answer
    site = await granted(runtime, "SITE")
    first, second = (asyncio.create_task(preparation.version(runtime, site)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    may_answer.set()
    assert await second


@pytest.mark.usefixtures("trusting")
async def test_an_unreachable_source_is_asked_once_and_costs_nothing(
    runtime: Runtime, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        request.connection.close()

    web.answers["/closed/penguins.csv"] = hang_up
    web.asked.clear()
    site = await granted(runtime, "SITE")
    for _ in range(3):
        with pytest.raises(SourceUnavailable) as caught:
            await preparation.prepared(runtime, site)
        assert "127.0.0.1" not in caught.value.message
    assert len(web.asked) == 1
    # Told for each query that was refused.
    assert caplog.text.count("dataset SITE cannot be read") == 3
    assert WEB_PASSWORD not in caplog.text


async def test_a_reading_that_failed_is_not_begun_again_at_once(
    runtime: Runtime, web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = await granted(runtime, "SITE")
    web.files["/penguins.csv"] = b"x\n1\n"
    for trust, readings in ((0.0, 3), (3600.0, 1)):
        monkeypatch.setattr(preparation, "TRUST_SECONDS", trust)
        web.asked.clear()
        for _ in range(3):
            with pytest.raises(SourceUnavailable):
                await preparation.prepared(runtime, site)
            if trust == 0:
                async with asyncio.timeout(30):
                    while runtime.readings:
                        await asyncio.sleep(0.01)
        assert web.asked.count("GET /closed/penguins.csv") == readings
    assert "has no column species" in caplog.text


async def test_slow_readings_leave_a_worker_to_releases(runtime: Runtime, web: Web) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.command == "GET":
            asked.set()
            assert may_answer.wait(30)
        web.send(request, 200, PENGUINS)

    web.answers["/closed/penguins.csv"] = answer
    slow = asyncio.create_task(preparation.prepared(runtime, await granted(runtime, "SITE")))
    assert await asyncio.to_thread(asked.wait, 30)
    second = asyncio.create_task(preparation.prepared(runtime, await granted(runtime, "BUCKET")))
    async with asyncio.timeout(30):
        while len(runtime.readings) < 2:
            await asyncio.sleep(0.01)
        # A file of the server's own is read beside them, in the worker that is left.
        assert await preparation.prepared(runtime, await granted(runtime, "FILE"))
    assert not slow.done()
    assert not second.done()
    may_answer.set()
    assert await slow != await second


async def test_a_source_that_hangs_holds_one_thread(
    runtime: Runtime, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(preparation, "TRUST_SECONDS", -1.0)
    may_answer = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        assert may_answer.wait(15)
        web.send(request, 200, PENGUINS)

    web.answers["/closed/penguins.csv"] = answer
    site = await granted(runtime, "SITE")
    web.asked.clear()
    for _ in range(5):
        with pytest.raises(SourceUnavailable, match="cannot be read now"):
            await preparation.version(runtime, site)
    assert len(runtime.asking) == 1
    may_answer.set()
    await asyncio.gather(*runtime.asking.values())
    assert web.asked == ["HEAD /closed/penguins.csv"]
    monkeypatch.setattr(preparation, "_LOOK_SECONDS", 30.0)
    assert await preparation.version(runtime, site)


async def test_the_log_tells_of_a_source_that_this_version_does_not_know(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = await granted(runtime, "FILE")
    unknown.dataset.source = {"kind": "tape"}
    for ask in (preparation.version, preparation.prepared):
        caplog.clear()
        with pytest.raises(SourceUnavailable):
            await ask(runtime, unknown)
        assert caplog.text.count("dataset FILE cannot be read: this version knows no source of the kind tape") == 1


@pytest.fixture
def server(tmp_path: Path, collection: Path, object_store: ObjectStore, database_url: str) -> Iterator[Server]:
    """A server on the collection, which reads its credentials from its environment."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    server = Server(data_dir, credential_variables(object_store) | {"LOMAS_DATABASE_URL": database_url})

    async def build(database: Database) -> None:
        await database.upgrade()
        await import_catalogue(database, [collection])

    server.run(build)
    server.start()
    yield server
    server.stop()


def reader_of_all(server: Server) -> Client:
    client = server.user("1000", "0.1", dataset=NAMES[0])
    # Each user of a test has a name of its own; the last one is this.
    [name] = [user.name for user in server.run(administration.users)]
    for dataset in NAMES[1:]:
        server.run(lambda database, of=dataset: administration.grant(database, name, of, "1000", "0.1"))
    return client


QUERIES: dict[str, dict[str, Any]] = {
    "smartnoiseSql": {"sql": COUNT, "epsilon": 50.0, "delta": 0.0},
    "opendp": {"measurement": laplace_sum(), "column": "bill_length_mm"},
    "diffprivlib": {
        "steps": [{"estimator": "GAUSSIAN_NB", "params": {"epsilon": 5}}],
        "featureColumns": ["bill_length_mm", "bill_depth_mm"],
        "targetColumns": ["species"],
        "scoreEpsilon": 1,
    },
    "smartnoiseSynth": {
        "synthesizer": "MWEM",
        "epsilon": 3,
        "sampleRows": 5,
        "columns": ["species"],
    },
}


def dump(server: Server) -> bytes:
    """Everything that a server keeps or writes: its database, its log, its data directory."""

    async def tables(database: Database) -> str:
        async with database.engine.connect() as connection:
            found = await connection.run_sync(_all_rows)
        lines = [str(entry) async for entry in audit.exported(database)]
        return found + "".join(lines)

    files = b"".join(file.read_bytes() for file in server.data_dir.rglob("*") if file.is_file())
    return files + server.run(tables).encode()


def _all_rows(connection: Any) -> str:
    from sqlalchemy import MetaData, select

    reflected = MetaData()
    reflected.reflect(connection)
    return "".join(str(connection.execute(select(table)).all()) for table in reflected.sorted_tables)


def test_every_library_answers_on_every_source_and_no_secret_leaves_the_settings(
    server: Server, object_store: ObjectStore, web: Web, warehouse: Warehouse
) -> None:
    client, answers = reader_of_all(server), []
    for dataset in NAMES:
        for library, query in QUERIES.items():
            answer = client.post(EXECUTE, {"input": {"dataset": dataset, "query": {library: query}}})
            answers.append(answer.text)
            assert answer.json()["data"]["execute"]["__typename"] == "Executed", (dataset, library, answer.text)
        answers.append(client.post("{ datasets { nodes { name metadata { rows } } } }").text)
    # Now none of them can be read any more.
    object_store.put("data/penguins.csv", b"x\n1\n")
    web.files.pop("/penguins.csv")
    warehouse.run(f"REVOKE SELECT ON penguins FROM {READER}")
    try:
        for dataset in NAMES[:3]:
            answers.append(_until_unavailable(client, dataset))
    finally:
        object_store.put("data/penguins.csv", PENGUINS)
        warehouse.run(f"GRANT SELECT ON penguins TO {READER}")
    server.stop()
    log = (server.data_dir / "server.log").read_text()
    for dataset, told in zip(
        NAMES, ("s3://example/data/penguins.csv", "status 404", "public.penguins"), strict=False
    ):
        assert f"dataset {dataset} cannot be read" in log
        assert told in log
    for secret in (*object_store.reader, READERS_PASSWORD, READER, WEB_PASSWORD, WEB_USER, "planted"):
        assert secret.encode() not in dump(server)
        assert not [answer for answer in answers if secret in answer]


def _until_unavailable(client: Client, dataset: str) -> str:
    """The answer once the server no longer believes its last look; until then it serves what it has read.

    Of a table that it reads in place it has read nothing: until then a query on it fails.
    """
    ended = {"Executed"} | ({"LibraryFailed"} if dataset == "TABLE" else set())
    while True:
        before = _spent(client, dataset)
        answer: httpx.Response = client.post(EXECUTE, sql(COUNT, 0.1, dataset=dataset))
        if "cannot be read now" in answer.text:
            assert _spent(client, dataset) == before
            return answer.text
        assert answer.json()["data"]["execute"]["__typename"] in ended, answer.text


def _spent(client: Client, dataset: str) -> float:
    query = "query($name: String!) { dataset(name: $name) { budget { spent { epsilon } } } }"
    return float(client.data(query, {"name": dataset})["dataset"]["budget"]["spent"]["epsilon"])

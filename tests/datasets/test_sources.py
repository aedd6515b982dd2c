"""Rows from every kind of source, read from real servers."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import polars as pl
import pytest

from lomas_gql.datasets import s3 as s3_module
from lomas_gql.datasets.fetching import drop_abandoned
from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.postgresql import PostgresSource
from lomas_gql.datasets.preparing import prepare, version
from lomas_gql.datasets.s3 import S3Source
from lomas_gql.datasets.sources import Source, source_from, stored
from lomas_gql.datasets.web import UrlSource
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from tests.conftest import DEMO
from tests.datasets.conftest import PENGUINS, READER, READERS_PASSWORD, ObjectStore, Warehouse, Web, parquet

pytestmark = pytest.mark.usefixtures("credentials")


def s3(store: ObjectStore, key: str = "data/penguins.csv", credentials: str = "minio") -> S3Source:
    return S3Source(store.url, "example", key, credentials)


def postgres(warehouse: Warehouse, table: str = "penguins", schema: str = "public") -> PostgresSource:
    return PostgresSource(warehouse.url, schema, table, "warehouse")


def rows_of(source: Source, metadata: Metadata, folder: Path) -> pl.DataFrame:
    return Rows.mapped(prepare(source, metadata, folder / "prepared" / "1"), metadata).frame


def reason(source: Source, metadata: Metadata, folder: Path) -> str:
    """Why it cannot be read, as the owner is told."""
    with pytest.raises(SourceUnavailable) as caught:
        rows_of(source, metadata, folder)
    return caught.value.reason


def test_every_source_gives_the_rows_of_the_csv(
    object_store: ObjectStore, web: Web, warehouse: Warehouse, penguins: Metadata, tmp_path: Path
) -> None:
    sources: list[Source] = [
        UrlSource(f"{web.url}/penguins.csv"),
        UrlSource(f"{web.url}/penguins?format=csv"),
        UrlSource(f"{web.url}/penguins.parquet?download"),
        UrlSource(f"{web.url}/closed/penguins.csv", "web"),
        s3(object_store),
        s3(object_store, "data/penguins.parquet"),
        postgres(warehouse),
    ]
    expected = rows_of(FileSource(str(DEMO / "penguins.csv")), penguins, tmp_path / "csv")
    assert expected.height == 344
    for number, source in enumerate(sources):
        again = source_from(stored(source))
        assert again == source
        rows = rows_of(again, penguins, tmp_path / str(number))
        if isinstance(source, PostgresSource):
            # A table has no order but that of its file.
            assert rows.sort(rows.columns).equals(expected.sort(rows.columns))
        else:
            assert rows.equals(expected), source
        assert set(source.schema()) >= {column.name for column in penguins.columns}


def test_nothing_but_the_prepared_file_stays(
    object_store: ObjectStore, warehouse: Warehouse, penguins: Metadata, tmp_path: Path
) -> None:
    for source in (s3(object_store), postgres(warehouse)):
        prepared = prepare(source, penguins, tmp_path / "prepared" / source.kind)
        source.schema()
        assert list(prepared.parent.iterdir()) == [prepared]
        assert prepared.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.rglob("fetched*"))


def test_a_folder_of_a_process_that_was_ended_is_removed(tmp_path: Path) -> None:
    for name in ("fetched.999999999.x", "fetched.1.x"):
        (tmp_path / name).mkdir()
    drop_abandoned(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["fetched.1.x"]


def test_a_changed_object_is_a_new_version(object_store: ObjectStore, penguins: Metadata, tmp_path: Path) -> None:
    object_store.put("changing.csv", PENGUINS)
    source = s3(object_store, "changing.csv")
    before = version(source, penguins)
    assert version(source, penguins) == before
    object_store.put("changing.csv", PENGUINS.replace(b"Adelie,Torgersen,39.1", b"Adelie,Torgersen,39.2"))
    assert version(source, penguins) != before
    assert rows_of(source, penguins, tmp_path)["bill_length_mm"][0] == 39.2


def test_a_changed_file_behind_a_url_is_a_new_version(web: Web, penguins: Metadata) -> None:
    for web.knows_head in (True, False):
        source = UrlSource(f"{web.url}/penguins.csv")
        web.files["/penguins.csv"] = PENGUINS
        before = version(source, penguins)
        assert version(source, penguins) == before
        web.files["/penguins.csv"] = PENGUINS.replace(b"39.1", b"39.2")
        assert version(source, penguins) != before


def test_a_server_that_tells_no_version_is_read_anew_after_a_while(
    web: Web, penguins: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.tells = False
    source = UrlSource(f"{web.url}/penguins.csv")
    before, now = version(source, penguins), time.time()
    assert version(source, penguins) == before
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert version(source, penguins) != before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {} SET b = 'y'",
        "INSERT INTO {} VALUES (3, 'x')",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "ALTER TABLE {} ALTER COLUMN b TYPE int USING 1",
        "ALTER TABLE {} RENAME COLUMN b TO c",
        "ALTER TABLE {} DROP COLUMN b, ADD COLUMN b text DEFAULT 'y'",
        "DROP TABLE {0}; CREATE TABLE {0} (a int, b text); INSERT INTO {0} VALUES (1, 'x'); GRANT SELECT ON {0} TO "
        + READER,
    ],
)
@pytest.mark.parametrize("partitioned", [False, True])
def test_a_changed_table_is_a_new_version(
    warehouse: Warehouse, penguins: Metadata, change: str, partitioned: bool
) -> None:
    warehouse.run(
        f"DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int, b text) {'PARTITION BY LIST (a)' * partitioned}"
    )
    if partitioned:
        if "DROP TABLE" in change:
            change = "DROP TABLE part"
        warehouse.run("CREATE TABLE part PARTITION OF changing FOR VALUES IN (1, 3)")
    warehouse.run(f"INSERT INTO changing VALUES (1, 'x'); GRANT SELECT ON changing TO {READER}")
    source = postgres(warehouse, "changing")
    before = version(source, penguins)
    assert version(source, penguins) == before
    warehouse.run(change.format("changing"))
    assert version(source, penguins) != before


def test_a_view_is_read_anew_after_a_while(
    warehouse: Warehouse, penguins: Metadata, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    warehouse.run(f"CREATE OR REPLACE VIEW shown AS SELECT * FROM penguins; GRANT SELECT ON shown TO {READER}")
    source = postgres(warehouse, "shown")
    assert rows_of(source, penguins, tmp_path).height == 344
    table, view, now = version(postgres(warehouse), penguins), version(source, penguins), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert version(source, penguins) != view
    assert version(postgres(warehouse), penguins) == table


def test_cells_of_a_table_are_read_as_they_are(warehouse: Warehouse, tmp_path: Path) -> None:
    cells = ["NA", "", "null", "\\N", "\\\\N", "a\tb", 'x\n1\t"y', "back\\nslash\\", "\r\n", '"', "ü€", None, "plain"]
    warehouse.run(f"DROP TABLE IF EXISTS odd; CREATE TABLE odd (cell text); GRANT SELECT ON odd TO {READER}")
    for cell in cells:
        literal = "NULL" if cell is None else "'" + cell.replace("'", "''") + "'"
        warehouse.run(f"INSERT INTO odd VALUES ({literal})")
    columns = {"cell": {"type": "string", "nullable": True}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 13, "row_privacy": True, "columns": columns})
    assert rows_of(postgres(warehouse, "odd"), metadata, tmp_path)["cell"].to_list() == cells


def test_types_of_a_table_are_read_as_their_text(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.run(
        "DROP TABLE IF EXISTS typed; CREATE TABLE typed (t timestamp, z timestamptz, d date, b boolean, f float8);"
        f"GRANT SELECT ON typed TO {READER}; SET timezone = 'Asia/Tokyo'; INSERT INTO typed VALUES"
        "('2020-05-06 07:08:09.5', '2020-05-06 07:00:00+02', '2020-05-06', true, 'Infinity'),"
        "(NULL, NULL, NULL, NULL, 'NaN')"
    )
    time_column = {"type": "datetime", "lower": "2000-01-01", "upper": "2030-01-01", "nullable": True}
    columns = dict.fromkeys("tzd", time_column) | {
        "b": {"type": "boolean", "nullable": True},
        "f": {"type": "float", "lower": 0, "upper": 9, "nullable": True},
    }
    metadata = Metadata.parse({"max_ids": 1, "rows": 2, "row_privacy": True, "columns": columns})
    assert rows_of(postgres(warehouse, "typed"), metadata, tmp_path).rows() == [
        (datetime(2020, 5, 6, 7, 8, 9, 500_000), datetime(2020, 5, 6, 5), datetime(2020, 5, 6), True, 9.0),
        (None, None, None, None, None),
    ]


def test_names_are_never_read_as_sql(warehouse: Warehouse, tmp_path: Path) -> None:
    table, schema = 'x"; DROP TABLE penguins; --', 'od"d %s {}'
    quoted = f'"{schema.replace(chr(34), chr(34) * 2)}"."{table.replace(chr(34), chr(34) * 2)}"'
    warehouse.run('DROP SCHEMA IF EXISTS "od""d %s {}" CASCADE; CREATE SCHEMA "od""d %s {}"')
    warehouse.run(f'GRANT USAGE ON SCHEMA "od""d %s {{}}" TO {READER}')
    warehouse.run(f'CREATE TABLE {quoted} ("a b" int, "x\'); --" text, "%s {{}}" text)')
    warehouse.run(f"INSERT INTO {quoted} VALUES (1, 'y', 'z'); GRANT SELECT ON {quoted} TO {READER}")
    source = postgres(warehouse, table, schema)
    assert list(source.schema()) == ["a b", "x'); --", "%s {}"]
    folder = tmp_path / "fetched"
    folder.mkdir()
    assert source.scan(["a b", "x'); --", "%s {}"], folder).collect().rows() == [("1", "y", "z")]
    assert postgres(warehouse).schema()


def test_a_role_of_some_columns_reads_those(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.run(
        f"DROP TABLE IF EXISTS partly; CREATE TABLE partly (open int, closed int); INSERT INTO partly VALUES (1, 2); GRANT SELECT (open) ON partly TO {READER}"
    )
    source = postgres(warehouse, "partly")
    number = {"type": "int", "lower": 0, "upper": 9}
    metadata = Metadata.parse({"max_ids": 1, "rows": 1, "row_privacy": True, "columns": {"open": number}})
    assert rows_of(source, metadata, tmp_path).rows() == [(1,)]
    both = Metadata.parse(
        {"max_ids": 1, "rows": 1, "row_privacy": True, "columns": {"open": number, "closed": number}}
    )
    assert "has no column closed" in reason(source, both, tmp_path)


def test_a_tables_transaction_cannot_write(warehouse: Warehouse) -> None:
    warehouse.run(f"DROP TABLE IF EXISTS writable; CREATE TABLE writable (a int); GRANT ALL ON writable TO {READER}")
    with pytest.raises(SourceUnavailable) as caught, postgres(warehouse).connection() as connection:
        connection.execute("INSERT INTO writable VALUES (1)")
    assert "ReadOnlySqlTransaction" in caught.value.reason


def test_a_view_that_fails_on_a_cell_does_not_tell_the_cell(
    warehouse: Warehouse, penguins: Metadata, tmp_path: Path
) -> None:
    warehouse.run("CREATE OR REPLACE VIEW failing AS SELECT species::int AS species FROM penguins")
    warehouse.run(f"GRANT SELECT ON failing TO {READER}")
    told = reason(postgres(warehouse, "failing"), penguins, tmp_path)
    assert told.endswith("cannot be read: InvalidTextRepresentation")
    assert "Adelie" not in told


def test_what_cannot_be_read_is_named_for_the_owner_without_a_secret(
    object_store: ObjectStore,
    web: Web,
    warehouse: Warehouse,
    penguins: Metadata,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOMAS_CREDENTIALS__WRONG__USERNAME", READER)
    monkeypatch.setenv("LOMAS_CREDENTIALS__WRONG__PASSWORD", "another-planted-password")
    monkeypatch.setenv("LOMAS_CREDENTIALS__FORGED__USERNAME", object_store.reader[0])
    monkeypatch.setenv("LOMAS_CREDENTIALS__FORGED__PASSWORD", "another-planted-password")
    nowhere = "postgresql://127.0.0.1:1/warehouse"
    cases: list[tuple[Source, str]] = [
        (s3(object_store, "none.csv"), "s3://example/none.csv"),
        (s3(object_store, "none.csv"), "is not there"),
        (replace(s3(object_store), bucket="nowhere"), "is not there"),
        (replace(s3(object_store), endpoint="http://127.0.0.1:1"), "cannot be fetched"),
        (s3(object_store, credentials="forged"), "may not be read with these credentials"),
        (s3(object_store, credentials="a-b"), "set LOMAS_CREDENTIALS__A_B__USERNAME"),
        (UrlSource(f"{web.url}/none.csv"), "/none.csv answers with status 404"),
        (UrlSource(f"{web.url}/closed/penguins.csv"), "answers with status 401"),
        (UrlSource(f"{web.url}/closed/penguins.csv", "wrong"), "answers with status 401"),
        (UrlSource("http://127.0.0.1:1/x.csv?signature=planted"), "/x.csv cannot be fetched: ConnectError"),
        (postgres(warehouse, "none"), "public.none"),
        (replace(postgres(warehouse), credentials="wrong"), "password authentication failed"),
        (replace(postgres(warehouse), url=nowhere), "connection failed"),
        (replace(postgres(warehouse), url=warehouse.url.replace("/warehouse", "/none")), "does not exist"),
    ]
    for source, told in cases:
        found = reason(source, penguins, tmp_path)
        assert told in found, (source, found)
        for secret in ("planted", READER, *object_store.reader):
            assert secret not in found
        assert "planted" not in repr(source)


def test_an_object_that_is_neither_csv_nor_parquet_is_told(
    object_store: ObjectStore, penguins: Metadata, tmp_path: Path
) -> None:
    object_store.put("broken.parquet", b"PAR1 a private value")
    object_store.put("other.csv", b"x,y\n1,2\n")
    assert reason(s3(object_store, "broken.parquet"), penguins, tmp_path).endswith("cannot be read as CSV or Parquet")
    assert "has no column species" in reason(s3(object_store, "other.csv"), penguins, tmp_path)
    assert not list(tmp_path.rglob("fetched*"))


def test_more_than_may_be_fetched_is_refused_and_removed(
    object_store: ObjectStore,
    web: Web,
    warehouse: Warehouse,
    penguins: Metadata,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOMAS_FETCH_MEGABYTES", "1")
    large = PENGUINS + PENGUINS.split(b"\n", 1)[1] * 80
    object_store.put("large.csv", large)
    web.files["/large.csv"] = large
    warehouse.run(
        f"CREATE OR REPLACE VIEW large AS SELECT p.* FROM penguins p, generate_series(1, 90); GRANT SELECT ON large TO {READER}"
    )
    for source in (s3(object_store, "large.csv"), UrlSource(f"{web.url}/large.csv"), postgres(warehouse, "large")):
        assert "is larger than LOMAS_FETCH_MEGABYTES" in reason(source, penguins, tmp_path)
        # Columns are at a CSV's beginning, and a table has its own.
        assert "species" in source.schema()
    assert not list(tmp_path.rglob("fetched*"))


def redirect(to: str) -> object:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def test_redirects_are_followed_but_not_for_ever(web: Web, penguins: Metadata, tmp_path: Path) -> None:
    web.answers["/moved.csv"] = redirect("/penguins.csv")  # type: ignore[assignment]
    web.answers["/round.csv"] = redirect("/round.csv")  # type: ignore[assignment]
    assert rows_of(UrlSource(f"{web.url}/moved.csv"), penguins, tmp_path).height == 344
    assert reason(UrlSource(f"{web.url}/round.csv"), penguins, tmp_path).endswith("TooManyRedirects")
    assert len(web.asked) < 20


def test_a_password_does_not_follow_a_redirect_to_another_server(web: Web, penguins: Metadata) -> None:
    sent: list[str | None] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        sent.append(request.headers["Authorization"])
        web.send(request, 200, PENGUINS)

    web.answers["/elsewhere.csv"] = elsewhere
    web.answers["/moved.csv"] = redirect(web.url.replace("127.0.0.1", "localhost") + "/elsewhere.csv")  # type: ignore[assignment]
    version(UrlSource(f"{web.url}/moved.csv", "web"), penguins)
    assert sent == [None]


def test_an_encrypted_url_does_not_lead_to_one_in_clear(web: Web) -> None:
    import httpx

    with pytest.raises(SourceUnavailable) as caught:
        UrlSource("https://example.org/x.csv")._stays_encrypted(httpx.Request("GET", f"{web.url}/penguins.csv"))
    assert "without encryption" in caught.value.reason


def test_a_body_that_ends_too_early_is_no_file(web: Web, penguins: Metadata, tmp_path: Path) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("ETag", '"x"')
        request.send_header("Content-Length", str(len(PENGUINS)))
        request.end_headers()
        request.wfile.write(PENGUINS[:5000])
        request.close_connection = True

    web.answers["/cut.csv"] = cut
    assert reason(UrlSource(f"{web.url}/cut.csv"), penguins, tmp_path).endswith("RemoteProtocolError")


def test_a_look_at_an_object_ends_though_its_answer_trickles(
    web: Web, penguins: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "LOOK_SECONDS", 0.5)
    ended = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(100):
            if ended.wait(0.1):
                return
            request.wfile.write(b"x")
        headers = f"Content-Length: {len(PENGUINS)}\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: x"
        request.wfile.write(f"\r\n{headers}\r\n\r\n".encode())

    web.answers["/example/slow.csv"] = trickle
    source = S3Source(web.url, "example", "slow.csv", "minio")
    with pytest.raises(SourceUnavailable) as caught:
        version(source, penguins)
    ended.set()
    assert "cannot be fetched" in caught.value.reason


def test_a_file_is_stored_as_it_always_was() -> None:
    assert stored(FileSource("/x/y.csv")) == {"path": "/x/y.csv"}
    assert source_from({"path": "/x/y.csv"}) == FileSource("/x/y.csv")
    for unknown in ({"kind": "tape"}, {"kind": "s3", "bucket": "b"}, {"path": "x", "more": 1}):
        with pytest.raises(SourceUnavailable):
            source_from(unknown)


def test_a_parquet_behind_a_url_has_its_types(web: Web) -> None:
    web.files["/typed.parquet"] = parquet()
    assert UrlSource(f"{web.url}/typed.parquet").schema()["bill_length_mm"] == pl.Float64


def test_no_secret_is_in_a_representation(object_store: ObjectStore) -> None:
    from lomas_gql.settings import Settings

    shown = repr(Settings()) + str(Settings().model_dump()) + Settings().model_dump_json()
    for secret in (READERS_PASSWORD, READER, *object_store.reader):
        assert secret not in shown

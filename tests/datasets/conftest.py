"""Real servers that hold the demo's penguins: S3 that checks signatures, a web server, PostgreSQL with a reader."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import httpx
import obstore
import polars as pl
import psycopg
import pytest
import yaml
from obstore.store import S3Store

from lomas_gql.metadata import Metadata
from tests.conftest import DEMO

PENGUINS = (DEMO / "penguins.csv").read_bytes()
READER = "lomas_reader"
READERS_PASSWORD = "planted-password-of-the-reader"
WEB_USER, WEB_PASSWORD = "surfer", "planted-password-of-the-web"
_ADMIN = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host"}


def parquet(csv: bytes = PENGUINS) -> bytes:
    """The same rows as Parquet, typed."""
    out = BytesIO()
    pl.read_csv(BytesIO(csv), null_values="NA").write_parquet(out)
    return out.getvalue()


@pytest.fixture
def penguins() -> Metadata:
    """The demo's metadata."""
    return Metadata.parse(yaml.safe_load((DEMO / "penguin_metadata.yaml").read_text()))


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server with a bucket `example`, a key that may read and write, and one that may only read."""

    url: str
    owner: tuple[str, str]
    reader: tuple[str, str]

    def put(self, key: str, content: bytes) -> None:
        store = S3Store(
            "example",
            endpoint=self.url,
            region="us-east-1",
            access_key_id=self.owner[0],
            secret_access_key=self.owner[1],
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        obstore.put(store, key, content)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _iam(client: httpx.Client, **action: str) -> str:
    return client.post("/", data=action | {"Version": "2010-05-08"}, headers=_ADMIN).raise_for_status().text


def _key(client: httpx.Client, user: str, actions: list[str]) -> tuple[str, str]:
    """A new user's access key, allowed these actions."""
    _iam(client, Action="CreateUser", UserName=user)
    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    _iam(client, Action="PutUserPolicy", UserName=user, PolicyName="p", PolicyDocument=json.dumps(allowed))
    made = _iam(client, Action="CreateAccessKey", UserName=user)
    id, secret = (re.search(f"<{tag}>(.+?)</", made) for tag in ("AccessKeyId", "SecretAccessKey"))
    assert id
    assert secret
    return id[1], secret[1]


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """moto's server, in a process of its own (https://docs.getmoto.org); it verifies every signature."""
    port = _free_port()
    command = [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.put("/example").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            owner = _key(client, "owner", ["s3:*"])
            reader = _key(client, "reader", ["s3:GetObject"])
            client.post("/moto-api/reset-auth", content="0").raise_for_status()
        store = ObjectStore(str(client.base_url), owner, reader)
        store.put("data/penguins.csv", PENGUINS)
        store.put("data/penguins.parquet", parquet())
        store.put("metadata/penguin_metadata.yaml", (DEMO / "penguin_metadata.yaml").read_bytes())
        yield store
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class Web:
    """A web server and what it was asked. `answers` replaces a file by whatever a test wants to do."""

    files: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    # Whether it tells ETag and Last-Modified, and knows HEAD.
    tells: bool = True
    knows_head: bool = True

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        path = request.path.split("?")[0]
        if path in self.answers:
            return self.answers[path](request)
        content = self.files.get(path.removeprefix("/closed"))
        status = 404 if content is None else 200
        if path.startswith("/closed") and request.headers["Authorization"] != _basic(WEB_USER, WEB_PASSWORD):
            status = 401
        if request.command == "HEAD" and not self.knows_head:
            status, content = 405, None
        self.send(request, status, content or b"")
        return None

    def send(self, request: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
        request.send_response(status)
        if self.tells:
            request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server of the test's own."""
    web = Web({"/penguins.csv": PENGUINS, "/penguins.parquet": parquet(), "/penguins": PENGUINS})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.answer(self)

        def do_HEAD(self) -> None:
            web.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web.url = f"http://127.0.0.1:{server.server_port}"
        yield web
        server.shutdown()


@dataclass(frozen=True)
class Warehouse:
    """A database `warehouse` with the table penguins: `owner` is its owner's URL, `url` holds no user."""

    owner: str
    url: str

    def run(self, statement: str) -> None:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]
            # Counted when this ends, and not within the usual second.
            connection.execute("SELECT pg_stat_force_next_flush()")


@pytest.fixture(scope="session")
def warehouse(postgresql: str) -> Warehouse:
    """The reader must give a password, and may read what a test grants."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE DATABASE warehouse")
        connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{READERS_PASSWORD}'")  # type: ignore[arg-type]
        [[hba]] = connection.execute("SHOW hba_file").fetchall()
        file = Path(hba)
        file.write_text(f"local all {READER} scram-sha-256\n{file.read_text()}")
        connection.execute("SELECT pg_reload_conf()")
    owner = postgresql.replace("/postgres?", "/warehouse?")
    warehouse = Warehouse(owner, re.sub("//.*?@", "//", owner))
    warehouse.run(
        "CREATE TABLE penguins (species text, island varchar(20), bill_length_mm float8, bill_depth_mm numeric,"
        f" flipper_length_mm real, body_mass_g int, sex char(10), year smallint); GRANT SELECT ON penguins TO {READER}"
    )
    with psycopg.connect(owner) as connection, connection.cursor() as cursor:
        rows = pl.read_csv(BytesIO(PENGUINS), null_values="NA").with_columns(pl.col("body_mass_g").cast(pl.Int64))
        with cursor.copy("COPY penguins FROM STDIN") as copy:
            for row in rows.iter_rows():
                copy.write_row(row)
    return warehouse


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, object_store: ObjectStore) -> None:
    """The settings of an owner who may open all three."""
    monkeypatch.setenv("LOMAS_DATA_DIR", str(tmp_path / "data"))
    for name, value in credential_variables(object_store).items():
        monkeypatch.setenv(name, value)


def credential_variables(object_store: ObjectStore) -> dict[str, str]:
    """The environment variables that open the three servers."""
    return {
        "LOMAS_CREDENTIALS__MINIO__ACCESS_KEY_ID": object_store.reader[0],
        "LOMAS_CREDENTIALS__MINIO__SECRET_ACCESS_KEY": object_store.reader[1],
        "LOMAS_CREDENTIALS__WAREHOUSE__USERNAME": READER,
        "LOMAS_CREDENTIALS__WAREHOUSE__PASSWORD": READERS_PASSWORD,
        "LOMAS_CREDENTIALS__WEB__USERNAME": WEB_USER,
        "LOMAS_CREDENTIALS__WEB__PASSWORD": WEB_PASSWORD,
    }

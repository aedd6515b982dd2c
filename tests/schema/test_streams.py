"""Subscriptions by graphql-transport-ws and graphql-sse: who is let in, what is told, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets.exceptions
import websockets.sync.client
from sqlmodel import col, select

from lomas_gql.app import create_app
from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.schema.ids import opaque
from lomas_gql.schema.limits import MAX_SUBSCRIPTIONS
from lomas_gql.services import ledger
from lomas_gql.services.leases import lease_of_this_process
from lomas_gql.services.ledger import Reservation
from lomas_gql.settings import Settings
from tests.conftest import Client, Server, new_server
from tests.test_long_work import SUBMIT, followed, synth
from tests.test_main_path import EXECUTE, sql

CLIENTS = Path(__file__).parent.parent / "clients"
FOLLOW = "subscription($id: ID!) { release(id: $id) { status } }"
LISTED = "https://dashboard.example.org"


@contextmanager
def conversation(client: Client, **options: Any) -> Iterator[websockets.sync.client.ClientConnection]:
    """A connection by graphql-transport-ws that has said who it is."""
    url = client.url.replace("http", "ws") + "/graphql"
    with websockets.sync.client.connect(url, subprotocols=["graphql-transport-ws"], **options) as connection:  # type: ignore[list-item]
        payload = {"authorization": f"Bearer {client.token}"} if client.token else {}
        connection.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert json.loads(connection.recv(30)) == {"type": "connection_ack"}
        yield connection


def subscribe(connection: websockets.sync.client.ClientConnection, name: str, query: str, **variables: Any) -> None:
    payload = {"query": query, "variables": variables}
    connection.send(json.dumps({"id": name, "type": "subscribe", "payload": payload}))


def told(connection: websockets.sync.client.ClientConnection, until: str = "complete") -> list[dict[str, Any]]:
    """The messages up to one of that type."""
    messages = []
    while not messages or messages[-1]["type"] != until:
        messages.append(json.loads(connection.recv(30)))
    return messages


def events(client: Client, query: str, **more: Any) -> list[tuple[str, Any]]:
    """What a server sends as Server-Sent Events, to the end of the stream."""
    headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {client.token}"} if client.token else {})
    answer = httpx.post(f"{client.url}/graphql", json={"query": query, **more}, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [
        block for block in answer.text.replace("\r\n", "\n").split("\n\n") if block and not block.startswith(":")
    ]
    parsed = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(event["event"], json.loads(event["data"]) if event.get("data") else None) for event in parsed]


def running_release(server: Server, client: Client) -> str:
    """A release of the client's that runs for as long as the test: nobody works on it."""

    async def reserve(database: Database) -> str:
        async with database.reading() as session:
            penguin = (await session.exec(select(Dataset).where(Dataset.name == "PENGUIN"))).one()
            newest = select(Grant).where(Grant.dataset_id == penguin.id).order_by(col(Grant.user_id).desc())
            user_id = (await session.exec(newest)).first().user_id  # type: ignore[union-attr]
        cost = PrivacyLoss.declared("0.1", "0")
        reservation = Reservation(user_id, penguin.id, "OPENDP", cost, {}, "digest", None)
        lease = lease_of_this_process("elsewhere", 3600)
        return opaque("Release", (await ledger.reserve(database, reservation, lease, 1)).id)

    return str(server.run(reserve))


@pytest.mark.skipif(
    shutil.which("node") is None or not (CLIENTS / "node_modules" / "graphql-sse").exists(),
    reason="Node or its packages are not here: make clients",
)
def test_a_client_in_javascript_follows_a_run_by_server_sent_events(server: Server) -> None:
    client = server.user()
    release = client.data(SUBMIT, synth("AIM"))["submit"]["release"]
    command = ["node", "follow-sse.js", f"{server.url}/graphql", str(client.token), release["id"]]
    ended = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    statuses = ended.stdout.split()
    assert (statuses[0], statuses[-1]) == ("RUNNING", "RELEASED")


def test_an_ended_release_is_told_once_and_the_subscription_completes(server: Server) -> None:
    client = server.user()
    answer = client.data(EXECUTE, sql("SELECT COUNT(*) AS n FROM df"))["execute"]
    once = {"data": {"release": {"status": "RELEASED"}}}
    id = answer["release"]["id"]
    assert events(client, FOLLOW, variables={"id": id}) == [("next", once), ("complete", None)]
    assert asyncio.run(followed(client, id)) == [{"status": "RELEASED", "progress": None, "phase": None}]


def test_mistakes_are_told_in_the_stream_that_was_asked_for(server: Server) -> None:
    nobody = Client(server.url, None)
    for query, code in ((FOLLOW, "UNAUTHENTICATED"), ("{", "BAD_USER_INPUT"), ("{ nope }", "BAD_USER_INPUT")):
        (first, result), (last, _) = events(nobody, query, variables={"id": "x"})
        assert (first, last) == ("next", "complete")
        assert result["errors"][0]["extensions"]["code"] == code
    assert events(nobody, "{ viewer { id } }")[0] == ("next", {"data": {"viewer": None}})


def test_a_mutation_cannot_be_streamed_by_get(server: Server) -> None:
    params = {"query": "mutation { __typename }"}
    answer = httpx.get(f"{server.url}/graphql", params=params, headers={"Accept": "text/event-stream"})
    assert "MUTATION_NOT_ALLOWED" in answer.text
    assert '"data"' not in answer.text


def test_a_document_over_a_limit_is_refused_on_a_websocket_too(server: Server) -> None:
    documents = {
        "MAX_MUTATIONS_EXCEEDED": "mutation {" + "__typename " * 6 + "}",
        "MAX_TOKENS_EXCEEDED": "{" + "a " * 5_000 + "}",
        "BAD_REQUEST": "query A { __typename } mutation B { __typename }",
    }
    with conversation(Client(server.url, None)) as connection:
        for code, document in documents.items():
            subscribe(connection, code, document)
            [message] = told(connection, until="error")
            assert (message["id"], message["payload"][0]["extensions"]["code"]) == (code, code)
        subscribe(connection, "last", "{ serverState { live } }")
        assert told(connection)[0]["payload"] == {"data": {"serverState": {"live": True}}}


def test_one_subscription_more_than_allowed_is_refused_and_the_others_go_on(server: Server) -> None:
    client = server.user()
    id = running_release(server, client)
    with conversation(client) as connection:
        for number in range(MAX_SUBSCRIPTIONS):
            subscribe(connection, str(number), FOLLOW, id=id)
        states = [json.loads(connection.recv(30)) for _ in range(MAX_SUBSCRIPTIONS)]
        assert {state["payload"]["data"]["release"]["status"] for state in states} == {"RUNNING"}
        subscribe(connection, "more", FOLLOW, id=id)
        [refused] = told(connection, until="error")
        assert refused["payload"][0]["extensions"]["code"] == "MAX_SUBSCRIPTIONS_EXCEEDED"
        connection.send(json.dumps({"id": "0", "type": "complete"}))
        subscribe(connection, "more", FOLLOW, id=id)
        assert told(connection, until="next")[0]["id"] == "more"


def test_a_websocket_that_does_not_say_who_it_is_is_closed(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/graphql"
    with (
        websockets.sync.client.connect(url, subprotocols=["graphql-transport-ws"]) as silent,  # type: ignore[list-item]
        pytest.raises(websockets.exceptions.ConnectionClosed) as ended,
    ):
        silent.recv(30)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 4408


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lists an origin."""
    server = new_server(tmp_path_factory.mktemp("listing"), LOMAS_CORS_ORIGINS=f"{LISTED}, http://localhost:3000")
    server.start()
    yield server
    server.stop()


def test_websockets_are_for_no_origin_for_our_own_and_for_the_listed_ones(server: Server, listing: Server) -> None:
    for at, origins in (
        (server, [None, server.url]),
        (listing, [None, listing.url, LISTED, "http://localhost:3000"]),
    ):
        for origin in origins:
            with conversation(Client(at.url, None), origin=origin):
                pass
    foreign = "https://evil.example.org"
    for at, origins in ((server, [foreign, LISTED, "null"]), (listing, [foreign, "null", LISTED + ".evil.org"])):
        for origin in origins:
            with (
                pytest.raises(websockets.exceptions.InvalidStatus) as refused,
                conversation(Client(at.url, None), origin=origin),
            ):
                pass
            assert refused.value.response.status_code == 403


def test_pages_of_listed_origins_alone_may_read_answers(server: Server, listing: Server) -> None:
    def asked(at: Server, origin: str) -> tuple[httpx.Response, httpx.Response]:
        wanted = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        before = httpx.options(f"{at.url}/graphql", headers={"Origin": origin} | wanted)
        return before, httpx.post(f"{at.url}/graphql", json={"query": "{ __typename }"}, headers={"Origin": origin})

    before, answer = asked(listing, LISTED)
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == LISTED
    assert {"authorization", "content-type"} <= set(
        before.headers["access-control-allow-headers"].lower().split(", ")
    )
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert "access-control-allow-credentials" not in answer.headers
    for at, origin in ((listing, "https://evil.example.org"), (server, LISTED)):
        before, answer = asked(at, origin)
        assert before.status_code in {400, 405}
        assert "access-control-allow-origin" not in before.headers
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origins", ["*", "dashboard.example.org", "https://a.example.org/path", "https://A.example.org"]
)
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Settings(cors_origins=origins)


@contextmanager
def in_this_process(server: Server) -> Iterator[asyncio.AbstractEventLoop]:
    """The same server in a thread, so that a test can look into its event loop."""
    app = create_app(Settings(data_dir=server.data_dir, database_url=""))
    served = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning", ws="websockets-sansio"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(served.serve()))
    thread.start()
    while not served.started:
        time.sleep(0.01)
    server.port = served.servers[0].sockets[0].getsockname()[1]
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(app.state.runtime.database.close(), loop).result(30)
        served.should_exit = served.force_exit = True
        thread.join(30)
        loop.close()


def tasks(loop: asyncio.AbstractEventLoop) -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return asyncio.run_coroutine_threadsafe(count(), loop).result(30)


def test_clients_that_drop_out_leave_no_task_behind(tmp_path: Path) -> None:
    server = new_server(tmp_path)
    with in_this_process(server) as loop:
        client = server.user()
        id = running_release(server, client)
        before = tasks(loop)
        body = json.dumps({"query": FOLLOW, "variables": {"id": id}})
        head = {"Host": "x", "Content-Type": "application/json", "Accept": "text/event-stream"}
        head |= {"Authorization": f"Bearer {client.token}", "Content-Length": str(len(body))}
        lines = ["POST /graphql HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", body]
        streams = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for stream in streams:
            stream.sendall("\r\n".join(lines).encode())
            while b"RUNNING" not in stream.recv(65_536):
                pass
        with conversation(client) as polite, conversation(client) as rude:
            for number in range(5):
                for connection in (polite, rude):
                    subscribe(connection, str(number), FOLLOW, id=id)
            for connection in (polite, rude):
                for _ in range(5):
                    assert "RUNNING" in str(connection.recv(30))
            assert tasks(loop) >= before + 15
            rude.socket.shutdown(socket.SHUT_RDWR)
            for stream in streams:
                stream.close()
        deadline = time.monotonic() + 30
        while tasks(loop) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert tasks(loop) == before

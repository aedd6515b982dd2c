"""A server whose queues are full says so before it charges, and shows how full they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, Server, new_server
from tests.schema.test_errors import COUNT, ask
from tests.test_long_work import synth
from tests.test_main_path import sql

POOLS = "{ serverState { privateWorkers { ...P } publicWorkers { ...P } } } fragment P on WorkerPool { workers running waiting capacity }"
FREE = {"workers": 1, "running": 0, "waiting": 0, "capacity": 2}
BUDGET = '{ dataset(name: "PENGUIN") { budget { spent { epsilon } } history(first: 5) { totalCount } } }'


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker of each kind, and one call that may wait for it."""
    server = new_server(
        tmp_path_factory.mktemp("narrow"), LOMAS_QUEUE_LENGTH="1", LOMAS_PRIVATE_WORKERS="1", LOMAS_PUBLIC_WORKERS="1"
    )
    server.start()
    yield server
    server.stop()


def pools(server: Server) -> dict[str, Any]:
    return Client(server.url, None).data(POOLS)["serverState"]  # type: ignore[no-any-return]


def test_a_query_that_finds_no_place_is_refused_for_free(narrow: Server) -> None:
    first, second, third = (narrow.user() for _ in range(3))
    for client in (first, second):
        submit = "mutation($input: DpQueryInput!) { submit(input: $input) { ... on Submitted { release { id } } } }"
        assert client.data(submit, synth("AIM"))["submit"]["release"]
    assert pools(narrow)["privateWorkers"] == FREE | {"running": 1, "waiting": 1}
    for mutation in ("execute", "submit"):
        refused = ask(third, mutation, sql(COUNT))
        assert (refused["__typename"], refused["code"]) == ("ServerBusy", "SERVER_BUSY")
    assert third.data(BUDGET)["dataset"] == {"budget": {"spent": {"epsilon": 0.0}}, "history": {"totalCount": 0}}
    for client in (first, second):
        running = client.data("{ viewer { ongoing { id } } }")["viewer"]["ongoing"]["id"]
        client.data("mutation($id: ID!) { cancel(release: $id) { __typename } }", {"id": running})
    deadline = time.monotonic() + 60
    while pools(narrow)["privateWorkers"] != FREE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pools(narrow) == {"privateWorkers": FREE, "publicWorkers": FREE}
    assert ask(third, "execute", sql(COUNT))["__typename"] == "Executed"


def test_of_the_fields_of_one_request_those_that_find_no_place_have_an_error(narrow: Server) -> None:
    dummies = " ".join(f"d{number}: dummy(rows: {number}) {{ rowCount }}" for number in range(1, 6))
    answer = narrow.user().post(f'{{ dataset(name: "PENGUIN") {{ {dummies} }} }}').json()
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"SERVER_BUSY"}
    assert Path(narrow.data_dir / "server.log").read_text().count("Traceback") == 0
    assert narrow.user().data('{ dataset(name: "PENGUIN") { dummy(rows: 3) { rowCount } } }')["dataset"]["dummy"]

"""Servers that really die."""

from __future__ import annotations

import random
import threading
import time

import httpx

from tests.conftest import Client, Server
from tests.test_main_path import BUDGET, EXECUTE, sql

COUNT = "SELECT COUNT(*) AS n FROM df"


def test_every_answered_query_is_charged_after_kill_9(own_server: Server) -> None:
    own_server.start()
    clients = [own_server.user(epsilon="100") for _ in range(4)]
    answered = [0] * len(clients)

    def keep_asking(index: int, client: Client) -> None:
        try:
            while True:
                outcome = client.data(EXECUTE, sql(COUNT, 0.5))["execute"]
                answered[index] += outcome["__typename"] == "Executed"
        except (httpx.HTTPError, ValueError):
            return  # the server is gone

    for _ in range(2):
        threads = [threading.Thread(target=keep_asking, args=(i, c)) for i, c in enumerate(clients)]
        for thread in threads:
            thread.start()
        before, deadline = sum(answered), time.monotonic() + 60
        while sum(answered) < before + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        # At a moment that is not always the same one within a query.
        time.sleep(random.uniform(0, 0.1))
        own_server.kill()
        for thread in threads:
            thread.join()
        own_server.start()
        for client in clients:
            client.url = own_server.url
    assert sum(answered) >= 8
    for client, answers in zip(clients, answered, strict=True):
        dataset = client.data(BUDGET.replace("history {", "history(first: 100) {"))["dataset"]
        statuses = [node["status"] for node in dataset["history"]["nodes"]]
        charged = dataset["budget"]["spent"]["epsilon"] / 0.5
        assert answers <= statuses.count("RELEASED") <= answers + 3  # released, but killed before it could be sent
        assert set(statuses) <= {"RELEASED", "INTERRUPTED"}
        assert charged == len(statuses)
        # Nobody is locked out by what the dead server left running.
        assert client.data(EXECUTE, sql(COUNT, 0.5))["execute"]["__typename"] == "Executed"

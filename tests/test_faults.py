"""Servers that really die."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from lomas_gql.services import administration
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


def test_a_cap_over_all_users_holds_on_three_servers(own_server: Server) -> None:
    servers = [own_server, *(Server(own_server.data_dir, own_server.options) for _ in range(2))]
    try:
        for server in servers:
            server.start()
        own_server.run(lambda database: administration.cap(database, "PENGUIN", {"epsilon": "5"}))
        clients = [own_server.user(epsilon="100") for _ in range(20)]
        outcomes: list[str] = []

        def ask(index: int) -> None:
            client = Client(servers[index % 3].url, clients[index % 20].token)
            for _ in range(100):
                outcome = client.data(EXECUTE, sql(COUNT, 0.1))["execute"]["__typename"]
                if outcome != "QueryOngoing":
                    outcomes.append(outcome)
                    return

        with ThreadPoolExecutor(12) as threads:
            list(threads.map(ask, range(200)))
        assert (outcomes.count("Executed"), outcomes.count("BudgetExceeded")) == (50, 150)
        dataset, grants = own_server.run(lambda database: administration.dataset_and_grants(database, "PENGUIN"))
        assert dataset.spent_epsilon == dataset.cap_epsilon == sum(grant.spent_epsilon for _, grant in grants)
    finally:
        for server in servers[1:]:
            server.stop()

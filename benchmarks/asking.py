"""A client of a server, and closed loops of many."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

Query = dict[str, Any]
IDLE_SECONDS = 2
"""After five the server hangs up on a connection that nothing comes over."""

_EXECUTE = """mutation($input: DpQueryInput!) {
  execute(input: $input) { __typename ... on UserError { code message } } }"""
_ESTIMATE = """mutation($input: DpQueryInput!) {
  estimateCost(input: $input) { __typename ... on UserError { code message } } }"""


class Refused(Exception):
    """The server answered, but not with what was asked for."""


class Client:
    """One connection that is kept alive. http.client costs less than the server does, so that it does not count."""

    def __init__(self, url: str, token: str) -> None:
        self.connection = HTTPConnection(url.removeprefix("http://"), timeout=900)
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        self.answered = 0.0

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables})
        if time.monotonic() > self.answered + IDLE_SECONDS:
            self.connection.close()  # The next request opens it again.
        self.connection.request("POST", "/graphql", body, self.headers)
        answer = json.loads(self.connection.getresponse().read())
        self.answered = time.monotonic()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def execute(self, dataset: str, query: Query) -> None:
        """A release: priced, tried on dummy rows, charged, run, written to the history.

        Raises:
            Refused: it did not come to an answer.
        """
        self._sent(_EXECUTE, "execute", "Executed", dataset, query)

    def estimate(self, dataset: str, query: Query) -> None:
        """The price of a query.

        Raises:
            Refused: it has none.
        """
        self._sent(_ESTIMATE, "estimateCost", "Estimate", dataset, query)

    def _sent(self, mutation: str, field: str, wanted: str, dataset: str, query: Query) -> None:
        answer = self.ask(mutation, {"input": {"dataset": dataset, "query": query}})[field]
        if answer["__typename"] != wanted:
            raise Refused(f"{answer['code']}: {answer['message']}")


def rate(calls: Sequence[Callable[[], object]], seconds: float) -> tuple[float, list[float]]:
    """Calls per second of closed loops, a thread each, which call again when they have their answer; milliseconds."""
    ready = threading.Barrier(len(calls))

    def keep_calling(call: Callable[[], object]) -> tuple[float, float, list[float]]:
        try:
            call()
        except BaseException:
            # The others must not wait for this one.
            ready.abort()
            raise
        ready.wait()
        began = time.perf_counter()
        return (began, *repeated(call, began + seconds))

    with ThreadPoolExecutor(len(calls)) as pool:
        begun = [pool.submit(keep_calling, call) for call in calls]
    # The reason before the barriers that it broke.
    failed = [error for loop in begun if (error := loop.exception())]
    for error in sorted(failed, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    loops = [loop.result() for loop in begun]
    taken = [each for _, _, times in loops for each in times]
    return len(taken) / (max(ended for _, ended, _ in loops) - min(began for began, _, _ in loops)), taken


def repeated(call: Callable[[], object], until: float) -> tuple[float, list[float]]:
    """When the last call ended that began before `until`, and how many milliseconds each took."""
    taken: list[float] = []
    began = time.perf_counter()
    while began < until:
        call()
        ended = time.perf_counter()
        taken.append((ended - began) * 1000)
        began = ended
    return began, taken

"""A small query against a bare Starlette endpoint that returns the same JSON: requests per second, as ratios.

    make bench

Both stand in uvicorn with the same options, one process each. They are asked in turn, by the same client over the
same number of connections, so that a change in the machine's speed meets both. Ends with 1 below `--least`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
import uvloop
from serving import Serving, set_up
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

STATE = "{ serverState { live } }"
VIEWER = "{ viewer { name } }"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one round of one kind")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--least", type=float, default=0.25, help="smallest ratio of the query that needs no sign-in")
    parser.add_argument("--bare", type=int, metavar="PORT", help="only serve the bare endpoint")
    options = parser.parse_args()
    if options.bare is not None:
        serve_bare(options.bare)
        return
    with tempfile.TemporaryDirectory() as folder:
        token = asyncio.run(set_up(Path(folder)))
        worst = compare(Path(folder), token, options)
    sys.exit(worst < options.least)


def compare(folder: Path, token: str, options: argparse.Namespace) -> float:
    """Prints the table; the smallest ratio of the queries that need no sign-in."""
    bare_command = (sys.executable, __file__, "--bare")
    with Serving(folder) as ours, Serving(folder, *bare_command) as bare:

        def load(url: str, query: str, secret: str | None) -> Callable[[], float]:
            return lambda: uvloop.run(throughput(url, query, secret, options.seconds, options.connections))

        kinds = {
            "bare Starlette": load(bare, STATE, None),
            STATE: load(ours, STATE, None),
            f"{STATE}, with a token": load(ours, STATE, token),
            f"{VIEWER}, signed in": load(ours, VIEWER, token),
        }
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind, rate in kinds.items():
                rates[kind].append(rate())
    medians = {kind: statistics.median(found) for kind, found in rates.items()}
    print(f"{options.connections} connections, medians of {options.rounds} rounds of {options.seconds} s\n")
    print("| asked | requests / s | of bare |\n|---|---|---|")
    of_bare = {kind: median / medians["bare Starlette"] for kind, median in medians.items()}
    for kind, median in medians.items():
        print(f"| `{kind}` | {median:.0f} | {of_bare[kind]:.2f} |")
    return min(ratio for kind, ratio in of_bare.items() if kind.startswith(STATE))


async def throughput(url: str, query: str, token: str | None, seconds: float, connections: int) -> float:
    """Requests per second of a closed loop: each connection asks again when it has its answer."""
    address, message = urlsplit(url), request(url, query, token)
    ends = time.perf_counter() + seconds
    answered = 0

    async def keep_asking() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while time.perf_counter() < ends:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            assert b" 200 " in head, head
            assert b"errors" not in body, body
            answered += 1
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    return answered / (time.perf_counter() - began)


def request(url: str, query: str, token: str | None) -> bytes:
    body = json.dumps({"query": query})
    head = [
        "POST /graphql HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    return "\r\n".join([*head, "", body]).encode()


def serve_bare(port: int) -> None:
    async def answer(_: Request) -> JSONResponse:
        return JSONResponse({"data": {"serverState": {"live": True}}})

    async def healthz(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    app = Starlette(routes=[Route("/graphql", answer, methods=["POST"]), Route("/healthz", healthz)])
    uvicorn.run(app, port=port, log_level="info", access_log=False, server_header=False)


if __name__ == "__main__":
    main()

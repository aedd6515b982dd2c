"""Hostile requests against a server of its own: how each is answered, and after how many milliseconds.

    make bench

Ends with 1 where one is answered otherwise than it must be, or later than `--most` milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx
from probes import STATE, Probe, probes
from serving import Serving, set_up

SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=float, default=1_500, help="milliseconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        headers = {"Authorization": f"Bearer {asyncio.run(set_up(Path(folder)))}"}
        with Serving(Path(folder)) as url, httpx.Client(timeout=60, headers=headers) as client:
            outcomes = [(sent(client, url, probe), probe) for probe in probes()]
            live = client.post(f"{url}/graphql", json={"query": STATE}).json()
    print(f"The slowest of {len(outcomes)} requests, and those that were not answered as they should be.\n")
    print("| request | status | code | ms |\n|---|---|---|---|")
    bad = live != {"data": {"serverState": {"live": True}}}
    ranked = sorted(outcomes, key=lambda outcome: -outcome[0][0])
    for place, ((milliseconds, status, code), probe) in enumerate(ranked):
        wrong = status != probe.status or (probe.code not in (code, "*")) or milliseconds > options.most
        bad |= wrong
        if wrong or place < SHOWN:
            print(f"| {probe.name} | {status} | {code} | {milliseconds:.0f} |{' !!' if wrong else ''}")
    sys.exit(bad)


def sent(client: httpx.Client, url: str, probe: Probe) -> tuple[float, int, str | None]:
    began = time.perf_counter()
    answer = client.request(probe.method, url + probe.url, content=probe.body, headers=probe.headers)
    milliseconds = (time.perf_counter() - began) * 1000
    return milliseconds, answer.status_code, code_of(answer)


def code_of(answer: httpx.Response) -> str | None:
    """The code of the first error; None where there is none."""
    errors = answer.json().get("errors")
    return str(errors[0]["extensions"]["code"]) if errors else None


if __name__ == "__main__":
    main()

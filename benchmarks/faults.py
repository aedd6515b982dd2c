"""Faults in large numbers, and what the ledger made of them: `make faults`.

Clients ask without a pause while the server, or PostgreSQL, is killed or away. After each round every answer that a
client received must stand in the history as RELEASED and be charged, no user may stay locked, and the audit of the
database must pass. The tests do the same in small numbers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import faults
from tests.conftest import Server, new_server
from tests.faults import Asker
from tests.own_databases import OwnPostgres, OwnSqlite

ASKERS = 6
KINDS = ("SQLite", "PostgreSQL")
Round = Callable[[Server, OwnSqlite | OwnPostgres, Sequence[Asker]], list[str]]


@dataclass(frozen=True)
class Row:
    """What a number of rounds came to."""

    fault: str
    rounds: int
    received: int
    charged: int
    interrupted: int
    refused: int
    longest_lock: float
    findings: list[str]
    seconds: float

    def __str__(self) -> str:
        return (
            f"| {self.fault} | {self.rounds} | {self.received} | {self.charged} | {self.interrupted} "
            f"| {self.refused} | {self.longest_lock:.1f} | {len(self.findings)} | {self.seconds:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-rounds", type=int, default=100, help="kill -9 of the server, on each database")
    parser.add_argument("--postgresql-rounds", type=int, default=20, help="kill -9 of PostgreSQL")
    parser.add_argument("--away", type=float, default=10, help="seconds for which the database is away")
    parser.add_argument("--database", choices=KINDS, action="append", help="one of them alone")
    options = parser.parse_args()

    def away(server: Server, database: OwnSqlite | OwnPostgres, askers: Sequence[Asker]) -> list[str]:
        return faults.take_away(server, askers, database.away(), options.away)

    def frozen(server: Server, database: OwnSqlite | OwnPostgres, askers: Sequence[Asker]) -> list[str]:
        return faults.take_away(server, askers, database.frozen(), options.away)

    def kill_server(server: Server, _: object, askers: Sequence[Asker]) -> list[str]:
        return faults.kill_server(server, askers)

    plan: list[tuple[str, str, Round, int]] = [
        ("SQLite", f"write lock held for {options.away:g} s", away, 1),
        ("SQLite", "kill -9 of the server", kill_server, options.server_rounds),
        ("PostgreSQL", f"stopped for {options.away:g} s", away, 1),
        ("PostgreSQL", f"frozen for {options.away:g} s", frozen, 1),
        ("PostgreSQL", "kill -9 of PostgreSQL", faults.kill_postgresql, options.postgresql_rounds),
        ("PostgreSQL", "kill -9 of the server", kill_server, options.server_rounds),
    ]
    print(
        "| fault | rounds | answers received | charged | interrupted or failed | refused while away "
        "| longest lock-out (s) | findings | took (s) |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    for kind in options.database or KINDS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            rows += on_one_database(kind, Path(folder), [(f, r, n) for k, f, r, n in plan if k == kind])
    for row in rows:
        for finding in row.findings:
            print(f"{row.fault}: {finding}")
    sys.exit(any(row.findings for row in rows))


def on_one_database(kind: str, folder: Path, plan: Sequence[tuple[str, Round, int]]) -> list[Row]:
    """All faults of one kind of database, on one server that is started anew where it was killed."""
    database = OwnSqlite(folder / "lomas.db") if kind == "SQLite" else OwnPostgres(folder)
    server = new_server(folder, LOMAS_DATABASE_URL=database.url, **faults.LIGHT)
    rows = []
    try:
        server.start()
        for fault, play, rounds in plan:
            rows.append(repeated(f"{kind}: {fault}", play, rounds, server, database))
            print(rows[-1], flush=True)
    finally:
        server.stop()
        database.cleanup()
    return rows


def repeated(fault: str, play: Round, rounds: int, server: Server, database: OwnSqlite | OwnPostgres) -> Row:
    """A fault so many times, with clients of its own; it ends at the first findings."""
    askers = faults.askers_of(server, ASKERS)
    began, findings, played = time.monotonic(), [], 0
    while played < rounds and not findings:
        try:
            findings = play(server, database, askers)
        except AssertionError as error:
            # A server that does not come back, or is waited for in vain.
            findings = [repr(error)]
        played += 1
    return Row(
        fault=fault,
        rounds=played,
        received=sum(len(asker.received) for asker in askers),
        charged=faults.charged(server, askers),
        interrupted=sum(asker.failed for asker in askers),
        refused=faults.total(askers, "DATABASE_UNAVAILABLE"),
        longest_lock=max(asker.locked for asker in askers),
        findings=findings,
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()

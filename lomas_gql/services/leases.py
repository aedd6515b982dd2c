"""Leases: which server runs a release, and what becomes of it when that server dies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psutil
from sqlalchemy import update
from sqlmodel import col, select

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release, ReleaseStatus, now

INTERRUPTED = "The server stopped while the query ran. It was charged; nothing was released."


@dataclass(frozen=True)
class Lease:
    """The process that runs a release, and how long its word lasts without renewal."""

    server: str
    seconds: float

    def until(self) -> datetime:
        return now() + timedelta(seconds=self.seconds)


def lease_of_this_process(host: str, seconds: float) -> Lease:
    """A lease that names this very process: a later one with the same number started at another time."""
    process = psutil.Process()
    return Lease(f"{host}:{process.pid}:{process.create_time():.2f}", seconds)


async def interrupt_dead(database: Database, lease: Lease) -> int:
    """Settles as INTERRUPTED, and charged, what dead servers left running. Returns how many.

    A server is dead when its lease has run out, or when it is a process of this host that no longer exists.
    """
    host = lease.server.partition(":")[0]
    async with database.reading() as session:
        running = (await session.exec(select(Release).where(Release.status == ReleaseStatus.RUNNING.value))).all()
    dead = [r for r in running if r.lease_until <= now() or (_is_of(host, r) and not _is_alive(r.server))]
    for release in dead:
        await _interrupt(database, release)
    return len(dead)


async def renew(database: Database, lease: Lease, release_ids: list[int]) -> None:
    """Prolongs this server's lease on what it is running; what it has lost sight of runs out."""
    if not release_ids:
        return
    mine = update(Release).where(
        col(Release.id).in_(release_ids),
        col(Release.server) == lease.server,
        col(Release.status) == ReleaseStatus.RUNNING.value,
    )
    async with database.writing() as session:
        await session.exec(mine.values(lease_until=lease.until()))


async def _interrupt(database: Database, release: Release) -> None:
    # Still the lease that was seen: one renewed meanwhile is alive.
    dead = update(Release).where(
        col(Release.id) == release.id,
        col(Release.status) == ReleaseStatus.RUNNING.value,
        col(Release.lease_until) == release.lease_until,
    )
    async with database.writing() as session:
        await session.exec(dead.values(**Release.ended(ReleaseStatus.INTERRUPTED), failure=INTERRUPTED))


def _is_of(host: str, release: Release) -> bool:
    return release.server.partition(":")[0] == host


def _is_alive(server: str) -> bool:
    _, pid, started = server.rsplit(":", 2)
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False

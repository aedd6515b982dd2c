"""Leases: which server runs a release, and how one knows that it has died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psutil
from sqlalchemy import update
from sqlmodel import col

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release, ReleaseStatus, now


@dataclass(frozen=True)
class Lease:
    """The process that runs a release, and within how many seconds of its death its users can go on."""

    server: str
    seconds: float

    @property
    def beat(self) -> float:
        """How often it is renewed, and the dead are looked for, in seconds."""
        return self.seconds / 10

    def until(self) -> datetime:
        """Until when its word lasts without renewal: a beat passes at most before another server notices."""
        return now() + timedelta(seconds=self.seconds - self.beat)


def lease_of_this_process(host: str, seconds: float) -> Lease:
    """A lease that names this very process: a later one with the same number started at another time."""
    process = psutil.Process()
    return Lease(f"{host}:{process.pid}:{process.create_time():.2f}", seconds)


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


def is_dead_process_here(server: str, lease: Lease) -> bool:
    """Whether a server was a process of this host that no longer exists."""
    host, pid, started = server.rsplit(":", 2)
    if host != lease.server.rsplit(":", 2)[0]:
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True

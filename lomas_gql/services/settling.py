"""How releases end. A release ends once: what comes later finds it ended, and its answer must not leave."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.auth import Viewer
from lomas_gql.database import chain
from lomas_gql.database.engine import Database, rows_changed
from lomas_gql.database.models import AuditKind, FittedModel, Release, ReleaseStatus, now
from lomas_gql.errors import CANCELLED, INTERRUPTED
from lomas_gql.libraries.base import Answer
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import audit, leases, ledger
from lomas_gql.services.leases import Lease


async def settle(database: Database, release: Release, lease: Lease, answer: Answer) -> bool:
    """Stores the answer and ends the release. False where it is no longer ours: the answer must not leave."""
    async with database.writing() as session:
        ours = (col(Release.server) == lease.server,)
        return await _end(session, release.id, ReleaseStatus.RELEASED, _serving(lease), *ours, answer=answer)


async def fail(
    database: Database,
    release: Release,
    lease: Lease,
    reason: str,
    spent: PrivacyLoss | None = None,
    kept: Answer | None = None,
) -> None:
    """Ends the release without what was asked for. The charge stays; where more was `spent`, that is charged.

    `kept` is what was released all the same: a model that no row could be sampled from.
    """
    ours = (col(Release.server) == lease.server,)
    async with database.writing() as session:
        if spent is not None:
            await ledger.charge_more(session, release, spent, _serving(lease))
        await _end(session, release.id, ReleaseStatus.FAILED, _serving(lease), *ours, answer=kept, failure=reason)


async def cancel(database: Database, viewer: Viewer, release_id: int) -> bool:
    """Ends a running release of the viewer's, on whichever server it runs. False where there is none."""
    mine = (col(Release.user_id) == viewer.id,)
    async with database.writing() as session:
        return await _end(
            session, release_id, ReleaseStatus.CANCELLED, f"user {viewer.name}", *mine, failure=CANCELLED
        )


async def interrupt_dead(database: Database, lease: Lease) -> int:
    """Settles as INTERRUPTED, and charged, what dead servers left running. Returns how many.

    A server is dead when its lease has run out, or when it is a process of this host that no longer exists.
    """
    async with database.reading() as session:
        running = (await session.exec(select(Release).where(Release.status == ReleaseStatus.RUNNING.value))).all()
    dead = [r for r in running if r.lease_until <= now() or leases.is_dead_process_here(r.server, lease)]
    ended = 0
    for release in dead:
        # Still the lease that was seen: one renewed meanwhile is alive.
        unrenewed = (col(Release.lease_until) == release.lease_until,)
        async with database.writing() as session:
            ended += await _end(
                session, release.id, ReleaseStatus.INTERRUPTED, _serving(lease), *unrenewed, failure=INTERRUPTED
            )
    return ended


async def ended_among(database: Database, release_ids: list[int]) -> list[int]:
    """Which of these releases run no more."""
    if not release_ids:
        return []
    ended = select(Release.id).where(
        col(Release.id).in_(release_ids), col(Release.status) != ReleaseStatus.RUNNING.value
    )
    async with database.reading() as session:
        return list((await session.exec(ended)).all())


async def _end(
    session: AsyncSession,
    release_id: int,
    status: ReleaseStatus,
    actor: str,
    *conditions: Any,
    answer: Answer | None = None,
    failure: str | None = None,
) -> bool:
    """Ends a release if it is still running and the conditions hold."""
    running = update(Release).where(
        col(Release.id) == release_id, col(Release.status) == ReleaseStatus.RUNNING.value, *conditions
    )
    stored, model = (answer.to_json(), answer.model) if answer else (None, None)
    # Its slot is free again.
    values = {"status": status.value, "slot": None, "finished_at": now(), "answer": stored, "failure": failure}
    if await rows_changed(session, running.values(**values)) == 0:
        return False
    if model is not None:
        session.add(FittedModel(release_id=release_id, content=model))
    ended = await session.get_one(Release, release_id)
    facts = {"release": release_id, "status": status.value, "outcome": chain.outcome(ended, model)}
    await audit.record(session, AuditKind.RELEASE_ENDED, facts, actor, ended.finished_at)
    return True


def _serving(lease: Lease) -> str:
    return f"server {lease.server}"

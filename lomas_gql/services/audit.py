"""The audit trail: every change of a user, token, dataset, grant or cap, and every release, in a hash chain.

An entry is written in the transaction of the change that it tells of: there is neither without the other.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database import chain
from lomas_gql.database.engine import Database
from lomas_gql.database.models import AuditEntry, AuditHead, AuditKind, Dataset, Grant, Release, User, now
from lomas_gql.privacy import PrivacyLoss


async def record(
    session: AsyncSession,
    kind: AuditKind,
    facts: dict[str, Any],
    actor: str | None = None,
    at: datetime | None = None,
) -> None:
    """Appends an entry. From here to the commit all other writers wait.

    `actor` is the administrator at this machine where nobody else is named.
    """
    await session.flush()
    head = await session.get_one(AuditHead, 1, with_for_update=True)
    at, actor, head.entries = at or now(), actor or administrator(), head.entries + 1
    head.hash = chain.entry_hash(head.hash, head.entries, at, actor, kind.value, facts)
    entry = AuditEntry(id=head.entries, at=at, actor=actor, kind=kind.value, facts=facts, hash=head.hash)
    session.add(entry)
    await session.flush()


async def exported(database: Database, after: int = 0) -> AsyncIterator[dict[str, Any]]:
    """Each entry as JSON, its time in ISO 8601 and UTC, amounts as decimal text."""
    entries = select(AuditEntry).where(col(AuditEntry.id) > after).order_by(col(AuditEntry.id))
    async with database.snapshot() as session:
        async for [entry] in await session.stream(entries.execution_options(yield_per=1000)):
            yield entry.model_dump() | {"at": chain.instant(entry.at)}


def administrator() -> str:
    """Who types a command, as the environment says: a claim, like an author's name in a commit."""
    try:
        return f"administrator {os.environ.get('SUDO_USER') or getpass.getuser()}"
    except (OSError, KeyError, ImportError):  # an account without a name, as in some containers
        return "administrator"


async def record_user(session: AsyncSession, user: User) -> None:
    """Tells who a user is now."""
    await record(session, AuditKind.USER_SET, {"user": user.name, "mayQuery": user.may_query})


async def record_dataset(session: AsyncSession, dataset: Dataset) -> None:
    """Tells which rows and metadata a dataset has now, by their digest."""
    facts = {"dataset": dataset.name, "definition": chain.definition(dataset)}
    await record(session, AuditKind.DATASET_SET, facts)


async def record_grant(session: AsyncSession, user: User, dataset: Dataset, grant: Grant) -> None:
    """Tells what a user may spend on a dataset now."""
    whose = {"user": user.name, "dataset": dataset.name}
    await record(session, AuditKind.GRANT_SET, whose | texts(grant.initial))


async def record_caps(session: AsyncSession, dataset: Dataset) -> None:
    """Tells a dataset's caps now; null where there is none."""
    await record(session, AuditKind.CAP_SET, {"dataset": dataset.name} | caps(dataset))


async def record_charge(session: AsyncSession, user: User, dataset: Dataset, release: Release) -> None:
    """Tells of a release that begins, and what it is charged."""
    facts = {
        "release": release.id,
        "user": user.name,
        "dataset": dataset.name,
        "library": release.library,
        "content": chain.content(release),
    }
    by = f"user {user.name}"
    await record(session, AuditKind.RELEASE_CHARGED, facts | texts(release.cost), by, release.created_at)


def texts(loss: PrivacyLoss) -> dict[str, str]:
    """A privacy loss in facts: exact decimals."""
    return {"epsilon": loss.epsilon_text, "delta": loss.delta_text}


def caps(dataset: Any) -> dict[str, str | None]:
    """A dataset's caps in facts."""
    epsilons = {"epsilon": dataset.cap_epsilon, "queryEpsilon": dataset.query_cap_epsilon}
    deltas = {"delta": dataset.cap_delta, "queryDelta": dataset.query_cap_delta}
    shown = {name: None if units is None else PrivacyLoss(units).epsilon_text for name, units in epsilons.items()}
    return shown | {
        name: None if units is None else PrivacyLoss(0, units).delta_text for name, units in deltas.items()
    }

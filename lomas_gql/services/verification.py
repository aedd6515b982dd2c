"""Verifies the history: its hash chain, and that the tables hold what its entries add up to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database import chain
from lomas_gql.database.engine import Database
from lomas_gql.database.models import (
    AuditEntry,
    AuditHead,
    AuditKind,
    Dataset,
    FittedModel,
    Grant,
    Release,
    ReleaseStatus,
    User,
)
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import audit

PAGE = 200
"""Releases that are read at a time, with their answers and models."""

State: TypeAlias = dict[str, dict[str, Any]]
"""What is true of each user, dataset, grant and release, by its name in words."""

Fact: TypeAlias = tuple[str, dict[str, Any]]


@dataclass
class Verified:
    """How many entries there are, the last one's hash, and a line for each thing that is wrong."""

    entries: int = 0
    head: str = chain.BEGINNING
    findings: list[str] = field(default_factory=list)


async def verify(database: Database, known: str | None = None) -> Verified:
    """Checks every entry's hash, and every budget, cap and release against the entries, as of one moment.

    `known` is the hash of an entry that was noted outside of the database: whoever can write to the database
    could also write a new chain, but not one that leads to that hash.
    """
    found = Verified()
    async with database.snapshot() as session:
        told = await _replayed(session, found, known)
        async for name, actual in _tables(session):
            found.findings += _differences(name, actual, told.pop(name, None))
    found.findings += [f"{name}: is missing, but stands in the history" for name in told]
    return found


async def _replayed(session: AsyncSession, found: Verified, known: str | None) -> State:
    """Follows the chain from its beginning and adds up what its entries tell."""
    told: State = {}
    seen = known is None
    async for entry in audit.entries(session):
        found.findings += _breaks(found, entry)
        found.entries, found.head = entry.id, entry.hash
        seen = seen or entry.hash == known
        try:
            _apply(told, entry)
        except (KeyError, ValueError, TypeError):
            found.findings.append(f"entry {entry.id}: cannot be understood")
    head = await session.get(AuditHead, 1)
    if head is None or (head.entries, head.hash) != (found.entries, found.head):
        ended = f"entry {head.entries}" if head else "nothing"
        found.findings.append(f"the history ends with entry {found.entries}, its end was noted as {ended}")
    if not seen:
        found.findings.append(f"no entry has the hash {known}: the history was rewritten or cut off before it")
    return told


def _breaks(found: Verified, entry: AuditEntry) -> Iterator[str]:
    """What is wrong with an entry and its place behind the last one."""
    if entry.id != found.entries + 1:
        missing = f"entry {found.entries + 1}"
        if entry.id > found.entries + 2:
            missing = f"entries {found.entries + 1} to {entry.id - 1}"
        yield f"{missing}: missing"
        return
    expected = chain.entry_hash(found.head, entry.id, entry.at, entry.actor, entry.kind, entry.facts)
    if entry.hash != expected:
        yield f"entry {entry.id}: was changed, or does not follow from entry {found.entries}"


def _apply(told: State, entry: AuditEntry) -> None:
    facts, nothing = entry.facts, PrivacyLoss()
    match AuditKind(entry.kind):
        case AuditKind.USER_SET:
            told[f"user {facts['user']}"] = {"may query": facts["mayQuery"], "removed": False}
        case AuditKind.USER_REMOVED:
            told[f"user {facts['user']}"]["removed"] = True
        case AuditKind.DATASET_SET:
            new = {"spent": nothing, "caps": NO_CAPS}
            dataset = told.setdefault(f"dataset {facts['dataset']}", new)
            dataset |= {"source and metadata": facts["definition"], "removed": False}
        case AuditKind.DATASET_REMOVED:
            told[f"dataset {facts['dataset']}"]["removed"] = True
        case AuditKind.CAP_SET:
            told[f"dataset {facts['dataset']}"]["caps"] = {name: facts[name] for name in NO_CAPS}
        case AuditKind.GRANT_SET:
            told.setdefault(_grant(facts), {"spent": nothing})["initial"] = _loss(facts)
        case AuditKind.SPENT_ELSEWHERE:
            _charge(told, facts, _loss(facts))
        case AuditKind.RELEASE_CHARGED:
            release = {name: facts[name] for name in ("user", "dataset", "library")}
            running = {"status": ReleaseStatus.RUNNING.value, "outcome": None}
            told[f"release {facts['release']}"] = (
                release
                | running
                | {
                    "query and time": facts["content"],
                    "cost": _loss(facts),
                }
            )
            _charge(told, facts, _loss(facts))
        case AuditKind.RELEASE_CHARGED_MORE:
            release = told[f"release {facts['release']}"]
            release["cost"] += _loss(facts)
            _charge(told, release, _loss(facts))
        case AuditKind.RELEASE_ENDED:
            ended = {"status": facts["status"], "outcome": facts["outcome"]}
            told[f"release {facts['release']}"].update(ended)


NO_CAPS: dict[str, str | None] = dict.fromkeys(("epsilon", "delta", "queryEpsilon", "queryDelta"))


def _grant(facts: dict[str, Any]) -> str:
    return f"grant of {facts['user']} on {facts['dataset']}"


def _loss(facts: dict[str, Any]) -> PrivacyLoss:
    return PrivacyLoss.declared(facts["epsilon"], facts["delta"])


def _charge(told: State, facts: dict[str, Any], loss: PrivacyLoss) -> None:
    for account in (told[_grant(facts)], told[f"dataset {facts['dataset']}"]):
        account["spent"] += loss


def _differences(name: str, actual: dict[str, Any], told: dict[str, Any] | None) -> Iterator[str]:
    if told is None:
        yield f"{name}: does not stand in the history"
        return
    for fact, value in actual.items():
        if value != told.get(fact):
            yield f"{name}: {fact} is {_shown(value)}, the history says {_shown(told.get(fact))}"


def _shown(value: Any) -> str:
    if isinstance(value, PrivacyLoss):
        return f"epsilon {value.epsilon_text}, delta {value.delta_text}"
    return str(value)


async def _tables(session: AsyncSession) -> AsyncIterator[Fact]:
    """The same facts as the tables hold them."""
    users = {user.id: user for user in await session.exec(select(User))}
    datasets = {dataset.id: dataset for dataset in await session.exec(select(Dataset))}
    for user in users.values():
        yield f"user {user.name}", {"may query": user.may_query, "removed": user.removed_at is not None}
    for dataset in datasets.values():
        yield (
            f"dataset {dataset.name}",
            {
                "spent": PrivacyLoss(dataset.spent_epsilon, dataset.spent_delta),
                "caps": audit.caps(dataset),
                "source and metadata": chain.definition(dataset),
                "removed": dataset.removed_at is not None,
            },
        )
    names = {"user": {id: user.name for id, user in users.items()}}
    names["dataset"] = {id: dataset.name for id, dataset in datasets.items()}
    for grant in await session.exec(select(Grant)):
        whose = {"user": names["user"][grant.user_id], "dataset": names["dataset"][grant.dataset_id]}
        yield _grant(whose), {"initial": grant.initial, "spent": grant.spent}
    async for release, model in _releases(session):
        whose = {"user": names["user"][release.user_id], "dataset": names["dataset"][release.dataset_id]}
        yield f"release {release.id}", whose | _release(release, model)


async def _releases(session: AsyncSession) -> AsyncIterator[tuple[Release, bytes | None]]:
    after = 0
    while True:
        page = (
            select(Release, FittedModel.content)
            .outerjoin(FittedModel, col(FittedModel.release_id) == col(Release.id))
            .where(col(Release.id) > after)
            .order_by(col(Release.id))
            .limit(PAGE)
        )
        found = (await session.exec(page)).all()
        for release, model in found:
            yield release, model
        if len(found) < PAGE:
            return
        after = found[-1][0].id
        session.expunge_all()


def _release(release: Release, model: bytes | None) -> dict[str, Any]:
    ended = None
    if release.finished_at is not None:
        ended = chain.outcome(release.answer, release.failure, release.finished_at, model)
    return {
        "library": release.library,
        "status": release.status,
        "query and time": chain.content(release),
        "cost": release.cost,
        "outcome": ended,
    }

"""Verifies the audit trail: its hash chain, and that the tables hold what its entries add up to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlmodel import SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database import chain
from lomas_gql.database.engine import Database
from lomas_gql.database.models import (
    AuditEntry,
    AuditHead,
    Dataset,
    FittedModel,
    Grant,
    Release,
    Token,
    User,
)
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import audit
from lomas_gql.services.replay import Key, Replay

PAGE = 500
"""Rows that are read at a time."""

Facts: TypeAlias = dict[str, Any]


@dataclass
class Verified:
    """How many entries there are, the last one's hash, and a line for each thing that is wrong."""

    entries: int = 0
    head: str = chain.BEGINNING
    findings: list[str] = field(default_factory=list)


async def verify(database: Database, known: str | None = None) -> Verified:
    """Checks every entry's hash, and every budget, cap, token and release against the entries, as of one moment.

    `known` is the hash of an entry that was noted outside of the database: whoever can write to the database
    could also write a new chain, but not one that leads to that hash.
    """
    found, told = Verified(), Replay()
    async with database.snapshot() as session:
        await _follow(session, found, told, known)
        async for key, actual in _tables(session, found):
            found.findings += _differences(key, actual, told.pop(key))
    found.findings += [f"{_named(key)}: is missing, but stands in the audit trail" for key in told.left()]
    return found


async def _follow(session: AsyncSession, found: Verified, told: Replay, known: str | None) -> None:
    """Follows the chain from its beginning and adds up what its entries tell."""
    seen = known is None
    async for entry in _rows(session, AuditEntry, "entry", found):
        found.findings += _breaks(found, entry)
        found.entries, found.head = entry.id, entry.hash
        seen = seen or entry.hash == known
        try:
            told.add(entry.kind, entry.facts)
        except (KeyError, ValueError, TypeError):
            found.findings.append(f"entry {entry.id}: cannot be understood")
    head = await session.get(AuditHead, 1)
    ends = (found.entries, found.head)
    noted = (head.entries, head.hash) if head else None
    if noted != ends:
        found.findings.append(f"the audit trail ends with {_end(ends)}, its end was noted as {_end(noted)}")
    if not seen:
        found.findings.append(f"no entry has the hash {known}: the audit trail was rewritten or cut off before it")


def _breaks(found: Verified, entry: Any) -> Iterator[str]:
    """What is wrong with an entry and its place behind the last one."""
    if entry.id != found.entries + 1:
        missing = f"entry {found.entries + 1} is"
        if entry.id > found.entries + 2:
            missing = f"entries {found.entries + 1} to {entry.id - 1} are"
        yield f"{missing} missing, so that entry {entry.id} cannot be checked"
        return
    expected = chain.entry_hash(found.head, entry.id, entry.at, entry.actor, entry.kind, entry.facts)
    if entry.hash != expected:
        yield f"entry {entry.id}: was changed, or does not follow from entry {found.entries}"


def _end(end: tuple[int, str] | None) -> str:
    return f"entry {end[0]} of hash {end[1]}" if end else "nothing"


async def _tables(session: AsyncSession, found: Verified) -> AsyncIterator[tuple[Key, Facts]]:
    """The facts that entries tell, as the tables hold them."""
    users: dict[int, str] = {}
    async for user in _rows(session, User, "user", found):
        users[user.id] = user.name
        yield ("user", user.name), {"may query": user.may_query, "removed": user.removed_at is not None}
    async for token in _rows(session, Token, "token", found):
        whose = {"user": users.get(token.user_id), "credential": chain.credential(token)}
        yield ("token", token.id), whose | {"revoked": token.revoked_at is not None}
    datasets: dict[int, str] = {}
    async for dataset in _rows(session, Dataset, "dataset", found):
        datasets[dataset.id] = dataset.name
        yield (
            ("dataset", dataset.name),
            {
                "spent": PrivacyLoss(dataset.spent_epsilon, dataset.spent_delta),
                "caps": audit.caps(dataset),
                "source and metadata": chain.definition(dataset),
                "removed": dataset.removed_at is not None,
            },
        )
    for grant in await session.exec(select(Grant)):
        place = users.get(grant.user_id), datasets.get(grant.dataset_id)
        yield ("grant", *place), {"initial": grant.initial, "spent": grant.spent}
    fitted = set((await session.exec(select(FittedModel.release_id))).all())
    async for release in _rows(session, Release, "release", found):
        names = {"user": users.get(release.user_id), "dataset": datasets.get(release.dataset_id)}
        model = await session.scalar(_model(release.id)) if release.id in fitted else None
        yield ("release", release.id), names | _release(release, model)


def _model(release_id: int) -> Any:
    return select(FittedModel.content).where(FittedModel.release_id == release_id)


def _release(release: Any, model: bytes | None) -> Facts:
    ended = any(value is not None for value in (release.answer, release.failure, release.finished_at, model))
    return {
        "library": release.library,
        "status": release.status,
        "cost": PrivacyLoss(release.epsilon, release.delta),
        "query and time": chain.content(release),
        "outcome": chain.outcome(release, model) if ended else None,
    }


async def _rows(session: AsyncSession, model: type[SQLModel], word: str, found: Verified) -> AsyncIterator[Any]:
    """A table's rows in the order of their ids. One that cannot be read is a finding."""
    id = model.__table__.c.id  # type: ignore[attr-defined]
    ids = select(id).order_by(id).limit(PAGE)
    page = (await session.exec(ids)).all()
    while page:
        for row in await _readable(session, model, page, word, found):
            yield row
        page = (await session.exec(ids.where(id > page[-1]))).all()


async def _readable(
    session: AsyncSession, model: type[SQLModel], ids: Sequence[int], word: str, found: Verified
) -> Sequence[Any]:
    table = model.__table__  # type: ignore[attr-defined]
    try:
        rows: Sequence[Any] = (
            await session.exec(select(*table.c).where(table.c.id.in_(ids)).order_by(table.c.id))
        ).all()
        return rows
    except (ValueError, TypeError):
        # SQLite keeps whatever somebody has put into a column of times or JSON.
        if len(ids) == 1:
            found.findings.append(f"{word} {ids[0]}: cannot be read")
            return []
        return [row for id in ids for row in await _readable(session, model, [id], word, found)]


def _differences(key: Key, actual: Facts, told: Facts | None) -> Iterator[str]:
    if told is None:
        yield f"{_named(key)}: does not stand in the audit trail"
        return
    for fact, value in actual.items():
        if value != told.get(fact):
            yield f"{_named(key)}: {fact} is {_shown(value)}, the audit trail says {_shown(told.get(fact))}"


def _named(key: Key) -> str:
    if key[0] == "grant":
        return f"grant of {key[1]} on {key[2]}"
    return f"{key[0]} {key[1]}"


def _shown(value: Any) -> str:
    if isinstance(value, PrivacyLoss):
        try:
            return f"epsilon {value.epsilon_text}, delta {value.delta_text}"
        except (TypeError, ValueError):
            return "no privacy loss"
    return str(value)

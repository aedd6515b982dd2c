"""The ledger: reserve, run, settle. Nothing that was released is ever uncharged.

A reservation is one short transaction that adds the cost to what was spent, if the budget allows, and writes
the release as RUNNING. Then the query runs, with no transaction open. Then one transaction stores the answer,
if the release is still RUNNING under this server's lease; the answer leaves the server only after that commit.
Whatever dies in between leaves the charge in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database.engine import Database, rows_changed
from lomas_gql.database.models import AuditKind, Dataset, FittedModel, Grant, Release, ReleaseStatus, User
from lomas_gql.errors import (
    BudgetExceeded,
    DatasetUnavailable,
    IdempotencyConflict,
    InvalidQuery,
    QueryOngoing,
)
from lomas_gql.privacy import LARGEST, PrivacyLoss
from lomas_gql.services import audit
from lomas_gql.services.leases import Lease


@dataclass(frozen=True)
class Reservation:
    """What is to be charged, to whom and for what."""

    user_id: int
    dataset_id: int
    library: str
    cost: PrivacyLoss
    query: dict[str, Any]
    digest: str
    key: str | None
    dataset_version: str | None = None


async def reserve(database: Database, reservation: Reservation, lease: Lease, slots: int) -> Release:
    """Charges the cost and opens the release, in one transaction.

    Raises:
        QueryOngoing: all of the user's slots are taken.
        IdempotencyConflict: the key was taken by a request that came in between.
        BudgetExceeded: the cost does not fit in what remains; nothing is changed.
        DatasetUnavailable: the grant is gone.
    """
    async with database.writing() as session:
        release = await _open(session, reservation, lease, slots)
        await _charge(session, reservation)
        user, dataset = await _still_served(session, reservation)
        await audit.record_charge(session, user, dataset, release)
    return release


async def charge_more(session: AsyncSession, release: Release, spent: PrivacyLoss, actor: str) -> None:
    """Charges what a run has spent beyond its cost, whether or not the budget holds it. Repeated, it does nothing."""
    more = spent.less(release.cost)
    if more == PrivacyLoss():
        return
    as_reserved = (
        col(Release.id) == release.id,
        col(Release.epsilon) == release.epsilon,
        col(Release.delta) == release.delta,
    )
    charged = {"epsilon": release.epsilon + more.epsilon_units, "delta": release.delta + more.delta_units}
    if await rows_changed(session, update(Release).where(*as_reserved).values(**charged)) == 0:
        return
    grant = update(Grant).where(*_grant_of(release.user_id, release.dataset_id))
    await session.exec(grant.values(_plus(Grant, more)))
    dataset = update(Dataset).where(col(Dataset.id) == release.dataset_id)
    await session.exec(dataset.values(_plus(Dataset, more)))
    facts = {"release": release.id} | audit.texts(more)
    await audit.record(session, AuditKind.RELEASE_CHARGED_MORE, facts, actor)


async def grant_of(session: AsyncSession, user_id: int, dataset_id: int) -> Grant:
    """The user's budget on the dataset.

    Raises:
        DatasetUnavailable: there is none.
    """
    grant = (await session.exec(select(Grant).where(*_grant_of(user_id, dataset_id)))).first()
    if grant is None:
        raise DatasetUnavailable
    return grant


async def repeated(session: AsyncSession, user_id: int, dataset_id: int, digest: str, version: str) -> Release | None:
    """The user's newest answer to the same query on the same version of the dataset."""
    same = select(Release).where(
        Release.user_id == user_id,
        Release.dataset_id == dataset_id,
        Release.input_digest == digest,
        Release.dataset_version == version,
        Release.status == ReleaseStatus.RELEASED.value,
    )
    return (await session.exec(same.order_by(col(Release.id).desc()))).first()


def check_query_cap(dataset: Dataset, cost: PrivacyLoss) -> None:
    """Raises InvalidQuery where one query on this dataset may not cost that much."""
    if not cost <= dataset.query_cap:
        message = (
            f"the query costs epsilon {cost.epsilon_text} and delta {cost.delta_text}, more than the owner of this "
            "dataset allows for one query"
        )
        raise InvalidQuery.at("query", message=message)


async def keyed(session: AsyncSession, user_id: int, key: str) -> Release | None:
    """The release that this user made under an idempotency key."""
    found = await session.exec(select(Release).where(Release.user_id == user_id, Release.idempotency_key == key))
    return found.first()


async def free_slots(session: AsyncSession, user_id: int, slots: int) -> list[int]:
    """The user's slots that no running release holds.

    Raises:
        QueryOngoing: all are taken.
    """
    held = select(Release.slot, Release.id).where(Release.user_id == user_id, col(Release.slot).is_not(None))
    running = dict((await session.exec(held)).all())
    free = [slot for slot in range(slots) if slot not in running]
    if not free:
        raise QueryOngoing("Another query of yours is still running.", min(running.values()))
    return free


async def model_of(session: AsyncSession, release_id: int) -> bytes:
    """The synthesizer that a release has fitted."""
    stored = await session.get(FittedModel, release_id)
    assert stored is not None, "a release that names a model has stored it in the same transaction"
    return stored.content


def _opened(reservation: Reservation, lease: Lease, slot: int) -> Release:
    return Release(
        user_id=reservation.user_id,
        dataset_id=reservation.dataset_id,
        library=reservation.library,
        status=ReleaseStatus.RUNNING.value,
        slot=slot,
        idempotency_key=reservation.key,
        input_digest=reservation.digest,
        dataset_version=reservation.dataset_version,
        query=reservation.query,
        epsilon=reservation.cost.epsilon_units,
        delta=reservation.cost.delta_units,
        server=lease.server,
        lease_until=lease.until(),
    )


async def _open(session: AsyncSession, reservation: Reservation, lease: Lease, slots: int) -> Release:
    """Writes the release into the first slot that no request at the same moment takes."""
    for slot in await free_slots(session, reservation.user_id, slots):
        release = _opened(reservation, lease, slot)
        try:
            async with session.begin_nested():
                session.add(release)
        except IntegrityError:
            await _check_key(session, reservation)
        else:
            return release
    # All that were free a moment ago are taken.
    await free_slots(session, reservation.user_id, slots)
    raise QueryOngoing("Another query of yours has just begun.")


async def _check_key(session: AsyncSession, reservation: Reservation) -> None:
    """Raises where a request at the same moment has taken the idempotency key."""
    stored = await keyed(session, reservation.user_id, reservation.key) if reservation.key is not None else None
    if stored is not None and stored.input_digest != reservation.digest:
        raise IdempotencyConflict("The idempotency key was used before, with another input.")
    if stored is not None:
        message = "The same query under this idempotency key has just begun; ask again for its answer."
        raise QueryOngoing(message, stored.id)


async def _still_served(session: AsyncSession, reservation: Reservation) -> tuple[User, Dataset]:
    """Owners may have removed the user or the dataset while the query was tried and its file was read."""
    user = await session.get_one(User, reservation.user_id)
    dataset = await session.get_one(Dataset, reservation.dataset_id)
    if not user.may_query or user.removed_at is not None or dataset.removed_at is not None:
        raise DatasetUnavailable
    check_query_cap(dataset, reservation.cost)
    return user, dataset


async def _charge(session: AsyncSession, reservation: Reservation) -> None:
    cost = reservation.cost
    affordable = update(Grant).where(
        *_grant_of(reservation.user_id, reservation.dataset_id),
        *_fits(cost, Grant, col(Grant.initial_epsilon), col(Grant.initial_delta)),
    )
    # Always the grant first, then the dataset: two transactions cannot wait for each other.
    capped = update(Dataset).where(
        col(Dataset.id) == reservation.dataset_id,
        *_fits(
            cost,
            Dataset,
            func.coalesce(col(Dataset.cap_epsilon), LARGEST),
            func.coalesce(col(Dataset.cap_delta), LARGEST),
        ),
    )
    fits = await rows_changed(session, affordable.values(_plus(Grant, cost))) == 1
    if not fits or await rows_changed(session, capped.values(_plus(Dataset, cost))) == 0:
        grant = await grant_of(session, reservation.user_id, reservation.dataset_id)
        dataset = await session.get(Dataset, reservation.dataset_id)
        spent = grant.spent.less(cost) if fits else grant.spent
        left = grant.initial.less(spent)
        raise BudgetExceeded(cost, left.smaller(dataset.cap_remaining) if dataset else left)


def _fits(cost: PrivacyLoss, account: type[Grant | Dataset], epsilon: Any, delta: Any) -> list[Any]:
    """The conditions under which the account's limits on epsilon and delta leave room for the cost.

    Nothing fits in any remainder, also in the 0 of an owner who lowered the limit below what was spent.
    """
    # Subtracted, not added: a sum near the largest BIGINT would overflow.
    conditions = [col(account.spent_epsilon) <= epsilon - cost.epsilon_units] if cost.epsilon_units else []
    return conditions + ([col(account.spent_delta) <= delta - cost.delta_units] if cost.delta_units else [])


def _plus(account: type[Grant | Dataset], cost: PrivacyLoss) -> dict[Any, Any]:
    return {
        col(account.spent_epsilon): col(account.spent_epsilon) + cost.epsilon_units,
        col(account.spent_delta): col(account.spent_delta) + cost.delta_units,
    }


def _grant_of(user_id: int, dataset_id: int) -> tuple[Any, Any]:
    return col(Grant.user_id) == user_id, col(Grant.dataset_id) == dataset_id

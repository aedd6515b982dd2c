"""The ledger's promises, on a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel import select

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant, Release, User, now
from lomas_gql.errors import BudgetExceeded, DatasetUnavailable, IdempotencyConflict, InvalidQuery, QueryOngoing
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import leases, ledger, settling
from lomas_gql.services.leases import Lease
from lomas_gql.services.ledger import Reservation

LEASE = leases.lease_of_this_process("here", 15)
ANSWER = Answer(Library.OPENDP, 1)
COST = PrivacyLoss.declared("0.1", "1e-6")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    async with database.writing() as session:
        session.add(Dataset(id=1, name="D", source={}, facts={}))
        for id in (1, 2):
            session.add(User(id=id, name=f"user{id}"))
        await session.flush()
        budget = PrivacyLoss.declared("1", "1e-5")
        for id in (1, 2):
            session.add(
                Grant(
                    user_id=id, dataset_id=1, initial_epsilon=budget.epsilon_units, initial_delta=budget.delta_units
                )
            )
    yield database
    await database.close()


def reservation(user: int = 1, cost: PrivacyLoss = COST, key: str | None = None) -> Reservation:
    return Reservation(user, 1, "OPENDP", cost, {}, "digest", key)


async def spent(database: Database, user: int = 1) -> PrivacyLoss:
    async with database.reading() as session:
        return (await ledger.grant_of(session, user, 1)).spent


async def statuses(database: Database) -> list[str]:
    async with database.reading() as session:
        return [release.status for release in await session.exec(select(Release).order_by(Release.id))]  # type: ignore[arg-type]


async def test_a_reservation_charges_before_anything_runs(database: Database) -> None:
    release = await ledger.reserve(database, reservation(), LEASE, 1)
    assert await spent(database) == COST
    assert await settling.settle(database, release, LEASE, ANSWER)
    assert await spent(database) == COST
    assert await statuses(database) == ["RELEASED"]


async def test_a_failed_run_is_still_charged(database: Database) -> None:
    release = await ledger.reserve(database, reservation(), LEASE, 1)
    await settling.fail(database, release, LEASE, "no answer")
    assert await spent(database) == COST
    assert await statuses(database) == ["FAILED"]


async def test_what_a_run_spent_more_is_charged_once_however_often_it_is_told(database: Database) -> None:
    release = await ledger.reserve(database, reservation(), LEASE, 1)
    more = PrivacyLoss.declared("0.3", "0")
    for _ in range(2):
        # As after a commit whose confirmation was lost.
        await settling.fail(database, release, LEASE, "no answer", spent=more)
    assert await spent(database) == PrivacyLoss(more.epsilon_units, COST.delta_units)


async def test_a_run_that_spent_more_is_charged_more(database: Database) -> None:
    release = await ledger.reserve(database, reservation(), LEASE, 1)
    more = PrivacyLoss.declared("2", "0")
    await settling.fail(database, release, LEASE, "no answer", spent=more)
    assert await spent(database) == PrivacyLoss(more.epsilon_units, COST.delta_units)
    with pytest.raises(BudgetExceeded) as caught:
        await ledger.reserve(database, reservation(), LEASE, 1)
    assert caught.value.remaining.epsilon == 0


async def test_what_does_not_fit_changes_nothing(database: Database) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        await ledger.reserve(database, reservation(cost=PrivacyLoss.declared("1.000000000001")), LEASE, 1)
    assert caught.value.requested == PrivacyLoss.declared("1.000000000001")
    assert caught.value.remaining == PrivacyLoss.declared("1", "1e-5")
    assert await spent(database) == PrivacyLoss()
    assert await statuses(database) == []


async def test_delta_alone_can_be_too_much(database: Database) -> None:
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(database, reservation(cost=PrivacyLoss.declared("0.1", "0.00002")), LEASE, 1)


async def capped(database: Database, **caps: int) -> None:
    async with database.writing() as session:
        dataset = await session.get(Dataset, 1)
        assert dataset is not None
        for name, units in caps.items():
            setattr(dataset, name, units)


async def test_all_users_together_keep_to_the_datasets_cap(database: Database) -> None:
    await capped(database, cap_epsilon=5 * COST.epsilon_units)
    for i in range(5):
        await ledger.reserve(database, reservation(user=1 + i % 2), LEASE, 5)
    for user in (1, 2):
        before = await spent(database, user)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(database, reservation(user=user), LEASE, 5)
        assert caught.value.remaining.epsilon_units == 0
        assert caught.value.remaining.delta_units > 0
        assert await spent(database, user) == before
    assert len(await statuses(database)) == 5


async def test_concurrent_users_keep_to_the_datasets_cap(database: Database) -> None:
    await capped(database, cap_epsilon=7 * COST.epsilon_units)

    async def attempt(user: int) -> bool:
        try:
            await ledger.reserve(database, reservation(user=user), LEASE, 30)
        except BudgetExceeded:
            return False
        return True

    outcomes = await asyncio.gather(*(attempt(1 + i % 2) for i in range(20)))
    assert sum(outcomes) == 7
    assert (await spent(database, 1)).epsilon_units + (
        await spent(database, 2)
    ).epsilon_units == 7 * COST.epsilon_units


async def test_one_query_keeps_to_its_own_cap(database: Database) -> None:
    await capped(database, query_cap_epsilon=COST.epsilon_units - 1)
    with pytest.raises(InvalidQuery):
        await ledger.reserve(database, reservation(), LEASE, 1)
    await capped(database, query_cap_epsilon=COST.epsilon_units, query_cap_delta=COST.delta_units - 1)
    with pytest.raises(InvalidQuery):
        await ledger.reserve(database, reservation(), LEASE, 1)
    assert await spent(database) == PrivacyLoss()
    await capped(database, query_cap_delta=COST.delta_units)
    await ledger.reserve(database, reservation(), LEASE, 1)


async def test_without_a_grant_there_is_no_dataset(database: Database) -> None:
    async with database.writing() as session:
        session.add(User(id=3, name="nobody"))
    with pytest.raises(DatasetUnavailable):
        await ledger.reserve(database, reservation(user=3), LEASE, 1)
    assert await statuses(database) == []


@pytest.mark.parametrize("table", [Dataset, User])
async def test_what_an_owner_has_just_removed_is_not_charged(database: Database, table: type[Dataset | User]) -> None:
    async with database.writing() as session:
        removed = await session.get(table, 1)
        assert removed is not None
        removed.removed_at = now()
    with pytest.raises(DatasetUnavailable):
        await ledger.reserve(database, reservation(), LEASE, 1)
    assert await spent(database) == PrivacyLoss()
    assert await statuses(database) == []


async def test_one_release_at_a_time_for_each_user(database: Database) -> None:
    release = await ledger.reserve(database, reservation(), LEASE, 1)
    with pytest.raises(QueryOngoing):
        await ledger.reserve(database, reservation(), LEASE, 1)
    await ledger.reserve(database, reservation(user=2), LEASE, 1)
    await ledger.reserve(database, reservation(), LEASE, 2)
    await settling.settle(database, release, LEASE, ANSWER)
    await ledger.reserve(database, reservation(), LEASE, 2)
    assert await spent(database) == PrivacyLoss.declared("0.3", "3e-6")


async def test_concurrent_reservations_never_overdraw(database: Database) -> None:
    async def attempt() -> bool:
        try:
            await ledger.reserve(database, reservation(), LEASE, 30)
        except (BudgetExceeded, QueryOngoing):
            return False
        return True

    outcomes = await asyncio.gather(*(attempt() for _ in range(30)))
    assert sum(outcomes) == 10
    assert await spent(database) == PrivacyLoss.declared("1", "1e-5")


async def test_a_key_belongs_to_one_release(database: Database) -> None:
    await ledger.reserve(database, reservation(key="a"), LEASE, 5)
    with pytest.raises(QueryOngoing):
        await ledger.reserve(database, reservation(key="a"), LEASE, 5)
    with pytest.raises(IdempotencyConflict):
        await ledger.reserve(database, replace(reservation(key="a"), digest="another"), LEASE, 5)
    await ledger.reserve(database, reservation(user=2, key="a"), LEASE, 5)
    assert await spent(database) == COST


Interrupt = Callable[[Database], Awaitable[int]]


async def test_a_dead_process_of_this_host_is_settled_at_once_and_stays_charged(database: Database) -> None:
    dead = Lease("here:999999999:1.00", 15)
    release = await ledger.reserve(database, reservation(), dead, 1)
    assert await settling.interrupt_dead(database, LEASE) == 1
    assert await statuses(database) == ["INTERRUPTED"]
    assert await spent(database) == COST
    # Its answer comes too late: it must not leave.
    assert not await settling.settle(database, release, dead, ANSWER)
    await ledger.reserve(database, reservation(), LEASE, 1)


async def test_a_live_server_keeps_its_releases(database: Database) -> None:
    await ledger.reserve(database, reservation(), LEASE, 1)
    await ledger.reserve(database, reservation(user=2), Lease("elsewhere:1:1.00", 15), 1)
    assert await settling.interrupt_dead(database, LEASE) == 0


async def test_another_hosts_releases_are_settled_when_its_lease_runs_out(database: Database) -> None:
    gone = Lease("elsewhere:1:1.00", -1)
    await ledger.reserve(database, reservation(), gone, 1)
    assert await settling.interrupt_dead(database, LEASE) == 1


async def test_only_the_server_that_runs_a_release_can_end_it(database: Database) -> None:
    release = await ledger.reserve(database, reservation(), LEASE, 1)
    assert not await settling.settle(database, release, Lease("elsewhere:1:1.00", 15), ANSWER)
    assert await statuses(database) == ["RUNNING"]


async def test_a_renewed_lease_lasts_longer(database: Database) -> None:
    mine = await ledger.reserve(database, reservation(), Lease(LEASE.server, 1), 1)
    await leases.renew(database, LEASE, [mine.id])
    async with database.reading() as session:
        [release] = await session.exec(select(Release))
    assert release.lease_until > now() + timedelta(seconds=10)


async def test_a_budget_at_the_columns_limit_does_not_overflow(database: Database) -> None:
    async with database.writing() as session:
        grant = await session.get(Grant, (1, 1))
        assert grant is not None
        grant.initial_epsilon = grant.spent_epsilon = 2**63 - 1
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(database, reservation(), LEASE, 1)


async def test_a_dataset_without_a_cap_does_not_overflow_either(database: Database) -> None:
    await capped(database, spent_delta=2**63 - 1)
    with pytest.raises(BudgetExceeded) as caught:
        await ledger.reserve(database, reservation(), LEASE, 1)
    assert caught.value.remaining.delta_units == 0
    assert await statuses(database) == []


async def test_a_query_without_delta_needs_none_also_where_the_owner_took_it_all_back(database: Database) -> None:
    await capped(database, spent_delta=2, cap_delta=1)
    async with database.writing() as session:
        grant = await session.get(Grant, (1, 1))
        assert grant is not None
        grant.spent_delta, grant.initial_delta = 1, 0
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(database, reservation(), LEASE, 1)
    await ledger.reserve(database, reservation(cost=PrivacyLoss.declared("0.1")), LEASE, 1)
    assert await spent(database) == PrivacyLoss(COST.epsilon_units, 1)

"""Owners change budgets while queries run: nothing is lost, nothing is negative, nobody sees a deadlock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import select

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant, Release, User
from lomas_gql.errors import BudgetExceeded, InvalidQuery
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import administration, importing, leases, ledger, settling
from lomas_gql.services.catalogue import Granted
from lomas_gql.services.ledger import Reservation
from lomas_gql.services.verification import verify
from tests.services import catalogues

LEASE = leases.lease_of_this_process("here", 15)
COST = PrivacyLoss.declared("0.1", "1e-6")
BUDGET = PrivacyLoss.declared("2", "1e-4")
# Who only queries, and who also comes from another platform, with what was spent there.
AT_HOME, MOVED = [f"user{i}" for i in range(4)], [f"moved{i}" for i in range(3)]
USERS = [*AT_HOME, *MOVED]


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    await importing.import_catalogue(database, [catalogues.of_datasets(tmp_path, "D")])
    for name in USERS:
        await administration.add_user(database, name, None, may_query=True)
        await administration.grant(database, name, "D", BUDGET.epsilon_text, BUDGET.delta_text)
    yield database
    await database.close()


async def charge(database: Database, name: str) -> bool:
    """One query of the user's, from its reservation to its answer. False where it was refused."""
    async with database.reading() as session:
        user = (await session.exec(select(User).where(User.name == name))).one()
        dataset = (await session.exec(select(Dataset))).one()
    reservation = Reservation(user.id, dataset.id, "OPENDP", COST, {}, "digest", None)
    try:
        release = await ledger.reserve(database, reservation, LEASE, 1)
    except (BudgetExceeded, InvalidQuery):
        return False
    assert await settling.settle(database, release, LEASE, Answer(Library.OPENDP, 1))
    return True


async def move_in(database: Database, folder: Path, spent: PrivacyLoss) -> None:
    """Imports the users that come from elsewhere, all with that spending."""
    file = catalogues.of_users(folder, "D", BUDGET, dict.fromkeys(MOVED, spent))
    await importing.import_catalogue(database, [file])


async def check_sums(database: Database) -> dict[str, PrivacyLoss]:
    """In one statement's view: nothing negative, and the dataset was charged what its users were. Who spent what."""
    async with database.reading() as session:
        joined = select(User.name, Dataset, Grant).where(User.id == Grant.user_id, Dataset.id == Grant.dataset_id)
        grants = (await session.exec(joined)).all()
    dataset, total = grants[0][1], PrivacyLoss()
    for _, _, grant in grants:
        total += grant.spent
        remaining = Granted(dataset, grant).remaining
        assert PrivacyLoss() <= remaining
        assert PrivacyLoss() <= grant.spent
    assert PrivacyLoss(dataset.spent_epsilon, dataset.spent_delta) == total
    return {name: grant.spent for name, _, grant in grants}


async def releases_of(database: Database) -> Counter[str]:
    async with database.reading() as session:
        joined = select(User.name, Release.status).where(User.id == Release.user_id)
        found = (await session.exec(joined)).all()
    assert {status for _, status in found} <= {"RELEASED"}
    return Counter(name for name, _ in found)


@dataclass
class Owner:
    """What an owner and an import do, again and again, in any order."""

    database: Database
    folder: Path
    chosen: random.Random = field(default_factory=lambda: random.Random(1))
    imports: int = 0
    seen: dict[str, PrivacyLoss] = field(default_factory=dict)

    async def set_grant(self) -> None:
        name, epsilon = self.chosen.choice(USERS), self.chosen.choice(["0", "0.3", "0.5", "1", "5"])
        await administration.grant(self.database, name, "D", epsilon, BUDGET.delta_text)

    async def set_cap(self) -> None:
        await administration.cap(self.database, "D", {"epsilon": self.chosen.choice(["none", "1", "10"])})
        await administration.cap(self.database, "D", {"query_epsilon": self.chosen.choice(["none", "0.05", "0.1"])})

    async def import_again(self) -> None:
        # A little more each time, around what the users' own queries come to meanwhile.
        self.imports += 1
        await move_in(self.database, self.folder, PrivacyLoss(self.imports * COST.epsilon_units // 2, 10**12))
        await importing.import_catalogue(self.database, [catalogues.of_datasets(self.folder, "D")])

    async def watch(self) -> None:
        spent = await check_sums(self.database)
        assert all(before <= spent[name] for name, before in self.seen.items())
        self.seen = spent


async def test_budgets_change_under_running_queries_and_no_charge_is_lost(database: Database, tmp_path: Path) -> None:
    owner, done = Owner(database, tmp_path), asyncio.Event()

    async def again(change: Callable[[], Awaitable[None]]) -> None:
        while not done.is_set():
            await change()

    async def queries(name: str) -> int:
        return sum([await charge(database, name) for _ in range(8)])

    changes = (owner.set_grant, owner.set_cap, owner.import_again, owner.watch)
    owners = [asyncio.create_task(again(change)) for change in changes]
    # Nobody is cancelled, also where one of them fails: what all have done to their end is what counts.
    made = await asyncio.gather(*(queries(name) for name in USERS), return_exceptions=True)
    done.set()
    failed = [*made, *await asyncio.gather(*owners, return_exceptions=True)]
    assert [error for error in failed if isinstance(error, BaseException)] == []
    spent, releases = await check_sums(database), await releases_of(database)
    assert [releases[name] for name in USERS] == made
    assert releases.total() > 0
    for name, count in releases.items():
        cost = PrivacyLoss(count * COST.epsilon_units, count * COST.delta_units)
        assert spent[name] == cost if name in AT_HOME else cost <= spent[name]
    assert (await verify(database)).findings == []


@asynccontextmanager
async def held_dataset(database: Database) -> AsyncIterator[None]:
    """Keeps every charge waiting until the block ends, as any change of the dataset would."""
    async with database.writing() as session:
        await session.exec(select(Dataset).with_for_update(key_share=True))
        yield


async def waiting(database: Database, count: int) -> None:
    """Until that many transactions wait for a lock."""
    asked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while True:
        async with database.engine.connect() as connection:
            if await connection.scalar(asked) == count:
                return
        await asyncio.sleep(0.01)


# SQLite has one writer at a time: there is nothing to interleave.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("import_first", [False, True])
async def test_an_import_and_a_charge_at_the_same_moment_both_count(
    database: Database, tmp_path: Path, import_first: bool
) -> None:
    half = PrivacyLoss(COST.epsilon_units // 2, COST.delta_units // 2)
    works = [charge(database, MOVED[0]), move_in(database, tmp_path, half)]
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks, held_dataset(database):
        for count, work in enumerate(reversed(works) if import_first else works, 1):
            tasks.create_task(work)
            await waiting(database, count)
    spent = await check_sums(database)
    assert spent[MOVED[0]] == (half + COST if import_first else COST)
    assert [spent[name] for name in MOVED[1:]] == [half, half]
    assert (await verify(database)).findings == []

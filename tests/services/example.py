"""One example of the ledger's life: users and datasets of its own, in a database that all examples share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant, Release, User
from lomas_gql.errors import AdministrationError, QueryOngoing
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import administration, importing, ledger, settling
from lomas_gql.services.catalogue import Granted
from tests.services import catalogues
from tests.services.exact import CAPS, Loss, Model

T = TypeVar("T")
SLOTS = 2
BUDGET = Loss(Fraction(1), Fraction(5, 10**6))
_numbers = itertools.count(1)


class Example(RuleBasedStateMachine):
    """The database and the model side by side, compared after each step. One event loop for all steps."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__()
        self.runner, self.database, self.folder = asyncio.Runner(), Database(url), folder
        self.number, self.model = next(_numbers), Model(SLOTS)
        self.do(self.set_up())

    async def set_up(self) -> None:
        self.model.caps = {self.dataset(which): dict.fromkeys(CAPS) for which in (1, 2)}
        await importing.import_catalogue(self.database, [catalogues.of_datasets(self.folder, *self.model.caps)])
        for user in map(self.user, (1, 2, 3)):
            await administration.add_user(self.database, user, None, may_query=True)
            self.model.may_query[user] = True
        # The third user has no grant yet, nor the second one on the second dataset.
        for place in (
            (self.user(1), self.dataset(1)),
            (self.user(1), self.dataset(2)),
            (self.user(2), self.dataset(1)),
        ):
            await administration.grant(self.database, *place, *BUDGET.texts)
            self.model.initial[place] = BUDGET
        async with self.database.reading() as session:
            everything = [*await session.exec(select(User)), *await session.exec(select(Dataset))]
        self.ids = {row.name: row.id for row in everything}

    def teardown(self) -> None:
        for id, charged in self.model.releases.items():
            # Not left for a later example to find.
            self.do(settling.cancel(self.database, self.viewer(charged.user), id))
        self.do(self.database.close())
        self.runner.close()

    def user(self, which: int) -> str:
        return f"user {self.number}.{which}"

    def viewer(self, name: str) -> Viewer:
        return Viewer(self.ids[name], name, may_query=True)

    def dataset(self, which: int) -> str:
        return f"dataset {self.number}.{which}"

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def owner_does(self, work: Coroutine[Any, Any, object], *, unless: bool) -> bool:
        """An owner's command, refused exactly `unless`. Whether it was carried out."""
        try:
            self.do(work)
        except AdministrationError:
            assert unless
        else:
            assert not unless
        return not unless

    @invariant()
    def the_ledger_is_the_models(self) -> None:
        self.do(self.compare())

    async def compare(self) -> None:
        async with self.database.reading() as session:
            await self.compare_budgets(session)
            await self.compare_releases(session)
            for user in self.model.may_query:
                try:
                    free = len(await ledger.free_slots(session, self.ids[user], SLOTS))
                except QueryOngoing:
                    free = 0
                assert free == SLOTS - len(self.model.running(user))

    async def compare_budgets(self, session: AsyncSession) -> None:
        joined = select(User.name, Dataset, Grant).where(User.id == Grant.user_id, Dataset.id == Grant.dataset_id)
        found = await session.exec(joined.where(col(User.name).in_(self.model.may_query)))
        grants = {(user, dataset.name): Granted(dataset, grant) for user, dataset, grant in found}
        assert grants.keys() == self.model.initial.keys()
        for place, granted in grants.items():
            assert Loss.of(granted.grant.initial) == self.model.initial[place]
            assert Loss.of(granted.grant.spent) == self.model.spent(*place)
            assert Loss() <= Loss.of(granted.remaining) == self.model.remaining(*place)
        for dataset in await session.exec(select(Dataset).where(col(Dataset.name).in_(self.model.caps))):
            spent = PrivacyLoss(dataset.spent_epsilon, dataset.spent_delta)
            assert Loss.of(spent) == self.model.spent_on(dataset.name)

    async def compare_releases(self, session: AsyncSession) -> None:
        mine = [self.ids[name] for name in self.model.may_query]
        found = await session.exec(select(Release).where(col(Release.user_id).in_(mine)))
        stored = {release.id: release for release in found}
        assert stored.keys() == self.model.releases.keys()
        for id, charged in self.model.releases.items():
            assert (stored[id].status, Loss.of(stored[id].cost)) == (charged.status, charged.cost)
            assert (stored[id].answer is not None) == (charged.status == "RELEASED")
            assert (stored[id].finished_at is None) == (charged.status == "RUNNING")

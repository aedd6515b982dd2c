"""The ledger against an exact model in fractions, on any sequence of what users, owners and dying servers do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    consumes,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release
from lomas_gql.errors import BudgetExceeded, LomasError
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.services import administration, importing, leases, ledger, settling
from lomas_gql.services.leases import Lease
from lomas_gql.services.ledger import Reservation
from lomas_gql.services.verification import verify
from tests.services import catalogues
from tests.services.exact import Charged, Loss
from tests.services.example import SLOTS, Example

VERSION = "version"
ANSWER = Answer(Library.OPENDP, 1)
HERE = leases.lease_of_this_process("here", 15)
SERVERS = (HERE, Lease("elsewhere:1:1.00", 15))

# Tenths, of which floats add up wrongly; few of them, so that limits are met exactly, or missed by one unit.
UNIT = Fraction(1, 10**12)
EPSILONS = st.sampled_from([Fraction(tenths, 10) for tenths in (1, 2, 3, 5, 10)])
DELTAS = st.sampled_from([Fraction(millionths, 10**6) for millionths in (0, 1, 2)])
COSTS = st.builds(Loss, EPSILONS, DELTAS)
LIMITS = st.sampled_from([Fraction(0), Fraction(3, 10), Fraction(6, 10) - UNIT, Fraction(6, 10), Fraction(2)])
DELTA_LIMITS = st.sampled_from([Fraction(millionths, 10**6) for millionths in (0, 2, 5, 100)])
BUDGETS = st.builds(Loss, LIMITS, DELTA_LIMITS)
# Mostly one dataset and two users, so that much is charged in one place.
USERS, DATASETS = st.sampled_from([1, 1, 2, 2, 3]), st.sampled_from([1, 1, 2])
DIGESTS = st.sampled_from(["one input", "another"])
KEYS = st.sampled_from(["key", "another key"])
ASKED = {
    "user": USERS,
    "dataset": DATASETS,
    "cost": COSTS,
    "digest": DIGESTS,
    "key": st.none() | KEYS,
    "lease": st.sampled_from(SERVERS),
}


@dataclass(frozen=True)
class Run:
    """A release as its server sees it: the run ends once, whatever has become of the release meanwhile."""

    release: Release
    lease: Lease


class Ledger(Example):
    """What users, owners and servers do, in any order."""

    runs = Bundle("runs")

    # What users do, and the servers that run their queries. Several rules reserve: the more is charged, the better.

    @rule(target=runs, **ASKED)
    def reserve(self, user: int, dataset: int, cost: Loss, digest: str, key: str | None, lease: Lease) -> Any:
        run = self.reserved(Charged(self.user(user), self.dataset(dataset), cost, digest, key), lease)
        return run or multiple()

    @rule(target=runs, user=USERS, cost=COSTS)
    def reserve_plainly(self, user: int, cost: Loss) -> Any:
        return self.reserve(user, 1, cost, "one input", None, HERE)

    @rule(user=USERS, dataset=DATASETS, cost=COSTS, key=st.none() | KEYS, end=st.sampled_from(["settle", "fail", "die"]), spent=COSTS)  # fmt: skip
    def query(self, user: int, dataset: int, cost: Loss, key: str | None, end: str, spent: Loss) -> None:
        asked = Charged(self.user(user), self.dataset(dataset), cost, "one input", key)
        if run := self.reserved(asked, HERE):
            if end == "fail":
                self.fail(run, spent)
            if end == "die":
                self.renew(run, seconds=-1)
                self.interrupt_dead()
            self.settle(run)

    @rule(user=USERS, dataset=DATASETS)
    def spend_what_remains(self, user: int, dataset: int) -> None:
        place = self.user(user), self.dataset(dataset)
        if place in self.model.initial and (cost := self.model.remaining(*place)).epsilon > 0:
            one_unit_more = Loss(cost.epsilon + UNIT, cost.delta)
            assert self.reserved(Charged(*place, one_unit_more, "one input", None), HERE) is None
            if run := self.reserved(Charged(*place, cost, "one input", None), HERE):
                self.settle(run)

    def reserved(self, asked: Charged, lease: Lease) -> Run | None:
        reasons = self.model.refusals(asked)
        place = self.ids[asked.user], self.ids[asked.dataset]
        reservation = Reservation(*place, "OPENDP", asked.cost.stored, {}, asked.digest, asked.key, VERSION)
        try:
            release = self.do(ledger.reserve(self.database, reservation, lease, SLOTS))
        except LomasError as error:
            self.check_refusal(error, asked, reasons)
            return None
        assert not reasons
        self.model.releases[release.id] = asked
        return Run(release, lease)

    def check_refusal(self, error: LomasError, asked: Charged, reasons: set[type[LomasError]]) -> None:
        assert type(error) in reasons, (error, reasons)
        if isinstance(error, BudgetExceeded):
            assert error.requested == asked.cost.stored
            assert Loss.of(error.remaining) == self.model.remaining(asked.user, asked.dataset)

    @rule(run=consumes(runs))
    def settle(self, run: Run) -> None:
        charged = self.model.releases[run.release.id]
        [other] = set(SERVERS) - {run.lease}
        assert not self.do(settling.settle(self.database, run.release, other, ANSWER))
        ours = self.do(settling.settle(self.database, run.release, run.lease, ANSWER))
        assert ours == (charged.status == "RUNNING")
        if ours:
            charged.status = "RELEASED"

    @rule(run=consumes(runs), spent=st.none() | COSTS)
    def fail(self, run: Run, spent: Loss | None) -> None:
        charged = self.model.releases[run.release.id]
        stored = None if spent is None else spent.stored
        self.do(settling.fail(self.database, run.release, run.lease, "no answer", stored))
        if spent is not None:
            charged.cost = charged.cost.larger(spent)
        if charged.status == "RUNNING":
            charged.status = "FAILED"

    @rule(user=USERS, run=runs)
    def cancel(self, user: int, run: Run) -> None:
        charged = self.model.releases[run.release.id]
        right = charged.status == "RUNNING" and charged.user == self.user(user)
        assert self.do(settling.cancel(self.database, self.viewer(self.user(user)), run.release.id)) == right
        if right:
            charged.status = "CANCELLED"

    @rule(run=runs, seconds=st.sampled_from([15, -1, -1]))
    def renew(self, run: Run, seconds: float) -> None:
        # To a time that has passed: the server is taken for dead, and may still speak up.
        self.do(leases.renew(self.database, Lease(run.lease.server, seconds), [run.release.id]))
        self.model.releases[run.release.id].expired = seconds < 0

    @precondition(lambda self: any(r.expired for r in self.model.releases.values()))
    @rule()
    def interrupt_dead(self) -> None:
        dead = [r for r in self.model.releases.values() if r.status == "RUNNING" and r.expired]
        assert self.do(settling.interrupt_dead(self.database, HERE)) == len(dead)
        for charged in dead:
            charged.status = "INTERRUPTED"

    @precondition(lambda self: self.model.releases)
    @rule(user=USERS, dataset=DATASETS, digest=DIGESTS, key=KEYS)
    def ask_again(self, user: int, dataset: int, digest: str, key: str) -> None:
        names = self.user(user), self.dataset(dataset)
        assert self.do(self.found_again(*names, digest, key)) == [
            self.model.keyed(names[0], key),
            self.model.repeated(*names, digest),
        ]

    async def found_again(self, user: str, dataset: str, digest: str, key: str) -> list[int | None]:
        async with self.database.reading() as session:
            keyed = await ledger.keyed(session, self.ids[user], key)
            repeated = await ledger.repeated(session, self.ids[user], self.ids[dataset], digest, VERSION)
            return [keyed and keyed.id, repeated and repeated.id]

    # What owners do.

    @rule(user=USERS, dataset=DATASETS, budget=BUDGETS)
    def grant(self, user: int, dataset: int, budget: Loss) -> None:
        place = self.user(user), self.dataset(dataset)
        work = administration.grant(self.database, *place, *budget.texts)
        if self.owner_does(work, unless=bool(self.model.removed & {*place})):
            self.model.initial[place] = budget

    @rule(dataset=DATASETS, prefix=st.sampled_from(["", "", "query_"]), cap=st.none() | BUDGETS)
    def cap(self, dataset: int, prefix: str, cap: Loss | None) -> None:
        name, names = self.dataset(dataset), [f"{prefix}epsilon", f"{prefix}delta"]
        amounts = dict(zip(names, ("none", "none") if cap is None else cap.texts, strict=True))
        if self.owner_does(administration.cap(self.database, name, amounts), unless=name in self.model.removed):
            self.model.caps[name] |= dict(zip(names, (cap and cap.epsilon, cap and cap.delta), strict=True))

    # One thing at a time is removed: where most are, little happens.
    @precondition(lambda self: not self.model.removed)
    @rule(user=USERS)
    def remove_user(self, user: int) -> None:
        name = self.user(user)
        self.owner_does(administration.add_user(self.database, name, None, may_query=True), unless=True)
        self.owner_does(administration.remove_user(self.database, name), unless=False)
        self.owner_does(administration.remove_user(self.database, name), unless=True)
        self.model.removed = {name}

    @precondition(lambda self: self.model.removed & self.model.may_query.keys())
    @rule(may_query=st.sampled_from([True, True, False]))
    def add_user_again(self, may_query: bool) -> None:
        name = self.model.removed.pop()
        self.do(administration.add_user(self.database, name, None, may_query=may_query))
        self.model.may_query[name] = may_query

    @precondition(lambda self: not self.model.removed)
    @rule(dataset=DATASETS)
    def remove_dataset(self, dataset: int) -> None:
        name = self.dataset(dataset)
        self.owner_does(administration.remove_dataset(self.database, name), unless=False)
        self.owner_does(administration.remove_dataset(self.database, name), unless=True)
        self.model.removed = {name}

    @precondition(lambda self: self.model.removed & self.model.caps.keys())
    @rule()
    def import_datasets_again(self) -> None:
        self.do(importing.import_catalogue(self.database, [catalogues.of_datasets(self.folder, *self.model.caps)]))
        self.model.removed.clear()

    @rule(user=USERS, dataset=DATASETS, budget=BUDGETS, spent=COSTS | st.just(Loss()))
    def import_user(self, user: int, dataset: int, budget: Loss, spent: Loss) -> None:
        place = self.user(user), self.dataset(dataset)
        file = catalogues.of_users(self.folder, place[1], budget.stored, {place[0]: spent.stored})
        work = importing.import_catalogue(self.database, [file])
        if self.owner_does(work, unless=place[1] in self.model.removed):
            self.model.removed.discard(place[0])
            self.model.may_query[place[0]] = True
            more = spent.less(self.model.spent(*place))
            self.model.elsewhere[place] = self.model.elsewhere.get(place, Loss()) + more
            self.model.initial[place] = budget


def test_the_ledger_does_what_the_model_does(database_url: str, tmp_path: Path) -> None:
    asyncio.run(migrated(database_url))
    examples = 20 if database_url.startswith("sqlite") else 8
    run_state_machine_as_test(
        lambda: Ledger(database_url, tmp_path),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    asyncio.run(check_trail(database_url))


async def check_trail(url: str) -> None:
    database = Database(url)
    assert (await verify(database)).findings == []
    await database.close()


async def migrated(url: str) -> None:
    database = Database(url)
    await database.upgrade()
    await database.close()

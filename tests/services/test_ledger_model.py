"""The ledger against a simple exact model in fractions, on any sequence of what users and owners do."""

from __future__ import annotations

import asyncio
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant, Release, User
from lomas_gql.errors import BudgetExceeded
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.privacy import EPSILON_UNITS, PrivacyLoss
from lomas_gql.services import administration, leases, ledger, settling
from lomas_gql.services.ledger import Reservation

LEASE = leases.lease_of_this_process("here", 15)
USERS = (1, 2)
# Coarse, so that amounts meet their limits exactly.
AMOUNTS = st.integers(1, 6).map(lambda halves: Fraction(halves, 2))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("query"), st.sampled_from(USERS), AMOUNTS, st.sampled_from(["settle", "fail", "leave"])),
        st.tuples(st.just("grant"), st.sampled_from(USERS), AMOUNTS),
        st.tuples(st.just("cap"), AMOUNTS | st.none()),
    ),
    max_size=25,
)


class Model:
    """What should be spent, in exact fractions."""

    def __init__(self) -> None:
        self.initial = dict.fromkeys(USERS, Fraction(3))
        self.spent = dict.fromkeys(USERS, Fraction(0))
        self.cap: Fraction | None = None

    def admits(self, user: int, cost: Fraction) -> bool:
        within_cap = self.cap is None or sum(self.spent.values()) + cost <= self.cap
        return self.spent[user] + cost <= self.initial[user] and within_cap


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_the_ledger_admits_and_charges_what_the_model_does(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_played(Path(folder), steps))


async def _played(folder: Path, steps: list[tuple[Any, ...]]) -> None:
    database = Database(f"sqlite+aiosqlite:///{folder / 'db'}")
    await database.upgrade()
    async with database.writing() as session:
        session.add(Dataset(id=1, name="D", source={}, facts={}))
        for id in USERS:
            session.add(User(id=id, name=f"user{id}"))
    for id in USERS:
        await administration.grant(database, f"user{id}", "D", "3", "0")
    model = Model()
    for step in steps:
        await _step(database, model, step)
        async with database.reading() as session:
            dataset = await session.get(Dataset, 1)
            assert dataset is not None
            assert Fraction(dataset.spent_epsilon, EPSILON_UNITS) == sum(model.spent.values())
            for user in USERS:
                grant = await session.get(Grant, (user, 1))
                assert grant is not None
                assert Fraction(grant.spent_epsilon, EPSILON_UNITS) == model.spent[user]
                left = max(Fraction(0), model.initial[user] - model.spent[user])
                assert Fraction(grant.initial.less(grant.spent).epsilon_units, EPSILON_UNITS) == left
    await database.close()


async def _step(database: Database, model: Model, step: tuple[Any, ...]) -> None:
    match step:
        case ("grant", user, amount):
            await administration.grant(database, f"user{user}", "D", str(float(amount)), "0")
            model.initial[user] = amount
        case ("cap", amount):
            text = "none" if amount is None else str(float(amount))
            await administration.cap(database, "D", {"epsilon": text})
            model.cap = amount
        case ("query", user, cost, end):
            release = await _reserved(database, user, cost)
            assert (release is not None) == model.admits(user, cost)
            if release is not None:
                model.spent[user] += cost
                if end == "settle":
                    assert await settling.settle(database, release, LEASE, Answer(Library.OPENDP, 1))
                elif end == "fail":
                    await settling.fail(database, release, LEASE, "no answer")


async def _reserved(database: Database, user: int, cost: Fraction) -> Release | None:
    loss = PrivacyLoss.charged(float(cost))
    try:
        return await ledger.reserve(database, Reservation(user, 1, "OPENDP", loss, {}, "digest", None), LEASE, 30)
    except BudgetExceeded:
        return None

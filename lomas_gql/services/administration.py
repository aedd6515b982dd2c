"""What data owners do: users, datasets and budgets."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database.engine import Database
from lomas_gql.database.models import AuditKind, Dataset, Grant, Token, User, now
from lomas_gql.errors import AdministrationError
from lomas_gql.privacy import DELTA_UNITS, EPSILON_UNITS, PrivacyLoss
from lomas_gql.services import audit


async def users(database: Database) -> Sequence[User]:
    """Everybody who may sign in, by name."""
    async with database.reading() as session:
        found = await session.exec(select(User).where(col(User.removed_at).is_(None)).order_by(col(User.name)))
        return found.all()


async def user_and_grants(database: Database, name: str) -> tuple[User, list[tuple[str, Grant]]]:
    """A user and the budgets that the user holds, by dataset."""
    async with database.reading() as session:
        user = await _user(session, name)
        found = await session.exec(
            select(Dataset.name, Grant)
            .join(Grant, col(Grant.dataset_id) == col(Dataset.id))
            .where(Grant.user_id == user.id, col(Dataset.removed_at).is_(None))
            .order_by(col(Dataset.name))
        )
        return user, list(found.all())


async def add_user(database: Database, name: str, email: str | None, *, may_query: bool) -> None:
    """Adds a user. One that was removed comes back with the budgets and the history of before."""
    if not 1 <= len(name) <= 200:
        raise AdministrationError("a user's name has 1 to 200 characters")
    async with database.administering() as session:
        user = (await session.exec(select(User).where(User.name == name))).first()
        if user is not None and user.removed_at is None:
            raise AdministrationError(f"there is a user {name} already")
        user = user or User(name=name)
        user.email, user.may_query, user.removed_at = email, may_query, None
        session.add(user)
        await audit.record_user(session, user)


async def remove_user(database: Database, name: str) -> None:
    """Ends a user's access, with all tokens. History and spending stay on record."""
    async with database.administering() as session:
        user = await _user(session, name)
        user.removed_at = now()
        held = update(Token).where(col(Token.user_id) == user.id, col(Token.revoked_at).is_(None))
        await session.exec(held.values(revoked_at=now()))
        await audit.record(session, AuditKind.USER_REMOVED, {"user": user.name})


async def datasets(database: Database) -> Sequence[Dataset]:
    """The datasets that are served, by name."""
    async with database.reading() as session:
        kept = select(Dataset).where(col(Dataset.removed_at).is_(None))
        return (await session.exec(kept.order_by(col(Dataset.name)))).all()


async def dataset_and_grants(database: Database, name: str) -> tuple[Dataset, list[tuple[str, Grant]]]:
    """A dataset and who holds a budget on it."""
    async with database.reading() as session:
        dataset = await _dataset(session, name)
        found = await session.exec(
            select(User.name, Grant)
            .join(Grant, col(Grant.user_id) == col(User.id))
            .where(Grant.dataset_id == dataset.id)
            .order_by(col(User.name))
        )
        return dataset, list(found.all())


async def remove_dataset(database: Database, name: str) -> int:
    """Ends all queries on a dataset. Its history and spending stay on record; its file is not touched.

    Returns its id, under which its prepared rows are kept.
    """
    async with database.administering() as session:
        dataset = await _dataset(session, name)
        dataset.removed_at = now()
        await audit.record(session, AuditKind.DATASET_REMOVED, {"dataset": dataset.name})
    return dataset.id


async def cap(database: Database, name: str, amounts: dict[str, str | None]) -> Dataset:
    """Sets or, with "none", lifts an owner's caps on a dataset.

    `amounts` may name epsilon and delta (over all users), query_epsilon and query_delta (for one query); what is
    None stays as it is. What was spent stays spent.

    Raises:
        AdministrationError: no such dataset, or not an amount.
    """
    columns = {
        "epsilon": ("cap_epsilon", EPSILON_UNITS),
        "delta": ("cap_delta", DELTA_UNITS),
        "query_epsilon": ("query_cap_epsilon", EPSILON_UNITS),
        "query_delta": ("query_cap_delta", DELTA_UNITS),
    }
    async with database.administering() as session:
        dataset = await _dataset(session, name)
        for which, text in amounts.items():
            if text is not None:
                column, units = columns[which]
                setattr(dataset, column, _cap_units(text, units))
        await audit.record_caps(session, dataset)
    return dataset


def _cap_units(text: str, units: int) -> int | None:
    if text.lower() == "none":
        return None
    try:
        if units == EPSILON_UNITS:
            return PrivacyLoss.declared(text).epsilon_units
        return PrivacyLoss.declared("0", text).delta_units
    except ValueError as error:
        raise AdministrationError(str(error)) from None


async def grant(database: Database, user_name: str, dataset_name: str, epsilon: str, delta: str) -> Grant:
    """Sets the initial budget of a user on a dataset; what was spent stays spent."""
    try:
        initial = PrivacyLoss.declared(epsilon, delta)
    except ValueError as error:
        raise AdministrationError(str(error)) from None
    async with database.administering() as session:
        user, dataset = await _user(session, user_name), await _dataset(session, dataset_name)
        found = await session.get(Grant, (user.id, dataset.id))
        granted = found or Grant(user_id=user.id, dataset_id=dataset.id)
        granted.initial_epsilon, granted.initial_delta = initial.epsilon_units, initial.delta_units
        session.add(granted)
        await audit.record_grant(session, user, dataset, granted)
    return granted


async def _user(session: AsyncSession, name: str) -> User:
    found = await session.exec(select(User).where(User.name == name, col(User.removed_at).is_(None)))
    user = found.first()
    if user is None:
        raise AdministrationError(f"there is no user {name}; see: lomas-gql user list")
    return user


async def _dataset(session: AsyncSession, name: str) -> Dataset:
    found = await session.exec(select(Dataset).where(Dataset.name == name, col(Dataset.removed_at).is_(None)))
    dataset = found.first()
    if dataset is None:
        raise AdministrationError(f"there is no dataset {name}; see: lomas-gql dataset list")
    return dataset

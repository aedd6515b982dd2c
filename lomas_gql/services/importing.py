"""Imports the YAML that Lomas owners already have: collections of datasets and of users."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.database.engine import Database
from lomas_gql.database.models import AuditKind, Dataset, Grant, User
from lomas_gql.datasets.fetching import beginning
from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.s3 import S3Source
from lomas_gql.datasets.sources import InPlaceSource, Source, stored
from lomas_gql.datasets.typing import unfit_columns
from lomas_gql.datasets.web import UrlSource
from lomas_gql.errors import AdministrationError, SourceUnavailable
from lomas_gql.metadata import Metadata, MetadataError, Mistake, mistakes_in
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import audit
from lomas_gql.services.access import DatasetAccess, MetadataAccess
from lomas_gql.words import Engine

_MOST_METADATA = 2**22


class _Entry(BaseModel):
    # Lomas's own files carry fields of other versions and services; what we do not use may stand there.
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Dataset(_Entry):
    dataset_name: str = Field(min_length=1, max_length=200)
    dataset_access: DatasetAccess
    metadata_access: MetadataAccess


class _Amount(_Entry):
    dataset_name: str
    initial_epsilon: float | str
    initial_delta: float | str
    total_spent_epsilon: float | str = 0.0
    total_spent_delta: float | str = 0.0


class _Id(_Entry):
    name: str
    email: str | None = None


class _User(_Entry):
    user_name: str = Field(min_length=1, max_length=200)
    email: str | None = None
    may_query: bool = True
    datasets_list: list[_Amount] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _newer_form(cls, raw: Any) -> Any:
        """Newer collections say `id: {name, email}` where older ones say `user_name`."""
        if isinstance(raw, dict) and "user_name" not in raw and "id" in raw:
            identity = _Id.model_validate(raw["id"])
            return raw | {"user_name": identity.name, "email": identity.email}
        return raw


class _Collection(_Entry):
    datasets: list[_Dataset] | None = None
    users: list[_User] | None = None


@dataclass
class Imported:
    """What an import changed, in words."""

    changes: list[str] = field(default_factory=list)


@dataclass
class _Mistakes:
    lines: list[str] = field(default_factory=list)

    def add(self, file: Path | str, mistakes: list[Mistake]) -> None:
        for mistake in mistakes:
            place = ".".join(str(part) for part in mistake.path)
            self.lines.append(f"{file}: {place or 'the whole file'}: {mistake.reason}")


async def import_catalogue(database: Database, files: list[Path]) -> Imported:
    """Brings in all files in one transaction. Repeated, it changes nothing; spending is never lowered.

    Raises:
        AdministrationError: with a line of file, path and reason for each mistake; nothing was changed.
    """
    mistakes, imported = _Mistakes(), Imported()
    collections = [(file, _read(file, mistakes)) for file in files]
    datasets = [(file, i, d) for file, c in collections if c for i, d in enumerate(c.datasets or [])]
    ready = [(d.dataset_name, *_checked_dataset(file, i, d, mistakes)) for file, i, d in datasets]
    _stop_at(mistakes)
    async with database.administering() as session:
        # No charge comes in between: whoever charges takes the grant first.
        await session.exec(select(Grant).order_by(col(Grant.user_id), col(Grant.dataset_id)).with_for_update())
        for name, source, facts in ready:
            await _put_dataset(session, imported, name, source, facts)
        for file, collection in collections:
            for i, user in enumerate((collection and collection.users) or []):
                await _put_user(session, imported, mistakes, file, i, user)
        _stop_at(mistakes)
    return imported


def _stop_at(mistakes: _Mistakes) -> None:
    if mistakes.lines:
        raise AdministrationError("\n".join(["nothing was imported:", *mistakes.lines]))


def _load(file: Path, mistakes: _Mistakes) -> Any:
    try:
        return _parsed(file.read_bytes(), file, mistakes)
    except OSError as error:
        mistakes.add(file, [Mistake((), error.strerror or "cannot be read")])
    return None


def _parsed(text: bytes, file: Path | str, mistakes: _Mistakes) -> Any:
    try:
        found = yaml.safe_load(text.decode())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mistakes.add(file, [Mistake((), "is not YAML: " + " ".join(str(error).split()))])
        return None
    if found is None:
        mistakes.add(file, [Mistake((), "is empty")])
    return found


def _read(file: Path, mistakes: _Mistakes) -> _Collection | None:
    raw = _load(file, mistakes)
    if raw is None:
        return None
    try:
        collection = _Collection.model_validate(raw)
    except ValidationError as error:
        mistakes.add(file, mistakes_in(error))
        return None
    if collection.datasets is None and collection.users is None:
        mistakes.add(file, [Mistake((), "holds neither datasets nor users")])
    return collection


def _checked_dataset(file: Path, index: int, entry: _Dataset, mistakes: _Mistakes) -> tuple[Source, dict[str, Any]]:
    """The dataset's source and the raw metadata, once both are known to be usable."""
    here = ("datasets", index, entry.dataset_name)
    source = entry.dataset_access.source(file)
    described = entry.metadata_access.source(file)
    facts = _metadata(described, file, here, mistakes)
    if facts is None:
        return source, {}
    try:
        metadata = Metadata.parse(facts)
        for unfit in unfit_columns(source.schema(), metadata) or _unfit_in_place(source, metadata):
            mistakes.add(file, [Mistake((*here, "dataset_access"), f"{source.describe()} {unfit}")])
    except MetadataError as error:
        mistakes.add(described.describe(), error.mistakes)
    except SourceUnavailable as error:
        mistakes.add(file, [Mistake((*here, "dataset_access"), error.reason)])
    return source, facts


def _metadata(
    source: FileSource | UrlSource | S3Source, file: Path, here: tuple[str | int, ...], mistakes: _Mistakes
) -> Any:
    if isinstance(source, FileSource):
        return _load(Path(source.path), mistakes)
    try:
        text = beginning(source.chunks(), _MOST_METADATA + 1)
        if len(text) > _MOST_METADATA:
            raise SourceUnavailable(f"{source.describe()} is too large for metadata")
        return _parsed(text, source.describe(), mistakes)
    except SourceUnavailable as error:
        mistakes.add(file, [Mistake((*here, "metadata_access"), error.reason)])
    return None


def _unfit_in_place(source: Source, metadata: Metadata) -> list[str]:
    """What keeps SmartNoise SQL from running where the rows are."""
    if not isinstance(source, InPlaceSource) or source.engine is Engine.DUCKDB:
        return []
    return source.unfit_in_place(metadata)


async def _put_dataset(
    session: AsyncSession, imported: Imported, name: str, source: Source, facts: dict[str, Any]
) -> None:
    found = (await session.exec(select(Dataset).where(Dataset.name == name))).first()
    # Through JSON's eyes: dates in YAML are written as text.
    facts = yaml_to_json(facts)
    dataset = found or Dataset(name=name, source=stored(source), facts=facts)
    if found and (found.source, found.facts, found.removed_at) == (stored(source), facts, None):
        return
    dataset.source, dataset.facts, dataset.removed_at = stored(source), facts, None
    session.add(dataset)
    imported.changes.append(f"dataset {name}: {'changed' if found else 'added'}")
    await audit.record_dataset(session, dataset)


def yaml_to_json(value: Any) -> Any:
    """YAML's dates as ISO 8601 text; everything else as it is."""
    match value:
        case dict():
            return {str(key): yaml_to_json(item) for key, item in value.items()}
        case list():
            return [yaml_to_json(item) for item in value]
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return value.isoformat()


async def _put_user(
    session: AsyncSession, imported: Imported, mistakes: _Mistakes, file: Path, index: int, entry: _User
) -> None:
    user = await _put_account(session, imported, entry)
    for place, amount in enumerate(entry.datasets_list):
        here = ("users", index, entry.user_name, "datasets_list", place)
        try:
            await _put_grant(session, imported, user, amount)
        except ValueError as error:
            mistakes.add(file, [Mistake(here, str(error))])


async def _put_account(session: AsyncSession, imported: Imported, entry: _User) -> User:
    found = (await session.exec(select(User).where(User.name == entry.user_name))).first()
    user = found or User(name=entry.user_name)
    wanted = (entry.email, entry.may_query, None)
    if found and (found.email, found.may_query, found.removed_at) == wanted:
        return found
    user.email, user.may_query, user.removed_at = wanted
    session.add(user)
    imported.changes.append(f"user {entry.user_name}: {'changed' if found else 'added'}")
    await audit.record_user(session, user)
    return user


async def _put_grant(session: AsyncSession, imported: Imported, user: User, amount: _Amount) -> None:
    dataset = (await session.exec(select(Dataset).where(Dataset.name == amount.dataset_name))).first()
    if dataset is None or dataset.removed_at is not None:
        raise ValueError(f"there is no dataset {amount.dataset_name}")
    initial = PrivacyLoss.declared(amount.initial_epsilon, amount.initial_delta)
    spent = PrivacyLoss.charged(amount.total_spent_epsilon, amount.total_spent_delta)
    found = await session.get(Grant, (user.id, dataset.id))
    grant = found or Grant(user_id=user.id, dataset_id=dataset.id, spent_epsilon=0, spent_delta=0)
    # What comes from another platform was spent on the dataset, too.
    more = spent.less(grant.spent)
    if found and found.initial == initial and more == PrivacyLoss():
        return
    grant.initial_epsilon, grant.initial_delta = initial.epsilon_units, initial.delta_units
    for account in (grant, dataset):
        account.spent_epsilon += more.epsilon_units
        account.spent_delta += more.delta_units
        session.add(account)
    imported.changes.append(f"grant of {user.name} on {dataset.name}: set")
    await audit.record_grant(session, user, dataset, grant)
    if more != PrivacyLoss():
        facts = {"user": user.name, "dataset": dataset.name} | audit.texts(more)
        await audit.record(session, AuditKind.SPENT_ELSEWHERE, facts)

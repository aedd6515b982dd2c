"""Which datasets a user may see, and the user's releases on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Text, cast, func
from sqlalchemy.orm import defer
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.auth import Viewer
from lomas_gql.database.models import Dataset, Grant, Release, ReleaseStatus
from lomas_gql.datasets.sources import Source, source_from
from lomas_gql.errors import DatasetUnavailable
from lomas_gql.libraries.base import Answer
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss

T = TypeVar("T")


@dataclass(frozen=True)
class Granted:
    """A dataset together with the viewer's budget on it."""

    dataset: Dataset
    grant: Grant

    @property
    def id(self) -> int:
        return self.dataset.id

    @property
    def remaining(self) -> PrivacyLoss:
        """The smaller of what remains of the viewer's grant and of the owner's cap over all users."""
        return self.grant.initial.less(self.grant.spent).smaller(self.dataset.cap_remaining)

    @property
    def metadata(self) -> Metadata:
        return replace(metadata_of(self.dataset), engine=self.source.engine)

    @property
    def source(self) -> Source:
        return source_of(self.dataset)


@dataclass(frozen=True)
class Page(Generic[T]):
    """Part of a list in a fixed order."""

    items: Sequence[T]
    has_next: bool
    has_previous: bool
    total: int


@dataclass(frozen=True)
class HistoryFilter:
    """Which of a dataset's releases a page holds: newest first, older than the release `after`."""

    first: int
    after: int | None = None
    library: str | None = None
    status: str | None = None


def metadata_of(dataset: Dataset) -> Metadata:
    """What is public about a dataset."""
    return _parsed(json.dumps(dataset.facts))


@lru_cache(maxsize=1000)
def _parsed(facts: str) -> Metadata:
    return Metadata.parse(json.loads(facts))


def source_of(dataset: Dataset) -> Source:
    """Where a dataset's private rows are."""
    return source_from(dataset.source)


async def granted(session: AsyncSession, viewer: Viewer, name: str) -> Granted:
    """The dataset of that name.

    Raises:
        DatasetUnavailable: unknown, removed or not granted to the viewer, which look the same.
    """
    [found] = await granted_by_name(session, viewer, [name])
    if found is None:
        raise DatasetUnavailable
    return found


async def granted_by_name(session: AsyncSession, viewer: Viewer, names: Sequence[str]) -> list[Granted | None]:
    """The datasets of these names, in their order; None for what the viewer may not see."""
    found = await session.exec(_granted_to(viewer).where(col(Dataset.name).in_(set(names))))
    by_name = {dataset.name: Granted(dataset, grant) for dataset, grant in found}
    return [by_name.get(name) for name in names]


async def granted_by_id(session: AsyncSession, viewer: Viewer, ids: Sequence[int]) -> list[Granted | None]:
    """The datasets with these ids, in their order; None for what the viewer may not see.

    A removed dataset is still named by the releases on it, so it is found here.
    """
    found = await session.exec(_granted_to(viewer, removed=True).where(col(Dataset.id).in_(set(ids))))
    by_id = {dataset.id: Granted(dataset, grant) for dataset, grant in found}
    return [by_id.get(id) for id in ids]


async def granted_page(session: AsyncSession, viewer: Viewer, first: int, after: str | None) -> Page[Granted]:
    """The viewer's datasets by name, `first` of them from beyond the name `after`."""
    query = _granted_to(viewer).order_by(col(Dataset.name)).limit(first + 1)
    if after is not None:
        query = query.where(col(Dataset.name) > after)
    items = [Granted(dataset, grant) for dataset, grant in await session.exec(query)]
    total = (await session.exec(select(func.count()).select_from(_granted_to(viewer).subquery()))).one()
    return Page(items[:first], len(items) > first, after is not None, total)


async def histories(
    session: AsyncSession, viewer: Viewer, dataset_ids: Sequence[int], wanted: HistoryFilter
) -> list[Page[Release]]:
    """One page of the viewer's releases for each dataset: two statements, however many datasets."""
    conditions: list[Any] = [Release.user_id == viewer.id, col(Release.dataset_id).in_(dataset_ids)]
    if wanted.library:
        conditions.append(Release.library == wanted.library)
    if wanted.status:
        conditions.append(Release.status == wanted.status)
    counts = await session.exec(
        select(Release.dataset_id, func.count()).where(*conditions).group_by(col(Release.dataset_id))
    )
    totals = dict(counts.all())
    if wanted.after is not None:
        conditions.append(col(Release.id) < wanted.after)
    rank = func.row_number().over(partition_by=col(Release.dataset_id), order_by=col(Release.id).desc())
    ranked = select(col(Release.id).label("id"), rank.label("rank")).where(*conditions).subquery()
    found = await session.exec(
        _releases()
        .join(ranked, ranked.c.id == Release.id)
        .where(ranked.c.rank <= wanted.first + 1)
        .order_by(col(Release.id).desc())
    )
    pages: dict[int, list[Release]] = {id: [] for id in dataset_ids}
    for release in found:
        pages[release.dataset_id].append(release)
    return [
        Page(items[: wanted.first], len(items) > wanted.first, wanted.after is not None, totals.get(id, 0))
        for id, items in pages.items()
    ]


async def own_releases(session: AsyncSession, viewer: Viewer, ids: Sequence[int]) -> list[Release | None]:
    """The viewer's releases with these ids, in their order; None for what is not the viewer's."""
    found = await session.exec(_releases().where(Release.user_id == viewer.id, col(Release.id).in_(set(ids))))
    by_id = {release.id: release for release in found}
    return [by_id.get(id) for id in ids]


async def releases_by_id(session: AsyncSession, ids: set[int]) -> dict[int, Release]:
    """These releases, whosever they are: for the server itself, which has asked before whose they are."""
    found = await session.exec(_releases().where(col(Release.id).in_(ids)))
    return {release.id: release for release in found}


async def answers(session: AsyncSession, viewer: Viewer, ids: Sequence[int]) -> list[Answer | None]:
    """What the viewer's releases with these ids have answered, in their order."""
    mine = select(Release.id, Release.answer).where(Release.user_id == viewer.id, col(Release.id).in_(set(ids)))
    by_id = {id: Answer.from_json(stored) for id, stored in await session.exec(mine) if stored is not None}
    return [by_id.get(id) for id in ids]


async def answer_lengths(session: AsyncSession, viewer: Viewer, ids: Sequence[int]) -> list[int]:
    """How long the stored answers of the viewer's releases with these ids are, in characters of JSON."""
    length = func.length(cast(col(Release.answer), Text))
    mine = select(length).where(Release.user_id == viewer.id, col(Release.id).in_(set(ids)))
    return [found for found in await session.exec(mine) if found is not None]


async def running_release(session: AsyncSession, viewer: Viewer) -> Release | None:
    """The viewer's oldest release that is still running."""
    mine = _releases().where(Release.user_id == viewer.id, Release.status == ReleaseStatus.RUNNING.value)
    row: Release | None = (await session.exec(mine.order_by(col(Release.id)))).first()
    return row


def _releases() -> Any:
    """Releases without their answers, which may weigh megabytes each: see `answers`."""
    return select(Release).options(defer(Release.answer, raiseload=True))  # type: ignore[arg-type]


def _granted_to(viewer: Viewer, *, removed: bool = False) -> Any:
    query = select(Dataset, Grant).join(Grant, col(Grant.dataset_id) == col(Dataset.id))
    query = query.where(Grant.user_id == viewer.id)
    return query if removed else query.where(col(Dataset.removed_at).is_(None))

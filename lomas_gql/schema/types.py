"""Viewers, datasets, budgets and releases."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from lomas_gql import auth
from lomas_gql.database import models
from lomas_gql.database.models import ReleaseStatus
from lomas_gql.libraries.base import Library
from lomas_gql.privacy import PrivacyLoss as ExactLoss
from lomas_gql.schema.columns import DatasetMetadata
from lomas_gql.schema.context import Info
from lomas_gql.schema.ids import Listing, opaque
from lomas_gql.schema.problems import UserError, failure_of
from lomas_gql.schema.results import DpResult, PrivacyLoss, Table, result_of
from lomas_gql.schema.scalars import JSON
from lomas_gql.schema.words import described_enum
from lomas_gql.services import releases, running
from lomas_gql.services.catalogue import Granted, HistoryFilter, Page
from lomas_gql.services.releases import Fitted
from lomas_gql.services.stalling import told

described_enum(ReleaseStatus)


@strawberry.interface(description="Anything that can be fetched again by its id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque and stable: `node(id)` fetches the object again.")


@strawberry.type(description="What a viewer may spend on a dataset, and has spent: amounts of epsilon and delta.")
class Budget:
    initial: PrivacyLoss = strawberry.field(description="What the owner granted in all.")
    spent: PrivacyLoss = strawberry.field(description="What the viewer's releases were charged, failed ones too.")
    remaining: PrivacyLoss = strawberry.field(
        description="What is left: initial less spent, never below 0. The owner's caps may allow less."
    )

    @classmethod
    def of(cls, initial: ExactLoss, spent: ExactLoss) -> Budget:
        remaining = initial.less(spent)
        return cls(initial=PrivacyLoss.of(initial), spent=PrivacyLoss.of(spent), remaining=PrivacyLoss.of(remaining))


@strawberry.type(description="The owner's caps on a dataset; null where there is none.")
class DatasetCap:
    remaining_epsilon: float | None = strawberry.field(
        description="Epsilon left for all users together; null without a cap."
    )
    remaining_delta: float | None = strawberry.field(
        description="Delta left for all users together; null without a cap."
    )
    query_epsilon: float | None = strawberry.field(
        description="The most epsilon that one query may cost; null without a cap."
    )
    query_delta: float | None = strawberry.field(
        description="The most delta that one query may cost; null without a cap."
    )

    @classmethod
    def of(cls, dataset: models.Dataset) -> DatasetCap:
        left, query = dataset.cap_remaining, dataset.query_cap
        return cls(
            remaining_epsilon=left.epsilon if dataset.cap_epsilon is not None else None,
            remaining_delta=left.delta if dataset.cap_delta is not None else None,
            query_epsilon=query.epsilon if dataset.query_cap_epsilon is not None else None,
            query_delta=query.delta if dataset.query_cap_delta is not None else None,
        )


@strawberry.type(description="Where a page lies in its list. Pages go forward only: there is no `last` or `before`.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follow after this page.")
    has_previous_page: bool = strawberry.field(
        description="Whether the page began after a cursor, so that there is something before it."
    )
    start_cursor: str | None = strawberry.field(description="The cursor of the first edge; null on an empty page.")
    end_cursor: str | None = strawberry.field(
        description="The cursor of the last edge, which `after` takes for the next page; null on an empty page."
    )


@strawberry.type(description="A dataset that is granted to the viewer.")
class Dataset(Node):
    name: str = strawberry.field(description="The name by which queries call it.")
    budget: Budget = strawberry.field(description="The viewer's own budget on this dataset.")
    cap: DatasetCap = strawberry.field(
        description="The owner's caps on epsilon and delta, over all users and for one query."
    )
    granted: strawberry.Private[Granted]

    @classmethod
    def of(cls, granted: Granted) -> Dataset:
        return cls(
            id=strawberry.ID(opaque("Dataset", granted.id)),
            name=granted.dataset.name,
            budget=Budget.of(granted.grant.initial, granted.grant.spent),
            cap=DatasetCap.of(granted.dataset),
            granted=granted,
        )

    @strawberry.field(description="What is public about it: columns, bounds, declared number of rows.")
    def metadata(self) -> DatasetMetadata:
        return DatasetMetadata.of(self.granted.metadata)

    @strawberry.field(
        description="Random rows that fit the metadata and nothing else; the same seed gives the same rows."
    )
    async def dummy(
        self,
        info: Info,
        rows: Annotated[
            int, strawberry.argument(description="How many rows, from 0 to `limits.maxDummyRows`.")
        ] = 100,
        seed: Annotated[
            int, strawberry.argument(description="Where the randomness begins: the same seed gives the same rows.")
        ] = 42,
    ) -> Table:
        runtime = info.context.runtime
        info.context.check(rows, runtime.settings.max_dummy_rows, "rows")
        return Table.of(await releases.dummy_table(runtime, info.context.viewer, self.granted.metadata, rows, seed))

    @strawberry.field(description="The viewer's own releases on this dataset, newest first.")
    async def history(
        self,
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="How many at most, from 0 to `limits.maxPageSize`.")
        ] = 20,
        after: Annotated[
            str | None, strawberry.argument(description="A cursor of an earlier page of this list: begin after it.")
        ] = None,
        library: Annotated[Library | None, strawberry.argument(description="Only releases of this library.")] = None,
        status: Annotated[
            ReleaseStatus | None, strawberry.argument(description="Only releases of this status.")
        ] = None,
    ) -> ReleaseConnection:
        info.context.check(first, info.context.runtime.settings.max_page_size, "first")
        listing = Listing.of_releases(self.granted.grant.user_id, self.granted.id)
        wanted = HistoryFilter(
            first=first,
            after=listing.number(after) if after is not None else None,
            library=library.value if library else None,
            status=status.value if status else None,
        )
        return ReleaseConnection.of(await info.context.histories.load((self.granted.id, wanted)), listing)


def _created(root: Release, info: Info) -> datetime:
    return told(root.row.created_at, info.context.runtime.settings.answer_grain_seconds)


def _finished(root: Release, info: Info) -> datetime | None:
    at = root.row.finished_at
    return told(at, info.context.runtime.settings.answer_grain_seconds) if at else None


@strawberry.type(description="One execution of a query on private rows. It was charged before it ran.")
class Release(Node):
    library: Library = strawberry.field(description="The library that ran it.")
    status: ReleaseStatus = strawberry.field(description="Where it stands; all but RUNNING are final.")
    created_at: datetime = strawberry.field(resolver=_created, description="When it was charged and began, in UTC.")
    finished_at: datetime | None = strawberry.field(
        resolver=_finished, description="When it ended, in UTC; null while it runs."
    )
    query: JSON = strawberry.field(description="The query as it was sent: `DpQueryInput.query` in JSON.")
    cost: PrivacyLoss = strawberry.field(description="What was charged. It stays charged, whatever the status.")
    row: strawberry.Private[models.Release]

    @classmethod
    def of(cls, row: models.Release) -> Release:
        return cls(
            id=strawberry.ID(opaque("Release", row.id)),
            library=Library(row.library),
            status=ReleaseStatus(row.status),
            query=JSON(row.query),
            cost=PrivacyLoss.of(row.cost),
            row=row,
        )

    @strawberry.field(description="The dataset that it ran on.")
    async def dataset(self, info: Info) -> Dataset:
        granted = await info.context.datasets.load(self.row.dataset_id)
        assert granted is not None, "a release has a grant, and grants are never deleted"
        return Dataset.of(granted)

    @strawberry.field(description="What was released; null while it runs, and where nothing was.")
    async def result(self, info: Info) -> DpResult | None:
        answer = await info.context.answers.load(self.row.id)
        if answer is None or answer.library is not Library.SMARTNOISE_SYNTH:
            return result_of(answer, None) if answer else None
        granted = await info.context.datasets.load(self.row.dataset_id)
        assert granted is not None
        return result_of(answer, Fitted(granted.metadata, self.row.id))

    @strawberry.field(description="How far a running release has come, from 0 to 1, where its library tells.")
    def progress(self, info: Info) -> float | None:
        told = running.progress_of(info.context.runtime, self.row)
        return told.share if told else None

    @strawberry.field(description="What a running release is doing, in a few English words, where its library tells.")
    def phase(self, info: Info) -> str | None:
        told = running.progress_of(info.context.runtime, self.row)
        return told.phase if told else None

    @strawberry.field(description="Why there is no result; null while it runs, and where there is one.")
    def error(self) -> UserError | None:
        if self.row.failure is None:
            return None
        return failure_of(self.row.library, self.row.cost, self.row.failure)


@strawberry.type(description="A release and its place in the list.")
class ReleaseEdge:
    cursor: str = strawberry.field(
        description="Opaque. `after` takes it, to go on behind this edge; it holds in this list alone."
    )
    node: Release = strawberry.field(description="The release.")


@strawberry.type(description="A page of releases, newest first.")
class ReleaseConnection:
    edges: list[ReleaseEdge] = strawberry.field(description="The releases of this page with their cursors.")
    nodes: list[Release] = strawberry.field(description="The releases of this page, without cursors.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(description="How many releases there are in all pages.")

    @classmethod
    def of(cls, page: Page[models.Release], listing: Listing) -> ReleaseConnection:
        nodes = [Release.of(row) for row in page.items]
        edges = [ReleaseEdge(cursor=listing.cursor(node.row.id), node=node) for node in nodes]
        info = _page_info(page, [edge.cursor for edge in edges])
        return cls(edges=edges, nodes=nodes, page_info=info, total_count=page.total)


@strawberry.type(description="A dataset and its place in the list.")
class DatasetEdge:
    cursor: str = strawberry.field(
        description="Opaque. `after` takes it, to go on behind this edge; it holds in this list alone."
    )
    node: Dataset = strawberry.field(description="The dataset.")


@strawberry.type(description="A page of datasets, by name.")
class DatasetConnection:
    edges: list[DatasetEdge] = strawberry.field(description="The datasets of this page with their cursors.")
    nodes: list[Dataset] = strawberry.field(description="The datasets of this page, without cursors.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(description="How many datasets there are in all pages.")

    @classmethod
    def of(cls, page: Page[Granted], listing: Listing) -> DatasetConnection:
        nodes = [Dataset.of(granted) for granted in page.items]
        edges = [DatasetEdge(cursor=listing.cursor(node.name), node=node) for node in nodes]
        info = _page_info(page, [edge.cursor for edge in edges])
        return cls(edges=edges, nodes=nodes, page_info=info, total_count=page.total)


@strawberry.type(description="The user whose token came with the request.")
class Viewer(Node):
    name: str = strawberry.field(description="The user's name.")
    may_query: bool = strawberry.field(
        description="Whether the user may `execute` and `submit`; the rest is open to every user."
    )

    @classmethod
    def of(cls, viewer: auth.Viewer) -> Viewer:
        return cls(id=strawberry.ID(opaque("Viewer", viewer.id)), name=viewer.name, may_query=viewer.may_query)

    @strawberry.field(
        description="The release that is running now, if any: by default one at a time. The oldest of several."
    )
    async def ongoing(self, info: Info) -> Release | None:
        row = await info.context.ongoing.load(info.context.viewer.id)
        return Release.of(row) if row else None


def _page_info(page: Page[models.Release] | Page[Granted], cursors: list[str]) -> PageInfo:
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )

"""Viewers, datasets, budgets and releases."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from lomas_gql import auth
from lomas_gql.database import models
from lomas_gql.database.models import ReleaseStatus
from lomas_gql.libraries.base import Library
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss as ExactLoss
from lomas_gql.schema.columns import Column, column_of
from lomas_gql.schema.context import Info
from lomas_gql.schema.ids import Listing, opaque
from lomas_gql.schema.problems import UserError, failure_of
from lomas_gql.schema.results import DpResult, PrivacyLoss, Table, result_of
from lomas_gql.schema.scalars import JSON
from lomas_gql.services import releases, running
from lomas_gql.services.catalogue import Granted, HistoryFilter, Page
from lomas_gql.services.releases import Fitted

strawberry.enum(ReleaseStatus, description=ReleaseStatus.__doc__)


@strawberry.interface(description="Anything that can be fetched again by its id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque and stable.")


@strawberry.type(description="What a viewer may spend on a dataset, and has spent.")
class Budget:
    initial: PrivacyLoss = strawberry.field(description="What the owner granted.")
    spent: PrivacyLoss = strawberry.field(description="What the viewer's releases were charged.")
    remaining: PrivacyLoss = strawberry.field(description="What is left, never below zero.")

    @classmethod
    def of(cls, initial: ExactLoss, spent: ExactLoss) -> Budget:
        remaining = initial.less(spent)
        return cls(initial=PrivacyLoss.of(initial), spent=PrivacyLoss.of(spent), remaining=PrivacyLoss.of(remaining))


@strawberry.type(description="The owner's caps on a dataset; null where there is none.")
class DatasetCap:
    remaining_epsilon: float | None = strawberry.field(description="Epsilon left for all users together.")
    remaining_delta: float | None = strawberry.field(description="Delta left for all users together.")
    query_epsilon: float | None = strawberry.field(description="The most epsilon that one query may cost.")
    query_delta: float | None = strawberry.field(description="The most delta that one query may cost.")

    @classmethod
    def of(cls, dataset: models.Dataset) -> DatasetCap:
        left, query = dataset.cap_remaining, dataset.query_cap
        return cls(
            remaining_epsilon=left.epsilon if dataset.cap_epsilon is not None else None,
            remaining_delta=left.delta if dataset.cap_delta is not None else None,
            query_epsilon=query.epsilon if dataset.query_cap_epsilon is not None else None,
            query_delta=query.delta if dataset.query_cap_delta is not None else None,
        )


@strawberry.type(description="What is public about a dataset.")
class DatasetMetadata:
    max_ids: int = strawberry.field(description="The most rows that belong to one individual.")
    rows: int = strawberry.field(description="The number of rows that the owner declares; not counted from the data.")
    row_privacy: bool = strawberry.field(description="Whether each row is an individual.")
    censor_dims: bool = strawberry.field(description="Whether the owner wants rare groups dropped.")
    columns: list[Column] = strawberry.field(description="The columns, in the owner's order.")
    smartnoise: JSON = strawberry.field(description="The same in the dictionary format of SmartNoise SQL.")

    @classmethod
    def of(cls, metadata: Metadata) -> DatasetMetadata:
        return cls(
            max_ids=metadata.max_ids,
            rows=metadata.rows,
            row_privacy=metadata.row_privacy,
            censor_dims=metadata.censor_dims,
            columns=[column_of(column) for column in metadata.columns],
            smartnoise=JSON(metadata.smartnoise()),
        )


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follow.")
    has_previous_page: bool = strawberry.field(description="Whether the page began after a cursor.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first edge.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last edge; give it as `after`.")


@strawberry.type(description="A dataset that the viewer may query.")
class Dataset(Node):
    name: str = strawberry.field(description="The name by which queries call it.")
    budget: Budget = strawberry.field(description="The viewer's own budget on this dataset.")
    cap: DatasetCap = strawberry.field(description="The owner's caps, over all users and for one query.")
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

    @strawberry.field(description="What is public about it.")
    def metadata(self) -> DatasetMetadata:
        return DatasetMetadata.of(self.granted.metadata)

    @strawberry.field(
        description="Random rows that fit the metadata and nothing else; the same seed gives the same rows."
    )
    async def dummy(
        self,
        info: Info,
        rows: Annotated[int, strawberry.argument(description="How many rows.")] = 100,
        seed: Annotated[int, strawberry.argument(description="Where the randomness begins.")] = 42,
    ) -> Table:
        runtime = info.context.runtime
        info.context.check(rows, runtime.settings.max_dummy_rows, "rows")
        return Table.of(await releases.dummy_table(runtime, self.granted.metadata, rows, seed))

    @strawberry.field(description="The viewer's own releases on this dataset, newest first.")
    async def history(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many at most.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="A cursor of an earlier page.")] = None,
        library: Annotated[Library | None, strawberry.argument(description="Only of this library.")] = None,
        status: Annotated[ReleaseStatus | None, strawberry.argument(description="Only of this status.")] = None,
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


@strawberry.type(description="One charged execution of a query.")
class Release(Node):
    library: Library = strawberry.field(description="The library that ran it.")
    status: ReleaseStatus = strawberry.field(description="Where it stands; all but RUNNING are final.")
    created_at: datetime = strawberry.field(description="When it was charged.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    query: JSON = strawberry.field(description="The input as it was sent.")
    cost: PrivacyLoss = strawberry.field(description="What was charged.")
    row: strawberry.Private[models.Release]

    @classmethod
    def of(cls, row: models.Release) -> Release:
        return cls(
            id=strawberry.ID(opaque("Release", row.id)),
            library=Library(row.library),
            status=ReleaseStatus(row.status),
            created_at=row.created_at,
            finished_at=row.finished_at,
            query=JSON(row.query),
            cost=PrivacyLoss.of(row.cost),
            row=row,
        )

    @strawberry.field(description="The dataset that it ran on.")
    async def dataset(self, info: Info) -> Dataset:
        granted = await info.context.datasets.load(self.row.dataset_id)
        assert granted is not None, "a release has a grant, and grants are never deleted"
        return Dataset.of(granted)

    @strawberry.field(description="What was released.")
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

    @strawberry.field(description="What a running release is doing, in a few words.")
    def phase(self, info: Info) -> str | None:
        told = running.progress_of(info.context.runtime, self.row)
        return told.phase if told else None

    @strawberry.field(description="Why there is no result.")
    def error(self) -> UserError | None:
        if self.row.failure is None:
            return None
        return failure_of(self.row.library, self.row.cost, self.row.failure)


@strawberry.type(description="A release in a list.")
class ReleaseEdge:
    cursor: str = strawberry.field(description="Give it as `after` to go on from here.")
    node: Release = strawberry.field(description="The release.")


@strawberry.type(description="A page of releases.")
class ReleaseConnection:
    edges: list[ReleaseEdge] = strawberry.field(description="The releases with their cursors.")
    nodes: list[Release] = strawberry.field(description="The releases.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(description="How many releases there are in all pages.")

    @classmethod
    def of(cls, page: Page[models.Release], listing: Listing) -> ReleaseConnection:
        nodes = [Release.of(row) for row in page.items]
        edges = [ReleaseEdge(cursor=listing.cursor(node.row.id), node=node) for node in nodes]
        info = _page_info(page, [edge.cursor for edge in edges])
        return cls(edges=edges, nodes=nodes, page_info=info, total_count=page.total)


@strawberry.type(description="A dataset in a list.")
class DatasetEdge:
    cursor: str = strawberry.field(description="Give it as `after` to go on from here.")
    node: Dataset = strawberry.field(description="The dataset.")


@strawberry.type(description="A page of datasets.")
class DatasetConnection:
    edges: list[DatasetEdge] = strawberry.field(description="The datasets with their cursors.")
    nodes: list[Dataset] = strawberry.field(description="The datasets.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(description="How many datasets there are in all pages.")

    @classmethod
    def of(cls, page: Page[Granted], listing: Listing) -> DatasetConnection:
        nodes = [Dataset.of(granted) for granted in page.items]
        edges = [DatasetEdge(cursor=listing.cursor(node.name), node=node) for node in nodes]
        info = _page_info(page, [edge.cursor for edge in edges])
        return cls(edges=edges, nodes=nodes, page_info=info, total_count=page.total)


@strawberry.type(description="Who is asking.")
class Viewer(Node):
    name: str = strawberry.field(description="The user's name.")
    may_query: bool = strawberry.field(description="Whether the user may execute queries.")

    @classmethod
    def of(cls, viewer: auth.Viewer) -> Viewer:
        return cls(id=strawberry.ID(opaque("Viewer", viewer.id)), name=viewer.name, may_query=viewer.may_query)

    @strawberry.field(description="The release that is running now, if any: by default one at a time.")
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

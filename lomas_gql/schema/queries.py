"""What can be read. Reading is free."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import strawberry

from lomas_gql import __version__
from lomas_gql.libraries.base import Library
from lomas_gql.schema import limits
from lomas_gql.schema.context import Info
from lomas_gql.schema.ids import Listing, number_in
from lomas_gql.schema.types import Dataset, DatasetConnection, Node, Release, Viewer
from lomas_gql.services import catalogue
from lomas_gql.workers.pool import Workers

_PACKAGES = {
    Library.OPENDP: "opendp",
    Library.SMARTNOISE_SQL: "smartnoise-sql",
    Library.SMARTNOISE_SYNTH: "smartnoise-synth",
    Library.DIFFPRIVLIB: "diffprivlib",
}


ReleaseId = Annotated[strawberry.ID, strawberry.argument(description="The release's `id`.")]


@strawberry.type(description="A differential privacy library that this server runs.")
class LibraryInfo:
    library: Library = strawberry.field(description="The library, as `Release.library` calls it.")
    version: str = strawberry.field(description="The version that is installed.")
    enabled: bool = strawberry.field(description="Whether it takes queries here.")


# Looked up once: it reads each package's files.
_LIBRARIES = [
    LibraryInfo(library=library, version=version(package), enabled=True) for library, package in _PACKAGES.items()
]


@strawberry.type(description="What one request may ask for.")
class Limits:
    max_depth: int = strawberry.field(description="Levels of nested fields.")
    max_fields: int = strawberry.field(description="Fields in all, fragments expanded.")
    max_aliases: int = strawberry.field(description="Aliases in all, fragments expanded.")
    max_mutations: int = strawberry.field(description="Mutations in one request.")
    max_tokens: int = strawberry.field(description="Names, values and punctuation marks of a document.")
    max_characters: int = strawberry.field(description="Characters of a document; longer values go into variables.")
    max_digits: int = strawberry.field(description="Digits of a number in a document.")
    max_values: int = strawberry.field(description="Values in the JSON of one request, at all levels.")
    max_body_bytes: int = strawberry.field(description="Bytes of one request or WebSocket message.")
    max_subscriptions: int = strawberry.field(description="Operations under way on one WebSocket connection.")
    max_listeners: int = strawberry.field(
        description="WebSocket connections and event streams that are open on one server process."
    )
    max_listeners_per_user: int = strawberry.field(
        description="Of these, those of one user. Clients without a valid token count as one user."
    )
    connection_init_seconds: int = strawberry.field(
        description="Seconds in which a WebSocket client has to send connection_init."
    )
    max_page_size: int = strawberry.field(description="Nodes on one page.")
    max_nodes: int = strawberry.field(description="Nodes that all pages of one request together may ask for.")
    max_answer_values: int = strawberry.field(
        description="Values in the tables and JSON of one answer, at all levels. A table or value that reaches this "
        "is answered whole; what comes after it is refused."
    )
    max_stored_characters: int = strawberry.field(
        description="Characters of JSON in the stored answers that one operation reads, the longest left out: any "
        "one of them can be read."
    )
    max_dummy_rows: int = strawberry.field(description="Dummy rows in one answer or dummy run.")
    max_sample_rows: int = strawberry.field(description="Synthetic rows in one answer.")


@strawberry.type(
    description="Worker processes of one kind and the queue before them, of the server process that answers: of "
    "several behind one address each has its own."
)
class WorkerPool:
    workers: int = strawberry.field(description="How many calls can run at the same time.")
    running: int = strawberry.field(description="Calls that run now.")
    waiting: int = strawberry.field(description="Calls that wait, each user's in turn with those of others.")
    capacity: int = strawberry.field(
        description="How many may run and wait together: who comes then is refused with `SERVER_BUSY`. One user may "
        "have half of it, and fewer the fuller it is."
    )

    @classmethod
    def of(cls, workers: Workers) -> WorkerPool:
        """As it is now."""
        load = workers.load()
        return cls(workers=load.workers, running=load.running, waiting=load.waiting, capacity=load.capacity)


@strawberry.type(description="The state of this server, open to everybody.")
class ServerState:
    live: bool = strawberry.field(description="Whether it answers queries.")
    version: str = strawberry.field(description="The version of this server.")
    libraries: list[LibraryInfo] = strawberry.field(description="The libraries that it runs.")
    limits: Limits = strawberry.field(description="What one request may ask for.")
    public_workers: WorkerPool = strawberry.field(
        description="Those for estimates, dummy runs and sampling, which never see a private row."
    )
    private_workers: WorkerPool | None = strawberry.field(
        description="Those for queries on private rows. They tell how busy all users together are, and so how long "
        "queries take: null where answers are held back to a grain of time."
    )


@strawberry.type(description="What can be read. Reading is free.")
class Query:
    @strawberry.field(
        description="Whether this server answers queries, and with which library versions and limits. "
        "Needs no sign-in."
    )
    def server_state(self, info: Info) -> ServerState:
        settings = info.context.runtime.settings
        return ServerState(
            live=True,
            version=__version__,
            libraries=_LIBRARIES,
            public_workers=WorkerPool.of(info.context.runtime.public),
            private_workers=None if settings.answer_grain_seconds else WorkerPool.of(info.context.runtime.private),
            limits=Limits(
                max_depth=limits.MAX_DEPTH,
                max_fields=limits.MAX_FIELDS,
                max_aliases=limits.MAX_ALIASES,
                max_mutations=limits.MAX_MUTATIONS,
                max_tokens=limits.MAX_TOKENS,
                max_characters=limits.MAX_CHARACTERS,
                max_digits=limits.MAX_DIGITS,
                max_values=limits.MAX_VALUES,
                max_body_bytes=settings.max_body_bytes,
                max_subscriptions=limits.MAX_SUBSCRIPTIONS,
                max_listeners=limits.MAX_LISTENERS,
                max_listeners_per_user=limits.MAX_LISTENERS_PER_USER,
                connection_init_seconds=limits.CONNECTION_INIT_SECONDS,
                max_page_size=settings.max_page_size,
                max_nodes=limits.MAX_NODES,
                max_answer_values=limits.MAX_ANSWER_VALUES,
                max_stored_characters=limits.MAX_STORED_CHARACTERS,
                max_dummy_rows=settings.max_dummy_rows,
                max_sample_rows=settings.max_sample_rows,
            ),
        )

    @strawberry.field(description="Who is asking; null when not signed in.")
    def viewer(self, info: Info) -> Viewer | None:
        viewer = info.context.maybe_viewer
        return Viewer.of(viewer) if viewer else None

    @strawberry.field(
        description="Null when the dataset is unknown or not granted to the viewer: the two look the same."
    )
    async def dataset(
        self, info: Info, name: Annotated[str, strawberry.argument(description="The dataset's name.")]
    ) -> Dataset | None:
        granted = await info.context.datasets_by_name.load(name)
        return Dataset.of(granted) if granted else None

    @strawberry.field(
        description="The datasets granted to the viewer, by name. With budgets and histories: a dashboard."
    )
    async def datasets(
        self,
        info: Info,
        first: Annotated[
            int, strawberry.argument(description="How many at most, from 0 to `limits.maxPageSize`.")
        ] = 20,
        after: Annotated[
            str | None, strawberry.argument(description="A cursor of an earlier page of this list: begin after it.")
        ] = None,
    ) -> DatasetConnection:
        viewer = info.context.viewer
        info.context.check(first, info.context.runtime.settings.max_page_size, "first")
        listing = Listing.of_datasets(viewer.id)
        beyond = listing.place(after) if after is not None else None
        async with info.context.runtime.database.reading() as session:
            page = await catalogue.granted_page(session, viewer, first, beyond)
        return DatasetConnection.of(page, listing)

    @strawberry.field(
        description="One of the viewer's own releases; null where it is not the viewer's, or there is none."
    )
    async def release(self, info: Info, id: ReleaseId) -> Release | None:
        return await _release(info, id)

    @strawberry.field(
        description="The Viewer, Dataset or Release that the viewer may see under that id; null where there is none."
    )
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of a Viewer, Dataset or Release.")],
    ) -> Node | None:
        viewer = info.context.viewer
        if number_in(id, "Viewer") == viewer.id:
            return Viewer.of(viewer)
        dataset_id = number_in(id, "Dataset")
        if dataset_id is None:
            return await _release(info, id)
        granted = await info.context.datasets.load(dataset_id)
        return Dataset.of(granted) if granted and granted.dataset.removed_at is None else None


async def _release(info: Info, id: str) -> Release | None:
    row = await info.context.releases.load(number_in(id, "Release") or 0)
    return Release.of(row) if row else None

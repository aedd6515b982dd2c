"""What each request knows: the running server, who asks, and the loaders that batch its reads."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeAlias

import strawberry
from strawberry.dataloader import DataLoader

from lomas_gql.auth import Viewer
from lomas_gql.database.models import Release
from lomas_gql.errors import DatabaseUnavailable, LimitExceeded, Unauthenticated
from lomas_gql.services import catalogue
from lomas_gql.services.catalogue import Granted, HistoryFilter, Page
from lomas_gql.services.runtime import Runtime
from lomas_gql.services.tokens import viewer_of

HistoryKey: TypeAlias = tuple[int, HistoryFilter]


class Context:
    """One for each operation. Reads of one kind are collected and made together."""

    def __init__(
        self, runtime: Runtime, viewer: Viewer | DatabaseUnavailable | None, authorization: str | None
    ) -> None:
        self.runtime = runtime
        self._viewer = viewer
        self.authorization = authorization
        # What a WebSocket client says at connection_init; Strawberry fills it in.
        self.connection_params: dict[str, object] | None = None
        self.histories: DataLoader[HistoryKey, Page[Release]] = DataLoader(self._load_histories)
        self.datasets: DataLoader[int, Granted | None] = DataLoader(self._load_datasets)

    @classmethod
    async def signed_in(cls, runtime: Runtime, authorization: str | None) -> Context:
        """A context for whoever the Authorization header speaks for, now."""
        try:
            async with runtime.database.reading() as session:
                return cls(runtime, await viewer_of(session, authorization), authorization)
        except DatabaseUnavailable as away:
            # Told by whichever field asks for the viewer, as an error of GraphQL.
            return cls(runtime, away, authorization)

    async def anew(self) -> Context:
        """The same for a later operation on the same connection: a token may have been revoked meanwhile."""
        return await self.signed_in(self.runtime, self.authorization)

    async def viewer_now(self) -> Viewer | None:
        """Who asks, looked up again. Raises as `maybe_viewer`."""
        return (await self.anew()).maybe_viewer

    @property
    def maybe_viewer(self) -> Viewer | None:
        """Who asks; None where nobody is signed in.

        Raises:
            DatabaseUnavailable: nobody can tell now.
        """
        if isinstance(self._viewer, DatabaseUnavailable):
            raise DatabaseUnavailable(self._viewer.reason)
        return self._viewer

    @property
    def viewer(self) -> Viewer:
        """Who asks.

        Raises:
            Unauthenticated: nobody is signed in.
            DatabaseUnavailable: nobody can tell now.
        """
        if self.maybe_viewer is None:
            raise Unauthenticated("Sign in with a valid token: Authorization: Bearer <token>.")
        return self.maybe_viewer

    def check(self, asked: int, most: int, what: str) -> int:
        """`asked`, where it lies between 0 and `most`.

        Raises:
            LimitExceeded: it does not.
        """
        if not 0 <= asked <= most:
            raise LimitExceeded(f"{what} must lie between 0 and {most}.")
        return asked

    async def _load_histories(self, keys: list[HistoryKey]) -> list[Page[Release]]:
        ids: dict[HistoryFilter, list[int]] = defaultdict(list)
        for dataset_id, wanted in keys:
            ids[wanted].append(dataset_id)
        pages: dict[HistoryKey, Page[Release]] = {}
        async with self.runtime.database.reading() as session:
            for wanted, dataset_ids in ids.items():
                found = await catalogue.histories(session, self.viewer, dataset_ids, wanted)
                pages |= {(id, wanted): page for id, page in zip(dataset_ids, found, strict=True)}
        return [pages[key] for key in keys]

    async def _load_datasets(self, ids: list[int]) -> list[Granted | None]:
        async with self.runtime.database.reading() as session:
            return await catalogue.granted_by_id(session, self.viewer, ids)


Info: TypeAlias = strawberry.Info[Context, None]

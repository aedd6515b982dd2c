"""What each request knows: the running server, who asks, and the loaders that batch its reads."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TypeAlias

import strawberry
from strawberry.dataloader import DataLoader

from lomas_gql.auth import Viewer
from lomas_gql.database.models import Release
from lomas_gql.errors import LimitExceeded, Unauthenticated
from lomas_gql.services import catalogue
from lomas_gql.services.catalogue import Granted, HistoryFilter, Page
from lomas_gql.services.runtime import Runtime
from lomas_gql.services.tokens import viewer_of

HistoryKey: TypeAlias = tuple[int, HistoryFilter]
_CODES = {"first": "MAX_PAGE_SIZE_EXCEEDED", "rows": "MAX_ROWS_EXCEEDED"}


class Context:
    """One for each operation. Reads of one kind are collected and made together."""

    def __init__(self, runtime: Runtime, authorization: str | None) -> None:
        self.runtime = runtime
        self.authorization = authorization
        self.maybe_viewer: Viewer | None = None
        # What a WebSocket client says at connection_init; Strawberry fills it in.
        self.connection_params: dict[str, object] | None = None

    async def sign_in(self) -> Viewer | None:
        """Finds out, now, for whom the Authorization header speaks.

        Raises:
            DatabaseUnavailable: nobody can tell now.
        """
        if self.authorization is not None:
            async with self.runtime.database.reading() as session:
                self.maybe_viewer = await viewer_of(session, self.authorization)
        return self.maybe_viewer

    def anew(self) -> Context:
        """The same for a later operation on the same connection: a token may have been revoked meanwhile."""
        return Context(self.runtime, self.authorization)

    @cached_property
    def histories(self) -> DataLoader[HistoryKey, Page[Release]]:
        return DataLoader(self._load_histories)

    @cached_property
    def datasets(self) -> DataLoader[int, Granted | None]:
        return DataLoader(self._load_datasets)

    @property
    def viewer(self) -> Viewer:
        """Who asks.

        Raises:
            Unauthenticated: nobody is signed in.
        """
        if self.maybe_viewer is None:
            raise Unauthenticated("Sign in with a valid token: Authorization: Bearer <token>.")
        return self.maybe_viewer

    def check(self, asked: int, most: int, what: str) -> int:
        """`asked`, where it lies between 0 and `most`.

        Checked as a field is executed, since it may come from a variable.

        Raises:
            LimitExceeded: it does not.
        """
        if not 0 <= asked <= most:
            code = _CODES.get(what, LimitExceeded.code) if asked > most else "BAD_USER_INPUT"
            raise LimitExceeded(f"{what} must lie between 0 and {most}.", code)
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

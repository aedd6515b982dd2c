"""What each request knows: the running server, who asks, and the loaders that batch its reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property
from typing import TypeAlias

import strawberry
from strawberry.dataloader import DataLoader

from lomas_gql.auth import Viewer
from lomas_gql.database.models import Release
from lomas_gql.errors import LimitExceeded, Unauthenticated
from lomas_gql.libraries.base import Answer
from lomas_gql.schema.limits import MAX_NODES, MAX_STORED_CHARACTERS
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
        # How much was asked for so far, by the argument's name.
        self.asked: Counter[str] = Counter()
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

    # Made when they are asked for, which most operations do for few. They batch and keep nothing: what a mutation
    # or a subscription reads next may have changed.

    @cached_property
    def datasets(self) -> DataLoader[int, Granted | None]:
        return DataLoader(self._load_datasets, cache=False)

    @cached_property
    def datasets_by_name(self) -> DataLoader[str, Granted | None]:
        return DataLoader(self._load_named, cache=False)

    @cached_property
    def histories(self) -> DataLoader[HistoryKey, Page[Release]]:
        return DataLoader(self._load_histories, cache=False)

    @cached_property
    def releases(self) -> DataLoader[int, Release | None]:
        return DataLoader(self._load_releases, cache=False)

    @cached_property
    def answers(self) -> DataLoader[int, Answer | None]:
        return DataLoader(self._load_answers, cache=False)

    @cached_property
    def ongoing(self) -> DataLoader[int, Release | None]:
        return DataLoader(self._load_ongoing, cache=False)

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
        """`asked`, where it lies between 0 and `most`, and what was asked for before leaves room for it.

        Checked as a field is executed: it may come from a variable, and a field is executed for each of its parents.

        Raises:
            LimitExceeded: it does not.
        """
        if asked < 0:
            raise LimitExceeded(f"{what} must not be negative.", "BAD_USER_INPUT")
        if asked > most:
            raise LimitExceeded(f"{what} must be at most {most}.", _CODES.get(what, LimitExceeded.code))
        self.asked[what] += asked
        if what == "first" and self.asked[what] > MAX_NODES:
            raise LimitExceeded(f"All pages together may ask for {MAX_NODES} nodes.", "MAX_NODES_EXCEEDED")
        if what == "rows" and self.asked[what] > most:
            raise LimitExceeded(f"One answer may have {most} rows.", "MAX_ROWS_EXCEEDED")
        return asked

    async def _load_histories(self, keys: list[HistoryKey]) -> list[Page[Release]]:
        ids: dict[HistoryFilter, list[int]] = defaultdict(list)
        for dataset_id, wanted in dict.fromkeys(keys):
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

    async def _load_named(self, names: list[str]) -> list[Granted | None]:
        async with self.runtime.database.reading() as session:
            return await catalogue.granted_by_name(session, self.viewer, names)

    async def _load_releases(self, ids: list[int]) -> list[Release | None]:
        async with self.runtime.database.reading() as session:
            return await catalogue.own_releases(session, self.viewer, ids)

    async def _load_answers(self, ids: list[int]) -> list[Answer | None]:
        async with self.runtime.database.reading() as session:
            self._check_stored(await catalogue.answer_lengths(session, self.viewer, ids))
            return await catalogue.answers(session, self.viewer, ids)

    def _check_stored(self, lengths: list[int]) -> None:
        # Before they are read: parsing them holds up everybody. The longest is free, so that any one can be had.
        self.asked["stored"] += sum(lengths) - max(lengths, default=0)
        if self.asked["stored"] > MAX_STORED_CHARACTERS:
            message = f"One operation may read {MAX_STORED_CHARACTERS} characters of stored answers: ask for fewer."
            raise LimitExceeded(message, "MAX_STORED_CHARACTERS_EXCEEDED")

    async def _load_ongoing(self, viewers: list[int]) -> list[Release | None]:
        async with self.runtime.database.reading() as session:
            return [await catalogue.running_release(session, self.viewer)] * len(viewers)


Info: TypeAlias = strawberry.Info[Context, None]

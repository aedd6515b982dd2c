"""Looks at followed releases: one statement for all of them at a time, however many follow."""

from __future__ import annotations

import asyncio

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release
from lomas_gql.services import catalogue

POLL_SECONDS = 0.25
"""How soon a follower sees a change, whichever server made it."""


class Watch:
    """One for each server process."""

    def __init__(self) -> None:
        self._round: _Round | None = None

    async def next(self, database: Database, release_id: int) -> Release | None:
        """The release as it stands at the next look, whosever it is; None where there is none.

        Raises:
            DatabaseUnavailable: this look has failed, for all who waited for it.
        """
        if self._round is None or not self._round.open:
            self._round = _Round(database)
        return await self._round.seen(release_id)


class _Round:
    """One look, and who waits for it. It ends with the last of them."""

    def __init__(self, database: Database) -> None:
        self.open = True
        self._ids: set[int] = set()
        self._waiting = 0
        self._look = asyncio.create_task(self._looked(database))

    async def seen(self, release_id: int) -> Release | None:
        self._ids.add(release_id)
        self._waiting += 1
        try:
            # Shielded: one who leaves does not take the look from the others.
            return (await asyncio.shield(self._look)).get(release_id)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.open = False
                self._look.cancel()

    async def _looked(self, database: Database) -> dict[int, Release]:
        await asyncio.sleep(POLL_SECONDS)
        self.open = False
        async with database.reading() as session:
            return await catalogue.releases_by_id(session, self._ids)

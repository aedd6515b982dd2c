"""Who listens on this server process: how many connections stay open, for all and for each user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lomas_gql.errors import LimitExceeded
from lomas_gql.schema.context import Context
from lomas_gql.schema.limits import MAX_LISTENERS, MAX_LISTENERS_PER_USER

_CODE = "MAX_LISTENERS_EXCEEDED"


class Listeners:
    """WebSocket connections and streams of events. Those of nobody who is known count as one user's."""

    def __init__(self) -> None:
        self._open: set[Context] = set()

    @contextmanager
    def seated(self, context: Context) -> Iterator[None]:
        """A connection, from its beginning to its end.

        Raises:
            LimitExceeded: this process has as many as it may.
        """
        if len(self._open) >= MAX_LISTENERS:
            raise LimitExceeded("This server has as many open connections as it may.", _CODE)
        self._open.add(context)
        try:
            yield
        finally:
            self._open.discard(context)

    async def name(self, context: Context) -> None:
        """Finds out whose connection it is.

        Raises:
            LimitExceeded: that user has as many as one may.
            DatabaseUnavailable: nobody can tell now.
        """
        await context.sign_in()
        theirs = sum(_user(other) == _user(context) for other in self._open)
        if theirs > MAX_LISTENERS_PER_USER:
            raise LimitExceeded(f"One user may have {MAX_LISTENERS_PER_USER} open connections here.", _CODE)


def _user(context: Context) -> int | None:
    return context.maybe_viewer.id if context.maybe_viewer else None

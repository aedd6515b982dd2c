"""Answers that wait for the next tick, so that nobody can tell from the time how the rows were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def held_back(grain: float) -> AsyncIterator[None]:
    """Ends the block, or lets out what it raises, a whole multiple of `grain` seconds after it began.

    Of an attack by time that leaves the number of grains. With 0, the block ends when it ends.
    """
    began = time.monotonic()
    try:
        yield
    finally:
        if grain:
            await asyncio.sleep(-(time.monotonic() - began) % grain)


def told(at: datetime, grain: float) -> datetime:
    """A time as analysts may learn it: the tick before it."""
    return at - (at - _EPOCH) % timedelta(seconds=grain) if grain else at

"""A dataset's rows, ready for a worker: which version there is, and its prepared file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TypeVar

from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.preparing import drop_old, held, prepared_path
from lomas_gql.datasets.preparing import version as version_of
from lomas_gql.errors import SourceUnavailable
from lomas_gql.services import jobs
from lomas_gql.services.catalogue import Granted
from lomas_gql.services.runtime import Runtime
from lomas_gql.workers.pool import WorkerLost

T = TypeVar("T")
TRUST_SECONDS = 5.0
"""How long what a remote source told of its version is believed."""
_LOOK_SECONDS = 30.0
log = logging.getLogger(__name__)


async def version(runtime: Runtime, granted: Granted) -> str:
    """Names the rows and metadata that the dataset has now. A remote source is asked once in TRUST_SECONDS.

    Raises:
        SourceUnavailable: it is not there, or does not answer.
    """
    source, metadata = granted.source, granted.metadata
    if isinstance(source, FileSource):
        try:
            return version_of(source, metadata)
        except SourceUnavailable as error:
            _log(granted, error)
            raise
    key = (source, metadata)
    look = runtime.looks.get(key)
    if look is None or (look.done() and asyncio.get_running_loop().time() > look.result()[1]):
        look = runtime.looks[key] = asyncio.create_task(_looked_up(granted))
    # Shielded: whoever waits for the same look goes on when one of them is cancelled.
    found, _ = await asyncio.shield(look)
    return _usable(found)


async def prepared(runtime: Runtime, granted: Granted) -> Path:
    """The prepared file of the dataset's rows, read now if this version is new; once, however many ask for it.

    Raises:
        SourceUnavailable: the rows cannot be read.
    """
    folder = runtime.settings.cache_dir / str(granted.id)
    ready = prepared_path(await version(runtime, granted), folder)
    if held(ready):
        # Here too, and not at the next change alone: what an owner took out of a source is not kept for long.
        drop_old(ready)
        return ready
    reading = runtime.readings.get(ready)
    if reading is None:
        reading = runtime.readings[ready] = asyncio.create_task(_read(runtime, granted, folder))
        reading.add_done_callback(lambda _: runtime.readings.pop(ready))
    return _usable(await asyncio.shield(reading))


async def _looked_up(granted: Granted) -> tuple[str | SourceUnavailable, float]:
    """The version, and until when it is believed; a failure as long, for it may have taken seconds to find."""
    source = granted.source
    found: str | SourceUnavailable
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            found = await asyncio.to_thread(version_of, source, granted.metadata)
    except SourceUnavailable as error:
        found = error
    except Exception as error:  # noqa: BLE001 (whatever a server makes its client library do, it is unavailable)
        found = SourceUnavailable(f"{source.describe()} cannot be asked: {type(error).__name__}")
    _log(granted, found)
    return found, asyncio.get_running_loop().time() + TRUST_SECONDS


async def _read(runtime: Runtime, granted: Granted, folder: Path) -> Path | SourceUnavailable:
    seconds = runtime.settings.prepare_seconds
    found: Path | SourceUnavailable
    try:
        found = await runtime.private.call(jobs.prepared_rows, seconds, granted.source, granted.metadata, folder)
    except WorkerLost as lost:
        found = SourceUnavailable(str(lost))
    _log(granted, found)
    return found


def _log(granted: Granted, found: object) -> None:
    if isinstance(found, SourceUnavailable):
        log.error("dataset %s cannot be read: %s", granted.dataset.name, found.reason)


def _usable(found: T | SourceUnavailable) -> T:
    if isinstance(found, SourceUnavailable):
        # A new one for each who waited: a raised exception gathers tracebacks.
        raise SourceUnavailable(found.reason)
    return found

"""A dataset's rows, ready for a worker: which version there is, and its prepared file or where the rows stay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.preparing import drop_old, held, prepared_path
from lomas_gql.datasets.preparing import version as version_of
from lomas_gql.datasets.sources import InPlaceSource, Source
from lomas_gql.errors import SourceUnavailable
from lomas_gql.libraries.base import DPQuery, runs_in_place
from lomas_gql.metadata import Metadata
from lomas_gql.services import jobs
from lomas_gql.services.catalogue import Granted
from lomas_gql.services.runtime import Runtime
from lomas_gql.workers.pool import Turn, WorkerLost

T = TypeVar("T")
TRUST_SECONDS = 5.0
"""How long what a remote source told of its version is believed."""
_LOOK_SECONDS = 30.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ready:
    """Rows that a release can begin with: their version, and their prepared file or where they stay."""

    version: str
    rows: Path | InPlaceSource


async def version(runtime: Runtime, granted: Granted) -> str:
    """Names the rows and metadata that the dataset has now. A remote source is asked once in TRUST_SECONDS.

    Raises:
        SourceUnavailable: it is not there, or does not answer.
    """
    with _logged(granted):
        return await _version(runtime, granted)


async def ready(runtime: Runtime, granted: Granted, query: DPQuery) -> Ready:
    """The rows as the query's library takes them: where they are if it can, else prepared.

    Raises:
        SourceUnavailable: the rows cannot be read, or not in place.
    """
    if not runs_in_place(query, granted.metadata):
        path = await prepared(runtime, granted)
        return Ready(path.stem, path)
    source = granted.source
    assert isinstance(source, InPlaceSource)
    with _logged(granted):
        version = await _version(runtime, granted)
        check = runtime.checks.get(version)
        if check is None:
            # In the dataset's own name, as for a reading.
            place = runtime.private.take(version)
            check = asyncio.create_task(_checked(runtime, source, granted.metadata, version, place))
            check.add_done_callback(lambda _: place.leave())
            runtime.checks[version] = check
        _usable(await asyncio.shield(check))
    return Ready(version, source)


async def prepared(runtime: Runtime, granted: Granted) -> Path:
    """The prepared file of the dataset's rows, read now if this version is new; once, however many ask for it.

    Raises:
        SourceUnavailable: the rows cannot be read.
        ServerBusy: they would have to be read now, and too many calls wait already.
    """
    with _logged(granted):
        folder = runtime.settings.cache_dir / str(granted.id)
        ready = prepared_path(await _version(runtime, granted), folder)
        if held(ready):
            # Here too, and not at the next change alone: what an owner took out of a source is not kept for long.
            drop_old(ready)
            return ready
        reading = runtime.readings.get(ready)
        if reading is None:
            # In the dataset's own name: who else waits for its rows should not wait for one user's share.
            place = runtime.private.take(ready.parent)
            reading = runtime.readings[ready] = asyncio.create_task(_read(runtime, granted, ready, place))
            reading.add_done_callback(lambda _: place.leave())
        return _usable(await asyncio.shield(reading))


def check_still_there(ready: Ready) -> None:
    """Keeps the prepared file once more, for whoever had to wait since it was made ready.

    Raises:
        SourceUnavailable: its dataset changed while he waited, and nobody else held it.
    """
    if isinstance(ready.rows, Path) and not held(ready.rows):
        raise SourceUnavailable("its rows changed while a query waited for its tick")


async def _version(runtime: Runtime, granted: Granted) -> str:
    source, metadata = granted.source, granted.metadata
    if isinstance(source, FileSource):
        return version_of(source, metadata)
    key = (source, metadata)
    look = runtime.looks.get(key)
    if look is None or (look.done() and asyncio.get_running_loop().time() > look.result()[1]):
        look = runtime.looks[key] = asyncio.create_task(_looked_up(runtime, source, metadata))
    # Shielded: whoever waits for the same look goes on when one of them is cancelled.
    found, _ = await asyncio.shield(look)
    return _usable(found)


async def _looked_up(runtime: Runtime, source: Source, metadata: Metadata) -> tuple[str | SourceUnavailable, float]:
    """The version, and until when it is believed; a failure as long, for it may have taken seconds to find."""
    key = (source, metadata)
    asking = runtime.asking.get(key)
    if asking is None:
        asking = runtime.asking[key] = asyncio.create_task(asyncio.to_thread(_asked, source, metadata))
        asking.add_done_callback(lambda _: runtime.asking.pop(key))
    found: str | SourceUnavailable
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            # Shielded: a thread cannot be stopped, so the next look waits for the same one.
            found = await asyncio.shield(asking)
    except TimeoutError:
        found = SourceUnavailable(f"{source.describe()} cannot be asked: it takes too long")
    return found, asyncio.get_running_loop().time() + TRUST_SECONDS


async def _checked(
    runtime: Runtime, source: InPlaceSource, metadata: Metadata, version: str, place: Turn
) -> SourceUnavailable | None:
    """Why this version of the rows cannot be queried in place, if so; that is remembered for a short while."""
    found: SourceUnavailable | None = SourceUnavailable("its check was given up")
    try:
        async with place as worker:
            found = await worker.call(jobs.unfit_in_place, runtime.settings.prepare_seconds, source, metadata)
    except WorkerLost as lost:
        found = SourceUnavailable(str(lost))
    finally:
        if found is not None:
            asyncio.get_running_loop().call_later(TRUST_SECONDS, runtime.checks.pop, version, None)
    return found


def _asked(source: Source, metadata: Metadata) -> str | SourceUnavailable:
    try:
        return version_of(source, metadata)
    except SourceUnavailable as error:
        return error
    except Exception as error:  # noqa: BLE001 (whatever a server makes its client library do, it is unavailable)
        return SourceUnavailable(f"{source.describe()} cannot be asked: {type(error).__name__}")


async def _read(runtime: Runtime, granted: Granted, ready: Path, place: Turn) -> Path | SourceUnavailable:
    """The prepared file. A failure is remembered for as long as it took, so that half of the time is left."""
    loop = asyncio.get_running_loop()
    source = granted.source
    remembered = 0.0
    try:
        async with nullcontext() if isinstance(source, FileSource) else runtime.fetching:
            began = loop.time()
            found = await _read_by_worker(runtime, source, granted.metadata, ready.parent, place)
        if isinstance(found, SourceUnavailable):
            remembered = max(TRUST_SECONDS, loop.time() - began)
        return found
    finally:
        loop.call_later(remembered, runtime.readings.pop, ready)


async def _read_by_worker(
    runtime: Runtime, source: Source, metadata: Metadata, folder: Path, place: Turn
) -> Path | SourceUnavailable:
    try:
        async with place as worker:
            return await worker.call(jobs.prepared_rows, runtime.settings.prepare_seconds, source, metadata, folder)
    except WorkerLost as lost:
        return SourceUnavailable(str(lost))


@contextmanager
def _logged(granted: Granted) -> Iterator[None]:
    """Tells the log why a query was refused: analysts learn no reason."""
    try:
        yield
    except SourceUnavailable as error:
        log.error("dataset %s cannot be read: %s", granted.dataset.name, error.reason)
        raise


def _usable(found: T | SourceUnavailable) -> T:
    if isinstance(found, SourceUnavailable):
        # A new one for each who waited: a raised exception gathers tracebacks.
        raise SourceUnavailable(found.reason)
    return found

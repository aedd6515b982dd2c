"""Releases that are running now: started once, waited for, followed, cancelled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from lomas_gql import progress
from lomas_gql.auth import Viewer
from lomas_gql.database.models import Release, ReleaseStatus
from lomas_gql.datasets.preparing import KEEP_SECONDS, held
from lomas_gql.datasets.sources import InPlaceSource
from lomas_gql.errors import CANCELLED, DatabaseUnavailable, LibraryFailed, ReleaseNotRunning
from lomas_gql.libraries.base import Answer, DPQuery, Library
from lomas_gql.metadata import Metadata
from lomas_gql.progress import Progress
from lomas_gql.services import catalogue, jobs, leases, settling
from lomas_gql.services.jobs import Failed
from lomas_gql.services.runtime import Runtime
from lomas_gql.services.stalling import held_back
from lomas_gql.services.watching import POLL_SECONDS
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Turn, WorkerLost

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a reserved release has to do."""

    query: DPQuery
    metadata: Metadata
    # The prepared file, or where the rows stay.
    rows: Path | InPlaceSource
    # Taken before it was charged, so that it is sure to be run.
    place: Turn


def start(runtime: Runtime, release: Release, work: Work) -> asyncio.Task[Answer]:
    """Runs a reserved release to its end, whether or not anybody waits for it.

    The task raises LibraryFailed where there is no answer, and DatabaseUnavailable where it could not be kept.
    """
    call = runtime.running[release.id] = asyncio.create_task(_called(runtime, release, work))
    # Here and not in the call: cancelled at once, it never begins.
    call.add_done_callback(lambda _: work.place.leave())
    task = asyncio.create_task(_settled(runtime, release))
    # Who waits learns of a failure; where nobody does, it stands in the history.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


async def cancel(runtime: Runtime, viewer: Viewer, release_id: int) -> Release:
    """Ends a running release of the viewer's. What it was charged stays charged.

    Raises:
        ReleaseNotRunning: it has ended, or is not the viewer's.
    """
    if not await settling.cancel(runtime.database, viewer, release_id):
        raise ReleaseNotRunning
    if release_id in runtime.running:
        runtime.running[release_id].cancel()
    release = await _own(runtime, viewer, release_id)
    assert release is not None
    return release


async def follow(runtime: Runtime, viewer: Viewer, release_id: int) -> AsyncIterator[Release]:
    """The release at each change of its status or progress, until it has ended. Nothing if it is not the viewer's.

    Raises:
        DatabaseUnavailable: the database has been away for longer than a lease lasts.
    """
    seen: tuple[str, Progress | None] | None = None
    release = await outlasting(runtime, partial(_own, runtime, viewer, release_id))
    # Looked at together with what others follow: whose it is was asked first, and does not change.
    looked = partial(runtime.watch.next, runtime.database, release_id)
    while release is not None:
        state = (release.status, progress_of(runtime, release))
        if state != seen:
            yield release
            seen = state
        if release.status != ReleaseStatus.RUNNING.value:
            return
        release = await outlasting(runtime, looked)


async def outlasting(runtime: Runtime, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers; asked again while the database is away, for as long as a lease lasts.

    Raises:
        DatabaseUnavailable: it is still away.
    """
    deadline = time.monotonic() + runtime.lease.seconds
    while True:
        try:
            return await ask()
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL_SECONDS)


def progress_of(runtime: Runtime, release: Release) -> Progress | None:
    """How far a running release has come, where its library tells; nothing where time must not tell either."""
    if runtime.settings.answer_grain_seconds:
        return None
    if release.status != ReleaseStatus.RUNNING.value:
        return None
    return progress.read(_progress_file(runtime, release))


async def drop_ended(runtime: Runtime) -> None:
    """Ends the work on releases that were cancelled through another server, and forgets their progress."""
    files = {int(file.stem): file for file in _progress_folder(runtime).glob("*.json") if file.stem.isdecimal()}
    for release_id in await settling.ended_among(runtime.database, [*runtime.running, *files]):
        if release_id in runtime.running:
            runtime.running[release_id].cancel()
        elif release_id in files:
            # A worker that was stopped as it began may have written after its release had ended.
            files[release_id].unlink(missing_ok=True)


def seconds_for(settings: Settings, library: Library) -> float:
    """The time limit of one run in that library, in seconds."""
    match library:
        case Library.SMARTNOISE_SYNTH:
            return settings.synth_seconds
        case Library.DIFFPRIVLIB:
            return settings.model_seconds
        case _:
            return settings.query_seconds


async def _own(runtime: Runtime, viewer: Viewer, release_id: int) -> Release | None:
    async with runtime.database.reading() as session:
        [release] = await catalogue.own_releases(session, viewer, [release_id])
    return release


async def _called(runtime: Runtime, release: Release, work: Work) -> Answer | Failed:
    """Runs the query in a private worker, once: a second run would be a second release."""
    file = _progress_file(runtime, release)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    seconds = seconds_for(runtime.settings, work.query.library)
    keeping = asyncio.create_task(_keep_held(work.rows))
    try:
        async with work.place as worker:
            return await worker.call(
                jobs.release, seconds, work.query, work.metadata, release.cost, work.rows, seconds, file
            )
    except WorkerLost as lost:
        return Failed(str(lost))
    finally:
        keeping.cancel()
        file.unlink(missing_ok=True)


async def _keep_held(rows: Path | InPlaceSource) -> None:
    """Holds a prepared file for a release that waits for a worker: its dataset may change meanwhile."""
    while isinstance(rows, Path):
        held(rows)
        await asyncio.sleep(KEEP_SECONDS / 5)


async def _settled(runtime: Runtime, release: Release) -> Answer:
    call = runtime.running[release.id]
    try:
        async with held_back(runtime.settings.answer_grain_seconds):
            outcome = await call
        if isinstance(outcome, Answer):
            if await _kept(runtime, release, outcome):
                return outcome
            # It was cancelled meanwhile, or another server took this one for dead: nothing leaves.
            raise LibraryFailed(release.library, release.cost)
        log.warning("release %s on %s failed: %s", release.id, release.library, outcome.kind)
        error = LibraryFailed(release.library, outcome.spent or release.cost, outcome.told)
        fail = partial(settling.fail, runtime.database, release, runtime.lease, error.message)
        await outlasting(runtime, partial(fail, outcome.spent, outcome.kept))
        raise error
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
        raise LibraryFailed(release.library, release.cost, CANCELLED) from None
    except LibraryFailed:
        raise
    except DatabaseUnavailable:
        log.warning("release %s is not settled: the database is away", release.id)
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the release was charged and has no answer)
        log.error("release %s could not be settled: %s", release.id, type(error).__name__)
        raise LibraryFailed(release.library, release.cost) from None
    finally:
        # Not renewed from here on: a release that could not be settled is interrupted when its lease runs out.
        del runtime.running[release.id]


async def _kept(runtime: Runtime, release: Release, answer: Answer) -> bool:
    """Whether the answer is written down, so that it may leave. A short absence of the database does not lose it."""
    settle = partial(settling.settle, runtime.database, release, runtime.lease, answer)
    if await outlasting(runtime, settle):
        return True
    # The confirmation of an earlier attempt may have been lost: only this process can release what it runs.
    async with runtime.database.reading() as session:
        ended = await session.get(Release, release.id)
    return ended is not None and ended.status == ReleaseStatus.RELEASED.value


def _progress_file(runtime: Runtime, release: Release) -> Path:
    return _progress_folder(runtime) / f"{release.id}.json"


def _progress_folder(runtime: Runtime) -> Path:
    return runtime.settings.data_dir / "progress"


async def keep_lease(runtime: Runtime) -> None:
    """Renews this server's lease and settles what dead servers left, until cancelled."""
    failing: str | None = None
    while True:
        await asyncio.sleep(runtime.lease.beat)
        failed = await _failure_of_a_beat(runtime)
        if failed != failing:
            # Told when it changes, not at each beat.
            log.warning("The lease %s", f"was not renewed: {failed}" if failed else "is renewed again")
        failing = failed


async def _failure_of_a_beat(runtime: Runtime) -> str | None:
    try:
        await leases.renew(runtime.database, runtime.lease, list(runtime.running))
        await settling.interrupt_dead(runtime.database, runtime.lease)
        await drop_ended(runtime)
    except Exception as error:  # noqa: BLE001 (whatever it is, the next beat tries again)
        return type(error).__name__
    return None

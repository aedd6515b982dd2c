"""The three things that can be done with a query, written once for all libraries: price it, try it, release it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from lomas_gql.auth import Viewer
from lomas_gql.database.models import Release
from lomas_gql.errors import (
    CHARGED_UNCONFIRMED,
    BudgetExceeded,
    ConditionTooRare,
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidQuery,
    LibraryFailed,
    QueryOngoing,
)
from lomas_gql.libraries.base import Answer, DPQuery, Table
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import catalogue, jobs, ledger, preparation, running
from lomas_gql.services.catalogue import Granted
from lomas_gql.services.ledger import Reservation
from lomas_gql.services.preparation import Ready
from lomas_gql.services.running import Work
from lomas_gql.services.runtime import Runtime
from lomas_gql.services.stalling import held_back
from lomas_gql.workers.pool import Worker, WorkerLost

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """A query on a dataset, and the JSON in which it was sent."""

    dataset: str
    query: DPQuery
    sent: dict[str, Any]

    def digest(self) -> str:
        """Equal for equal inputs, whatever their spelling in GraphQL."""
        text = json.dumps([self.dataset, self.sent], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Estimate:
    """What a query would cost, and whether that fits in what remains of the viewer's budget."""

    cost: PrivacyLoss
    affordable: bool


@dataclass(frozen=True)
class DummyRun:
    """A query's cost, its answer on dummy rows, and what is public about its dataset."""

    cost: PrivacyLoss
    answer: Answer
    metadata: Metadata


@dataclass(frozen=True)
class Executed:
    """A finished release: `replayed` under the same idempotency key, or `reused` for the same query."""

    release: Release
    answer: Answer
    budget: Granted
    replayed: bool
    reused: bool = False


@dataclass(frozen=True)
class Fitted:
    """A synthesizer to be sampled: at hand after a dummy run, else stored with its release."""

    metadata: Metadata
    release_id: int = 0
    model: bytes | None = None


@dataclass(frozen=True)
class Submitted:
    """A release that was begun, now or before under the same idempotency key."""

    release: Release
    replayed: bool


async def estimate(runtime: Runtime, viewer: Viewer, asked: Input) -> Estimate:
    """The query's cost. Free; opens no private data.

    Raises:
        DatasetUnavailable: no such dataset for this viewer.
        InvalidQuery: it cannot be run.
    """
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
    async with held_back(runtime.settings.answer_grain_seconds):
        cost = await _check(runtime, viewer.id, jobs.estimate, None, asked.query, granted.metadata)
    return Estimate(cost, cost <= granted.remaining and cost <= granted.dataset.query_cap)


async def run_dummy(runtime: Runtime, viewer: Viewer, asked: Input, rows: int, seed: int) -> DummyRun:
    """The query on dummy rows. Free; opens no private data.

    Raises:
        DatasetUnavailable: no such dataset for this viewer.
        InvalidQuery: it cannot be run.
    """
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
    seconds = running.seconds_for(runtime.settings, asked.query.library)
    async with held_back(runtime.settings.answer_grain_seconds):
        tried = await _check(runtime, viewer.id, jobs.attempt, seconds, asked.query, granted.metadata, rows, seed)
    return DummyRun(tried.cost, tried.answer, granted.metadata)


async def execute(
    runtime: Runtime, viewer: Viewer, asked: Input, key: str | None, *, reuse: bool = False
) -> Executed:
    """The query on the private rows: charged, and waited for. With `reuse`, the newest same answer is free.

    Raises:
        Forbidden: the viewer may not query.
        DatasetUnavailable, InvalidQuery, BudgetExceeded, QueryOngoing, IdempotencyConflict,
        SourceUnavailable, ServerBusy: nothing was charged.
        LibraryFailed: it was charged, and there is no answer.
    """
    if reuse and (repeated := await _repeated(runtime, viewer, asked)):
        return repeated
    # Shielded: a client that goes away leaves a release that finishes and stands in the history.
    return await asyncio.shield(asyncio.ensure_future(_executed(runtime, viewer, asked, key)))


async def submit(runtime: Runtime, viewer: Viewer, asked: Input, key: str | None) -> Submitted:
    """The same for long work: charged, and answered at once with a running release.

    Raises:
        As `execute`, but for LibraryFailed, which then stands in the release.
    """
    return await asyncio.shield(asyncio.ensure_future(_submitted(runtime, viewer, asked, key)))


async def _executed(runtime: Runtime, viewer: Viewer, asked: Input, key: str | None) -> Executed:
    granted, stored = await _looked_up(runtime, viewer, asked, key)
    if stored is not None:
        return await _replayed(runtime, viewer, granted, stored)
    try:
        release, work = await _reserved(runtime, viewer, asked, granted, key)
    except QueryOngoing:
        # Two requests with one key at the same moment: the second waits for the first.
        granted, stored = await _looked_up(runtime, viewer, asked, key)
        if stored is None:
            raise
        return await _replayed(runtime, viewer, granted, stored)
    try:
        answer = await running.start(runtime, release, work)
        ended, budget = await running.outlasting(runtime, partial(_ended, runtime, viewer, release.id, granted.id))
    except DatabaseUnavailable as away:
        raise DatabaseUnavailable(away.reason, CHARGED_UNCONFIRMED) from None
    return Executed(ended, answer, budget or granted, replayed=False)


async def _ended(
    runtime: Runtime, viewer: Viewer, release_id: int, dataset_id: int
) -> tuple[Release, Granted | None]:
    """The release as the history has it, and the budget afterwards."""
    async with runtime.database.reading() as session:
        [ended] = await catalogue.own_releases(session, viewer, [release_id])
        [budget] = await catalogue.granted_by_id(session, viewer, [dataset_id])
    assert ended is not None, "releases are never deleted"
    return ended, budget


async def _submitted(runtime: Runtime, viewer: Viewer, asked: Input, key: str | None) -> Submitted:
    granted, stored = await _looked_up(runtime, viewer, asked, key)
    if stored is not None:
        return Submitted(stored, replayed=True)
    try:
        release, work = await _reserved(runtime, viewer, asked, granted, key)
    except QueryOngoing:
        _, stored = await _looked_up(runtime, viewer, asked, key)
        if stored is None:
            raise
        return Submitted(stored, replayed=True)
    running.start(runtime, release, work)
    return Submitted(release, replayed=False)


async def _looked_up(
    runtime: Runtime, viewer: Viewer, asked: Input, key: str | None
) -> tuple[Granted, Release | None]:
    """The dataset, and the release that this key has made before."""
    viewer.check_may_query()
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
        stored = await ledger.keyed(session, viewer.id, key) if key is not None else None
        if stored is None:
            # Told early as a courtesy; what decides is the reservation.
            await ledger.free_slots(session, viewer.id, runtime.settings.running_per_user)
    if stored is not None and stored.input_digest != asked.digest():
        raise IdempotencyConflict("The idempotency key was used before, with another input.")
    return granted, stored


async def _reserved(
    runtime: Runtime, viewer: Viewer, asked: Input, granted: Granted, key: str | None
) -> tuple[Release, Work]:
    """Priced, tried on dummy rows, and charged: from here on every outcome stays charged."""
    # All waiting is over before the charge: nobody would renew the lease of a release that has yet to begin.
    async with held_back(runtime.settings.answer_grain_seconds):
        cost, ready = await _prepared(runtime, viewer, asked, granted)
    preparation.check_still_there(ready)
    reservation = Reservation(
        user_id=viewer.id,
        dataset_id=granted.id,
        library=asked.query.library.value,
        cost=cost,
        query=asked.sent,
        digest=asked.digest(),
        key=key,
        dataset_version=ready.version,
    )
    slots = runtime.settings.running_per_user
    place = runtime.private.take(viewer.id)
    try:
        release = await ledger.reserve(runtime.database, reservation, runtime.lease, slots)
    except BaseException:
        place.leave()
        raise
    return release, Work(asked.query, granted.metadata, ready.rows, place)


async def _prepared(runtime: Runtime, viewer: Viewer, asked: Input, granted: Granted) -> tuple[PrivacyLoss, Ready]:
    """What it costs and the rows, where it can be afforded."""
    cost = await _tried(runtime, viewer, asked, granted.metadata)
    ledger.check_query_cap(granted.dataset, cost)
    if not cost <= granted.remaining:
        raise BudgetExceeded(cost, granted.remaining)
    return cost, await preparation.ready(runtime, granted, asked.query)


async def _tried(runtime: Runtime, viewer: Viewer, asked: Input, metadata: Metadata) -> PrivacyLoss:
    """The cost of a query that ran on dummy rows. What ran once for this viewer is not tried again."""
    known = viewer.id, asked.digest(), metadata
    cost = runtime.tried.get(known)
    if cost is None:
        rows = runtime.settings.preflight_rows
        cost = await _check(runtime, viewer.id, jobs.preflight, None, asked.query, metadata, rows)
        runtime.tried[known] = cost
    return cost


async def _replayed(runtime: Runtime, viewer: Viewer, granted: Granted, stored: Release) -> Executed:
    """The answer that was made under the same key, once there is one."""
    async for seen in running.follow(runtime, viewer, stored.id):
        stored = seen
    async with runtime.database.reading() as session:
        [answer] = await catalogue.answers(session, viewer, [stored.id])
    if answer is None or stored.failure is not None:
        raise LibraryFailed(stored.library, stored.cost, stored.failure)
    return Executed(stored, answer, granted, replayed=True)


async def _repeated(runtime: Runtime, viewer: Viewer, asked: Input) -> Executed | None:
    viewer.check_may_query()
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
    version = await preparation.version(runtime, granted)
    async with runtime.database.reading() as session:
        same = await ledger.repeated(session, viewer.id, granted.id, asked.digest(), version)
    if same is None or same.answer is None:
        return None
    return Executed(same, Answer.from_json(same.answer), granted, replayed=False, reused=True)


async def _check(
    runtime: Runtime,
    user_id: int,
    job: Callable[P, T | InvalidQuery],
    seconds: float | None,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """A job in a public worker, where there are no private rows; its refusal is raised.

    Raises:
        InvalidQuery: it cannot be run.
        ServerBusy: too many wait already.
    """
    async with runtime.public.take(user_id) as worker:
        return await _called(runtime, worker, job, seconds, *args, **kwargs)


async def _called(
    runtime: Runtime,
    worker: Worker,
    job: Callable[P, T | InvalidQuery],
    seconds: float | None,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    try:
        outcome = await worker.call(job, seconds or runtime.settings.check_seconds, *args, **kwargs)
    except WorkerLost as lost:
        raise InvalidQuery.at("query", message=f"The query could not be tried on dummy rows: {lost}.") from None
    if isinstance(outcome, InvalidQuery):
        raise outcome
    return outcome


async def dummy_table(runtime: Runtime, viewer: Viewer, metadata: Metadata, rows: int, seed: int) -> Table:
    """Random rows that fit the metadata and depend on nothing else."""
    return await _check(runtime, viewer.id, jobs.dummy_table, None, metadata, rows, seed)


async def sampled(runtime: Runtime, viewer: Viewer, fitted: Fitted, rows: int, condition: str | None) -> Table:
    """New rows from a fitted synthesizer. Free: it is post-processing of what was released.

    Raises:
        InvalidQuery: the condition cannot be read.
        ConditionTooRare: too few synthetic rows meet it.
    """
    outcome: Table | ConditionTooRare
    # Read in turn too: a page of models would else take all connections and memory at once.
    async with runtime.public.take(viewer.id) as worker:
        model = fitted.model
        if model is None:
            async with runtime.database.reading() as session:
                model = await ledger.model_of(session, fitted.release_id)
        outcome = await _called(runtime, worker, jobs.sampled, None, model, fitted.metadata, rows, condition)
    if isinstance(outcome, ConditionTooRare):
        raise outcome
    return outcome

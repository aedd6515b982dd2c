"""The three things that can be done with a query, written once for all libraries: price it, try it, release it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from lomas_gql.auth import Viewer
from lomas_gql.database.models import Release, ReleaseStatus
from lomas_gql.datasets.sources import prepared_path
from lomas_gql.errors import (
    BudgetExceeded,
    IdempotencyConflict,
    InvalidQuery,
    LibraryFailed,
    QueryOngoing,
    SourceUnavailable,
)
from lomas_gql.libraries.base import Answer, DPQuery, Table
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import catalogue, jobs, ledger
from lomas_gql.services.catalogue import Granted
from lomas_gql.services.jobs import Failed, Tried
from lomas_gql.services.ledger import Reservation
from lomas_gql.services.runtime import Runtime
from lomas_gql.workers.pool import WorkerLost

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)


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
class Executed:
    """A finished release; `replayed` says that it was stored under the same idempotency key before."""

    release: Release
    answer: Answer
    budget: Granted
    replayed: bool


async def estimate(runtime: Runtime, viewer: Viewer, asked: Input) -> Estimate:
    """The query's cost. Free; opens no private data.

    Raises:
        DatasetUnavailable: no such dataset for this viewer.
        InvalidQuery: it cannot be run.
    """
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
    cost = await _check(runtime, jobs.estimate, asked.query, granted.metadata)
    return Estimate(cost, cost <= granted.grant.initial.less(granted.grant.spent))


async def run_dummy(runtime: Runtime, viewer: Viewer, asked: Input, rows: int, seed: int) -> Tried:
    """The query on dummy rows. Free; opens no private data.

    Raises:
        DatasetUnavailable: no such dataset for this viewer.
        InvalidQuery: it cannot be run.
    """
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
    return await _tried(runtime, granted, asked, rows, seed)


async def execute(runtime: Runtime, viewer: Viewer, asked: Input, key: str | None) -> Executed:
    """The query on the private rows: charged, and waited for.

    Raises:
        Forbidden: the viewer may not query.
        DatasetUnavailable, InvalidQuery, BudgetExceeded, QueryOngoing, IdempotencyConflict,
        SourceUnavailable: nothing was charged.
        LibraryFailed: it was charged, and there is no answer.
    """
    viewer.check_may_query()
    async with runtime.database.reading() as session:
        granted = await catalogue.granted(session, viewer, asked.dataset)
        stored = await ledger.keyed(session, viewer.id, key) if key is not None else None
        if stored is None:
            # Told early as a courtesy; what decides is the reservation.
            await ledger.free_slot(session, viewer.id, runtime.settings.running_per_user)
    if stored is not None:
        return await _replayed(runtime, viewer, asked, stored)
    tried = await _tried(runtime, granted, asked, runtime.settings.preflight_rows, seed=0)
    remaining = granted.grant.initial.less(granted.grant.spent)
    if not tried.cost <= remaining:
        raise BudgetExceeded(tried.cost, remaining)
    prepared = await _prepared(runtime, granted)
    reservation = Reservation(
        user_id=viewer.id,
        dataset_id=granted.id,
        library=asked.query.library.value,
        cost=tried.cost,
        query=asked.sent,
        digest=asked.digest(),
        key=key,
    )
    # Shielded: a client that goes away leaves a release that finishes and stands in the history.
    return await asyncio.shield(_released(runtime, viewer, asked, granted, prepared, reservation))


async def _released(
    runtime: Runtime, viewer: Viewer, asked: Input, granted: Granted, prepared: Path, reservation: Reservation
) -> Executed:
    slots = runtime.settings.running_per_user
    release = await ledger.reserve(runtime.database, reservation, runtime.lease, slots)
    answer = await _answer(runtime, asked.query, granted, prepared, release)
    if not await ledger.settle(runtime.database, release, runtime.lease, answer.to_json()):
        # Another server took this one for dead; what was charged stays charged, and nothing leaves.
        raise LibraryFailed(release.library, release.cost)
    async with runtime.database.reading() as session:
        [ended] = await catalogue.own_releases(session, viewer, [release.id])
        [budget] = await catalogue.granted_by_id(session, viewer, [granted.id])
    assert ended is not None
    return Executed(ended, answer, budget or granted, replayed=False)


async def _answer(runtime: Runtime, query: DPQuery, granted: Granted, prepared: Path, release: Release) -> Answer:
    """Runs the query in a private worker, once: a second run would be a second release."""
    failed = Failed("unknown")
    try:
        seconds = runtime.settings.query_seconds
        outcome = await runtime.private.call(jobs.release, seconds, query, granted.metadata, prepared)
        if isinstance(outcome, Answer):
            return outcome
        failed = outcome
    except WorkerLost as lost:
        failed = Failed(str(lost))
    log.warning("release %s on %s failed: %s", release.id, release.library, failed.kind)
    error = LibraryFailed(release.library, failed.spent or release.cost)
    await ledger.fail(runtime.database, release, runtime.lease, error.message, failed.spent)
    raise error


async def _replayed(runtime: Runtime, viewer: Viewer, asked: Input, stored: Release) -> Executed:
    if stored.input_digest != asked.digest():
        raise IdempotencyConflict("The idempotency key was used before, with another input.")
    if stored.status == ReleaseStatus.RUNNING.value:
        raise QueryOngoing("The query under this idempotency key is still running.")
    if stored.answer is None:
        raise LibraryFailed(stored.library, stored.cost, stored.failure)
    async with runtime.database.reading() as session:
        budget = await catalogue.granted(session, viewer, asked.dataset)
    return Executed(stored, Answer.from_json(stored.answer), budget, replayed=True)


async def _tried(runtime: Runtime, granted: Granted, asked: Input, rows: int, seed: int) -> Tried:
    return await _check(runtime, jobs.attempt, asked.query, granted.metadata, rows, seed)


async def _check(runtime: Runtime, job: Callable[P, T | InvalidQuery], *args: P.args, **kwargs: P.kwargs) -> T:
    """A job in a public worker, where there are no private rows; its refusal is raised."""
    try:
        outcome = await runtime.public.call(job, runtime.settings.check_seconds, *args, **kwargs)
    except WorkerLost as lost:
        raise InvalidQuery.at("query", message=f"The query could not be tried on dummy rows: {lost}.") from None
    if isinstance(outcome, InvalidQuery):
        raise outcome
    return outcome


async def _prepared(runtime: Runtime, granted: Granted) -> Path:
    seconds, cache = runtime.settings.prepare_seconds, runtime.settings.cache_dir
    ready = prepared_path(granted.source, granted.metadata, cache)
    if ready.exists():
        return ready
    try:
        outcome = await runtime.private.call(jobs.prepared_rows, seconds, granted.source, granted.metadata, cache)
    except WorkerLost as lost:
        raise SourceUnavailable(f"The dataset's file could not be read: {lost}.") from None
    if isinstance(outcome, SourceUnavailable):
        raise outcome
    return outcome


async def dummy_table(runtime: Runtime, metadata: Metadata, rows: int, seed: int) -> Table:
    """Random rows that fit the metadata and depend on nothing else."""
    return await runtime.public.call(jobs.dummy_table, runtime.settings.check_seconds, metadata, rows, seed)

"""The three things that can be done with a query: price it, try it, release it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import strawberry

from lomas_gql.errors import LomasError
from lomas_gql.schema.context import Info
from lomas_gql.schema.ids import number_in
from lomas_gql.schema.inputs import DpQueryInput, DummyInput
from lomas_gql.schema.problems import (
    BudgetExceeded,
    DatasetUnavailable,
    IdempotencyConflict,
    InvalidQuery,
    LibraryFailed,
    QueryOngoing,
    ReleaseNotRunning,
    ServerBusy,
    UserError,
    problem_of,
)
from lomas_gql.schema.results import DpResult, PrivacyLoss, result_of
from lomas_gql.schema.types import Budget, Release
from lomas_gql.services import releases, running
from lomas_gql.services.releases import Fitted

MAX_KEY = 200
"""Characters of an idempotency key."""


@strawberry.type(description="What a query would cost, and whether it fits.")
class Estimate:
    cost: PrivacyLoss = strawberry.field(description="What `execute` and `submit` would charge.")
    affordable: bool = strawberry.field(
        description="Whether that fits now in what remains of the viewer's budget and of the owner's caps."
    )


@strawberry.type(description="A query's answer on dummy rows: no private row is in it.")
class DummyRun:
    result: DpResult = strawberry.field(description="The answer, in the shape that a release has.")
    cost: PrivacyLoss = strawberry.field(description="What the query would cost on the private rows.")


@strawberry.type(description="A query's noisy answer on the private rows.")
class Executed:
    release: Release = strawberry.field(description="The release as it stands in the history.")
    result: DpResult = strawberry.field(description="The noisy answer.")
    cost: PrivacyLoss = strawberry.field(description="What the release was charged when it was first made.")
    budget: Budget = strawberry.field(description="The viewer's budget on this dataset afterwards.")
    replayed: bool = strawberry.field(
        description="Whether this is the answer stored under the idempotency key, which costs nothing more."
    )
    reused: bool = strawberry.field(
        description="Whether this is an earlier answer to the same query, which costs nothing more."
    )


@strawberry.type(description="Long work that was charged and begun.")
class Submitted:
    release: Release = strawberry.field(
        description="The release, to be polled by `release(id)` or followed by the subscription."
    )
    replayed: bool = strawberry.field(
        description="Whether it was begun under the idempotency key before, which costs nothing more."
    )


@strawberry.type(description="Work that was stopped.")
class Cancelled:
    release: Release = strawberry.field(description="The release. What it was charged stays charged.")


EstimateResult: TypeAlias = Annotated[
    Estimate | InvalidQuery | DatasetUnavailable | ServerBusy,
    strawberry.union("EstimateResult", description="An estimate, or why there is none."),
]
DummyResult: TypeAlias = Annotated[
    DummyRun | InvalidQuery | DatasetUnavailable | LibraryFailed | ServerBusy,
    strawberry.union("DummyResult", description="A dummy run, or why there is none."),
]
ExecuteResult: TypeAlias = Annotated[
    Executed
    | BudgetExceeded
    | InvalidQuery
    | DatasetUnavailable
    | QueryOngoing
    | IdempotencyConflict
    | LibraryFailed
    | ServerBusy,
    strawberry.union("ExecuteResult", description="A release, or why there is none."),
]

SubmitResult: TypeAlias = Annotated[
    Submitted | BudgetExceeded | InvalidQuery | DatasetUnavailable | QueryOngoing | IdempotencyConflict | ServerBusy,
    strawberry.union("SubmitResult", description="A running release, or why there is none."),
]
CancelResult: TypeAlias = Annotated[
    Cancelled | ReleaseNotRunning,
    strawberry.union("CancelResult", description="The cancelled release, or why there is none."),
]

_Key = Annotated[
    str | None,
    strawberry.argument(
        description="At most 200 characters of the caller's choice, e.g. a UUID. The same key and input give the "
        "same answer, and are charged once."
    ),
]
_Input = Annotated[DpQueryInput, strawberry.argument(description="The query and its dataset.")]


@strawberry.type(description="What can be done with a query. Only `execute` and `submit` charge.")
class Mutation:
    @strawberry.mutation(description="What the query would cost. Free, and opens no private data.")
    async def estimate_cost(self, info: Info, input: _Input) -> EstimateResult:
        viewer = info.context.viewer
        try:
            estimate = await releases.estimate(info.context.runtime, viewer, input.asked())
        except LomasError as error:
            return _expected(error)  # type: ignore[return-value]
        return Estimate(cost=PrivacyLoss.of(estimate.cost), affordable=estimate.affordable)

    @strawberry.mutation(description="The query on dummy rows: free, any number of times.")
    async def run_dummy(
        self,
        info: Info,
        input: _Input,
        dummy: Annotated[
            DummyInput | None, strawberry.argument(description="Which dummy rows; 100 when left out.")
        ] = None,
    ) -> DummyResult:
        viewer, wanted = info.context.viewer, dummy or DummyInput()
        info.context.check(wanted.rows, info.context.runtime.settings.max_dummy_rows, "rows")
        try:
            tried = await releases.run_dummy(info.context.runtime, viewer, input.asked(), wanted.rows, wanted.seed)
        except LomasError as error:
            return _expected(error)  # type: ignore[return-value]
        fitted = Fitted(tried.metadata, model=tried.answer.model)
        return DummyRun(result=result_of(tried.answer, fitted), cost=PrivacyLoss.of(tried.cost))

    @strawberry.mutation(description="The query on the private rows: charged, and waits for the answer.")
    async def execute(
        self,
        info: Info,
        input: _Input,
        idempotency_key: _Key = None,
        reuse: Annotated[
            bool,
            strawberry.argument(
                description="Answer with the viewer's newest release of exactly this query on the same version "
                "of the dataset, for free, if there is one."
            ),
        ] = False,
    ) -> ExecuteResult:
        viewer = info.context.viewer
        _check_key(info, idempotency_key)
        try:
            executed = await releases.execute(
                info.context.runtime, viewer, input.asked(), idempotency_key, reuse=reuse
            )
        except LomasError as error:
            return _expected(error)  # type: ignore[return-value]
        grant = executed.budget.grant
        return Executed(
            release=Release.of(executed.release),
            result=result_of(executed.answer, Fitted(executed.budget.metadata, executed.release.id)),
            cost=PrivacyLoss.of(executed.release.cost),
            budget=Budget.of(grant.initial, grant.spent),
            replayed=executed.replayed,
            reused=executed.reused,
        )

    @strawberry.mutation(description="The same for long work: answers at once with a running release.")
    async def submit(self, info: Info, input: _Input, idempotency_key: _Key = None) -> SubmitResult:
        viewer = info.context.viewer
        _check_key(info, idempotency_key)
        try:
            submitted = await releases.submit(info.context.runtime, viewer, input.asked(), idempotency_key)
        except LomasError as error:
            return _expected(error)  # type: ignore[return-value]
        return Submitted(release=Release.of(submitted.release), replayed=submitted.replayed)

    @strawberry.mutation(description="Stops a running release of the viewer. What it was charged stays charged.")
    async def cancel(
        self,
        info: Info,
        release: Annotated[strawberry.ID, strawberry.argument(description="The `id` of a running release.")],
    ) -> CancelResult:
        viewer = info.context.viewer
        try:
            row = await running.cancel(info.context.runtime, viewer, number_in(release, "Release") or 0)
        except LomasError as error:
            return _expected(error)  # type: ignore[return-value]
        return Cancelled(release=Release.of(row))


def _check_key(info: Info, key: str | None) -> None:
    if key is not None:
        info.context.check(len(key), MAX_KEY, "The length of idempotencyKey")


def _expected(error: LomasError) -> UserError:
    problem = problem_of(error)
    if problem is None:
        raise error
    return problem

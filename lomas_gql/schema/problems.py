"""Expected failures, as members of result unions."""

from __future__ import annotations

import strawberry

from lomas_gql import errors
from lomas_gql.libraries import base
from lomas_gql.privacy import PrivacyLoss as ExactLoss
from lomas_gql.schema.ids import opaque
from lomas_gql.schema.results import PrivacyLoss
from lomas_gql.schema.words import described_enum
from lomas_gql.words import Word


@described_enum
class ErrorCode(Word):
    """What went wrong, for programs. Only after LIBRARY_FAILED does a charge stand."""

    BUDGET_EXCEEDED = "BUDGET_EXCEEDED", "The query costs more than remains: a BudgetExceeded."
    INVALID_QUERY = "INVALID_QUERY", "The query cannot be run as it is: an InvalidQuery."
    DATASET_UNAVAILABLE = "DATASET_UNAVAILABLE", "No such dataset for this viewer, or its rows cannot be read now."
    QUERY_ONGOING = "QUERY_ONGOING", "The viewer's earlier query is still running: a QueryOngoing."
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT", "The key was used with another input: an IdempotencyConflict."
    SERVER_BUSY = "SERVER_BUSY", "Too many queries wait already: a ServerBusy."
    LIBRARY_FAILED = "LIBRARY_FAILED", "Private rows were read and there is no answer: a LibraryFailed."
    RELEASE_NOT_RUNNING = "RELEASE_NOT_RUNNING", "There is nothing to cancel: a ReleaseNotRunning."


@strawberry.interface(
    description="An expected failure, in place of a result. Spread `... on UserError` to catch every kind of it."
)
class UserError:
    code: ErrorCode = strawberry.field(description="What went wrong, for programs.")
    message: str = strawberry.field(description="What went wrong and what to do, in English, for people.")


@strawberry.type(description="The query costs more than remains. Nothing was charged.")
class BudgetExceeded(UserError):
    requested: PrivacyLoss = strawberry.field(description="What the query would cost.")
    remaining: PrivacyLoss = strawberry.field(
        description="What could still be spent: the smaller of what is left of the viewer's grant and of the "
        "owner's cap over all users."
    )


@strawberry.type(description="One mistake in an input.")
class Issue:
    path: list[str] = strawberry.field(
        description='Where: field names from the input downwards, e.g. ["query", "smartnoiseSql", "epsilon"].'
    )
    message: str = strawberry.field(description="What is wrong there.")


@strawberry.type(description="The query cannot be run as it is; each mistake is named. Nothing was charged.")
class InvalidQuery(UserError):
    issues: list[Issue] = strawberry.field(description="The mistakes, one entry for each.")


@strawberry.type(
    description="The dataset is unknown, removed or not granted to the viewer, which look the same; or its rows "
    "cannot be read now. Nothing was charged."
)
class DatasetUnavailable(UserError):
    pass


@strawberry.type(description="As many queries of the viewer as may run at once are running. Nothing was charged.")
class QueryOngoing(UserError):
    release_id: strawberry.ID | None = strawberry.field(
        description="The oldest release that runs: to be followed or cancelled."
    )


@strawberry.type(description="The idempotency key was used before, with another input. Nothing was charged.")
class IdempotencyConflict(UserError):
    pass


@strawberry.type(
    description="As many queries wait for a worker as may wait, of all users or of the viewer. Nothing was charged: "
    "ask again in a moment. `serverState` tells how many wait."
)
class ServerBusy(UserError):
    pass


@strawberry.type(
    description="The library gave no answer on the private rows. `message` never depends on them. The charge stays."
)
class LibraryFailed(UserError):
    library: base.Library = strawberry.field(description="The library that failed.")
    cost: PrivacyLoss = strawberry.field(description="What was charged, and stays charged.")


@strawberry.type(
    description="No running release of the viewer has that id: it has ended, or is not the viewer's; the two look "
    "the same."
)
class ReleaseNotRunning(UserError):
    pass


def problem_of(error: errors.LomasError) -> UserError | None:
    """An expected failure in GraphQL's terms; None where it is not one."""
    match error:
        case errors.BudgetExceeded(requested=requested, remaining=remaining):
            return BudgetExceeded(
                code=ErrorCode.BUDGET_EXCEEDED,
                message=error.message,
                requested=PrivacyLoss.of(requested),
                remaining=PrivacyLoss.of(remaining),
            )
        case errors.InvalidQuery(issues=issues):
            shown = [Issue(path=list(issue.path), message=issue.message) for issue in issues]
            return InvalidQuery(code=ErrorCode.INVALID_QUERY, message=error.message, issues=shown)
        case errors.DatasetUnavailable() | errors.SourceUnavailable():
            return DatasetUnavailable(code=ErrorCode.DATASET_UNAVAILABLE, message=error.message)
        case errors.QueryOngoing(release_id=running):
            id = None if running is None else strawberry.ID(opaque("Release", running))
            return QueryOngoing(code=ErrorCode.QUERY_ONGOING, message=error.message, release_id=id)
        case errors.IdempotencyConflict():
            return IdempotencyConflict(code=ErrorCode.IDEMPOTENCY_CONFLICT, message=error.message)
        case errors.ServerBusy():
            return ServerBusy(code=ErrorCode.SERVER_BUSY, message=error.message)
        case errors.ReleaseNotRunning():
            return ReleaseNotRunning(code=ErrorCode.RELEASE_NOT_RUNNING, message=error.message)
        case errors.LibraryFailed(library=library, cost=cost):
            return failure_of(library, cost, error.message)
        case _:
            return None


def failure_of(library: str, cost: ExactLoss, message: str) -> LibraryFailed:
    """A charged run without an answer."""
    return LibraryFailed(
        code=ErrorCode.LIBRARY_FAILED,
        message=message,
        library=base.Library(library),
        cost=PrivacyLoss.of(cost),
    )

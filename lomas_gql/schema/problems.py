"""Expected failures, as members of result unions."""

from __future__ import annotations

from enum import Enum

import strawberry

from lomas_gql import errors
from lomas_gql.libraries import base
from lomas_gql.privacy import PrivacyLoss as ExactLoss
from lomas_gql.schema.ids import opaque
from lomas_gql.schema.results import PrivacyLoss


@strawberry.enum(description="What went wrong, for programs.")
class ErrorCode(Enum):
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    INVALID_QUERY = "INVALID_QUERY"
    DATASET_UNAVAILABLE = "DATASET_UNAVAILABLE"
    QUERY_ONGOING = "QUERY_ONGOING"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    LIBRARY_FAILED = "LIBRARY_FAILED"
    RELEASE_NOT_RUNNING = "RELEASE_NOT_RUNNING"


@strawberry.interface(description="Spread `... on UserError` to catch every expected failure.")
class UserError:
    code: ErrorCode = strawberry.field(description="What went wrong, for programs.")
    message: str = strawberry.field(description="What went wrong, for people.")


@strawberry.type(description="The query costs more than remains. Nothing was charged.")
class BudgetExceeded(UserError):
    requested: PrivacyLoss = strawberry.field(description="What the query would cost.")
    remaining: PrivacyLoss = strawberry.field(description="The smaller of the viewer's grant and the dataset's cap.")


@strawberry.type(description="One mistake in an input.")
class Issue:
    path: list[str] = strawberry.field(description="Where, as field names from the input downwards.")
    message: str = strawberry.field(description="What is wrong there.")


@strawberry.type(description="The query cannot be run. Nothing was charged.")
class InvalidQuery(UserError):
    issues: list[Issue] = strawberry.field(description="Each mistake.")


@strawberry.type(description="Unknown, removed or not granted: the three look the same. Nothing was charged.")
class DatasetUnavailable(UserError):
    pass


@strawberry.type(description="As many queries of the viewer as may run at once are running. Nothing was charged.")
class QueryOngoing(UserError):
    release_id: strawberry.ID | None = strawberry.field(
        description="The oldest release that runs: to be followed or cancelled."
    )


@strawberry.type(description="The idempotency key was used with another input. Nothing was charged.")
class IdempotencyConflict(UserError):
    pass


@strawberry.type(description="No answer. `message` never depends on private rows. The charge stays.")
class LibraryFailed(UserError):
    library: base.Library = strawberry.field(description="Which library failed.")
    cost: PrivacyLoss = strawberry.field(description="What was charged.")


@strawberry.type(description="The release has ended already, or is not the viewer's.")
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

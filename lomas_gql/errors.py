"""The error tree. Every message here may be shown to a client: none depends on a private row."""

from __future__ import annotations

from dataclasses import dataclass

from lomas_gql.privacy import PrivacyLoss


class LomasError(Exception):
    """Root of the errors that a caller is meant to see."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unauthenticated(LomasError):
    """Nobody is signed in, or the token is unknown, revoked or expired."""

    code = "UNAUTHENTICATED"


class Forbidden(LomasError):
    """The viewer is known but may not do this."""

    code = "FORBIDDEN"


class LimitExceeded(LomasError):
    """The request asks for more than one of the server's limits allows."""

    code = "LIMIT_EXCEEDED"

    def __init__(self, message: str, code: str = code) -> None:
        super().__init__(message)
        self.code = code


class BadCursor(LomasError):
    """A cursor that is none of the list in which it is used."""

    code = "BAD_CURSOR"


class DatabaseUnavailable(LomasError):
    """The server's own database does not answer for now. Clients get `message`; the reason is for the owner."""

    code = "DATABASE_UNAVAILABLE"

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(message or DATABASE_AWAY)
        self.reason = reason


class ServerBusy(LomasError):
    """As many calls wait for a worker as may wait, or as may wait for one user. It costs nothing."""

    code = "SERVER_BUSY"

    def __init__(self) -> None:
        super().__init__(
            "The server has as many queries waiting as it takes, or as it takes of you. Nothing was charged; try "
            "again in a moment."
        )


class AdministrationError(LomasError):
    """A command cannot be carried out; the message says why and what to do."""


@dataclass(frozen=True)
class Issue:
    """One mistake in an input: where, as field names from the input downwards, and what."""

    path: tuple[str, ...]
    message: str


class InvalidQuery(LomasError):
    """The query is refused before any private row is touched. It costs nothing."""

    def __init__(self, *issues: Issue) -> None:
        super().__init__("; ".join(issue.message for issue in issues))
        self.issues = issues

    @classmethod
    def at(cls, *path: str, message: str) -> InvalidQuery:
        """One mistake, at the input field `path`."""
        return cls(Issue(path, message))

    def __reduce__(self) -> tuple[type[InvalidQuery], tuple[Issue, ...]]:
        return type(self), self.issues


class DatasetUnavailable(LomasError):
    """The dataset is unknown, removed or not granted to the viewer: the three look the same."""

    def __init__(self) -> None:
        super().__init__("There is no dataset of that name that you may query.")


class SourceUnavailable(LomasError):
    """The dataset's rows cannot be read. It costs nothing; the owner has to act.

    Analysts get one message, whatever is wrong with the source; the reason is for the owner.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__("The dataset's rows cannot be read now; its owner has to be told. Nothing was charged.")
        self.reason = reason

    def __reduce__(self) -> tuple[type[SourceUnavailable], tuple[str]]:
        return type(self), (self.reason,)


class BudgetExceeded(LomasError):
    """The query would cost more than remains."""

    def __init__(self, requested: PrivacyLoss, remaining: PrivacyLoss) -> None:
        super().__init__(
            f"The query costs epsilon {requested.epsilon_text} and delta {requested.delta_text}; "
            f"epsilon {remaining.epsilon_text} and delta {remaining.delta_text} remain."
        )
        self.requested = requested
        self.remaining = remaining


class QueryOngoing(LomasError):
    """As many releases of the user as may run at once are running; `release_id` is the oldest of them."""

    def __init__(self, message: str, release_id: int | None = None) -> None:
        super().__init__(message)
        self.release_id = release_id


class IdempotencyConflict(LomasError):
    """The key was used before, with another input."""


class ReleaseNotRunning(LomasError):
    """The release has ended already, or is not the viewer's: the two look the same."""

    def __init__(self) -> None:
        super().__init__("You have no running release of that id.")


class LibraryFailed(LomasError):
    """A run on private rows gave no answer. The message is fixed, and the charge stays."""

    def __init__(self, library: str, cost: PrivacyLoss, message: str | None = None) -> None:
        super().__init__(message or LIBRARY_FAILED.format(library=library))
        self.library = library
        self.cost = cost


class Overspent(LomasError):
    """A run spent more than it was charged for. The larger figure is charged and the answer withheld."""

    def __init__(self, spent: PrivacyLoss) -> None:
        super().__init__("the library spent more than the declared cost")
        self.spent = spent


class ConditionTooRare(LomasError):
    """Too few synthetic rows meet a condition. It speaks of synthetic rows only, so it may be shown.

    `kept` is the answer that holds the fitted model, where fitting it was charged: it can be sampled under
    another condition.
    """

    def __init__(self, found: int, wanted: int, drawn: int, kept: object = None) -> None:
        super().__init__(
            f"The condition is too rare: {found} of {wanted} rows met it among {drawn} synthetic ones. "
            "The release keeps its model; sample it under another condition."
            if kept is not None
            else f"The condition is too rare: {found} of {wanted} rows met it among {drawn} synthetic ones."
        )
        self.found, self.wanted, self.drawn, self.kept = found, wanted, drawn, kept

    def __reduce__(self) -> tuple[type[ConditionTooRare], tuple[int, int, int, object]]:
        return type(self), (self.found, self.wanted, self.drawn, self.kept)


CANCELLED = "The query was cancelled while it ran. It was charged; nothing was released."
INTERRUPTED = "The server stopped while the query ran. It was charged; nothing was released."
LIBRARY_FAILED = "{library} gave no answer on the private rows. The query was charged; nothing was released."
DATABASE_AWAY = "The server's database does not answer. Nothing was charged or released; try again in a moment."
PERHAPS_WRITTEN = (
    "The server's database was lost before it confirmed what was written. A query may have been charged; nothing was "
    "released. See your history, or ask again under the same idempotency key."
)
CHARGED_UNCONFIRMED = (
    "The server's database was lost after the query was charged. See your history for whether its answer was kept, "
    "or ask again under the same idempotency key."
)

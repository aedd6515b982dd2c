"""The tables: who may query what, what was spent, and every release."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    TypeDecorator,
    UniqueConstraint,
)
from sqlmodel import JSON, Field, Integer, SQLModel, String

from lomas_gql.privacy import LARGEST, PrivacyLoss
from lomas_gql.words import Word

BigKey = BigInteger().with_variant(Integer, "sqlite")


class Utc(TypeDecorator[datetime]):
    """A time in UTC, which SQLite stores without saying so."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


def _time(**options: Any) -> Any:
    return Field(sa_column=Column(Utc, **options))


class ReleaseStatus(Word):
    """Where a release stands; all but RUNNING are final. In each of them the charge stands."""

    RUNNING = "RUNNING", "It was charged, and runs on the private rows."
    RELEASED = "RELEASED", "It has ended, and its result was released."
    FAILED = "FAILED", "Its library gave no answer; `error` says as much as may be told."
    INTERRUPTED = "INTERRUPTED", "The server that ran it died. It never runs again."
    CANCELLED = "CANCELLED", "Its user stopped it with `cancel`."


class User(SQLModel, table=True):
    """Somebody who may sign in. A removed user keeps the row, and with it the history."""

    __tablename__ = "user_account"

    id: int = Field(default=None, primary_key=True)
    name: str = Field(sa_column=Column(String(200), unique=True, nullable=False))
    email: str | None = None
    may_query: bool = True
    created_at: datetime = _time(nullable=False, default=now)
    removed_at: datetime | None = _time(nullable=True)


class Token(SQLModel, table=True):
    """An API token: only its SHA-256 is kept."""

    __tablename__ = "token"

    id: int = Field(default=None, primary_key=True)
    user_id: int = Field(foreign_key="user_account.id", index=True)
    digest: str = Field(sa_column=Column(String(64), unique=True, nullable=False))
    created_at: datetime = _time(nullable=False, default=now)
    expires_at: datetime | None = _time(nullable=True)
    revoked_at: datetime | None = _time(nullable=True)


def _units(**options: Any) -> Any:
    return Field(default=0, sa_column=Column(BigInteger, nullable=False, default=0, **options))


def _cap() -> Any:
    return Field(default=None, sa_column=Column(BigInteger, nullable=True))


def _or_largest(cap: int | None) -> int:
    return LARGEST if cap is None else cap


class Dataset(SQLModel, table=True):
    """A table of private rows: where they are, and what is public about them."""

    __tablename__ = "dataset"

    id: int = Field(default=None, primary_key=True)
    name: str = Field(sa_column=Column(String(200), unique=True, nullable=False))
    source: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    # What all users together were charged: they can collude.
    spent_epsilon: int = _units(server_default="0")
    spent_delta: int = _units(server_default="0")
    # The owner's caps, over all users and for one query; null where there is none.
    cap_epsilon: int | None = _cap()
    cap_delta: int | None = _cap()
    query_cap_epsilon: int | None = _cap()
    query_cap_delta: int | None = _cap()
    created_at: datetime = _time(nullable=False, default=now)
    removed_at: datetime | None = _time(nullable=True)

    @property
    def cap_remaining(self) -> PrivacyLoss:
        """What is left of the owner's cap over all users; as much as a column holds where there is none."""
        cap = PrivacyLoss(_or_largest(self.cap_epsilon), _or_largest(self.cap_delta))
        return cap.less(PrivacyLoss(self.spent_epsilon, self.spent_delta))

    @property
    def query_cap(self) -> PrivacyLoss:
        """What one query may cost at most; as much as a column holds where there is no cap."""
        return PrivacyLoss(_or_largest(self.query_cap_epsilon), _or_largest(self.query_cap_delta))


class Grant(SQLModel, table=True):
    """A user's budget on a dataset: epsilon in units of 1e-12, delta in units of 1e-18."""

    __tablename__ = "user_grant"
    __table_args__ = (
        CheckConstraint(
            "initial_epsilon >= 0 AND initial_delta >= 0 AND spent_epsilon >= 0 AND spent_delta >= 0",
            name="amounts_are_not_negative",
        ),
    )

    user_id: int = Field(foreign_key="user_account.id", primary_key=True)
    dataset_id: int = Field(foreign_key="dataset.id", primary_key=True)
    initial_epsilon: int = _units()
    initial_delta: int = _units()
    spent_epsilon: int = _units()
    spent_delta: int = _units()
    created_at: datetime = _time(nullable=False, default=now)

    @property
    def initial(self) -> PrivacyLoss:
        return PrivacyLoss(self.initial_epsilon, self.initial_delta)

    @property
    def spent(self) -> PrivacyLoss:
        return PrivacyLoss(self.spent_epsilon, self.spent_delta)


class Release(SQLModel, table=True):
    """One charged execution, from its reservation on."""

    __tablename__ = "release"
    __table_args__ = (
        UniqueConstraint("user_id", "slot", name="one_running_release_per_slot"),
        UniqueConstraint("user_id", "idempotency_key", name="one_release_per_key"),
        Index("release_history", "user_id", "dataset_id", "id"),
        Index("release_repeats", "user_id", "input_digest"),
    )

    id: int = Field(default=None, sa_column=Column(BigKey, primary_key=True, autoincrement=True))
    user_id: int = Field(foreign_key="user_account.id")
    dataset_id: int = Field(foreign_key="dataset.id")
    library: str = Field(sa_column=Column(String(30), nullable=False))
    status: str = Field(sa_column=Column(String(20), nullable=False, index=True))
    # Set while the release runs: two rows cannot hold the same user's slot.
    slot: int | None = None
    idempotency_key: str | None = Field(default=None, sa_column=Column(String(200), nullable=True))
    input_digest: str = Field(sa_column=Column(String(64), nullable=False))
    # Which version of the dataset's file and metadata was read.
    dataset_version: str | None = Field(default=None, sa_column=Column(String(32), nullable=True))
    query: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    # Random, and in the audit trail's digests of this release.
    salt: str = Field(
        default_factory=lambda: secrets.token_hex(16),
        sa_column=Column(String(32), nullable=False, server_default="unsalted"),
    )
    epsilon: int = _units()
    delta: int = _units()
    answer: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    failure: str | None = None
    created_at: datetime = _time(nullable=False, default=now)
    finished_at: datetime | None = _time(nullable=True)
    # The server process that runs it, and until when it has promised to be alive.
    server: str = Field(sa_column=Column(String(200), nullable=False))
    lease_until: datetime = _time(nullable=False)

    @property
    def cost(self) -> PrivacyLoss:
        return PrivacyLoss(self.epsilon, self.delta)


class FittedModel(SQLModel, table=True):
    """A synthesizer that a release has fitted: noised figures alone, from which rows are drawn."""

    __tablename__ = "fitted_model"

    release_id: int = Field(sa_column=Column(BigKey, ForeignKey("release.id"), primary_key=True))
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AuditKind(Enum):
    """What an entry of the audit trail tells."""

    USER_SET = "USER_SET"
    USER_REMOVED = "USER_REMOVED"
    TOKEN_CREATED = "TOKEN_CREATED"  # noqa: S105 (a kind of entry)
    TOKEN_REVOKED = "TOKEN_REVOKED"  # noqa: S105
    DATASET_SET = "DATASET_SET"
    DATASET_REMOVED = "DATASET_REMOVED"
    GRANT_SET = "GRANT_SET"
    CAP_SET = "CAP_SET"
    SPENT_ELSEWHERE = "SPENT_ELSEWHERE"
    RELEASE_CHARGED = "RELEASE_CHARGED"
    RELEASE_CHARGED_MORE = "RELEASE_CHARGED_MORE"
    RELEASE_ENDED = "RELEASE_ENDED"


class AuditEntry(SQLModel, table=True):
    """An entry of the audit trail. A trigger of the database refuses its change and removal."""

    __tablename__ = "audit_entry"
    __table_args__ = (CheckConstraint("id > 0", name="entries_are_counted_from_one"),)

    # Counted without gaps, so that a missing entry shows.
    id: int = Field(sa_column=Column(BigKey, primary_key=True, autoincrement=False))
    at: datetime = _time(nullable=False)
    actor: str = Field(sa_column=Column(String(300), nullable=False))
    kind: str = Field(sa_column=Column(String(30), nullable=False))
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    hash: str = Field(sa_column=Column(String(64), nullable=False))


class AuditHead(SQLModel, table=True):
    """The end of the audit trail: one row, whose lock puts all entries in order."""

    __tablename__ = "audit_head"

    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    entries: int = Field(sa_column=Column(BigInteger, nullable=False))
    hash: str = Field(sa_column=Column(String(64), nullable=False))

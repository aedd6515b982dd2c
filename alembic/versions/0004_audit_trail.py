"""the audit trail, begun with what the tables hold"""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from alembic import op
from lomas_gql.database import chain
from lomas_gql.privacy import PrivacyLoss

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APPEND_ONLY = "the audit trail is append-only"
PAGE = 1000


def upgrade() -> None:
    op.add_column("release", sa.Column("salt", sa.String(length=32), nullable=False, server_default="unsalted"))
    entries = op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id > 0", name="entries_are_counted_from_one"),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
    )
    trail = Trail(op.get_bind(), entries)
    trail.write()
    op.get_bind().execute(head.insert().values(id=1, entries=trail.length, hash=trail.hash))
    _refuse_changes()


def downgrade() -> None:
    op.drop_table("audit_head")
    op.drop_table("audit_entry")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_is_append_only")
    op.drop_column("release", "salt")


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # A REPLACE removes the row before it without a DELETE.
        replaces = "INSERT", "WHEN NEW.id <= (SELECT coalesce(max(id), 0) FROM audit_entry)"
        for what, when in (("UPDATE", ""), ("DELETE", ""), replaces):
            op.execute(
                f"CREATE TRIGGER audit_refuses_{what.lower()} BEFORE {what} ON audit_entry {when} "
                f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{APPEND_ONLY}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )


class Trail:
    """Entries that make up the state of the tables as this migration finds them."""

    def __init__(self, connection: sa.Connection, entries: sa.Table) -> None:
        self.connection, self.entries = connection, entries
        self.length, self.hash = 0, chain.BEGINNING
        self.waiting: list[dict[str, Any]] = []
        found = sa.MetaData()
        found.reflect(connection)
        self.tables = found.tables

    def write(self) -> None:
        users = {user.id: user.name for user in self._users()}
        datasets = {dataset.id: dataset.name for dataset in self._datasets()}
        self._tokens(users)
        self._grants(users, datasets)
        self._releases(users, datasets)
        self._flush()

    def _users(self) -> Iterator[Any]:
        for user in self._rows("user_account"):
            self._add(user.created_at, "USER_SET", {"user": user.name, "mayQuery": bool(user.may_query)})
            if user.removed_at is not None:
                self._add(user.removed_at, "USER_REMOVED", {"user": user.name})
            yield user

    def _tokens(self, users: dict[int, str]) -> None:
        for token in self._rows("token"):
            facts = {"token": token.id, "user": users[token.user_id], "credential": chain.credential(token)}
            self._add(token.created_at, "TOKEN_CREATED", facts)
            if token.revoked_at is not None:
                self._add(token.revoked_at, "TOKEN_REVOKED", {"token": token.id})

    def _datasets(self) -> Iterator[Any]:
        for dataset in self._rows("dataset"):
            name = {"dataset": dataset.name}
            self._add(dataset.created_at, "DATASET_SET", name | {"definition": chain.definition(dataset)})
            caps = _caps(dataset)
            if any(caps.values()):
                self._add(dataset.created_at, "CAP_SET", name | caps)
            if dataset.removed_at is not None:
                self._add(dataset.removed_at, "DATASET_REMOVED", name)
            yield dataset

    def _grants(self, users: dict[int, str], datasets: dict[int, str]) -> None:
        release, grants = self.tables["release"], self.tables["user_grant"]
        sums = sa.select(
            release.c.user_id, release.c.dataset_id, sa.func.sum(release.c.epsilon), sa.func.sum(release.c.delta)
        ).group_by(release.c.user_id, release.c.dataset_id)
        charged = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in self.connection.execute(sums)}
        for grant in self.connection.execute(grants.select().order_by(grants.c.user_id, grants.c.dataset_id)):
            whose = {"user": users[grant.user_id], "dataset": datasets[grant.dataset_id]}
            self._add(grant.created_at, "GRANT_SET", whose | _loss(grant.initial_epsilon, grant.initial_delta))
            epsilon, delta = charged.get((grant.user_id, grant.dataset_id), (0, 0))
            elsewhere = max(0, grant.spent_epsilon - epsilon), max(0, grant.spent_delta - delta)
            if any(elsewhere):
                self._add(grant.created_at, "SPENT_ELSEWHERE", whose | _loss(*elsewhere))

    def _releases(self, users: dict[int, str], datasets: dict[int, str]) -> None:
        releases, models = self.tables["release"], self.tables["fitted_model"]
        fitted = set(self.connection.scalars(sa.select(models.c.release_id)))
        salted = releases.update().where(releases.c.id == sa.bindparam("which")).values(salt=sa.bindparam("grain"))
        for page in self._pages("release"):
            self.connection.execute(salted, [{"which": row.id, "grain": secrets.token_hex(16)} for row in page])
            ids = [row.id for row in page]
            for release in self.connection.execute(releases.select().where(releases.c.id.in_(ids)).order_by("id")):
                facts = {
                    "release": release.id,
                    "user": users[release.user_id],
                    "dataset": datasets[release.dataset_id],
                    "library": release.library,
                    "content": chain.content(release),
                }
                self._add(release.created_at, "RELEASE_CHARGED", facts | _loss(release.epsilon, release.delta))
                if release.status != "RUNNING":
                    content = sa.select(models.c.content).where(models.c.release_id == release.id)
                    model = self.connection.scalar(content) if release.id in fitted else None
                    ended = {"release": release.id, "status": release.status}
                    ended["outcome"] = chain.outcome(release, model)
                    self._add(release.finished_at or release.created_at, "RELEASE_ENDED", ended)

    def _rows(self, name: str) -> Iterator[Any]:
        for page in self._pages(name):
            yield from page

    def _pages(self, name: str) -> Iterator[list[Any]]:
        table, after = self.tables[name], None
        rows = table.select().order_by(table.c.id).limit(PAGE)
        while page := list(self.connection.execute(rows if after is None else rows.where(table.c.id > after))):
            yield page
            after = page[-1].id

    def _add(self, at: datetime, kind: str, facts: dict[str, Any]) -> None:
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        actor, self.length = "migration 0004", self.length + 1
        self.hash = chain.entry_hash(self.hash, self.length, at, actor, kind, facts)
        row = {"id": self.length, "at": at, "actor": actor, "kind": kind, "facts": facts, "hash": self.hash}
        self.waiting.append(row)
        if len(self.waiting) == PAGE:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            self.connection.execute(self.entries.insert(), self.waiting)
            self.waiting = []


def _caps(dataset: Any) -> dict[str, str | None]:
    epsilons = {"epsilon": dataset.cap_epsilon, "queryEpsilon": dataset.query_cap_epsilon}
    deltas = {"delta": dataset.cap_delta, "queryDelta": dataset.query_cap_delta}
    texts = {name: None if cap is None else PrivacyLoss(cap).epsilon_text for name, cap in epsilons.items()}
    return texts | {name: None if cap is None else PrivacyLoss(0, cap).delta_text for name, cap in deltas.items()}


def _loss(epsilon: int, delta: int) -> dict[str, str]:
    loss = PrivacyLoss(epsilon, delta)
    return {"epsilon": loss.epsilon_text, "delta": loss.delta_text}

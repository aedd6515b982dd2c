"""the append-only history, begun with what the tables hold"""

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

APPEND_ONLY = "the history is append-only"


def upgrade() -> None:
    entries = op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
    )
    history = History(op.get_bind(), entries)
    history.write()
    op.get_bind().execute(head.insert().values(id=1, entries=history.length, hash=history.hash))
    _refuse_changes()


def downgrade() -> None:
    op.drop_table("audit_head")
    op.drop_table("audit_entry")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_is_append_only")


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_refuses_{what.lower()} BEFORE {what} ON audit_entry "
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


class History:
    """Entries that make up the state of the tables as this migration finds them."""

    def __init__(self, connection: sa.Connection, entries: sa.Table) -> None:
        self.connection, self.entries = connection, entries
        self.length, self.hash = 0, chain.BEGINNING
        found = sa.MetaData()
        found.reflect(connection)
        self.tables = found.tables

    def write(self) -> None:
        users = {row.id: row.name for row in self._users()}
        datasets = {row.id: row.name for row in self._datasets()}
        self._grants(users, datasets)
        self._releases(users, datasets)

    def _users(self) -> list[Any]:
        users = self._rows("user_account", "id")
        for user in users:
            self._add(user.created_at, "USER_SET", {"user": user.name, "mayQuery": bool(user.may_query)})
            if user.removed_at is not None:
                self._add(user.removed_at, "USER_REMOVED", {"user": user.name})
        return users

    def _datasets(self) -> list[Any]:
        datasets = self._rows("dataset", "id")
        for dataset in datasets:
            name = {"dataset": dataset.name}
            self._add(dataset.created_at, "DATASET_SET", name | {"definition": chain.definition(dataset)})
            caps = _caps(dataset)
            if any(caps.values()):
                self._add(dataset.created_at, "CAP_SET", name | caps)
            if dataset.removed_at is not None:
                self._add(dataset.removed_at, "DATASET_REMOVED", name)
        return datasets

    def _grants(self, users: dict[int, str], datasets: dict[int, str]) -> None:
        release = self.tables["release"]
        sums = sa.select(
            release.c.user_id, release.c.dataset_id, sa.func.sum(release.c.epsilon), sa.func.sum(release.c.delta)
        ).group_by(release.c.user_id, release.c.dataset_id)
        charged = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in self.connection.execute(sums)}
        for grant in self._rows("user_grant", "user_id", "dataset_id"):
            whose = {"user": users[grant.user_id], "dataset": datasets[grant.dataset_id]}
            self._add(grant.created_at, "GRANT_SET", whose | _loss(grant.initial_epsilon, grant.initial_delta))
            epsilon, delta = charged.get((grant.user_id, grant.dataset_id), (0, 0))
            elsewhere = max(0, grant.spent_epsilon - epsilon), max(0, grant.spent_delta - delta)
            if any(elsewhere):
                self._add(grant.created_at, "SPENT_ELSEWHERE", whose | _loss(*elsewhere))

    def _releases(self, users: dict[int, str], datasets: dict[int, str]) -> None:
        models = {row.release_id: row.content for row in self._rows("fitted_model", "release_id")}
        for release in self._rows("release", "id"):
            facts = {
                "release": release.id,
                "user": users[release.user_id],
                "dataset": datasets[release.dataset_id],
                "library": release.library,
                "content": chain.content(release),
            }
            self._add(release.created_at, "RELEASE_CHARGED", facts | _loss(release.epsilon, release.delta))
            if release.finished_at is not None:
                model = models.get(release.id)
                ended = {
                    "release": release.id,
                    "status": release.status,
                    "outcome": chain.outcome(release.answer, release.failure, release.finished_at, model),
                }
                self._add(release.finished_at, "RELEASE_ENDED", ended)

    def _rows(self, name: str, *order: str) -> list[Any]:
        table = self.tables[name]
        return list(self.connection.execute(sa.select(table).order_by(*(table.c[column] for column in order))))

    def _add(self, at: datetime, kind: str, facts: dict[str, Any]) -> None:
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        actor, self.length = "migration 0004", self.length + 1
        self.hash = chain.entry_hash(self.hash, self.length, at, actor, kind, facts)
        row = {"id": self.length, "at": at, "actor": actor, "kind": kind, "facts": facts, "hash": self.hash}
        self.connection.execute(self.entries.insert().values(**row))


def _caps(dataset: Any) -> dict[str, str | None]:
    epsilons = {"epsilon": dataset.cap_epsilon, "queryEpsilon": dataset.query_cap_epsilon}
    deltas = {"delta": dataset.cap_delta, "queryDelta": dataset.query_cap_delta}
    texts = {name: None if cap is None else PrivacyLoss(cap).epsilon_text for name, cap in epsilons.items()}
    return texts | {name: None if cap is None else PrivacyLoss(0, cap).delta_text for name, cap in deltas.items()}


def _loss(epsilon: int, delta: int) -> dict[str, str]:
    loss = PrivacyLoss(epsilon, delta)
    return {"epsilon": loss.epsilon_text, "delta": loss.delta_text}

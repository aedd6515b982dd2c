"""The audit trail agrees with the tables, and says which row was tampered with, on both kinds of database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select

from alembic import command
from lomas_gql.auth import Viewer
from lomas_gql.database import chain
from lomas_gql.database.engine import Database
from lomas_gql.database.models import AuditEntry
from lomas_gql.errors import BudgetExceeded
from lomas_gql.libraries.base import Answer, Library
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services import administration, audit, importing, leases, ledger, settling, tokens, verification
from lomas_gql.services.ledger import Reservation
from lomas_gql.services.verification import verify
from tests.conftest import DEMO
from tests.database.test_migrations import on, step

LEASE = leases.lease_of_this_process("here", 15)
COST = PrivacyLoss.declared("0.1", "1e-6")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Users, datasets and releases of every kind of ending."""
    database = Database(database_url)
    await fill(database)
    yield database
    await database.close()


async def fill(database: Database) -> None:
    await database.upgrade()
    await importing.import_catalogue(database, [DEMO / "catalogue.yaml"])
    await administration.grant(database, "frugal", "PENGUIN", "2", "0.001")
    await administration.cap(database, "PENGUIN", {"epsilon": "90", "query_epsilon": "5"})
    await administration.add_user(database, "gone", None, may_query=True)
    await administration.remove_user(database, "gone")
    await tokens.create_token(database, "ample", None)
    await tokens.create_token(database, "frugal", 30)
    await tokens.revoke_token(database, 2)
    for end in ("settle", "model", "fail", "overspend", "cancel", "interrupt", "run"):
        await released(database, end)


async def released(database: Database, end: str) -> None:
    lease = leases.Lease("here:999999999:1.00", 15) if end == "interrupt" else LEASE
    reservation = Reservation(1, 1, "OPENDP", COST, {"opendp": {"end": end}}, "digest", key=end)
    release = await ledger.reserve(database, reservation, lease, 50)
    match end:
        case "settle":
            assert await settling.settle(database, release, LEASE, Answer(Library.OPENDP, 0.1))
        case "model":
            answer = Answer(Library.SMARTNOISE_SYNTH, model=b"figures")
            assert await settling.settle(database, release, LEASE, answer)
        case "fail":
            await settling.fail(database, release, LEASE, "no answer")
        case "overspend":
            await settling.fail(database, release, LEASE, "no answer", spent=PrivacyLoss.declared("0.5"))
        case "cancel":
            assert await settling.cancel(database, Viewer(1, "ample", may_query=True), release.id)
        case "interrupt":
            assert await settling.interrupt_dead(database, LEASE) == 1


async def change(database: Database, statement: str) -> None:
    async with database.writing() as session:
        await session.exec(text(statement))  # type: ignore[call-overload]


async def rewrite(database: Database, statement: str) -> None:
    """Changes the audit trail as only somebody who may alter the database can."""
    async with database.writing() as session:
        if database.engine.dialect.name == "sqlite":
            for what in ("update", "delete", "insert"):
                await session.exec(text(f"DROP TRIGGER audit_refuses_{what}"))  # type: ignore[call-overload]
        else:
            await session.exec(text("DROP TRIGGER audit_refuses_changes ON audit_entry"))  # type: ignore[call-overload]
        await session.exec(text(statement))  # type: ignore[call-overload]


async def entries(database: Database) -> list[AuditEntry]:
    async with database.reading() as session:
        return list((await session.exec(select(AuditEntry).order_by(col(AuditEntry.id)))).all())


async def test_every_budget_and_release_agrees_with_the_audit_trail(database: Database) -> None:
    verified = await verify(database)
    assert verified.findings == []
    kept = await entries(database)
    assert verified.entries == len(kept)
    assert verified.head == kept[-1].hash
    assert [entry.kind for entry in kept].count("RELEASE_CHARGED") == 7
    assert [entry.kind for entry in kept].count("RELEASE_ENDED") == 6


async def test_each_entry_says_when_and_who(database: Database) -> None:
    by_kind = {entry.kind: entry for entry in await entries(database)}
    assert by_kind["RELEASE_CHARGED"].actor.startswith("user ")
    assert by_kind["RELEASE_ENDED"].actor == f"server {LEASE.server}"
    assert by_kind["GRANT_SET"].actor.startswith("administrator")
    assert by_kind["GRANT_SET"].facts == {
        "user": "frugal",
        "dataset": "PENGUIN",
        "epsilon": "2",
        "delta": "0.001",
    }
    cancelled = next(e for e in await entries(database) if e.facts.get("status") == "CANCELLED")
    assert cancelled.actor == "user ample"


TAMPERED = [
    ("UPDATE user_grant SET spent_epsilon = 0 WHERE user_id = 1 AND dataset_id = 1", "on PENGUIN: spent is epsilon 0,"),
    ("UPDATE user_grant SET initial_delta = initial_delta + 1 WHERE user_id = 1 AND dataset_id = 1", ": initial is"),
    ("UPDATE dataset SET spent_delta = 0 WHERE id = 1", "dataset PENGUIN: spent is"),
    ("UPDATE dataset SET cap_epsilon = NULL WHERE id = 1", "dataset PENGUIN: caps is"),
    ("UPDATE dataset SET facts = '{}' WHERE id = 1", "dataset PENGUIN: source and metadata is"),
    ("UPDATE user_account SET removed_at = NULL", "user gone: removed is False"),
    ("UPDATE user_account SET may_query = NOT may_query WHERE id = 1", "may query is"),
    ("UPDATE release SET epsilon = 0 WHERE id = 1", "release 1: cost is epsilon 0,"),
    ("UPDATE release SET answer = '{}' WHERE id = 1", "release 1: outcome is"),
    ("UPDATE release SET query = '{}' WHERE id = 1", "release 1: query and time is"),
    ("UPDATE release SET created_at = finished_at WHERE id = 1", "release 1: query and time is"),
    ("UPDATE release SET user_id = 2 WHERE id = 1", "release 1: user is frugal"),
    ("UPDATE release SET status = 'RELEASED' WHERE id = 3", "release 3: status is RELEASED, the audit trail says FAILED"),
    ("UPDATE release SET idempotency_key = 'other' WHERE id = 1", "release 1: query and time is"),
    ("UPDATE release SET dataset_version = 'other' WHERE id = 1", "release 1: query and time is"),
    ("UPDATE release SET input_digest = 'other' WHERE id = 1", "release 1: query and time is"),
    ("UPDATE release SET finished_at = created_at WHERE id = 1", "release 1: outcome is"),
    ("UPDATE release SET failure = 'other' WHERE id = 7", "release 7: outcome is"),
    ("UPDATE token SET user_id = 2 WHERE id = 1", "token 1: user is frugal"),
    ("UPDATE token SET revoked_at = NULL WHERE id = 2", "token 2: revoked is False"),
    ("UPDATE token SET expires_at = NULL WHERE id = 2", "token 2: credential is"),
    ("INSERT INTO token (id, user_id, digest, created_at) SELECT 9, 1, 'd', created_at FROM token WHERE id = 1", "token 9: does not stand"),
    ("UPDATE audit_head SET hash = 'other'", "the audit trail ends with entry"),
    ("INSERT INTO release (id, user_id, dataset_id, library, status, input_digest, query, epsilon, delta, created_at, server, lease_until, salt) SELECT -1, user_id, dataset_id, library, status, input_digest, query, epsilon, delta, created_at, server, lease_until, salt FROM release WHERE id = 3", "release -1: does not stand"),
    ("DELETE FROM release WHERE id = 1", "release 1: is missing, but stands in the audit trail"),
    ("DELETE FROM fitted_model", "release 2: outcome is"),
    ("INSERT INTO user_account (id, name, may_query, created_at) SELECT 9, 'new', may_query, created_at FROM user_account WHERE id = 1", "user new: does not stand in the audit trail"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "told"), TAMPERED)
async def test_a_tampered_row_is_named(database: Database, statement: str, told: str) -> None:
    await change(database, statement)
    [finding] = (await verify(database)).findings
    assert told in finding


UNREADABLE = [
    ("UPDATE release SET answer = 'x' WHERE id = 1", "release 1: cannot be read"),
    ("UPDATE release SET finished_at = 'x' WHERE id = 1", "release 1: cannot be read"),
    ("UPDATE dataset SET facts = 'x' WHERE id = 1", "dataset 1: cannot be read"),
    ("UPDATE user_grant SET spent_epsilon = 'x' WHERE user_id = 1 AND dataset_id = 1", "grant of ample on PENGUIN: spent is no"),
    ("PRAGMA foreign_keys = OFF; DELETE FROM user_account WHERE id = 1", "release 1: user is None, the audit trail says ample"),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "told"), UNREADABLE)
async def test_a_row_that_no_longer_makes_sense_is_named(tmp_path: Path, statements: str, told: str) -> None:
    """SQLite keeps whatever is put into a column; its shell looks after no foreign keys."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'lomas.db'}")
    await fill(database)
    with sqlite3.connect(tmp_path / "lomas.db") as connection:
        connection.executescript(statements)
    findings = (await verify(database)).findings
    assert any(told in finding for finding in findings), findings
    await database.close()


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_every_page_is_read(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PAGE", size)
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'lomas.db'}")
    await fill(database)
    assert (await verify(database)).findings == []
    await change(database, "UPDATE release SET epsilon = 0 WHERE id = 7")
    assert len((await verify(database)).findings) == 1
    await database.close()


REWRITTEN = [
    ('UPDATE audit_entry SET facts = \'{"user": "gone"}\' WHERE id = 3', ["entry 3: was changed"]),
    ("UPDATE audit_entry SET actor = 'nobody' WHERE id = 3", ["entry 3: was changed"]),
    ("UPDATE audit_entry SET at = (SELECT at FROM audit_entry WHERE id = 5) WHERE id = 3", ["entry 3: was changed"]),
    ("UPDATE audit_entry SET kind = 'OTHER' WHERE id = 3", ["entry 3: was changed", "entry 3: cannot be understood"]),
    ("DELETE FROM audit_entry WHERE id IN (3, 4)", ["entries 3 to 4 are missing"]),
    ("DELETE FROM audit_entry WHERE id = 3", ["entry 3 is missing"]),
    ("DELETE FROM audit_entry WHERE id = (SELECT max(id) FROM audit_entry)", ["the audit trail ends with entry"]),
]


@pytest.mark.parametrize(("statement", "told"), REWRITTEN)
async def test_a_rewritten_audit_trail_is_told(database: Database, statement: str, told: list[str]) -> None:
    await rewrite(database, statement)
    findings = (await verify(database)).findings
    for line in told:
        assert any(line in finding for finding in findings), findings


async def test_an_entry_with_a_hash_of_its_own_breaks_the_next(database: Database) -> None:
    kept = await entries(database)
    forged = chain.entry_hash(kept[1].hash, 3, kept[2].at, "nobody", kept[2].kind, kept[2].facts)
    await rewrite(database, f"UPDATE audit_entry SET actor = 'nobody', hash = '{forged}' WHERE id = 3")
    assert (await verify(database)).findings == ["entry 4: was changed, or does not follow from entry 3"]


def test_hashes_stay_what_they_are() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    pinned = "00c8715319bb77f3b422f606405fc8c81eaf42d67493d023ffb72586ce684362"
    assert chain.entry_hash(chain.BEGINNING, 1, at, "user ä", "USER_SET", {"b": 0.1, "a": [None, 2**70]}) == pinned


async def test_who_comes_back_is_known_again(database: Database) -> None:
    await administration.add_user(database, "gone", None, may_query=False)
    await administration.remove_dataset(database, "PENGUIN")
    assert (await verify(database)).findings == []
    await importing.import_catalogue(database, [DEMO / "catalogue.yaml"])
    assert (await verify(database)).findings == []
    await administration.remove_user(database, "ample")
    assert (await verify(database)).findings == []
    assert {e.kind for e in await entries(database)} >= {"DATASET_REMOVED", "USER_REMOVED", "TOKEN_REVOKED"}


async def test_owners_at_the_same_moment_agree_with_the_trail(database: Database) -> None:
    for number in range(6):
        await asyncio.gather(
            administration.cap(database, "PENGUIN", {"epsilon": str(50 + number)}),
            administration.cap(database, "PENGUIN", {"delta": f"0.0{number + 1}"}),
            administration.grant(database, "ample", "PENGUIN", str(60 + number), "0.01"),
            administration.grant(database, "ample", "PENGUIN", str(70 + number), "0.01"),
            importing.import_catalogue(database, [DEMO / "catalogue.yaml"]),
            administration.add_user(database, f"new {number}", None, may_query=True),
        )
        assert (await verify(database)).findings == []


async def test_a_charge_during_an_import_is_not_lost(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = "users: [{user_name: frugal, datasets_list: [{dataset_name: PENGUIN, initial_epsilon: 50, initial_delta: 0.01, total_spent_epsilon: 33, total_spent_delta: 0}]}]"
    (tmp_path / "users.yaml").write_text(users)
    put, charges = importing._put_grant, []

    async def charged_meanwhile(*args: Any) -> None:
        charges.append(asyncio.create_task(released(database, "settle while importing")))
        await asyncio.sleep(0.2)
        await put(*args)

    monkeypatch.setattr(importing, "_put_grant", charged_meanwhile)
    await importing.import_catalogue(database, [tmp_path / "users.yaml"])
    await asyncio.gather(*charges)
    assert (await verify(database)).findings == []


async def test_a_new_chain_does_not_lead_to_a_noted_hash(database: Database) -> None:
    noted = (await verify(database)).head
    await released(database, "later")
    assert (await verify(database, known=noted)).findings == []
    last = (await entries(database))[-2]
    cut = f"DELETE FROM audit_entry WHERE id >= {last.id}"
    before = (await entries(database))[-3]
    await rewrite(database, cut)
    await change(database, f"UPDATE audit_head SET entries = {before.id}, hash = '{before.hash}'")
    findings = (await verify(database, known=noted)).findings
    assert any(f"no entry has the hash {noted}" in finding for finding in findings)


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET actor = 'nobody'", "DELETE FROM audit_entry"])
async def test_the_database_refuses_to_change_the_audit_trail(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        await change(database, statement)


async def test_sqlite_refuses_to_replace_an_entry(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'lomas.db'}")
    await fill(database)
    with pytest.raises(DBAPIError, match="append-only"):
        await change(database, "REPLACE INTO audit_entry SELECT * FROM audit_entry WHERE id = 2")
    await database.close()


async def test_the_export_holds_every_entry(database: Database) -> None:
    lines = [line async for line in audit.exported(database)]
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["hash"] == (await verify(database)).head
    assert [line async for line in audit.exported(database, after=5)] == lines[5:]


async def test_a_refused_query_and_an_unchanged_import_leave_no_entry(database: Database) -> None:
    before = (await verify(database)).entries
    await importing.import_catalogue(database, [DEMO / "catalogue.yaml"])
    grants = before + 1  # frugal's grant goes back to what the file says
    assert (await verify(database)).entries == grants
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(
            database, Reservation(1, 1, "OPENDP", PrivacyLoss.declared("99"), {}, "d", None), LEASE, 5
        )
    assert (await verify(database)).entries == grants


async def test_what_was_spent_elsewhere_stands_in_the_audit_trail(database: Database, tmp_path: Path) -> None:
    users = "users: [{user_name: ample, datasets_list: [{dataset_name: PENGUIN, initial_epsilon: 50, initial_delta: 0.01, total_spent_epsilon: 33, total_spent_delta: 0}]}]"
    (tmp_path / "users.yaml").write_text(users)
    await importing.import_catalogue(database, [tmp_path / "users.yaml"])
    assert (await verify(database)).findings == []
    assert (await entries(database))[-1].kind == "SPENT_ELSEWHERE"


async def test_writers_at_the_same_moment_make_one_chain(database: Database) -> None:
    async def work(number: int) -> None:
        if number % 4 == 0:
            await administration.grant(database, "ample", "PENGUIN", str(50 + number), "0.01")
        else:
            reservation = Reservation(1, 1, "OPENDP", COST, {}, "digest", None)
            release = await ledger.reserve(database, reservation, LEASE, 50)
            await settling.settle(database, release, LEASE, Answer(Library.OPENDP, number))

    await asyncio.gather(*(work(number) for number in range(24)))
    verified = await verify(database)
    assert verified.findings == []
    kept: list[Any] = await entries(database)
    assert [entry.id for entry in kept] == list(range(1, len(kept) + 1))


async def test_an_audit_trail_that_is_being_written_is_verified_as_of_one_moment(database: Database) -> None:
    async def write() -> None:
        for number in range(15):
            await released(database, f"later {number}")

    writing = asyncio.create_task(write())
    while not writing.done():
        assert (await verify(database)).findings == []
    await writing


async def test_a_migrated_database_verifies(database: Database) -> None:
    await administration.remove_dataset(database, "IRIS")
    await on(database, step, command.downgrade, "0003")
    await change(
        database, "UPDATE user_grant SET spent_epsilon = spent_epsilon + 5 WHERE user_id = 1 AND dataset_id = 1"
    )
    await change(database, "UPDATE dataset SET spent_epsilon = spent_epsilon + 5 WHERE id = 1")
    await database.upgrade()
    assert (await verify(database)).findings == []
    async with database.reading() as session:
        actors = set((await session.exec(select(AuditEntry.actor))).all())
    assert actors == {"migration 0004"}

"""The arithmetic of the audit trail's hash chain. It cannot change: stored hashes depend on it.

Each entry's hash covers the hash of the entry before it, so that none can be changed, removed or put in between
without breaking the chain (Haber and Stornetta, How to Time-Stamp a Digital Document, Journal of Cryptology, 1991).
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

BEGINNING = "0" * 64
"""What stands for a hash before the first entry."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, as it is after a database has stored it."""
    stored = json.loads(json.dumps(value))
    return hashlib.sha256(json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def entry_hash(previous: str, id: int, at: datetime, actor: str, kind: str, facts: dict[str, Any]) -> str:
    """The hash of an entry that follows one whose hash is `previous`."""
    return digest([previous, id, instant(at), actor, kind, facts])


def definition(dataset: Any) -> str:
    """A digest of what an owner says of a dataset: where its rows are, and its metadata."""
    return digest([dataset.source, dataset.facts])


def content(release: Any) -> str:
    """A digest of what a release was from the start and stays.

    Its salt is in it, so that nobody can confirm a guess of the query from an export.
    """
    asked = [release.input_digest, release.query, release.idempotency_key, release.dataset_version]
    return digest([release.salt, *asked, instant(release.created_at)])


def outcome(release: Any, model: bytes | None) -> str:
    """A digest of how a release ended, salted likewise."""
    fitted = None if model is None else hashlib.sha256(model).hexdigest()
    return digest([release.salt, release.answer, release.failure, instant(release.finished_at), fitted])


def credential(token: Any) -> str:
    """A digest of what an API token is from the start and stays."""
    return digest([token.digest, instant(token.created_at), instant(token.expires_at)])


def instant(at: datetime | None) -> str | None:
    """A time in UTC as text; one without a zone, as SQLite gives it, is in UTC already."""
    if at is None:
        return None
    return (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()

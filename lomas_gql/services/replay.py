"""What the tables should hold, told by the entries of the audit trail alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from sys import intern
from typing import Any, TypeAlias

from lomas_gql.database.models import AuditKind, ReleaseStatus
from lomas_gql.privacy import PrivacyLoss

Key: TypeAlias = tuple[Any, ...]
"""A kind of thing and its name: ("user", name), ("grant", user, dataset), ("release", id)."""

NO_CAPS: dict[str, str | None] = dict.fromkeys(("epsilon", "delta", "queryEpsilon", "queryDelta"))


@dataclass(slots=True)
class _Release:
    """Small, since there are many."""

    user: str
    dataset: str
    library: str
    content: bytes
    cost: PrivacyLoss
    status: str = ReleaseStatus.RUNNING.value
    outcome: bytes | None = None


class Replay:
    """Adds up entries, one after the other."""

    def __init__(self) -> None:
        self.told: dict[Key, dict[str, Any]] = {}
        self.releases: dict[int, _Release] = {}

    def pop(self, key: Key) -> dict[str, Any] | None:
        """What is told of one thing, which is then forgotten; None where it is not known."""
        if key[0] != "release":
            return self.told.pop(key, None)
        release = self.releases.pop(key[1], None)
        if release is None:
            return None
        return {
            "user": release.user,
            "dataset": release.dataset,
            "library": release.library,
            "status": release.status,
            "cost": release.cost,
            "query and time": release.content.hex(),
            "outcome": release.outcome and release.outcome.hex(),
        }

    def left(self) -> Iterator[Key]:
        """What was not forgotten."""
        yield from self.told
        yield from (("release", id) for id in self.releases)

    def add(self, kind: str, facts: dict[str, Any]) -> None:
        """Follows one entry.

        Raises:
            KeyError, ValueError, TypeError: it makes no sense here.
        """
        family = AuditKind(kind).value.partition("_")[0]
        match family:
            case "RELEASE":
                self._add_release(AuditKind(kind), facts)
            case "USER" | "TOKEN":
                self._add_user(AuditKind(kind), facts)
            case _:
                self._add_dataset(AuditKind(kind), facts)

    def _add_user(self, kind: AuditKind, facts: dict[str, Any]) -> None:
        match kind:
            case AuditKind.USER_SET:
                self.told["user", facts["user"]] = {"may query": facts["mayQuery"], "removed": False}
            case AuditKind.USER_REMOVED:
                self.told["user", facts["user"]]["removed"] = True
                for key, token in self.told.items():
                    if key[0] == "token" and token["user"] == facts["user"]:
                        token["revoked"] = True
            case AuditKind.TOKEN_CREATED:
                token = {"user": facts["user"], "credential": facts["credential"], "revoked": False}
                self.told["token", facts["token"]] = token
            case AuditKind.TOKEN_REVOKED:
                self.told["token", facts["token"]]["revoked"] = True

    def _add_dataset(self, kind: AuditKind, facts: dict[str, Any]) -> None:
        match kind:
            case AuditKind.DATASET_SET:
                dataset = self.told.setdefault(
                    ("dataset", facts["dataset"]), {"spent": PrivacyLoss(), "caps": NO_CAPS}
                )
                dataset |= {"source and metadata": facts["definition"], "removed": False}
            case AuditKind.DATASET_REMOVED:
                self.told["dataset", facts["dataset"]]["removed"] = True
            case AuditKind.CAP_SET:
                self.told["dataset", facts["dataset"]]["caps"] = {name: facts[name] for name in NO_CAPS}
            case AuditKind.GRANT_SET:
                grant = self.told.setdefault(("grant", facts["user"], facts["dataset"]), {"spent": PrivacyLoss()})
                grant["initial"] = _loss(facts)
            case AuditKind.SPENT_ELSEWHERE:
                self._charge(facts["user"], facts["dataset"], _loss(facts))

    def _add_release(self, kind: AuditKind, facts: dict[str, Any]) -> None:
        match kind:
            case AuditKind.RELEASE_CHARGED:
                user, dataset, library = (intern(facts[name]) for name in ("user", "dataset", "library"))
                charged = _Release(user, dataset, library, bytes.fromhex(facts["content"]), _loss(facts))
                self.releases[facts["release"]] = charged
                self._charge(user, dataset, charged.cost)
            case AuditKind.RELEASE_CHARGED_MORE:
                charged = self.releases[facts["release"]]
                charged.cost += _loss(facts)
                self._charge(charged.user, charged.dataset, _loss(facts))
            case AuditKind.RELEASE_ENDED:
                charged = self.releases[facts["release"]]
                charged.status, charged.outcome = intern(facts["status"]), bytes.fromhex(facts["outcome"])

    def _charge(self, user: str, dataset: str, loss: PrivacyLoss) -> None:
        for account in (self.told["grant", user, dataset], self.told["dataset", dataset]):
            account["spent"] += loss


def _loss(facts: dict[str, Any]) -> PrivacyLoss:
    return PrivacyLoss.declared(facts["epsilon"], facts["delta"])

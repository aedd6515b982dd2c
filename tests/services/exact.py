"""What the ledger should hold, in fractions and plain words: nothing here is fast, concurrent or stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from lomas_gql.errors import (
    BudgetExceeded,
    DatasetUnavailable,
    IdempotencyConflict,
    InvalidQuery,
    LomasError,
    QueryOngoing,
)
from lomas_gql.privacy import DELTA_UNITS, EPSILON_UNITS, PrivacyLoss

CAPS = ("epsilon", "delta", "query_epsilon", "query_delta")
ENDLESS = Fraction(10**6)
"""As good as no cap."""


@dataclass(frozen=True)
class Loss:
    """An amount of epsilon and of delta."""

    epsilon: Fraction = Fraction(0)
    delta: Fraction = Fraction(0)

    @classmethod
    def of(cls, loss: PrivacyLoss) -> Loss:
        return cls(Fraction(loss.epsilon_units, EPSILON_UNITS), Fraction(loss.delta_units, DELTA_UNITS))

    @property
    def stored(self) -> PrivacyLoss:
        units = self.epsilon * EPSILON_UNITS, self.delta * DELTA_UNITS
        assert all(amount.denominator == 1 for amount in units)
        return PrivacyLoss(int(units[0]), int(units[1]))

    @property
    def texts(self) -> tuple[str, str]:
        """As an owner types it."""
        return self.stored.epsilon_text, self.stored.delta_text

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.epsilon + other.epsilon, self.delta + other.delta)

    def __le__(self, other: Loss) -> bool:
        return self.epsilon <= other.epsilon and self.delta <= other.delta

    def less(self, other: Loss) -> Loss:
        return Loss(max(Fraction(0), self.epsilon - other.epsilon), max(Fraction(0), self.delta - other.delta))

    def larger(self, other: Loss) -> Loss:
        return Loss(max(self.epsilon, other.epsilon), max(self.delta, other.delta))


@dataclass
class Charged:
    """A release, from its reservation on."""

    user: str
    dataset: str
    cost: Loss
    digest: str
    key: str | None
    status: str = "RUNNING"
    expired: bool = False


@dataclass
class Model:
    """The whole ledger. What was spent is never counted up: it is the sum of what the releases cost."""

    slots: int
    initial: dict[tuple[str, str], Loss] = field(default_factory=dict)
    elsewhere: dict[tuple[str, str], Loss] = field(default_factory=dict)
    caps: dict[str, dict[str, Fraction | None]] = field(default_factory=dict)
    may_query: dict[str, bool] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    releases: dict[int, Charged] = field(default_factory=dict)

    def spent(self, user: str, dataset: str) -> Loss:
        own = [r.cost for r in self.releases.values() if (r.user, r.dataset) == (user, dataset)]
        return sum(own, self.elsewhere.get((user, dataset), Loss()))

    def spent_on(self, dataset: str) -> Loss:
        return sum((self.spent(*place) for place in self.initial if place[1] == dataset), Loss())

    def cap(self, dataset: str, prefix: str = "") -> Loss:
        amounts = (self.caps[dataset][f"{prefix}{name}"] for name in ("epsilon", "delta"))
        return Loss(*(ENDLESS if amount is None else amount for amount in amounts))

    def remaining(self, user: str, dataset: str) -> Loss:
        left = self.initial[user, dataset].less(self.spent(user, dataset))
        capped = self.cap(dataset).less(self.spent_on(dataset))
        return Loss(min(left.epsilon, capped.epsilon), min(left.delta, capped.delta))

    def running(self, user: str) -> list[Charged]:
        return [r for r in self.releases.values() if r.user == user and r.status == "RUNNING"]

    def keyed(self, user: str, key: str) -> int | None:
        found = [id for id, r in self.releases.items() if (r.user, r.key) == (user, key)]
        assert len(found) <= 1
        return found[0] if found else None

    def repeated(self, user: str, dataset: str, digest: str) -> int | None:
        same = [
            id
            for id, r in self.releases.items()
            if (r.user, r.dataset, r.digest, r.status) == (user, dataset, digest, "RELEASED")
        ]
        return max(same, default=None)

    def refusals(self, asked: Charged) -> set[type[LomasError]]:
        """Every reason to refuse the reservation; it is admitted where there is none."""
        reasons: set[type[LomasError]] = set()
        if len(self.running(asked.user)) == self.slots:
            reasons.add(QueryOngoing)
        before = None if asked.key is None else self.keyed(asked.user, asked.key)
        if before is not None:
            same = self.releases[before].digest == asked.digest
            reasons.add(QueryOngoing if same else IdempotencyConflict)
        granted = (asked.user, asked.dataset) in self.initial
        if granted and not asked.cost <= self.remaining(asked.user, asked.dataset):
            reasons.add(BudgetExceeded)
        removed = self.removed & {asked.user, asked.dataset}
        if removed or not granted or not self.may_query[asked.user]:
            reasons.add(DatasetUnavailable)
        if not asked.cost <= self.cap(asked.dataset, "query_"):
            reasons.add(InvalidQuery)
        return reasons

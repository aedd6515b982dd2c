"""PrivacyLoss: exact amounts of (epsilon, delta)-differential privacy, for budgets and costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation, localcontext

EPSILON_UNITS = 10**12
DELTA_UNITS = 10**18
# A signed BIGINT holds both, so that every database adds and compares them exactly.
LARGEST = 2**63 - 1

# Relative distance under which a library's float sum is the exact multiple that it means.
SNAP = 1e-12


@dataclass(frozen=True, order=False)
class PrivacyLoss:
    """A privacy loss (epsilon, delta), held as integers: epsilon in 1e-12, delta in 1e-18.

    Losses add up by basic composition (Dwork and Roth, The Algorithmic Foundations of Differential
    Privacy, theorem 3.16), without rounding: ten times 0.1 is exactly 1.
    """

    epsilon_units: int = 0
    delta_units: int = 0

    @classmethod
    def declared(cls, epsilon: float | str, delta: float | str = 0.0) -> PrivacyLoss:
        """A budget that an owner declares, read from its decimal text and rounded down.

        Raises:
            ValueError: not finite, negative, or more than the ledger's columns hold (epsilon 9e6, delta 9).
        """
        return cls(_units(epsilon, EPSILON_UNITS, ROUND_FLOOR), _units(delta, DELTA_UNITS, ROUND_FLOOR))

    @classmethod
    def charged(cls, epsilon: float | str, delta: float | str = 0.0, *, per: float | None = None) -> PrivacyLoss:
        """A cost that a library computed or an earlier platform counted, rounded up.

        `per` is the epsilon that the analyst declared for each statistic: a figure within `SNAP` of a
        whole multiple of it is that multiple, since libraries add floats (3 x 0.1 = 0.30000000000000004).

        Raises:
            ValueError: not finite, negative, or more than the ledger's columns hold.
        """
        units = _units(epsilon, EPSILON_UNITS, ROUND_CEILING)
        if per:
            count = round(float(epsilon) / per)
            if count and math.isclose(float(epsilon), count * per, rel_tol=SNAP):
                with localcontext(prec=60):
                    exact = Decimal(repr(per)) * count * EPSILON_UNITS
                    units = int(exact.to_integral_value(ROUND_CEILING))
        return cls(units, _units(delta, DELTA_UNITS, ROUND_CEILING))

    def __add__(self, other: PrivacyLoss) -> PrivacyLoss:
        return PrivacyLoss(self.epsilon_units + other.epsilon_units, self.delta_units + other.delta_units)

    def __le__(self, other: PrivacyLoss) -> bool:
        return self.epsilon_units <= other.epsilon_units and self.delta_units <= other.delta_units

    def less(self, other: PrivacyLoss) -> PrivacyLoss:
        """What is left of this after `other`, never below zero."""
        return PrivacyLoss(
            max(0, self.epsilon_units - other.epsilon_units), max(0, self.delta_units - other.delta_units)
        )

    def smaller(self, other: PrivacyLoss) -> PrivacyLoss:
        """The smaller epsilon and the smaller delta of the two."""
        return PrivacyLoss(min(self.epsilon_units, other.epsilon_units), min(self.delta_units, other.delta_units))

    @property
    def epsilon(self) -> float:
        return self.epsilon_units / EPSILON_UNITS

    @property
    def delta(self) -> float:
        return self.delta_units / DELTA_UNITS

    @property
    def epsilon_text(self) -> str:
        return _text(self.epsilon_units, EPSILON_UNITS)

    @property
    def delta_text(self) -> str:
        return _text(self.delta_units, DELTA_UNITS)


def _units(value: float | str, units: int, rounding: str) -> int:
    # repr is the shortest text that reads back as the same float: the decimal that was typed.
    try:
        number = Decimal(value if isinstance(value, str) else repr(float(value)))
    except InvalidOperation:
        raise ValueError(f"{value} is not a number") from None
    if not number.is_finite() or number < 0:
        raise ValueError(f"{value} is not a finite number of at least 0")
    with localcontext(prec=60):
        scaled = number * units
        if scaled > LARGEST:
            raise ValueError(f"{value} is more than the ledger holds ({LARGEST // units})")
        return int(scaled.to_integral_value(rounding))


def _text(value: int, units: int) -> str:
    return f"{(Decimal(value) / units).normalize():f}" if value % units else str(value // units)

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import checked_cost, checked_delta, checked_epsilon
from lomas_gql.privacy import PrivacyLoss


def test_ten_tenths_are_exactly_one() -> None:
    total = PrivacyLoss()
    for _ in range(10):
        total += PrivacyLoss.charged(0.1)
    assert total == PrivacyLoss.declared(1.0)


@pytest.mark.parametrize(
    ("figure", "per", "meant"), [(0.30000000000000004, 0.1, "0.3"), (0.8999999999999999, 0.3, "0.9")]
)
def test_a_float_sum_is_the_multiple_that_it_means(figure: float, per: float, meant: str) -> None:
    assert PrivacyLoss.charged(figure, per=per) == PrivacyLoss.declared(meant)


def test_what_is_no_multiple_is_rounded_up() -> None:
    assert PrivacyLoss.charged(0.1234567890121).epsilon_units == 123456789013
    assert PrivacyLoss.charged(1.0, 1e-19).delta_units == 1


@given(st.floats(min_value=0, max_value=1000), st.floats(min_value=0, max_value=1))
def test_budgets_are_rounded_down_and_costs_up(epsilon: float, delta: float) -> None:
    declared, charged = PrivacyLoss.declared(epsilon, delta), PrivacyLoss.charged(epsilon, delta)
    exact = Fraction(Decimal(repr(epsilon)))
    assert Fraction(declared.epsilon_units, 10**12) <= exact <= Fraction(charged.epsilon_units, 10**12)
    assert charged.epsilon_units - declared.epsilon_units <= 1
    assert charged.delta_units - declared.delta_units <= 1


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -1.0, -1e-320, 1e308, "abc", "NaN", 9.3e6])
def test_amounts_that_no_ledger_can_hold_are_refused(amount: float | str) -> None:
    for make in (PrivacyLoss.declared, PrivacyLoss.charged):
        with pytest.raises(ValueError, match="is"):
            make(amount)


@pytest.mark.parametrize("epsilon", [float("nan"), float("inf"), -1.0, 0.0, -0.0, 1e-320, 9.9e-7, 100.1, 1e308])
def test_an_epsilon_that_no_query_may_spend_is_refused(epsilon: float) -> None:
    with pytest.raises(InvalidQuery):
        checked_epsilon(epsilon, "epsilon")


@pytest.mark.parametrize("delta", [float("nan"), float("inf"), -1e-5, -0.0, 1e-320, 0.11, 1.0, 1e308])
def test_a_delta_that_no_query_may_spend_is_refused(delta: float) -> None:
    with pytest.raises(InvalidQuery):
        checked_delta(delta, "delta")


def test_a_query_that_costs_nothing_is_refused() -> None:
    with pytest.raises(InvalidQuery):
        checked_cost(PrivacyLoss())


def test_texts_are_plain_decimals() -> None:
    loss = PrivacyLoss.declared("0.1", "0.00001")
    assert (loss.epsilon_text, loss.delta_text) == ("0.1", "0.00001")
    assert PrivacyLoss.declared("100").epsilon_text == "100"

"""Rule 9, on two neighbours: each query fails, written plainly, on the row of one person alone. None may here.

A failure that one row decides is an answer without noise, for the price of a query or for none.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.neighbours import EXECUTE, Pair, visible
from tests.attacks.queries import HOSTILE


@pytest.mark.parametrize("query", HOSTILE.values(), ids=HOSTILE)
def test_what_fails_on_one_persons_row_answers_with_it_and_without_it(pair: Pair, query: dict[str, Any]) -> None:
    near, far = pair.both(EXECUTE, query)
    assert near.outcome["__typename"] == "Executed", near
    assert visible(near.outcome) == visible(far.outcome)

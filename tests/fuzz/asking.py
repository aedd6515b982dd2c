"""What every fuzz test asks of a query: a typed refusal, or a cost and an answer on dummy rows, within seconds.

The queries' own `cost` and `run` are called, below `services.jobs`, which turns whatever is raised there into an
InvalidQuery. Typed means InvalidQuery alone (and ConditionTooRare of a run, which speaks of synthetic rows).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import ConditionTooRare, InvalidQuery
from lomas_gql.libraries.base import DELTA_CAP, EPSILON_CAP, EPSILON_FLOOR, Answer, DPQuery
from lomas_gql.metadata import Metadata

SECONDS = 30

METADATA = Metadata.parse(
    {
        "max_ids": 1,
        "rows": 40,
        "row_privacy": True,
        "columns": {
            "species": {"type": "string", "categories": ["Adelie", "Chinstrap", "Gentoo"]},
            "sex": {"type": "string", "categories": ["MALE", "FEMALE"], "nullable": True},
            "bill_length_mm": {"type": "float", "lower": 30, "upper": 65},
            "body_mass_g": {"type": "float", "lower": 2000, "upper": 7000, "nullable": True},
            "year": {"type": "int", "lower": 2007, "upper": 2009},
            "stage": {"type": "int", "categories": [1, 2, 3]},
            "ringed": {"type": "boolean"},
            "parasites": {"type": "int", "lower": 0, "upper": 2**40},
            "seen": {"type": "datetime", "lower": "2007-01-01", "upper": "2009-12-31"},
            "note": {"type": "string"},
            "island of birth": {"type": "string", "categories": ["Dream", "Biscoe"], "nullable": True},
        },
    }
)
ROWS = dummy_rows(METADATA, 40, 1)


@contextmanager
def watched() -> Iterator[None]:
    """Ends what takes far too long, where it comes back to Python."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"not answered within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def asked(query: DPQuery, *, runs: bool = True) -> Answer | None:
    """The answer on dummy rows; None where the query is refused."""
    with watched():
        try:
            cost = query.cost(METADATA)
        except InvalidQuery as error:
            refused = error
        else:
            refused = None
        if refused is not None:
            assert refused.issues
            assert all(len(issue.message) < 2_000 for issue in refused.issues), refused
            return None
        assert EPSILON_FLOOR <= cost.epsilon <= EPSILON_CAP
        assert 0 <= cost.delta <= DELTA_CAP
        if not runs:
            return None
        try:
            answer = query.run(ROWS, METADATA)
        except ConditionTooRare:
            return None
    assert answer.to_json()
    return answer

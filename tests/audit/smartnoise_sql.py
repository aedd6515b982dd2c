"""SmartNoise SQL's mechanisms, each on an individual who is there with the largest values, or is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.smartnoise_sql.query import MechanismChoice, SmartnoiseSqlQuery, SqlMechanism, SqlStatistic
from lomas_gql.metadata import Metadata
from tests.audit.cases import ABSENT, Case, Cells, numbers

COLUMNS = {
    "x": {"type": "float", "lower": -1, "upper": 2},
    "n": {"type": "int", "lower": -10, "upper": 5},
    "income": {"type": "int", "lower": 0, "upper": 20_000},
    "wealth": {"type": "float", "lower": 0, "upper": 20_000},
    "kind": {"type": "string", "categories": ["a", "b"]},
    "town": {"type": "string"},
}
ROW = Metadata.parse({"max_ids": 1, "rows": 10, "row_privacy": True, "columns": COLUMNS})
OWNED = Metadata.parse(
    {"max_ids": 3, "rows": 10, "columns": COLUMNS | {"who": {"type": "string", "private_id": True}}}
)

COMMON = {"x": 0.0, "n": 0, "income": 100, "wealth": 100.0, "kind": "a", "town": "big"}
EXTREME = {"x": 2.0, "n": -10, "income": 20_000, "wealth": 20_000.0, "kind": "b", "town": "big"}
DELTA = 0.05
PURE, SMALL = 2.0, 0.5
"""Epsilons at which a few thousand runs see most: of a pure mechanism, and of the delta of a threshold."""


def table(*rows: dict[str, Any]) -> Cells:
    return {name: [row[name] for row in rows] for name in rows[0]}


def neighbours(others: int = 8, copies: int = 1, **cells: Any) -> tuple[Cells, Cells]:
    """One person with `copies` extreme rows, absent and present. Each of the others owns one row."""
    crowd = [COMMON | {"who": f"w{place}"} for place in range(others)]
    person = EXTREME | {"who": "me"} | cells
    return table(*crowd), table(*crowd, *[person] * copies)


def town(name: str) -> Callable[[Answer], Sequence[float]]:
    """Whether a group is answered, and with which count."""

    def told(answer: Answer) -> Sequence[float]:
        assert answer.table is not None
        found = [row[1] for row in answer.table.rows if row[0] == name]
        return [float(found[0])] if found else [ABSENT]

    return told


def cases() -> Iterator[Case]:
    """Every mechanism with every kind of statistic for which it can be chosen."""
    count, choose = SqlStatistic.COUNT, SqlMechanism
    columns = {"AVG(x)": 2, "VAR(n)": 3}
    one_row = "a row at the bounds, absent or present"
    for sql, statistic, mechanism in [
        ("COUNT(*)", None, None),
        ("COUNT(*)", count, choose.LAPLACE),
        ("COUNT(*)", count, choose.GEOMETRIC),
        ("COUNT(*)", count, choose.GAUSSIAN),
        ("COUNT(DISTINCT town)", None, None),
        ("SUM(n)", None, None),
        ("SUM(n)", SqlStatistic.SUM_INT, choose.LAPLACE),
        ("SUM(n)", SqlStatistic.SUM_INT, choose.GAUSSIAN),
        ("SUM(x)", None, None),
        ("SUM(x)", SqlStatistic.SUM_FLOAT, choose.GAUSSIAN),
        ("SUM(income)", None, None),
        ("SUM(wealth)", None, None),
        ("AVG(x)", None, None),
        ("VAR(n)", None, None),
    ]:
        mechanisms = [MechanismChoice(statistic=statistic, mechanism=mechanism)] if statistic and mechanism else None
        gaussian = mechanism is choose.GAUSSIAN
        query = SmartnoiseSqlQuery(
            sql=f"SELECT {sql} FROM df",
            epsilon=2 * PURE if gaussian else PURE / columns.get(sql, 1),
            delta=DELTA if gaussian else 0.0,
            mechanisms=mechanisms,
            # The noisy counts and sums themselves tell more than what is made of them.
            postprocess=False,
        )
        named = f"{sql}, {mechanism.value if mechanism else 'default'}"
        others = neighbours(town="small") if "DISTINCT" in sql else neighbours()
        yield Case("SmartNoise SQL", named, one_row, ROW, query, others)
    yield from _of_individuals()
    yield from _of_groups()


def _of_individuals() -> Iterator[Case]:
    owned = "one individual with max_ids = 3 rows, absent or present"
    for sql in ("COUNT(*)", "COUNT(DISTINCT who)", "SUM(n)"):
        query = SmartnoiseSqlQuery(sql=f"SELECT {sql} FROM df", epsilon=PURE, delta=0.0, postprocess=False)
        yield Case("SmartNoise SQL", f"{sql}, private_id", owned, OWNED, query, neighbours(copies=3))
    query = SmartnoiseSqlQuery(
        sql="SELECT COUNT(*) AS n FROM df",
        epsilon=2 * PURE,
        delta=DELTA,
        mechanisms=[MechanismChoice(statistic=SqlStatistic.COUNT, mechanism=SqlMechanism.GAUSSIAN)],
    )
    yield Case("SmartNoise SQL", "COUNT(*), gaussian, private_id", owned, OWNED, query, neighbours(copies=3))


def _of_groups() -> Iterator[Case]:
    public = SmartnoiseSqlQuery(sql="SELECT kind, COUNT(*) AS n FROM df GROUP BY kind", epsilon=PURE, delta=0.0)
    yield Case(
        "SmartNoise SQL", "GROUP BY public keys", "the one row of its group", ROW, public, neighbours(), numbers
    )
    sql = "SELECT town, COUNT(*) AS n FROM df GROUP BY town"
    censored = SmartnoiseSqlQuery(sql=sql, epsilon=SMALL, delta=DELTA)
    alone, joined = neighbours(town="small"), neighbours(others=2)
    yield Case("SmartNoise SQL", "threshold", "the one row of its group", ROW, censored, alone, town("small"))
    yield Case("SmartNoise SQL", "threshold, small group", "2 rows or 3", ROW, censored, joined, town("big"))
    gaussian = [MechanismChoice(statistic=SqlStatistic.THRESHOLD, mechanism=SqlMechanism.GAUSSIAN)]
    query = SmartnoiseSqlQuery(sql=sql, epsilon=SMALL, delta=DELTA, mechanisms=gaussian)
    yield Case("SmartNoise SQL", "threshold, gaussian", "the one row of its group", ROW, query, alone, town("small"))
    owned = "the 3 rows of one individual, alone in their group"
    alone = neighbours(copies=3, town="small")
    yield Case("SmartNoise SQL", "threshold, private_id", owned, OWNED, censored, alone, town("small"))

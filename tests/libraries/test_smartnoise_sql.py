"""SmartNoise SQL: what it costs, what it answers, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.typing import fit
from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import Table
from lomas_gql.libraries.smartnoise_sql.query import (
    MechanismChoice,
    SmartnoiseSqlQuery,
    SqlMechanism,
    SqlStatistic,
)
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows


def query(sql: str, epsilon: float = 1.0, delta: float = 0.0, **more: Any) -> SmartnoiseSqlQuery:
    return SmartnoiseSqlQuery(sql=sql, epsilon=epsilon, delta=delta, **more)


def run(sql: str, rows: Rows, **more: Any) -> Table:
    table = query(sql, **more).run(rows, rows.metadata).table
    assert table is not None
    return table


def rows_of(metadata: Metadata, **columns: Sequence[Any]) -> Rows:
    """Prepared rows with these cells; the columns not named are missing in every row."""
    length = len(next(iter(columns.values())))
    cells = {c.name: list(columns.get(c.name, [None] * length)) for c in metadata.columns}
    return Rows(fit(pl.LazyFrame(cells, strict=False), metadata, key=1).collect(), metadata)


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT COUNT(*) FROM df", 1),
        ("SELECT SUM(bill_length_mm) AS s FROM df", 1),
        ("SELECT AVG(bill_length_mm) AS m FROM df", 2),
        ("SELECT COUNT(*) AS n, AVG(bill_length_mm) AS m FROM df", 3),
        ("SELECT VAR(bill_length_mm) AS v FROM df", 3),
        ("SELECT STDDEV(bill_length_mm) AS s, VAR(bill_length_mm) AS v FROM df", 3),
        ("SELECT COUNT(DISTINCT age) AS n FROM df", 1),
        ("SELECT species, sex, COUNT(*) AS n FROM df GROUP BY species, sex", 1),
    ],
)
@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0])
def test_the_cost_is_epsilon_for_each_noisy_column(penguin: Metadata, sql: str, columns: int, epsilon: float) -> None:
    cost = query(sql, epsilon).cost(penguin)
    assert cost.epsilon_units == columns * round(epsilon * 10) * 10**11
    assert cost.delta_units == 0


def test_delta_is_charged_where_it_is_spent_alone(penguin: Metadata) -> None:
    count = "SELECT COUNT(*) AS n FROM df"
    gaussian = [MechanismChoice(statistic=SqlStatistic.COUNT, mechanism=SqlMechanism.GAUSSIAN)]
    assert query(count, delta=1e-5).cost(penguin).delta_units == 0
    assert query(count, delta=1e-5, mechanisms=gaussian).cost(penguin).delta >= 1e-5
    assert query("SELECT tag, COUNT(*) AS n FROM df GROUP BY tag", delta=1e-5).cost(penguin).delta >= 1e-5


def test_answers_are_near_the_truth_at_a_large_epsilon(penguin: Metadata) -> None:
    rows = dummy_rows(penguin, 2000, seed=1)
    [[n, mean, deviation]] = run(
        "SELECT COUNT(*) AS n, AVG(bill_length_mm) AS m, STDDEV(bill_length_mm) AS s FROM df", rows, epsilon=16.0
    ).rows
    lengths = rows.frame["bill_length_mm"].drop_nulls()
    assert abs(n - 2000) <= 5
    assert abs(mean - lengths.mean()) < 0.5
    assert abs(deviation - lengths.std()) < 1.5


def test_whole_numbers_are_rounded_and_not_cut_off(penguin: Metadata) -> None:
    rows = dummy_rows(penguin, 100, seed=1)
    for _ in range(20):
        assert run("SELECT COUNT(*) AS n FROM df HAVING COUNT(*) = 100", rows, epsilon=30.0).rows == ((100,),)


def test_without_postprocessing_the_noisy_counts_and_sums_are_answered(penguin: Metadata) -> None:
    rows = dummy_rows(penguin, 500, seed=1)
    table = run("SELECT species, AVG(age) AS m FROM df GROUP BY species", rows, postprocess=False)
    assert [column.name for column in table.columns] == ["species", "sum_age", "count_age"]
    assert len(table.rows) == 4
    assert all(isinstance(row[1], float) for row in table.rows)


def test_mechanisms_can_be_chosen_once_each(penguin: Metadata) -> None:
    choice = MechanismChoice(statistic=SqlStatistic.COUNT, mechanism=SqlMechanism.GAUSSIAN)
    with pytest.raises(InvalidQuery, match="twice"):
        query("SELECT COUNT(*) AS n FROM df", delta=1e-5, mechanisms=[choice, choice]).cost(penguin)


NAMES = ["year", "order", "my col", "a-b", "Sepal.Length", "c1", "answer0", "MiXed", "ä"]


@pytest.mark.parametrize("name", NAMES)
def test_any_column_name_can_be_asked_for_in_double_quotes(name: str) -> None:
    columns = {"c0": {"type": "boolean"}, name: {"type": "int", "lower": 0, "upper": 9}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 9, "row_privacy": True, "columns": columns})
    rows = Rows(pl.DataFrame({"c0": [True] * 400, name: [3] * 400}), metadata)
    table = run(f'SELECT SUM("{name}") AS "{name}", AVG("{name}") FROM df WHERE "{name}" = 3', rows, epsilon=9.0)
    assert [column.name for column in table.columns] == [name, f'AVG("{name}")']
    assert abs(table.rows[0][0] - 1200) < 30
    assert abs(table.rows[0][1] - 3) < 0.2
    grouped = f'SELECT "{name}", COUNT(*) AS n FROM df GROUP BY "{name}" HAVING n > 100 ORDER BY "{name}", n'
    table = run(grouped, rows, delta=1e-5)
    assert [column.name for column in table.columns] == [name, "n"]
    assert table.rows[0][0] == 3
    raw = run(f'SELECT SUM("{name}") AS s FROM df GROUP BY c0', rows, postprocess=False)
    assert [column.name for column in raw.columns] == ["c0", f"sum_{name}"]


def test_a_name_that_is_a_word_of_sql_is_explained() -> None:
    columns = {"year": {"type": "int", "lower": 0, "upper": 9}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 9, "row_privacy": True, "columns": columns})
    with pytest.raises(InvalidQuery, match="double quotes: year"):
        query("SELECT SUM(year) FROM df").cost(metadata)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_sql_is_refused_or_priced_and_nothing_else(penguin: Metadata, data: st.DataObject) -> None:
    sql = "SELECT species, COUNT(*) AS n, AVG(age) AS m FROM df WHERE age > 3 AND tag IN ('a') GROUP BY species"
    start = data.draw(st.integers(0, len(sql)))
    end = data.draw(st.integers(start, min(len(sql), start + 8)))
    pieces = [
        "",
        "(",
        ")",
        "'",
        '"',
        ";",
        "--",
        "/*",
        "\\",
        "df",
        "COUNT",
        "1e999",
        "NaN",
        "::int",
        "$1",
        "ÿ",
        "*",
        ",",
    ]
    damaged = sql[:start] + data.draw(st.sampled_from(pieces) | st.text(max_size=4)) + sql[end:]
    try:
        cost = query(damaged, delta=1e-5).cost(penguin)
    except InvalidQuery:
        return
    assert cost.epsilon >= 1


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT COUNT(*) AS n FROM df LIMIT -1", "LIMIT"),
        (f"SELECT COUNT(*) AS n FROM df LIMIT {2**70}", "LIMIT"),
        ("SELECT COUNT(*) AS n FROM df WHERE tag = '\ud800'", "halves"),
    ],
)
def test_sql_that_no_rows_could_answer_has_no_price(penguin: Metadata, sql: str, word: str) -> None:
    with pytest.raises(InvalidQuery, match=word):
        query(sql).cost(penguin)

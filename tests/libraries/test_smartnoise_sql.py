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
from lomas_gql.errors import InvalidQuery, Overspent
from lomas_gql.libraries.base import Table
from lomas_gql.libraries.smartnoise_sql.query import (
    MechanismChoice,
    SmartnoiseSqlQuery,
    SqlMechanism,
    SqlStatistic,
    _Prepared,
)
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
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


def test_every_combination_of_public_categories_is_answered(penguin: Metadata) -> None:
    rows = rows_of(penguin, species=["Gentoo"] * 5, sex=["male"] * 5)
    table = run("SELECT sex, species, COUNT(*) AS n FROM df GROUP BY species, sex", rows)
    assert [(row[0], row[1]) for row in table.rows] == [
        (sex, species)
        for species in ("Adelie", "Chinstrap", "Gentoo", "OTHER")
        for sex in ("female", "male", "OTHER", None)
    ]


def test_groups_without_rows_carry_noise_too(penguin: Metadata) -> None:
    rows = rows_of(penguin, species=["Gentoo"] * 5)
    seen = {
        row[1]
        for _ in range(10)
        for row in run("SELECT species, SUM(age) AS s FROM df GROUP BY species", rows, epsilon=0.1).rows
        if row[0] == "Adelie"
    }
    assert len(seen) > 3


def test_an_unlisted_group_of_one_is_never_answered(penguin: Metadata) -> None:
    tags = ["common"] * 500 + ["planted"]
    rows = rows_of(penguin, tag=tags)
    for _ in range(20):
        table = run("SELECT tag, COUNT(*) AS n FROM df GROUP BY tag", rows, delta=1e-9)
        assert [row[0] for row in table.rows] == ["common"]


def test_the_order_of_rows_in_the_file_does_not_show(penguin: Metadata) -> None:
    tags = ["b"] * 300 + ["a"] * 300
    for order in (tags, tags[::-1]):
        table = run("SELECT tag, COUNT(*) AS n FROM df GROUP BY tag", rows_of(penguin, tag=order), delta=1e-5)
        assert [row[0] for row in table.rows] == ["a", "b"]


@pytest.mark.parametrize(
    "where",
    [
        "age * age * 50000000000000000 > age",
        "SQRT(age - 20) > 1",
        "LN(age - 30) < 0",
        "age % (age - 30) = 1",
        "SUBSTRING(tag FROM age FOR age - 40) = 'x'",
        "POWER(age, 400) > 1 AND EXP(age * 1000) > 1",
    ],
)
def test_no_row_can_make_a_condition_fail(penguin: Metadata, where: str) -> None:
    sql = f"SELECT COUNT(*) AS n FROM df WHERE {where}"
    for ages in ([0, 1], [0, 30]):
        try:
            assert len(run(sql, rows_of(penguin, age=ages, tag=["a", "b"])).rows) == 1
        except InvalidQuery:
            pytest.fail("refused by the gate: not a test of rows")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "mismatched"),
        ("SELECT * FROM df", "GROUP BY"),
        ("SELECT tag FROM df", "GROUP BY"),
        ("SELECT 1 FROM df", "no aggregate"),
        ("SELECT species FROM df GROUP BY species", "no aggregate"),
        ("SELECT MIN(age) FROM df", "MIN"),
        ("SELECT MAX(age) FROM df", "MAX"),
        ("SELECT COUNT(*) FROM df; SELECT COUNT(*) FROM df", "one SELECT"),
        ("SELECT COUNT(*) FROM df JOIN df", "joins"),
        ("SELECT COUNT(*) FROM df, df", "one table"),
        ("SELECT COUNT(*) FROM (SELECT * FROM df) AS x", "sub-queries"),
        ("SELECT COUNT(*) FROM df WHERE age > (SELECT COUNT(*) FROM df)", "sub-queries"),
        ("SELECT COUNT(*) FROM release", "one table df"),
        ("SELECT COUNT(*) FROM information_schema.tables", "one table df"),
        ("SELECT COUNT(*) FROM read_csv('/etc/passwd')", "mismatched"),
        ("SELECT COUNT(*) FROM df WHERE tag = '\\' OR 1=1 --'", "backslashes"),
        ("SELECT COUNT(*) FROM df WHERE tag = :x", "recognition"),
        ("SELECT COUNT(*) FROM df WHERE tag = ?", "recognition"),
        ("SELECT COUNT(*) FROM df WHERE RANDOM() < 0.5", "without arguments"),
        ("SELECT COUNT(*) FROM df WHERE seen < CURRENT_TIMESTAMP", "current time"),
        ("SELECT COUNT(*) FROM df WHERE CAST(tag AS INTEGER) > 1", "casts"),
        ("SELECT COUNT(*) FROM df WHERE missing = 1", "no column missing"),
        ("SELECT COUNT(*) FROM df WHERE COUNT(*) > 1", "aggregates stand"),
        ("SELECT COUNT(*) FROM df GROUP BY age + 1", "columns, not expressions"),
        ("SELECT SUM(age + 1) FROM df", "expressions"),
        ("SELECT SUM(*) FROM df", "needs a column"),
        ("SELECT DISTINCT COUNT(*) FROM df", "DISTINCT"),
        ("SELECT tag, COUNT(*) FROM df GROUP BY tag", "delta must be above 0"),
        ("SELECT " + "(" * 60 + "COUNT(*)" + ")" * 60 + " FROM df", "nest"),
        ("SELECT COUNT(*) FROM df WHERE " + " OR ".join(["age > 1"] * 2000), "characters"),
        ("SELECT COUNT(*) FROM df WHERE tag = '\x00'", "control"),
        ("SELECT ROW_NUMBER() OVER (ORDER BY age) FROM df", "ranking"),
    ],
)
def test_other_sql_is_refused_with_the_reason(penguin: Metadata, sql: str, reason: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        query(sql).cost(penguin)
    assert reason in caught.value.message


def test_who_an_individual_is_cannot_be_grouped_by() -> None:
    columns = {"id": {"type": "string", "private_id": True}, "age": {"type": "int", "lower": 0, "upper": 9}}
    metadata = Metadata.parse({"max_ids": 2, "rows": 10, "columns": columns})
    with pytest.raises(InvalidQuery, match="cannot be grouped by"):
        query("SELECT id, COUNT(*) AS n FROM df GROUP BY id", delta=1e-5).cost(metadata)
    table = run("SELECT COUNT(DISTINCT id) AS people FROM df", dummy_rows(metadata, 200, 1), epsilon=20.0)
    assert abs(table.rows[0][0] - 100) < 5


def test_max_ids_rows_of_one_individual_are_covered_by_the_noise() -> None:
    def scale(max_ids: int) -> float:
        columns = {"id": {"type": "string", "private_id": True}, "age": {"type": "int", "lower": 0, "upper": 9}}
        metadata = Metadata.parse({"max_ids": max_ids, "rows": 10, "columns": columns})
        rows = dummy_rows(metadata, 10, 1)
        draws = [
            abs(run("SELECT COUNT(*) AS n FROM df", rows, postprocess=False).rows[0][0] - 10) for _ in range(300)
        ]
        return sum(draws) / len(draws)

    # Laplace noise of scale max_ids / epsilon has that mean deviation.
    assert scale(20) > 4 * scale(1)


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


def test_a_library_that_has_spent_more_answers_nothing(penguin: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    from snsql.sql.odometer import OdometerHeterogeneous

    rows = dummy_rows(penguin, 10, 1)
    monkeypatch.setattr(
        OdometerHeterogeneous, "spend", lambda self, privacy: self.steps.append((privacy.epsilon * 2, 0))
    )
    prepared = _Prepared("SELECT COUNT(*) AS n FROM df", 1.0, 0.0, (), True, penguin)
    object.__setattr__(prepared, "cost", PrivacyLoss.charged(1.0))
    with pytest.raises(Overspent) as caught:
        prepared.answer(rows)
    assert caught.value.spent.epsilon == 2


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


def test_a_query_that_is_prepared_once_draws_its_own_noise_on_the_rows_it_is_given(penguin: Metadata) -> None:
    few, many = dummy_rows(penguin, 100, seed=0), dummy_rows(penguin, 10_000, seed=0)
    counts = [run("SELECT COUNT(*) AS n FROM df", few, epsilon=0.01).rows[0][0] for _ in range(10)]
    # Ten equal draws of Laplace noise of scale 100 are less likely than 1e-18.
    assert len(set(counts)) > 1
    assert run("SELECT COUNT(*) AS n FROM df", many, epsilon=0.01).rows[0][0] > 5_000
    keyed = [run("SELECT species, COUNT(*) AS n FROM df GROUP BY species", few, epsilon=0.01).rows for _ in range(10)]
    assert len({tuple(map(tuple, rows)) for rows in keyed}) > 1

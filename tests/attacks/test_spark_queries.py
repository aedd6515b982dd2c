"""Attacks on SmartNoise SQL inside Spark: no copy clamps the rows, and no TRY catches a failure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lomas_gql.datasets.spark import SparkSource
from lomas_gql.datasets.spark_session import session
from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.opendp.query import OpenDpQuery
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.metadata import Metadata
from lomas_gql.services import jobs
from lomas_gql.services.jobs import Failed
from tests.attacks.test_pushed_down_queries import CONDITIONS, SELECTED
from tests.spark import MASTER, exact, in_spark, needs_spark, parquet, quiet, rows_of, selected

pytestmark = [needs_spark, quiet, pytest.mark.usefixtures("spark")]

COLUMNS: dict[str, Any] = {
    "who": {"type": "string"},
    "age": {"type": "int", "lower": 0, "upper": 100},
    "pay": {"type": "float", "lower": -1000, "upper": 1000},
    "town": {"type": "string", "categories": ["Bern", "Basel"]},
    "size": {"type": "int", "categories": [1, 2]},
    "open": {"type": "boolean"},
    "seen": {"type": "datetime", "lower": "2000-01-01", "upper": "2020-01-01"},
}
KINDS = {
    "who": pl.String(),
    "age": pl.Int64(),
    "pay": pl.Float64(),
    "town": pl.String(),
    "size": pl.Float64(),
    "open": pl.String(),
    "seen": pl.Int64(),
}
PLAIN = ["ann", 40, 100.0, "Bern", 1.0, "yes", 10**15]
# Each breaks something where cells are read or computed with as they are.
NASTY = [
    ["eve", 2**63 - 1, float("inf"), "Zermatt", float("nan"), "perhaps", 2**63 - 1],
    ["eve", -(2**63), float("-inf"), "", 1e308, "", -(2**63)],
    ["eve", None, float("nan"), None, None, None, None],
    ["eve", 0, 5e-324, "bern", 5e-324, "true", 0],
    [None, 100, -1e-300, "Bern'; DROP TABLE t; --", float("inf"), "1", -1],
    ["", 1, 0.0, "a" * 100_000, float("-inf"), "\u00a0", 10**17],
]


def metadata(**changes: Any) -> Metadata:
    return Metadata.parse({"max_ids": 1, "rows": 100, "row_privacy": True, "columns": COLUMNS} | changes)


def table(folder: Path, rows: list[list[Any]], name: str = "rows") -> SparkSource:
    frame = pl.DataFrame(rows, schema=KINDS, orient="row")
    return parquet(folder, frame.with_columns(pl.col("seen").cast(pl.Datetime("us"))), name)


def cells(source: SparkSource, facts: Metadata) -> list[tuple[Any, ...]]:
    with rows_of(source, facts) as rows:
        return [tuple(row) for row in rows.connection.sql(rows.projection).collect()]


def release(source: SparkSource, facts: Metadata, sql: str, folder: Path) -> Answer | Failed:
    """What a private worker answers."""
    asked = SmartnoiseSqlQuery(sql=sql, epsilon=1.0, delta=1e-6)
    facts = in_spark(facts)
    return jobs.release(asked, facts, asked.cost(facts), source, 60, folder / "progress")


def test_values_out_of_range_are_clamped_and_strangers_become_public_constants(tmp_path: Path) -> None:
    for who, age, pay, town, size, open_, seen in cells(table(tmp_path, NASTY), metadata()):
        assert who is not None
        assert 0 <= age <= 100
        assert -1000 <= pay <= 1000
        assert town in ("Bern", "Basel", "OTHER")
        assert size in (1, 2, None)
        assert open_ in (True, False)
        assert datetime(2000, 1, 1) <= seen <= datetime(2020, 1, 1)
    [one] = cells(table(tmp_path, [NASTY[2]]), metadata())
    assert one == ("eve", 50, 0.0, "OTHER", None, False, datetime(2000, 1, 1))


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> list[SparkSource]:
    """A table of plain rows, one of nothing, and one of plain rows with one person's more."""
    folder = tmp_path_factory.mktemp("neighbours")
    rows = [[PLAIN] * 3, [], *([PLAIN, nasty] for nasty in NASTY)]
    return [table(folder, some, f"rows{i}") for i, some in enumerate(rows)]


def test_no_row_makes_a_condition_fail(neighbours: list[SparkSource]) -> None:
    for source in neighbours:
        with rows_of(source, metadata()) as rows:
            assert len(selected(CONDITIONS, rows)) == len(CONDITIONS)


def test_neighbouring_tables_give_the_same_outcomes_charges_and_errors(
    neighbours: list[SparkSource], tmp_path: Path
) -> None:
    asked = f"{SELECTED} FROM df WHERE {CONDITIONS[0]} GROUP BY town"
    outcomes = set()
    for source in neighbours:
        released = release(source, metadata(), asked, tmp_path)
        assert isinstance(released, Answer)
        assert released.table is not None
        outcomes.add((released.table.columns, tuple(row[0] for row in released.table.rows)))
    assert len(outcomes) == 1
    # A table that has gone fails alike, whatever was in it, and tells its kind alone.
    gone = replace(neighbours[0], path=f"{neighbours[0].path}.gone")
    assert release(gone, metadata(), asked, tmp_path) == Failed("SourceUnavailable")


def test_one_person_moves_a_sum_by_no_more_than_the_bounds(neighbours: list[SparkSource]) -> None:
    def sums(source: SparkSource) -> list[Any]:
        with rows_of(source, metadata()) as rows:
            [found] = exact("SELECT SUM(age) AS a, SUM(pay) AS p, COUNT(*) AS n FROM df", rows)[1]
        return [cell or 0 for cell in found]

    for source in neighbours[2:]:
        age, pay, count = sums(source)
        assert abs(age - 40) <= 100
        assert abs(pay - 100) <= 1000
        assert count == 2


def test_sums_of_squares_do_not_start_again_from_below(tmp_path: Path) -> None:
    """2**31 squared fits a BIGINT once, and not three times."""
    facts = Metadata.parse(
        {
            "max_ids": 1,
            "rows": 9,
            "row_privacy": True,
            "columns": {"x": {"type": "int", "lower": 0, "upper": 2**31}},
        }
    )
    source = parquet(tmp_path, {"x": [2**31] * 9})
    with rows_of(source, facts) as rows:
        [[found]] = rows.connection.sql(f"SELECT SUM(c0 * c0) FROM ({rows.projection})").collect()
    assert found == 9 * 2**62


def test_a_person_with_many_rows_counts_max_ids_times(tmp_path: Path) -> None:
    columns = COLUMNS | {"who": {"type": "string", "private_id": True}}
    facts = metadata(columns=columns, row_privacy=False, max_ids=3)
    crowd = [[f"p{i}", *PLAIN[1:]] for i in range(20)]
    eve = [["eve", age, *PLAIN[2:]] for age in range(60)]
    source = table(tmp_path, [*crowd, *eve, *[[None, *PLAIN[1:]]] * 7])
    sums = set()
    for _ in range(4):
        with rows_of(source, facts) as rows:
            [(n, w, total)] = exact("SELECT COUNT(*) AS n, COUNT(DISTINCT who) AS w, SUM(age) AS s FROM df", rows)[1]
        assert (n, w) == (23, 21)
        sums.add(total)
    # Another query draws other rows of hers.
    assert len(sums) > 1
    with rows_of(source, facts) as rows:
        [(n, *_)] = exact("SELECT COUNT(*) AS n FROM df WHERE who = 'eve' AND age < 60", rows)[1]
    assert n == 3


def test_a_text_that_is_no_utf8_hides_no_group(tmp_path: Path) -> None:
    """One person's bytes that are shown as \ufffd are not taken for the group of that name."""
    crowd = ["\ufffd".encode()] * 50
    frame = pl.DataFrame({"who": [*crowd, b"\xff", b"\xfe"]})
    source = parquet(tmp_path, frame)
    session(MASTER).read.parquet(str(source.path)).selectExpr("CAST(who AS STRING)").createOrReplaceTempView("bytes")
    with rows_of(SparkSource(MASTER, table="bytes"), metadata(columns={"who": COLUMNS["who"]})) as rows:
        [(keycount, *_)] = exact("SELECT who, COUNT(*) AS n FROM df GROUP BY who", rows)[1]
    assert keycount == 52


def test_decimals_beside_each_other_keep_their_digits(tmp_path: Path) -> None:
    source = table(tmp_path, [["ann", 2, *PLAIN[2:]], ["eve", 1, *PLAIN[2:]]])
    with rows_of(source, metadata()) as rows:
        found = selected(
            [
                "age * age * age * age * 0.1 < 1.64",
                "CASE WHEN age > 1 THEN age * age * age * age ELSE 0.25 END < 0.26",
            ],
            rows,
        )
    assert found == [["ann", "eve"], ["eve"]]


def test_a_planted_value_is_in_no_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    planted = "planted-7c1"
    source = table(tmp_path, [PLAIN] * 40 + [[planted, 99, 12345.678, planted, 1.0, planted, 0]])
    for sql in (
        "SELECT who, COUNT(*) AS n FROM df GROUP BY who",
        "SELECT who, town, SUM(pay) AS n FROM df WHERE pay > 999 GROUP BY who, town",
    ):
        found = release(source, metadata(), sql, tmp_path)
        assert isinstance(found, Answer)
        assert found.table is not None
        assert planted not in str(found.table.rows)
        assert "12345" not in str(found)
    assert planted not in "".join(capfd.readouterr())


REACHES = [
    "java_method('java.lang.System', 'getenv', 'HOME') = 'a'",
    "reflect('java.lang.System', 'exit', 1) = 'a'",
    "(SELECT 1) = 1",
    "age = 1; SELECT 1",
    "who = 'a' UNION SELECT 1",
    "who = 'a\\'",
    "who = r'a'",
    "who = :x",
    "who = ${env:HOME}",
    "who::int = 3",
    "CAST(who AS INTEGER) = 3",
    "who = current_user()",
    "who = input_file_name()",
    "_metadata.file_path = 'a'",
    "c0 = 'ann'",
    "lomas_rows.c0 = 'ann'",
    "parquet.`/etc/passwd`.x = 1",
    "RAND() < 1",
    "RANDOM() < 1",
    "raise_error('a') = 'a'",
    "who COLLATE UTF8_LCASE = 'a'",
    "who RLIKE '((a+)+)+$'",
    "pay / age > 1",
    "SQRT(pay) > 1",
    "POWER(pay, pay) > 1",
    "age * age * age * age * age * age * age * age * age * age > 1",
]


@pytest.mark.parametrize("condition", REACHES)
def test_functions_files_and_settings_cannot_be_reached(condition: str) -> None:
    asked = SmartnoiseSqlQuery(sql=f"SELECT COUNT(*) AS n FROM df WHERE {condition}", epsilon=1.0, delta=0.0)
    with pytest.raises(InvalidQuery):
        asked.cost(in_spark(metadata()))


def test_other_libraries_are_refused_by_name() -> None:
    query = OpenDpQuery(measurement="{}", column="age")
    refused = jobs.estimate(query, in_spark(metadata()))
    assert isinstance(refused, InvalidQuery)
    assert "stay inside Spark, where SmartNoise SQL alone can run" in str(refused.issues)


def test_literals_are_texts_whatever_they_hold(tmp_path: Path) -> None:
    texts = [
        "; DROP TABLE x; --",
        "${env:HOME}",
        "${spark:spark.master}",
        "{}",
        '"',
        "`",
        "/* ",
        "%s",
        "é🤦🏼‍♂️",
    ]
    source = table(tmp_path, [[text, *PLAIN[1:]] for text in texts])
    with rows_of(source, metadata()) as rows:
        found = selected([f"who = '{text}'" for text in texts], rows)
    assert found == [[text] for text in texts]


def test_names_and_categories_in_metadata_are_quoted(tmp_path: Path) -> None:
    evil = "x') OR 1=1; DROP TABLE t1; -- ${env:HOME}"
    name = "a`.b'; DROP TABLE t1; -- %s {}"
    columns = {
        name: {"type": "string", "categories": [evil, "it's", "back\\slash", "%s", "\n"]},
        "SELECT": {"type": "float", "lower": 0, "upper": 1},
        "select ": {"type": "float", "lower": 5, "upper": 6},
    }
    facts = metadata(columns=columns)
    held = {name: [evil, "it's", "back\\slash"], "SELECT": [0.5, 2.0, None], "select ": [5.5, 5.5, 5.5]}
    source = parquet(tmp_path, held | {"Select": [9.0] * 3})
    assert source.unfit_in_place(facts) == []
    assert set(cells(source, facts)) == {(evil, 0.5, 5.5), ("it's", 1.0, 5.5), ("back\\slash", 0.5, 5.5)}


def test_a_function_or_table_of_the_session_is_no_way_in(tmp_path: Path) -> None:
    """FROM names one view, and it is made anew for each query."""
    source = table(tmp_path, [PLAIN] * 3)
    session(MASTER).range(5).createOrReplaceTempView("df")
    try:
        with rows_of(source, metadata()) as rows:
            assert exact("SELECT COUNT(*) AS n FROM df", rows)[1] == [(3,)]
        for name in ("lomas_rows", "other", "`parquet`.`/tmp`"):
            with pytest.raises(InvalidQuery):
                SmartnoiseSqlQuery(sql=f"SELECT COUNT(*) AS n FROM {name}", epsilon=1.0, delta=0.0).cost(
                    in_spark(metadata())
                )
    finally:
        session(MASTER).catalog.dropTempView("df")


def test_a_failure_on_private_rows_tells_its_kind_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An owner's view may fail on a row; what it says stays inside."""
    table(tmp_path, [["planted-9d2", *PLAIN[1:]]]).schema()
    spark = session(MASTER)
    spark.read.parquet(str(tmp_path / "rows.parquet")).createOrReplaceTempView("planted")
    spark.sql("CREATE OR REPLACE TEMP VIEW failing AS SELECT raise_error(who) AS who, age FROM planted")
    facts = metadata(columns={name: COLUMNS[name] for name in ("who", "age")})
    found = release(SparkSource(MASTER, table="failing"), facts, "SELECT COUNT(DISTINCT who) AS n FROM df", tmp_path)
    assert isinstance(found, Failed)
    assert "planted-9d2" not in str(found) + "".join(capfd.readouterr())

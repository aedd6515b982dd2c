"""Attacks on SmartNoise SQL inside PostgreSQL, where no copy clamps the rows and no TRY catches a failure."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lomas_gql.datasets.postgresql import PostgresSource
from lomas_gql.errors import InvalidQuery, SourceUnavailable
from lomas_gql.libraries.base import Answer
from lomas_gql.libraries.smartnoise_sql.query import SmartnoiseSqlQuery
from lomas_gql.metadata import Metadata
from lomas_gql.services import jobs
from lomas_gql.services.jobs import Failed
from tests.in_place import CREDENTIALS, READER, Place, answer, exact, in_place, new_place, opened

COLUMNS: dict[str, Any] = {
    "who": {"type": "string"},
    "age": {"type": "int", "lower": 0, "upper": 100},
    "pay": {"type": "float", "lower": -1000, "upper": 1000},
    "town": {"type": "string", "categories": ["Bern", "Basel"]},
    "size": {"type": "int", "categories": [1, 2]},
    "open": {"type": "boolean"},
    "seen": {"type": "datetime", "lower": "2000-01-01", "upper": "2020-01-01"},
}
TYPES = {
    "who": "text",
    "age": "int8",
    "pay": "numeric",
    "town": "text",
    "size": "float8",
    "open": "text",
    "seen": "timestamptz",
}
PLAIN = ["ann", 40, 100, "Bern", 1, "yes", "2010-06-01 00:00:00+00"]
# Each breaks something where cells are read or computed with as they are.
NASTY = [
    ["eve", 2**63 - 1, "1e400", "Zermatt", "NaN", "perhaps", "294276-12-31 23:59:59+00"],
    ["eve", -(2**63), "-1e400", "", "1e308", "", "4713-01-01 00:00:00 BC"],
    ["eve", None, "NaN", None, None, None, None],
    ["eve", 0, "1e-400", "bern", "5e-324", "true", "infinity"],
    [None, 100, "1e-101", "Bern'; DROP TABLE t; --", "Infinity", "1", "-infinity"],
    ["", 1, 0, "a" * 100_000, "-Infinity", "\u00a0", "2020-01-01 00:00:00+00"],
]


def metadata(**changes: Any) -> Metadata:
    return Metadata.parse({"max_ids": 1, "rows": 100, "row_privacy": True, "columns": COLUMNS} | changes)


@pytest.fixture(scope="module")
def place(postgresql: str) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield new_place(postgresql)


def all_cells(source: PostgresSource, facts: Metadata) -> list[tuple[Any, ...]]:
    with opened(source, facts) as rows:
        return rows.connection.execute(f"SELECT * FROM ({rows.projection}) AS df ORDER BY 1, 2").fetchall()


def test_values_out_of_range_are_clamped_and_strangers_become_public_constants(place: Place) -> None:
    source = place.table(TYPES, NASTY)
    facts = metadata()
    for who, age, pay, town, size, open_, seen in all_cells(source, facts):
        assert who is not None
        assert 0 <= age <= 100
        assert -1000 <= pay <= 1000
        assert pay == 0 or abs(pay) >= 1e-100
        assert town in ("Bern", "Basel", "OTHER")
        assert size in (1, 2, None)
        assert open_ in (True, False)
        assert facts.by_name["seen"].lower <= seen <= facts.by_name["seen"].upper  # type: ignore[attr-defined]
    [one] = all_cells(place.table(TYPES, [NASTY[2]]), facts)
    assert one[1:] == (50, 0.0, "OTHER", None, False, facts.by_name["seen"].lower)  # type: ignore[attr-defined]


def test_one_person_moves_a_sum_by_no_more_than_the_bounds(place: Place) -> None:
    query = "SELECT SUM(age) AS a, SUM(pay) AS p, COUNT(*) AS n FROM df"
    plain = [PLAIN] * 50
    for nasty in NASTY:
        with opened(place.table(TYPES, plain), metadata()) as rows:
            [(a, p, n)] = exact(rows, query)
        with opened(place.table(TYPES, [*plain, nasty]), metadata()) as rows:
            [(a2, p2, n2)] = exact(rows, query)
        assert abs(a2 - a) <= 100
        assert abs(p2 - p) <= 1000
        assert n2 == n + 1


CONDITIONS = [
    "age * age * age * age > 7",
    "pay * pay - age / 7 > 0.1",
    "pay - 0.5 < age OR pay / 3 <> age",
    "age % 7 = 3",
    "FLOOR(pay) + CEIL(pay) > ABS(pay)",
    "SIGN(pay) = 1 AND NOT open",
    "town IN ('Bern', 'OTHER') AND size IN (1, 2)",
    "size IS NULL OR size BETWEEN 1 AND 2",
    "CONCAT(TRIM(UPPER(who)), town) > LOWER(town)",
    "SUBSTRING(town FROM 3 FOR 2) = 'rn' OR POSITION('s' IN town) > 0",
    "CHAR_LENGTH(CONCAT(who, who, town)) > 5",
    "EXTRACT(YEAR FROM seen) > 2009 AND DAYNAME(seen) <> 'Sunday'",
    "seen > '2009-12-31' AND EXTRACT(MICROSECOND FROM seen) = 0",
    "CASE WHEN open THEN pay ELSE age END > COALESCE(size, 2)",
]
SELECTED = "SELECT town, COUNT(*) AS n, AVG(age) AS a, VAR(pay) AS v, STDDEV(age) AS s, COUNT(DISTINCT who) AS w"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_row_makes_a_query_fail(place: Place, condition: str, nasty_tables: list[PostgresSource]) -> None:
    for source in nasty_tables:
        found = answer(source, metadata(), f"{SELECTED} FROM df WHERE {condition} GROUP BY town", epsilon=1.0)
        assert [row[0] for row in found] == ["Bern", "Basel", "OTHER"]


@pytest.fixture(scope="module")
def nasty_tables(place: Place) -> list[PostgresSource]:
    """A table of plain rows, one of nothing, and one for each nasty row."""
    return [place.table(TYPES, rows) for rows in ([PLAIN] * 3, [], *([nasty] for nasty in NASTY))]


def release(source: PostgresSource, facts: Metadata, query: str, folder: Path) -> Answer | Failed:
    """What a private worker answers."""
    asked = SmartnoiseSqlQuery(sql=query, epsilon=1.0, delta=1e-6)
    facts = in_place(facts)
    return jobs.release(asked, facts, asked.cost(facts), source, 60, folder / "progress")


def test_neighbouring_tables_give_the_same_outcomes_charges_and_errors(
    nasty_tables: list[PostgresSource], tmp_path: Path
) -> None:
    asked = f"{SELECTED} FROM df WHERE {CONDITIONS[0]} GROUP BY town"
    outcomes = set()
    for source in nasty_tables:
        released = release(source, metadata(), asked, tmp_path)
        assert isinstance(released, Answer)
        assert released.table is not None
        outcomes.add((released.table.columns, tuple(row[0] for row in released.table.rows)))
    assert len(outcomes) == 1
    # A table that has gone fails alike, whatever was in it, and tells its kind alone.
    gone = [release(replace(source, table="gone"), metadata(), asked, tmp_path) for source in nasty_tables]
    assert {str(failed) for failed in gone} == {str(Failed("SourceUnavailable"))}


def test_a_person_with_many_rows_counts_max_ids_times(place: Place) -> None:
    columns = COLUMNS | {"who": {"type": "string", "private_id": True}}
    facts = metadata(columns=columns, row_privacy=False, max_ids=3)
    crowd = [[f"p{i}", *PLAIN[1:]] for i in range(20)]
    eve = [["eve", age, *PLAIN[2:]] for age in range(60)]
    nobody = [[None, *PLAIN[1:]]] * 7
    source = place.table(TYPES, [*crowd, *eve, *nobody])
    with opened(source, facts) as rows:
        [(n, w)] = exact(rows, "SELECT COUNT(*) AS n, COUNT(DISTINCT who) AS w FROM df")
    assert (n, w) == (23, 21)
    for condition in ("who = 'eve'", "age <> 40", "who <> 'p1' AND age < 200"):
        with opened(source, facts) as rows:
            [(n, *_)] = exact(rows, f"SELECT COUNT(*) AS n FROM df WHERE who = 'eve' AND {condition}")
        assert n <= 3
    # Another query draws other rows of hers.
    drawn = set()
    for _ in range(8):
        with opened(source, facts) as rows:
            [(total,)] = exact(rows, "SELECT SUM(age) AS s FROM df WHERE who = 'eve'")
        drawn.add(total)
    assert len(drawn) > 1


def test_an_identifier_in_capitals_or_blanks_is_another_person_and_none_can_be_grouped_by(place: Place) -> None:
    columns = COLUMNS | {"who": {"type": "string", "private_id": True}}
    facts = metadata(columns=columns, row_privacy=False, max_ids=1)
    source = place.table(TYPES, [[who, *PLAIN[1:]] for who in ("eve", "Eve", "eve ", "eve", "")])
    with opened(source, facts) as rows:
        assert exact(rows, "SELECT COUNT(*) AS n FROM df") == [(4,)]
    query = SmartnoiseSqlQuery(sql="SELECT who, COUNT(*) AS n FROM df GROUP BY who", epsilon=1.0, delta=1e-6)
    with pytest.raises(InvalidQuery, match="cannot be grouped by"):
        query.cost(in_place(facts))


def test_a_planted_value_is_in_no_answer(place: Place, tmp_path: Path) -> None:
    planted = "planted-7c1"
    source = place.table(TYPES, [PLAIN] * 40 + [[planted, 99, "12345.678", planted, 1, planted, PLAIN[6]]])
    for query in (
        "SELECT town, COUNT(*) AS n FROM df GROUP BY town",
        "SELECT who, COUNT(*) AS n FROM df GROUP BY who",
        f"SELECT COUNT(*) AS n FROM df WHERE town = '{planted}'",
        "SELECT who, town, SUM(pay) AS n FROM df WHERE pay > 999 GROUP BY who, town",
    ):
        found = release(source, metadata(), query, tmp_path)
        assert isinstance(found, Answer)
        assert found.table is not None
        assert planted not in str(found.table.rows)
        assert "12345" not in str(found)


def test_a_role_that_may_only_read_these_columns_is_enough(place: Place) -> None:
    source = place.table(TYPES, [PLAIN] * 5)
    place.run(
        f"REVOKE ALL ON {source.table} FROM {READER}",
        f"ALTER TABLE {source.table} ADD COLUMN salary text",
        f"GRANT SELECT ({', '.join(TYPES)}) ON {source.table} TO {READER}",
        f"ALTER ROLE {READER} SET default_transaction_read_only = on",
    )
    assert source.unfit_in_place(metadata()) == []
    assert len(answer(source, metadata(), "SELECT town, COUNT(*) AS n FROM df GROUP BY town")) == 3
    place.run(f"REVOKE SELECT (town) ON {source.table} FROM {READER}")
    assert "has no column town" in source.unfit_in_place(metadata())


def test_the_connection_can_write_nothing(place: Place) -> None:
    source = place.table(TYPES, [PLAIN])
    place.run(f"GRANT ALL ON {source.table} TO {READER}", f"ALTER ROLE {READER} RESET ALL")
    with pytest.raises(SourceUnavailable) as caught, opened(source, metadata()) as rows:
        rows.connection.execute(f"DELETE FROM public.{source.table}")
    assert "ReadOnlySqlTransaction" in caught.value.reason


REACHES = [
    "pg_sleep(10) = ''",
    "pg_read_file('/etc/passwd') = 'a'",
    "current_setting('data_directory') = 'a'",
    "(SELECT 1) = 1",
    "age = 1; SELECT 1",
    "who = 'a' UNION SELECT 1",
    "who = 'a\\'",
    "who = $1",
    "who = :x",
    "who = E'a'",
    "who = U&'a'",
    "who = $$a$$",
    "who::int = 3",
    "CAST(who AS INTEGER) = 3",
    "who = current_user",
    "ctid = '(0,1)'",
    "tableoid = 3",
    "c0 = 'ann'",
    "pg_catalog.pg_class.relname = 'a'",
    "df.xmin = 3",
    "RANDOM() < 1",
    "who COLLATE \"C\" = 'a'",
    "who ~ '((a+)+)+$'",
    "who LIKE '%a%'",
    "{c} = 1",
    "%s = 1",
]


@pytest.mark.parametrize("condition", REACHES)
def test_functions_catalogues_and_settings_cannot_be_reached(condition: str) -> None:
    with pytest.raises(InvalidQuery):
        SmartnoiseSqlQuery(sql=f"SELECT COUNT(*) AS n FROM df WHERE {condition}", epsilon=1.0, delta=0.0).cost(
            in_place(metadata())
        )


def test_literals_are_texts_whatever_they_hold(place: Place, tmp_path: Path) -> None:
    source = place.table(TYPES, [PLAIN])
    for text in ("; DROP TABLE x; --", "%s", "%(a)s", "{}", '"', "$1", "/* ", "{0.__class__}", "é🤦🏼‍♂️"):
        found = release(source, metadata(), f"SELECT COUNT(*) AS n FROM df WHERE who = '{text}'", tmp_path)
        assert isinstance(found, Answer), text


def test_names_and_categories_in_metadata_are_quoted(place: Place) -> None:
    evil = "x') OR 1=1; DROP TABLE t1; --"
    name = "a'; DROP TABLE t1; -- %s {}"
    columns = {
        name: {"type": "string", "categories": [evil, "it's", "back\\slash", "%s", "{0}"]},
        "SELECT": {"type": "float", "lower": 0, "upper": 1},
    }
    facts = metadata(columns=columns)
    source = place.table({name: "text", "SELECT": "float8"}, [[evil, 0.5], ["it's", 2.0], ["back\\slash", None]])
    assert source.unfit_in_place(facts) == []
    cells = set(all_cells(source, facts))
    assert cells == {(evil, 0.5), ("it's", 1.0), ("back\\slash", 0.5)}
    assert answer(source, facts, "SELECT COUNT(*) AS n FROM df")


def test_another_function_of_the_same_name_is_not_called(place: Place) -> None:
    """The search path is PostgreSQL's own, so that nobody who may create functions sees what they are given."""
    source = place.table(TYPES, [PLAIN] * 3)
    place.run(
        "CREATE FUNCTION public.concat(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'seen'; END $$",
        "CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'seen'; END $$",
        f"ALTER ROLE {READER} SET search_path = public, pg_catalog",
    )
    try:
        assert answer(source, metadata(), "SELECT COUNT(*) AS n FROM df WHERE CONCAT(who, LOWER(town)) = 'annbern'")
    finally:
        place.run(f"ALTER ROLE {READER} RESET ALL", "DROP FUNCTION public.concat(text, text), public.lower(text)")


def test_a_query_that_takes_too_long_ends_in_the_database_too(place: Place) -> None:
    source = place.table(TYPES, [PLAIN])
    with pytest.raises(SourceUnavailable) as caught, source.in_place(in_place(metadata()), 0.05) as rows:
        rows.connection.execute("SELECT pg_sleep(60)")
    assert "QueryCanceled" in caught.value.reason


SLEEPER = """
import sys
from tests.in_place import in_place
from tests.attacks.test_pushed_down_queries import metadata
from lomas_gql.datasets.postgresql import PostgresSource
with PostgresSource(*sys.argv[1:]).in_place(in_place(metadata()), 60) as rows:
    rows.connection.execute("SELECT pg_sleep(60)")
"""


def test_a_query_ends_in_the_database_when_its_worker_dies(place: Place) -> None:
    """Else whoever starts and cancels queries keeps the database busy with all of them."""
    source = place.table(TYPES, [PLAIN])
    told = [source.url, source.table_schema, source.table, source.credentials]
    worker = subprocess.Popen([sys.executable, "-c", SLEEPER, *told])
    with psycopg.connect(place.owner, autocommit=True) as watching:

        def wait_for(running: bool) -> None:
            deadline = time.monotonic() + 30
            asked = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
            while watching.execute(asked).fetchone() != (int(running),):
                assert time.monotonic() < deadline
                time.sleep(0.05)

        wait_for(True)
        worker.kill()
        worker.wait()
        wait_for(False)


def test_an_error_tells_nothing_of_a_cell(place: Place, tmp_path: Path) -> None:
    """An owner's view may fail on a row; what it says stays inside."""
    source = place.table(TYPES, [["planted", *PLAIN[1:]]])
    place.run(
        f"CREATE VIEW failing AS SELECT (who::int)::text AS who, age, pay, town, size, open, seen FROM {source.table}",
        f"GRANT SELECT ON failing TO {READER}",
    )
    found = release(replace(source, table="failing"), metadata(), "SELECT COUNT(who) AS n FROM df", tmp_path)
    assert found == Failed("SourceUnavailable")

"""Conditions that pass the gate of rows in place select in Spark what they select on a copy, and fail on no row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.spark import SparkSource
from lomas_gql.datasets.typing import fit
from lomas_gql.errors import InvalidQuery
from lomas_gql.rows import LONGEST_TEXT, Rows
from tests.libraries.test_rows_in_place import CELLS, METADATA, conditions, rows
from tests.spark import in_spark, needs_spark, parquet, quiet, rows_of, selected, written

pytestmark = [needs_spark, quiet, pytest.mark.usefixtures("spark")]


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


READ: dict[str, tuple[pl.DataType, Callable[[Any], Any]]] = {
    **dict.fromkeys(("age", "wide"), (pl.Int64(), int)),
    **dict.fromkeys(("x", "y", "tall", "size"), (pl.Float64(), float)),
    "ringed": (pl.Boolean(), bool),
    "seen": (pl.Datetime("us"), _time),
    "born": (pl.Date(), _day),
}


@pytest.fixture(scope="module")
def both(spark: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[SparkSource, Rows]:
    """The same rows in Spark, and copied."""
    columns: dict[str, pl.Series] = {}
    for name, cells in zip(["row", *CELLS], zip(*rows(), strict=True), strict=True):
        kind, read = READ.get(name, (pl.String(), str))
        columns[name] = pl.Series(name, [None if cell is None else read(cell) for cell in cells], dtype=kind)
    frame = pl.DataFrame(columns)
    # What rows in place do otherwise, as the documentation says.
    copy = fit(frame.lazy(), METADATA, key=1).with_columns(pl.col("name").str.slice(0, LONGEST_TEXT)).collect()
    return parquet(Path(tmp_path_factory.mktemp("both")), frame), Rows(copy, METADATA)


# Many conditions in one job: each takes Spark longer than it takes to generate a hundred.
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(conditions(2), min_size=40, max_size=40))
def test_conditions_that_pass_select_the_same_rows_and_never_fail(
    both: tuple[SparkSource, Rows], drawn: list[str]
) -> None:
    source, here = both
    passed = [condition for condition in drawn if passes(condition)]
    if not passed:
        return
    with rows_of(source, METADATA) as there:
        found = selected(passed, there)
    for condition, one, other in zip(passed, found, selected(passed, here), strict=True):
        assert one == other, condition


def passes(condition: str) -> bool:
    try:
        written(condition, in_spark(METADATA))
    except InvalidQuery:
        return False
    return True


# One of each form that a dialect writes in its own way.
FORMS = [
    *(f"EXTRACT({part} FROM seen) > {n}" for part, n in (("YEAR", 2007), ("MONTH", 5), ("DAY", 1), ("HOUR", 11))),
    *(f"EXTRACT({part} FROM seen) > {n}" for part, n in (("MINUTE", 30), ("SECOND", 58), ("MICROSECOND", 59999998))),
    *(f"EXTRACT(WEEKDAY FROM born) = {n}" for n in range(7)),
    "DAYNAME(born) = 'Sunday' OR DAYNAME(seen) = 'Friday'",
    *(f"{function}(x) = {function}(y) OR {function}(x) > 2" for function in ("ABS", "FLOOR", "CEIL")),
    "SIGN(y) = -1",
    "age % 7 = 3 OR age % -7 = 1",
    "age / 2.5 > 20 AND age / -4 < -7.4",
    "age * 1.1 = 33 OR age * 0.1 + 0.2 = 0.3",
    "age * age * age * age > 810000",
    "1.0001 * age * age * age * age > 12.00001",
    "x + y - tall > age * 2",
    "wide = 9007199254740992 OR wide + 1 > 46341",
    "TRIM(name) = 'a' OR CHAR_LENGTH(name) > 65535 OR CHAR_LENGTH(name) = 5",
    "UPPER(code) = 'AB9' OR LOWER(code) = 'a'",
    "POSITION('a' IN name) = 2 OR POSITION('' IN name) = 1",
    "SUBSTRING(species FROM 2 FOR 3) = 'del' OR SUBSTRING(species FROM 4) = 's'",
    "CONCAT(name, code) = 'a' OR CONCAT(species, name) > 'OTHER'",
    "COALESCE(name, code, 'z') = 'a'",
    "species < 'a' AND name <> 'É' AND name > '\u00df'",
    "seen < born OR seen = '2007-01-01 12:00:00' OR born > '1999-12-30T23:59:59.999999'",
    "ringed IS NOT TRUE AND NOT ringed IS NULL",
    "CASE WHEN ringed THEN x WHEN age > 30 THEN age ELSE 2.5 END >= 2.5",
    "CASE species WHEN 'Adelie' THEN 1 WHEN 'OTHER' THEN 2 END = 2",
    "size NOT IN (1, 2) OR size IN (40)",
]


def test_each_form_of_the_dialect_means_what_it_means_on_a_copy(both: tuple[SparkSource, Rows]) -> None:
    source, here = both
    with rows_of(source, METADATA) as there:
        found = selected(FORMS, there)
    expected = selected(FORMS, here)
    assert [(form, one) for form, one in zip(FORMS, found, strict=True)] == list(zip(FORMS, expected, strict=True))
    # They are no forms that select nothing or all.
    assert sum(0 < len(one) < 400 for one in expected) > len(FORMS) - 6

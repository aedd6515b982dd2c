"""At load no cell can raise, drop a row or move another."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.preparing import drop_old, held, prepare
from lomas_gql.datasets.typing import fit, unfit_columns
from lomas_gql.errors import SourceUnavailable
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows


def fitted(column: dict[str, Any], *cells: Any) -> list[Any]:
    metadata = Metadata.parse({"max_ids": 1, "rows": 9, "row_privacy": True, "columns": {"x": column}})
    return fit(pl.LazyFrame({"x": list(cells)}), metadata, key=1).collect()["x"].to_list()


NUMBER = {"type": "float", "lower": 0, "upper": 10}
WHOLE = {"type": "int", "lower": 0, "upper": 10}


def test_numbers_are_clamped_and_what_is_none_becomes_the_middle() -> None:
    assert fitted(NUMBER, "-5", " 3.5 ", "1e300", "-inf", "abc", "nan", None) == [0.0, 3.5, 10.0, 0.0, 5.0, 5.0, 5.0]
    assert fitted(WHOLE, "-5", "3.9", "1e300", "inf", "abc", None) == [0, 3, 10, 10, 5, 5]
    assert fitted(NUMBER | {"nullable": True}, float("nan"), 3.0, None) == [None, 3.0, None]


def test_categories_outside_the_list_become_other_or_null() -> None:
    assert fitted({"type": "string", "categories": ["a", "b"]}, "a", "c", None) == ["a", "OTHER", "OTHER"]
    nullable = {"type": "string", "categories": ["a"], "nullable": True}
    assert fitted(nullable, "a", "c", None) == ["a", "OTHER", None]
    assert fitted({"type": "int", "categories": [1, 2]}, "1", "2.0", "3", "x") == [1, 2, None, None]


def test_booleans_and_times_are_read_in_their_usual_forms() -> None:
    assert fitted({"type": "boolean"}, "TRUE", "0", "maybe", None) == [True, False, False, False]
    time = {"type": "datetime", "lower": "2020-01-01", "upper": "2020-12-31"}
    texts = ("2020-03-04", "2020-03-04 05:06:07", "2020-03-04T05:06:07.5Z", "1999-01-01", "never")
    assert fitted(time, *texts) == [
        datetime(2020, 3, 4),
        datetime(2020, 3, 4, 5, 6, 7),
        datetime(2020, 3, 4, 5, 6, 7, 500000),
        datetime(2020, 1, 1),
        datetime(2020, 1, 1),
    ]


def owned(*owners: str | None, max_ids: int = 2) -> list[tuple[str, float]]:
    columns = {"id": {"type": "string", "private_id": True}, "x": {"type": "float", "lower": 0, "upper": 100}}
    metadata = Metadata.parse({"max_ids": max_ids, "rows": 9, "columns": columns})
    frame = pl.LazyFrame({"id": owners, "x": [float(i) for i in range(len(owners))]})
    return fit(frame, metadata, key=7).collect().rows()


def test_a_ragged_or_damaged_line_costs_no_other_line(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"x,y\n1,a\n2\n3,a,extra,cells\n\xff\xfe,b\n5,b\n")
    columns = {"x": WHOLE, "y": {"type": "string", "categories": ["a", "b"]}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 5, "row_privacy": True, "columns": columns})
    rows = Rows.mapped(prepare(FileSource(str(file)), metadata, tmp_path / "cache"), metadata)
    assert rows.frame.rows() == [(1, "a"), (2, "OTHER"), (3, "a"), (5, "b"), (5, "b")]


def test_a_file_is_read_once_per_version(tmp_path: Path) -> None:
    file, cache = tmp_path / "x.parquet", tmp_path / "cache" / "1"
    pl.DataFrame({"x": [1.0, 99.0, None]}).write_parquet(file)
    metadata = Metadata.parse({"max_ids": 1, "rows": 3, "row_privacy": True, "columns": {"x": NUMBER}})
    first = prepare(FileSource(str(file)), metadata, cache)
    assert Rows.mapped(first, metadata).frame["x"].to_list() == [1.0, 10.0, 5.0]
    made = first.stat().st_ino
    assert prepare(FileSource(str(file)), metadata, cache) == first
    assert first.stat().st_ino == made
    assert first.stat().st_mode & 0o077 == 0


def test_a_replaced_version_stays_while_a_release_may_wait_for_it(tmp_path: Path) -> None:
    file, cache = tmp_path / "x.parquet", tmp_path / "cache" / "1"
    metadata = Metadata.parse({"max_ids": 1, "rows": 1, "row_privacy": True, "columns": {"x": NUMBER}})
    versions = []
    for number in range(3):
        pl.DataFrame({"x": [float(number)]}).write_parquet(file)
        versions.append(prepare(FileSource(str(file)), metadata, cache))
        # As if long ago; but somebody asks for the first again.
        os.utime(versions[-1], (0, 0))
        assert held(versions[0])
    # Old versions hold private rows that nobody asks for any more.
    assert set(cache.iterdir()) == {versions[0], versions[2]}
    assert Rows.mapped(versions[0], metadata).frame["x"].to_list() == [0.0]
    os.utime(versions[0], (0, 0))
    drop_old(versions[2])
    assert list(cache.iterdir()) == [versions[2]]
    assert not held(versions[0])


def test_a_missing_file_or_column_is_told_without_a_value(tmp_path: Path) -> None:
    metadata = Metadata.parse({"max_ids": 1, "rows": 3, "row_privacy": True, "columns": {"x": NUMBER}})
    (tmp_path / "y.csv").write_text("y\n1\n")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 a private value")
    reasons = {"none.csv": "is not there", "y.csv": "has no column x", "damaged.parquet": "cannot be read"}
    for name, reason in reasons.items():
        with pytest.raises(SourceUnavailable) as caught:
            prepare(FileSource(str(tmp_path / name)), metadata, tmp_path / "cache" / "1")
        assert reason in caught.value.reason
        assert str(tmp_path) not in caught.value.message
        assert "private value" not in caught.value.reason


def test_times_beyond_every_calendar_are_clamped(tmp_path: Path) -> None:
    metadata = Metadata.parse(
        {
            "max_ids": 1,
            "rows": 3,
            "row_privacy": True,
            "columns": {"x": {"type": "datetime", "lower": "2020-01-01", "upper": "2021-01-01"}},
        }
    )
    usual = datetime(2020, 6, 1)
    for unit, scale in (("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        numbers = [2**63 - 1, -(2**63), int((usual - datetime(1970, 1, 1)).total_seconds()) * scale]
        for zone in (None, "Europe/Zurich"):
            frame = pl.LazyFrame({"x": pl.Series(numbers).cast(pl.Datetime(unit, zone))})  # type: ignore[arg-type]
            cells = fit(frame, metadata, key=1).collect()["x"].to_list()
            assert cells == [datetime(2021, 1, 1), datetime(2020, 1, 1), usual]
    days = pl.LazyFrame({"x": pl.Series([2**31 - 1, -(2**31), 18414], dtype=pl.Int32).cast(pl.Date)})
    assert fit(days, metadata, key=1).collect()["x"].to_list() == [datetime(2021, 1, 1), datetime(2020, 1, 1), usual]


def test_a_zero_has_no_sign() -> None:
    """SQL counts both as one group, and would show its key as the first row has it."""
    columns = {"x": {"type": "float", "lower": -1, "upper": 1, "nullable": True}}
    metadata = Metadata.parse({"max_ids": 1, "rows": 3, "row_privacy": True, "columns": columns})
    cells = fit(pl.LazyFrame({"x": [-0.0, 0.0, -1e-300, None, -2.0]}), metadata, key=1).collect()["x"].to_list()
    assert [str(cell) for cell in cells] == ["0.0", "0.0", "-1e-300", "None", "-1.0"]


def test_a_column_of_an_unreadable_type_is_refused_by_its_type(tmp_path: Path) -> None:
    metadata = Metadata.parse({"max_ids": 1, "rows": 3, "row_privacy": True, "columns": {"x": {"type": "string"}}})
    for dtype in (pl.Binary, pl.List(pl.Int64), pl.Datetime("ms"), pl.Struct({"a": pl.Int64})):
        [told] = unfit_columns(pl.Schema({"x": dtype}), metadata)
        assert "cannot be read" in told

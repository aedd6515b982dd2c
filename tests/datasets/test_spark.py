"""SmartNoise SQL inside Spark: the same rows, the same aggregates and the same answers as with a prepared copy."""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from lomas_gql.database.engine import Database
from lomas_gql.datasets import spark_session
from lomas_gql.datasets.sources import source_from, stored
from lomas_gql.datasets.spark import SparkSource
from lomas_gql.datasets.spark_cells import fitted
from lomas_gql.datasets.typing import fit
from lomas_gql.errors import AdministrationError, SourceUnavailable
from lomas_gql.metadata import Metadata
from lomas_gql.services.importing import import_catalogue
from tests.conftest import DEMO, PENGUIN, Client, Server, new_server
from tests.spark import MASTER, exact_in_both, needs_spark, parquet, quiet, released
from tests.test_main_path import EXECUTE, laplace_sum, sql

pytestmark = [needs_spark, quiet, pytest.mark.usefixtures("spark")]

TIMES = {"type": "datetime", "lower": "1000-01-01", "upper": datetime(2008, 6, 1, 12)}
COLUMNS: dict[str, dict[str, Any]] = {
    "number": {"type": "float", "lower": -10, "upper": 1e4, "nullable": True},
    "filled": {"type": "float", "lower": 0, "upper": 10},
    "whole": {"type": "int", "lower": -5, "upper": 1000, "nullable": True},
    "wide": {"type": "int", "lower": -(2**53), "upper": 2**53, "nullable": True},
    "code": {"type": "int", "categories": [0, 1, 7, 12, 2**63 - 1, 2**53]},
    "kind": {"type": "string", "categories": ["a", "it's", "${env:HOME}", "b\\s", "a`b", "7"], "nullable": True},
    "named": {"type": "string", "categories": ["a"]},
    "flag": {"type": "boolean", "nullable": True},
    "plain": {"type": "boolean"},
    "time": TIMES | {"nullable": True},
    "begun": TIMES,
    "text": {"type": "string", "nullable": True},
    "word": {"type": "string"},
}
READABLE = [name for name in COLUMNS if name not in ("time", "begun")]
TEXTS = [
    *["", " ", "NA", "nan", "-nan", "inf", "-Infinity", "1e5", "1E+2", "1e400", "-1e400", "1e-400", ".5", "5.", "+3"],
    *[
        "--3",
        "1_000",
        "1,5",
        "0x10",
        "0x1p3",
        "1d",
        "1F",
        "10L",
        "\uff11",
        " 7 ",
        "\t7\n",
        "\xa07",
        "\u20037",
        "7\x00",
    ],
    *["00012", "9007199254740993", "9223372036854775808", "12.7", "-0.0", "1" * 400, "TRUE", " t ", "No", "1.0"],
    *["2008-01-05", "2008-1-5", "2008-01-05 10:11", "2008-01-05T10:11:12Z", "2008-01-05 10:11:12.1234567", "nothing"],
    *["2008-02-30", "2008-13-01", "05.01.2008", "31.02.2008", "0001-01-01", "9999-12-31", "12008-01-01", "epoch"],
    *["2008-01-05 24:00:00", "2008-01-05 10:11:12+02:00", "2008-01-05T10", "2008-01-05Z", "now", "a", "A", "a "],
    *["it's", "b\\s", "${env:HOME}", "a`b", "OTHER", "é", "e\u0301", "😀", "x\ny"],
]
CELLS: dict[str, tuple[pl.Series, list[str]]] = {
    "texts": (pl.Series([*TEXTS, None]), list(COLUMNS)),
    # What takes the square of its length to read would take hours.
    "a long text": (pl.Series(["1" * 300_000 + "x", " " * 300_000, "1" * 300_000]), READABLE[:-2]),
    "doubles": (pl.Series([None, -0.0, 1.5, 7.0, float("nan"), float("inf"), -1e300, 5e-324, 9.3e18]), READABLE[:-2]),
    "integers": (pl.Series([None, 0, 1, -1, 7, 2**63 - 1, -(2**63), 2**53 + 1]), READABLE),
    "unsigned": (pl.Series([None, 0, 2**64 - 1], dtype=pl.UInt64), READABLE[:-2]),
    "booleans": (pl.Series([True, False, None]), READABLE),
    "decimals": (pl.Series([None, Decimal("1.50"), Decimal(10) ** 35], dtype=pl.Decimal(38, 2)), READABLE),
    "days": (pl.Series([None, 2**31 - 1, -(2**31), 0], dtype=pl.Int32).cast(pl.Date), ["time", "begun"]),
    "a day": (pl.Series([date(2008, 6, 1), date(2008, 6, 2), date(1, 1, 1)]), ["time", "begun"]),
    "times": (pl.Series([None, 2**62, -(2**62), 0], dtype=pl.Int64).cast(pl.Datetime("us")), ["time", "begun"]),
    "zoned": (pl.Series([datetime(2008, 2, 3, 4, 5, 6, 789)]).dt.replace_time_zone("Asia/Tokyo"), ["time", "begun"]),
}


def table(columns: dict[str, dict[str, Any]], max_ids: int = 1) -> Metadata:
    row_privacy = not any(column.get("private_id") for column in columns.values())
    return Metadata.parse({"max_ids": max_ids, "rows": 9, "row_privacy": row_privacy, "columns": columns})


@pytest.mark.parametrize("cells", CELLS)
def test_a_cell_becomes_what_it_becomes_when_it_is_prepared(cells: str, tmp_path: Path) -> None:
    series, names = CELLS[cells]
    metadata = table({name: COLUMNS[name] for name in names})
    frame = pl.DataFrame(dict.fromkeys(names, series))
    source = parquet(tmp_path, frame)
    with source._read() as unread:
        found = fitted(unread, metadata, from_csv=False).collect()
    # Whole numbers are exact in both, but of other types.
    there = [tuple(int(cell) if isinstance(cell, Decimal) else cell for cell in row) for row in found]
    assert there == fit(frame.lazy(), metadata, key=1).collect().rows()


QUERIES = [
    "SELECT COUNT(*) AS n, COUNT(bill_length_mm) AS b, SUM(age) AS s, AVG(body_mass_g) AS m FROM df",
    "SELECT VAR(age) AS v, STDDEV(bill_length_mm) AS s FROM df",
    "SELECT species, sex, ringed, COUNT(*) AS n, SUM(age) AS s FROM df GROUP BY species, sex, ringed",
    "SELECT tag, COUNT(*) AS n, AVG(age) AS m FROM df GROUP BY tag",
    "SELECT age, seen, COUNT(*) AS n FROM df GROUP BY age, seen",
    "SELECT COUNT(DISTINCT tag) AS n FROM df WHERE age > 3 AND sex IS NOT NULL OR species IN ('Adelie', 'none')",
    "SELECT COUNT(*) AS n FROM df WHERE ringed AND NOT seen < '2008-03-01' AND bill_length_mm BETWEEN 40 AND 45.5",
    "SELECT COUNT(*) AS n FROM df WHERE EXTRACT(YEAR FROM seen) = 2008 AND age * 1.5 + 2 > body_mass_g / 300",
    "SELECT COUNT(*) AS n FROM df WHERE CONCAT(UPPER(tag), sex) = 'Xmale' OR FLOOR(bill_length_mm) = 39 AND age % 2 = 1",
]


@pytest.fixture(scope="module")
def penguins() -> pl.DataFrame:
    """The demo's penguins with columns of every kind, some of their cells out of bounds."""
    frame = pl.read_csv(DEMO / "penguins.csv", null_values="NA")
    draw = random.Random(1)
    count = len(frame)
    return frame.with_columns(
        tag=pl.Series([draw.choice("xyz") for _ in range(count)]),
        age=pl.Series([draw.choice([None, *range(-5, 40)]) for _ in range(count)]),
        ringed=pl.Series([draw.choice([True, False, None]) for _ in range(count)]),
        seen=pl.Series([datetime(2006 + draw.randrange(6), 1 + draw.randrange(12), 9) for _ in range(count)]),
    )


@pytest.mark.parametrize("sql", QUERIES)
def test_aggregates_are_those_of_a_prepared_copy(sql: str, penguins: pl.DataFrame, tmp_path: Path) -> None:
    there, here = exact_in_both(sql, parquet(tmp_path, penguins), penguins.lazy(), Metadata.parse(PENGUIN))
    assert there[0] == here[0]
    for got, expected in zip(there[1], here[1], strict=True):
        assert [type(cell) for cell in got] == [type(cell) for cell in expected]
        # Doubles are added in another order.
        assert [_rounded(cell) for cell in got] == [_rounded(cell) for cell in expected]


def _rounded(cell: object) -> object:
    return float(f"{cell:.12g}") if isinstance(cell, float) else cell


def test_an_answer_is_noised_filtered_and_ordered(penguins: pl.DataFrame, tmp_path: Path) -> None:
    source, metadata = parquet(tmp_path, penguins), Metadata.parse(PENGUIN)
    sql = "SELECT species, COUNT(*) AS n FROM df WHERE sex = 'male' GROUP BY species HAVING COUNT(*) > 20 ORDER BY n DESC"
    answer = released(sql, source, metadata, epsilon=100.0)
    assert [column.name for column in answer.columns] == ["species", "n"]
    assert [row[0] for row in answer.rows] == ["Adelie", "Gentoo", "Chinstrap"]
    assert [row[1] for row in answer.rows] == [pytest.approx(n, abs=1) for n in (73, 61, 34)]
    counts = {released("SELECT COUNT(*) AS n FROM df", source, metadata, epsilon=0.01).rows[0][0] for _ in range(4)}
    assert len(counts) > 1


def test_a_csv_is_read_as_text_whatever_its_lines_hold(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    lines = ['x,y,"z`;.1"', "1,a,p", "2", '3,"a\nb","q""q"', "4,a,p,and,more", "NA,NaN,null", "", "5" + ",a" * 30_000]
    file.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe,b,p\n")
    source = SparkSource(MASTER, path=str(file), format="csv")
    metadata = table(
        {
            "x": {"type": "int", "lower": 0, "upper": 9},
            "y": {"type": "string", "categories": ["a", "b", "a\nb"]},
            "z`;.1": {"type": "string", "nullable": True},
        }
    )
    frame = pl.scan_csv(file, infer_schema=False)
    assert source.unfit_in_place(metadata) == []
    sql = "SELECT x, y, COUNT(*) AS n, COUNT(DISTINCT x) AS d FROM df GROUP BY x, y"
    there, _ = exact_in_both(sql, source, frame.head(0), metadata)
    found = {(x, y): n for x, y, n, *_ in ([row[i] for i in (1, 2, 3)] for row in there[1])}
    assert found == {
        (1, "a"): 1,
        (2, "OTHER"): 1,
        (3, "a\nb"): 1,
        (4, "a"): 1,
        (4, "OTHER"): 1,
        (5, "a"): 1,
        (4, "b"): 1,
    }


CATALOGUE = """
datasets:
- dataset_name: BIRDS
  dataset_access: {database_type: SPARK_DB, master: "local[2]", path: rows.parquet}
  metadata_access: {database_type: PATH_DB, path: penguin_metadata.yaml}
"""


async def imported(folder: Path, old: str = "", new: str = "") -> tuple[list[str], str]:
    """What an import of the catalogue, with a mistake, changes or tells."""
    (folder / "penguin_metadata.yaml").write_bytes((DEMO / "penguin_metadata.yaml").read_bytes())
    (folder / "birds.yaml").write_text(CATALOGUE.replace(old, new))
    database = Database(f"sqlite+aiosqlite:///{folder / 'lomas.db'}")
    try:
        await database.upgrade()
        return (await import_catalogue(database, [folder / "birds.yaml"])).changes, ""
    except AdministrationError as error:
        return [], error.message
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("rows.parquet", "none.parquet", "none.parquet in Spark at local[2] cannot be read: PATH_NOT_FOUND"),
        ("path: rows", "table: none, path: rows", "SPARK_DB: give a table or a path"),
        (", path: rows.parquet", "", "SPARK_DB: give a table or a path"),
        (
            ", path: rows.parquet",
            ", table: none",
            "none in Spark at local[2] cannot be read: TABLE_OR_VIEW_NOT_FOUND",
        ),
        (
            "rows.parquet",
            '"s3a://planted:planted@rows/x"',
            "SPARK_DB.path: a user or a password does not belong here",
        ),
        ("local[2]", "https://planted", "SPARK_DB.master: is no Spark master"),
        ("local[2]", "spark://planted:planted@host", "SPARK_DB.master: is no Spark master"),
        ("rows.parquet", "rows.parquet, format: orc", "SPARK_DB.format: Input should be"),
        ("rows.parquet", "odd.parquet", "holds island as Object, from which it cannot be read"),
    ],
)
async def test_a_mistake_of_an_owners_is_told_with_its_place(
    penguins: pl.DataFrame, tmp_path: Path, old: str, new: str, told: str
) -> None:
    parquet(tmp_path, penguins)
    parquet(tmp_path, penguins.with_columns(island=pl.lit([["a"]])), "odd")
    changes, message = await imported(tmp_path, old, new)
    assert changes == []
    assert told in message
    assert "planted" not in message


async def test_a_table_of_the_catalogue_is_a_dataset(penguins: pl.DataFrame, tmp_path: Path) -> None:
    file = parquet(tmp_path, penguins)
    spark = spark_session.session(MASTER)
    spark.read.parquet(str(file.path)).createOrReplaceTempView("penguin_view")
    changes, message = await imported(tmp_path, "path: rows.parquet", "table: penguin_view")
    assert (changes, message) == (["dataset BIRDS: added"], "")
    source = SparkSource(MASTER, table="penguin_view")
    assert source_from(stored(source)) == source
    there, here = exact_in_both(QUERIES[3], source, penguins.lazy(), Metadata.parse(PENGUIN))
    assert [row[:2] for row in there[1]] == [row[:2] for row in here[1]]


def test_without_spark_or_java_the_owner_learns_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_session, "_session", None)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(SourceUnavailable) as caught:
        spark_session.session(MASTER)
    assert caught.value.reason == "Spark is not installed here: pip install 'lomas-gql[spark]'"


def processes(server: Server) -> tuple[psutil.Process, psutil.Process]:
    """The server's worker that has started Java, and Java."""
    assert server.process is not None
    [java] = [p for p in psutil.Process(server.process.pid).children(recursive=True) if p.name() == "java"]
    worker = java.parent()
    assert worker is not None
    return worker, java


def gone(process: psutil.Process) -> bool:
    """Whether it ends within a minute; nobody may be there to take note of its end."""
    deadline = time.monotonic() + 60
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_server_answers_from_spark_and_leaves_no_java_behind(penguins: pl.DataFrame, tmp_path: Path) -> None:
    parquet(tmp_path, penguins)
    (tmp_path / "penguin_metadata.yaml").write_bytes((DEMO / "penguin_metadata.yaml").read_bytes())
    (tmp_path / "birds.yaml").write_text(CATALOGUE)
    conf = json.dumps({"spark.sql.ansi.enabled": "true", "spark.hadoop.fs.s3a.secret.key": "planted-key"})
    secret = {"LOMAS_CREDENTIALS__X__USERNAME": "planted", "LOMAS_CREDENTIALS__X__PASSWORD": "planted"}
    options = {
        "LOMAS_PRIVATE_WORKERS": "1",
        "LOMAS_SPARK_MEGABYTES": "512",
        "LOMAS_QUERY_SECONDS": "300",
        "LOMAS_SPARK_CONF": conf,
    } | secret
    server = new_server(tmp_path, **options, JAVA_TOOL_OPTIONS="-XX:TieredStopAtLevel=1")
    server.run(lambda database: import_catalogue(database, [tmp_path / "birds.yaml"]))
    server.start()
    try:
        client = server.user(dataset="BIRDS", epsilon="100")
        check_answers(client)
        worker, java = processes(server)
        check_java(java)
        java.kill()
        assert gone(java)
        # The worker starts another.
        assert execute(client, COUNT)["__typename"] == "Executed"
        assert processes(server)[0] == worker
        _, java = processes(server)
        worker.kill()
        assert gone(java)
        assert "planted" not in (tmp_path / "server.log").read_text()
    finally:
        server.stop()


COUNT = "SELECT species, COUNT(*) AS n FROM df GROUP BY species"


def execute(client: Client, text: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.data(EXECUTE, sql(text, epsilon=10.0, dataset="BIRDS"))["execute"]
    return answer


def check_answers(client: Client) -> None:
    told = execute(client, COUNT)
    assert told["__typename"] == "Executed", told
    rows = told["result"]["table"]["rows"]
    assert [row[0] for row in rows] == ["Adelie", "Chinstrap", "Gentoo", "OTHER"]
    assert [row[1] for row in rows] == [pytest.approx(n, abs=5) for n in (152, 68, 124, 0)]
    assert told["budget"]["spent"]["epsilon"] == 10.0
    partial = "SELECT COUNT(*) AS n FROM df WHERE SQRT(bill_length_mm) > 6"
    assert execute(client, partial)["__typename"] == "InvalidQuery"
    other = {
        "input": {"dataset": "BIRDS", "query": {"opendp": {"measurement": laplace_sum(), "column": "bill_length_mm"}}}
    }
    told = client.data(EXECUTE, other)["execute"]
    assert told["__typename"] == "InvalidQuery"
    assert "SmartNoise SQL alone" in str(told["issues"])


def check_java(java: psutil.Process) -> None:
    """It holds no secret and listens to this machine alone."""
    assert "planted" not in " ".join(java.cmdline())
    assert not [name for name in java.environ() if name.startswith("LOMAS_")]
    listening = {at.laddr.ip for at in java.net_connections() if at.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening

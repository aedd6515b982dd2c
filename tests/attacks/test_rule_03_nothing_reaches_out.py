"""Rule 3, with traps set: no file is opened, nothing is written and nobody is called, whatever a query says.

Each attack goes over HTTP through estimate, dummy run and execution; all three must refuse it, for free.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import opendp.prelude as dp
import polars as pl
import pytest

from tests.attacks.neighbours import DUMMY, ESTIMATE, EXECUTE, NEAR, Pair, model, sql, synthesizer
from tests.attacks.queries import SCHEMA, measured
from tests.attacks.traps import Trap, trap


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    with trap(tmp_path_factory.mktemp("bait")) as set_up:
        yield set_up


def written(lazy: pl.LazyFrame) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "'json' serialization format of LazyFrame is deprecated"
        return lazy.serialize(format="json")


def opendp_plan(text: str) -> dict[str, Any]:
    return {"opendp": {"polarsPlan": text, "epsilon": 1.0}}


def touch(bait: Trap) -> str:
    """Python's oldest pickle: os.system("touch …") for whoever loads it."""
    return f"cos\nsystem\n(S'touch {bait.folder}/marker'\ntR."


def within(bait: Trap, inner: dict[str, Any]) -> dict[str, Any]:
    """A count whose transformation is what the attacker writes."""
    query = measured("note", dp.t.then_count(), dp.m.then_laplace(1.0), T=str)
    text = json.loads(query["opendp"]["measurement"])
    text["__kwargs__"]["transformation0"] = inner
    return {"opendp": {"measurement": json.dumps(text), "column": "note"}}


def call(function: str, module: str, /, **arguments: Any) -> dict[str, Any]:
    return {"__function__": function, "__module__": module, "__kwargs__": arguments, "__version__": dp.__version__}


def plugged(bait: Trap) -> dict[str, Any]:
    """The library of a plug-in is the attacker's, its function too."""
    lazy = pl.LazyFrame(schema=SCHEMA).select(
        pl.plugins.register_plugin_function(
            plugin_path=f"{bait.folder}/evil.so", function_name="run", args=[pl.col("age")], is_elementwise=True
        )
    )
    return opendp_plan(written(lazy))


FRAME = pl.LazyFrame(schema=SCHEMA)
ATTACKS: dict[str, Callable[[Trap], dict[str, Any]]] = {
    "os.system by name": lambda bait: within(
        bait, call("system", "extras.numpy.os", command=f"touch {bait.folder}/m")
    ),
    "a function of its own": lambda bait: within(bait, call("new_function", "core", function=touch(bait), TO="f64")),
    "a constructor of the user's": lambda bait: within(
        bait, call("make_user_transformation", "transformations", function=touch(bait))
    ),
    "an import": lambda bait: within(bait, call("import_optional_dependency", "_lib", name="antigravity")),
    "a feature": lambda bait: within(bait, call("enable_features", "mod", features=["honest-but-curious"])),
    "a pickled frame": lambda bait: within(bait, {"__lazyframe__": touch(bait)}),
    "a pickled frame as an argument": lambda bait: within(
        bait, call("make_count", "transformations", input_domain={"__lazyframe__": touch(bait)}, TO="i32")
    ),
    "a pickled expression in a list": lambda bait: within(
        bait, call("make_find", "transformations", categories=[{"__expr__": touch(bait)}])
    ),
    "a scanned table": lambda bait: opendp_plan(written(pl.scan_csv(bait.folder / "secret.csv").select(dp.len()))),
    "a scanned page": lambda bait: opendp_plan(written(pl.scan_ndjson(bait.url, schema=SCHEMA).select(dp.len()))),
    "a scanned table beside the rows": lambda bait: opendp_plan(
        written(pl.concat([FRAME, pl.scan_csv(bait.folder / "secret.csv")], how="diagonal").select(dp.len()))
    ),
    "a function over rows": lambda bait: opendp_plan(
        written(FRAME.map_batches(lambda frame: frame).select(dp.len()))
    ),
    "a function over cells": lambda bait: opendp_plan(
        written(FRAME.with_columns(z=pl.col("age").map_elements(abs, pl.Int64)).select(dp.len()))
    ),
    "a sink": lambda bait: opendp_plan(
        json.dumps({"Sink": {"input": json.loads(written(FRAME.select(dp.len()))), "payload": {"Memory": None}}})
    ),
    "a library of the attacker's": plugged,
    "a file as a table": lambda bait: sql(f"SELECT COUNT(*) AS n FROM '{bait.folder}/secret.csv'"),
    "a file as a quoted table": lambda bait: sql(f'SELECT COUNT(*) AS n FROM "{bait.folder}/secret.csv"'),
    "a reader": lambda bait: sql(f"SELECT COUNT(*) AS n FROM read_csv_auto('{bait.folder}/secret.csv')"),
    "a reader of a page": lambda bait: sql(f"SELECT COUNT(*) AS n FROM read_csv_auto('{bait.url}')"),
    "a second statement": lambda bait: sql(
        f"SELECT COUNT(*) AS n FROM df; COPY df TO '{bait.folder}/marker' (FORMAT csv)"
    ),
    "a statement in a literal": lambda bait: sql(
        f"SELECT COUNT(*) AS n FROM df WHERE note = '\\'; COPY df TO ''{bait.folder}/marker'' --'"
    ),
    "a comment": lambda bait: sql("SELECT COUNT(*) AS n FROM df WHERE age > 1 /* */; ATTACH 'x'"),
    "a bound parameter": lambda bait: sql("SELECT COUNT(*) AS n FROM df WHERE note = :x"),
    "a catalogue": lambda bait: sql("SELECT COUNT(*) AS n FROM duckdb_settings()"),
    "a setting": lambda bait: sql("SELECT COUNT(*) AS n FROM df WHERE CURRENT_SETTING('threads') = '1'"),
    "a variable of the environment": lambda bait: sql("SELECT COUNT(*) AS n FROM df WHERE GETENV('HOME') = 'x'"),
    "a glob": lambda bait: sql(f"SELECT COUNT(*) AS n FROM glob('{bait.folder}/*')"),
    "a condition that reads": lambda bait: synthesizer(
        "MWEM", "kind", sampleRows=1, condition=f"kind IN (SELECT kind FROM '{bait.folder}/secret.csv')"
    ),
    "a parameter that is a path": lambda bait: model(
        "K_MEANS", "age", params={"memory": f"{bait.folder}/cache", "epsilon": 1.0}
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_is_opened_written_or_called(
    pair: Pair, bait: Trap, attack: Callable[[Trap], dict[str, Any]]
) -> None:
    before = pair.spent(NEAR)
    query = attack(bait)
    bait.caught()
    for operation in (ESTIMATE, DUMMY, EXECUTE):
        assert pair.ask(operation, NEAR, query)["__typename"] == "InvalidQuery"
    assert bait.caught() == []
    assert pair.spent(NEAR) == before


def test_the_traps_catch(bait: Trap) -> None:
    pl.read_csv(bait.folder / "secret.csv")
    assert "opened secret.csv" in bait.caught()
    (Path(bait.folder) / "marker").touch()
    assert "created marker" in bait.caught()

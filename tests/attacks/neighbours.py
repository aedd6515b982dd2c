"""Two datasets that differ in one person, on one server: what tells them apart tells about that person."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lomas_gql.database.engine import Database
from lomas_gql.services import importing
from tests.conftest import Client, Server

NEAR, FAR = "NEAR", "FAR"
"""With the planted person, and without."""

PLANTED = {
    "who": "planted-who-7731",
    "age": "97",
    "income": "987654.25",
    "kind": "Zorgonian-9917",
    "note": "planted-note-5519",
    "points": "1099511627775",
    "seen": "2009-11-23T04:05:06",
}
"""The oldest, the richest, of a kind that is on no list, with a note of their own: worth an attack on each cell."""

METADATA: dict[str, Any] = {
    "max_ids": 1,
    "rows": 400,
    "columns": {
        "who": {"type": "string", "private_id": True},
        "age": {"type": "int", "lower": 0, "upper": 120},
        "income": {"type": "float", "lower": 0, "upper": 1_000_000, "nullable": True},
        "kind": {"type": "string", "categories": ["a", "b", "c"]},
        "note": {"type": "string"},
        "points": {"type": "int", "lower": 0, "upper": 2**40},
        "seen": {"type": "datetime", "lower": "2007-01-01", "upper": "2010-01-01"},
    },
}

EXECUTE = """mutation($input: DpQueryInput!) { execute(input: $input) {
  __typename
  ... on Executed { cost { epsilon delta } release { status error { message } result { ...R } } }
  ... on UserError { code message }
  ... on InvalidQuery { issues { path message } }
  ... on LibraryFailed { cost { epsilon delta } } } }
fragment R on DpResult { __typename
  ... on SmartnoiseSqlResult { table { columns { name dtype } rows } }
  ... on OpenDpResult { value frame: table { columns { name dtype } rows } }
  ... on DiffprivlibResult { steps { parameters } score }
  ... on SmartnoiseSynthModel { sample(rows: 50) { columns { name dtype } rows } } }"""
ESTIMATE = """mutation($input: DpQueryInput!) { estimateCost(input: $input) {
  __typename ... on Estimate { cost { epsilon delta } affordable }
  ... on UserError { code message } ... on InvalidQuery { issues { path message } } } }"""
DUMMY = """mutation($input: DpQueryInput!) { runDummy(input: $input) {
  __typename ... on DummyRun { cost { epsilon delta } }
  ... on UserError { code message } ... on InvalidQuery { issues { path message } } } }"""
SPENT = "query($name: String!) { dataset(name: $name) { budget { spent { epsilon delta } } history { totalCount } } }"


def people(count: int = 399) -> list[dict[str, str]]:
    """Ordinary people: young, of a few notes that many share, and here and there without an income."""
    return [
        {
            "who": f"person-{i}",
            "age": str(20 + i % 40),
            "income": "" if i % 20 == 0 else str(20_000 + 37.5 * i),
            "kind": "abc"[i % 3],
            "note": f"common{i % 2}",
            "points": str(i % 1000),
            "seen": f"2008-{1 + i % 12:02}-15T12:00:00",
        }
        for i in range(count)
    ]


def write(folder: Path) -> Path:
    """Both files and a catalogue of them; the planted person stands in the middle of one."""
    rows = people()
    for name, written in ((NEAR, [*rows[:200], PLANTED, *rows[200:]]), (FAR, rows)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(PLANTED))
            writer.writeheader()
            writer.writerows(written)
    (folder / "facts.yaml").write_text(yaml.safe_dump(METADATA, sort_keys=False))
    datasets = [
        {
            "dataset_name": name,
            "dataset_access": {"database_type": "PATH_DB", "path": f"{name}.csv"},
            "metadata_access": {"database_type": "PATH_DB", "path": "facts.yaml"},
        }
        for name in (NEAR, FAR)
    ]
    catalogue = folder / "datasets.yaml"
    catalogue.write_text(yaml.safe_dump({"datasets": datasets}))
    return catalogue


@dataclass
class Told:
    """What one operation answered, and what the server wrote into its log meanwhile."""

    outcome: dict[str, Any]
    log: str
    charged: list[float]


@dataclass
class Pair:
    """The server, and an attacker with a large budget on both datasets."""

    server: Server
    attacker: Client
    told: dict[str, Told] = field(default_factory=dict)

    def ask(self, operation: str, dataset: str, query: dict[str, Any]) -> dict[str, Any]:
        variables = {"input": {"dataset": dataset, "query": query}}
        [outcome] = self.attacker.data(operation, variables).values()
        return outcome  # type: ignore[no-any-return]

    def both(self, operation: str, query: dict[str, Any]) -> tuple[Told, Told]:
        """What it tells of either dataset; asked once, however many tests look at it."""
        near, far = (self._once(operation, dataset, query) for dataset in (NEAR, FAR))
        return near, far

    def _once(self, operation: str, dataset: str, query: dict[str, Any]) -> Told:
        asked = json.dumps([operation, dataset, query])
        if asked not in self.told:
            begun, before = len(self.log()), self.spent(dataset)
            outcome = self.ask(operation, dataset, query)
            charged = [round(after - spent, 9) for after, spent in zip(self.spent(dataset), before, strict=True)]
            self.told[asked] = Told(outcome, re.sub(r"\d+", "#", self.log()[begun:]), charged)
        return self.told[asked]

    def spent(self, dataset: str) -> tuple[float, float]:
        spent = self.attacker.data(SPENT, {"name": dataset})["dataset"]["budget"]["spent"]
        return spent["epsilon"], spent["delta"]

    def log(self) -> str:
        return (self.server.data_dir / "server.log").read_text()


def visible(outcome: dict[str, Any]) -> str:
    """All that an answer shows beside its noisy figures: texts, costs, names, and how many rows of which keys.

    Numbers are blotted out where noise is; keys, which are text here, stay.
    """
    shown = json.loads(json.dumps(outcome))
    result = (shown.get("release") or {}).get("result")
    if result and "sample" in result:
        # Drawn anew at each call: that there are as many as were asked for is all that does not vary.
        result["sample"]["rows"] = len(result["sample"]["rows"])
    if result:
        shown["release"]["result"] = blotted(result)
    return json.dumps(shown, sort_keys=True)


def blotted(value: Any) -> Any:
    match value:
        case dict():
            return {name: blotted(item) for name, item in value.items()}
        case list():
            return [blotted(item) for item in value]
        case bool() | None:
            return value
        case int() | float():
            return "#"
    return value


def served(folder: Path) -> Server:
    """A server of both datasets, ready to be started."""
    catalogue = write(folder)
    # One worker of each kind: what one run leaves behind meets the next.
    server = Server(folder, {"LOMAS_PRIVATE_WORKERS": "1", "LOMAS_PUBLIC_WORKERS": "1"})

    async def build(database: Database) -> None:
        await database.upgrade()
        await importing.import_catalogue(database, [catalogue])

    server.run(build)
    return server


def sql(text: str, epsilon: float = 1.0, delta: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"smartnoiseSql": {"sql": text, "epsilon": epsilon, "delta": delta, **more}}


def model(estimator: str, *features: str, target: str | None = None, **more: Any) -> dict[str, Any]:
    params = {"epsilon": 1.0} | more.pop("params", {})
    steps = [{"estimator": estimator, "params": params}]
    columns = {"featureColumns": list(features)} | ({"targetColumns": [target]} if target else {})
    return {"diffprivlib": {"steps": steps, **columns, **more}}


def synthesizer(name: str, *columns: str, **more: Any) -> dict[str, Any]:
    fields = {"synthesizer": name, "epsilon": 1.0, "columns": list(columns), "sampleRows": 0}
    return {"smartnoiseSynth": fields | more}

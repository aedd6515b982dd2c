"""SmartNoise SQL on 1,000,000 rows: through the server, against the library itself, as ratios in one run.

    make bench

Three ways to the same answer, each timed as a whole and compared by its median:

- server: an `execute` over HTTP, charged and written to the history;
- direct: the library's own PrivateReader in this process, over the same DuckDB reader with its table ready;
- pandas: the CSV read again and handed to the library's PandasReader, as Lomas does on each request.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import yaml
from serving import Serving

from lomas_gql.database.engine import Database
from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.preparing import prepare
from lomas_gql.libraries.smartnoise_sql.gate import gate
from lomas_gql.libraries.smartnoise_sql.reader import DuckDBReader
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from lomas_gql.services import administration, importing, tokens
from lomas_gql.settings import Settings

DEMO = Path(importing.__file__).parent.parent / "demo"
QUERIES = {
    "COUNT": "SELECT COUNT(*) AS n FROM df",
    "GROUP BY + AVG": "SELECT species, AVG(bill_length_mm) AS m FROM df GROUP BY species",
}
EXECUTE = """mutation($sql: String!) { execute(input: {dataset: "LARGE", query: {smartnoiseSql:
  {sql: $sql, epsilon: 1, delta: 0}}}) { __typename ... on UserError { message } } }"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--pandas-runs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.rows, options.runs, options.pandas_runs)


def compare(folder: Path, rows: int, runs: int, pandas_runs: int) -> None:
    facts = write_penguins(folder, rows)
    metadata = Metadata.parse(facts)
    token = asyncio.run(set_up(folder))
    print(f"{rows} rows, {runs} runs of each query; medians in milliseconds")
    print("| query | server | direct | server / direct | pandas | pandas / server |\n|---|---|---|---|---|---|")
    with Serving(folder / "data") as url, httpx.Client(timeout=600) as client:
        for name, sql in QUERIES.items():
            headers = {"Authorization": f"Bearer {token}"}

            def ask(sql: str = sql, headers: dict[str, str] = headers) -> None:
                body = {"query": EXECUTE, "variables": {"sql": sql}}
                answer = client.post(f"{url}/graphql", json=body, headers=headers).json()
                assert answer["data"]["execute"]["__typename"] == "Executed", answer

            direct = direct_reader(folder, metadata, sql)
            server_time, direct_time = paired(ask, direct, runs)
            pandas_time = median(lambda sql=sql: as_lomas_does(folder, metadata, sql), pandas_runs)
            print(
                f"| {name} | {server_time:.0f} | {direct_time:.0f} | {server_time / direct_time:.2f} "
                f"| {pandas_time:.0f} | {pandas_time / server_time:.0f} |"
            )


def write_penguins(folder: Path, rows: int) -> dict[str, object]:
    """The demo's penguins, drawn with replacement."""
    penguins = pd.read_csv(DEMO / "penguins.csv")
    chosen = np.random.default_rng(1).integers(0, len(penguins), rows)
    penguins.iloc[chosen].to_csv(folder / "large.csv", index=False)
    facts: dict[str, object] = yaml.safe_load((DEMO / "penguin_metadata.yaml").read_text())
    facts["rows"] = rows
    (folder / "metadata.yaml").write_text(yaml.safe_dump(facts))
    entry = {
        "dataset_name": "LARGE",
        "dataset_access": {"database_type": "PATH_DB", "path": "large.csv"},
        "metadata_access": {"database_type": "PATH_DB", "path": "metadata.yaml"},
    }
    (folder / "catalogue.yaml").write_text(yaml.safe_dump({"datasets": [entry]}))
    return facts


async def set_up(folder: Path) -> str:
    database = Database(Settings(data_dir=folder / "data", database_url="").url)
    await database.upgrade()
    await importing.import_catalogue(database, [folder / "catalogue.yaml"])
    await administration.add_user(database, "bench", None, may_query=True)
    await administration.grant(database, "bench", "LARGE", "1000000", "1")
    token = await tokens.create_token(database, "bench", None)
    await database.close()
    return token


def direct_reader(folder: Path, metadata: Metadata, sql: str) -> Callable[[], object]:
    """The library's PrivateReader over prepared rows, as it would be used without a server."""
    from snsql import Privacy
    from snsql.metadata import Metadata as Theirs
    from snsql.sql.private_reader import PrivateReader

    prepared = prepare(FileSource(str(folder / "large.csv")), metadata, folder / "direct")
    reader = DuckDBReader()
    gated = gate(sql, metadata)
    reader.attach(Rows.mapped(prepared, metadata), gated)
    tables = Theirs.from_dict(metadata.smartnoise(names=metadata.sql_names))
    private = PrivateReader(reader, tables, privacy=Privacy(epsilon=1.0, delta=0.0))
    return lambda: private.execute(str(gated.query))


def as_lomas_does(folder: Path, metadata: Metadata, sql: str) -> None:
    from snsql import Privacy, from_connection

    frame = pd.read_csv(folder / "large.csv")
    privacy = Privacy(epsilon=1.0, delta=0.0)
    reader = from_connection(frame, privacy=privacy, metadata=metadata.smartnoise())
    reader.get_privacy_cost(sql)
    reader.execute(sql)


def paired(one: Callable[[], object], other: Callable[[], object], runs: int) -> tuple[float, float]:
    """The medians of two calls made in turn, so that a change in the machine's speed meets both."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (one, other):
        call()
    for _ in range(runs):
        for call, taken in zip((one, other), times, strict=True):
            taken.append(timed(call))
    return statistics.median(times[0]), statistics.median(times[1])


def median(call: Callable[[], object], runs: int) -> float:
    return statistics.median(timed(call) for _ in range(runs))


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()

"""Penguins in any number, as datasets of a server, and users with budgets on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from lomas_gql.database.engine import Database
from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.preparing import prepare
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from lomas_gql.services import administration, importing, tokens
from lomas_gql.settings import Settings

DEMO = Path(importing.__file__).parent.parent / "demo"
FACTS: dict[str, Any] = yaml.safe_load((DEMO / "penguin_metadata.yaml").read_text())


def write(folder: Path, sizes: Sequence[int], kind: str = "parquet") -> None:
    """Files of so many penguins each and their catalogue: the demo's own 344, or drawn from them with replacement."""
    penguins = pl.read_csv(DEMO / "penguins.csv", null_values=["", "NA"])
    entries = []
    for size in sizes:
        chosen = np.random.default_rng(1).integers(0, len(penguins), size)
        drawn = penguins if size == len(penguins) else penguins[chosen]
        path = file(folder, size, kind)
        drawn.write_csv(path) if kind == "csv" else drawn.write_parquet(path)
        (folder / f"{name(size)}.yaml").write_text(yaml.safe_dump(facts(size)))
        access = {"dataset_access": path, "metadata_access": folder / f"{name(size)}.yaml"}
        blocks = {key: {"database_type": "PATH_DB", "path": str(place)} for key, place in access.items()}
        entries.append({"dataset_name": name(size)} | blocks)
    (folder / "catalogue.yaml").write_text(yaml.safe_dump({"datasets": entries}))


def name(size: int) -> str:
    return f"PENGUIN_{size}"


def file(folder: Path, size: int, kind: str = "parquet") -> Path:
    return folder / f"{name(size)}.{kind}"


def facts(size: int) -> dict[str, Any]:
    return FACTS | {"rows": size}


def mapped(folder: Path, size: int, kind: str = "parquet") -> Rows:
    """The rows as a worker has them: prepared, mapped into memory."""
    metadata = Metadata.parse(facts(size))
    return Rows.mapped(prepare(FileSource(str(file(folder, size, kind))), metadata, folder / "direct"), metadata)


async def set_up(folder: Path, users: int = 1) -> list[str]:
    """A server's database in `folder/data` with the catalogue of `folder`; the users' tokens."""
    database = Database(Settings(data_dir=folder / "data", database_url="").url)
    try:
        await database.upgrade()
        await importing.import_catalogue(database, [folder / "catalogue.yaml"])
        return [await _user(database, f"bench{number}") for number in range(users)]
    finally:
        await database.close()


async def _user(database: Database, user: str) -> str:
    await administration.add_user(database, user, None, may_query=True)
    for dataset in await administration.datasets(database):
        await administration.grant(database, user, dataset.name, "1000000", "1")
    return await tokens.create_token(database, user, None)

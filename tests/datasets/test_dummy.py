from __future__ import annotations

import polars as pl

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.typing import fit
from lomas_gql.metadata import Metadata


def test_dummy_rows_fit_the_metadata(penguin: Metadata) -> None:
    frame = dummy_rows(penguin, 200, seed=1).frame
    assert frame.equals(fit(frame.lazy(), penguin, key=1).collect())
    assert frame["sex"].null_count() > 0
    assert frame["species"].null_count() == 0


def test_the_same_seed_gives_the_same_rows(penguin: Metadata) -> None:
    assert dummy_rows(penguin, 50, seed=-3).frame.equals(dummy_rows(penguin, 50, seed=-3).frame)
    assert not dummy_rows(penguin, 50, seed=1).frame.equals(dummy_rows(penguin, 50, seed=2).frame)


def test_an_individual_has_at_most_max_ids_dummy_rows() -> None:
    columns = {"id": {"type": "int", "private_id": True}, "b": {"type": "boolean"}}
    metadata = Metadata.parse({"max_ids": 3, "rows": 9, "columns": columns})
    counts = dummy_rows(metadata, 20, seed=1).frame["id"].value_counts()
    assert counts["count"].max() == 3
    assert counts["id"].dtype == pl.String

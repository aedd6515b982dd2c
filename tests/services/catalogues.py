"""Collections as owners write them, over a file of one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lomas_gql.privacy import PrivacyLoss

FACTS = {"max_ids": 1, "rows": 1, "row_privacy": True, "columns": {"age": {"type": "int", "lower": 0, "upper": 9}}}


def of_datasets(folder: Path, *names: str) -> Path:
    """A collection of datasets, all with the same row."""
    (folder / "d.csv").write_text("age\n1\n")
    (folder / "d.yaml").write_text(yaml.safe_dump(FACTS))
    places = {"dataset_access": "d.csv", "metadata_access": "d.yaml"}
    access = {key: {"database_type": "PATH_DB", "path": file} for key, file in places.items()}
    return _written(folder / "datasets.yaml", {"datasets": [{"dataset_name": name} | access for name in names]})


def of_users(folder: Path, dataset: str, initial: PrivacyLoss, spent: dict[str, PrivacyLoss]) -> Path:
    """A collection of users with a budget on a dataset, of whom each has spent something elsewhere."""
    budget = {"initial_epsilon": initial.epsilon_text, "initial_delta": initial.delta_text}
    users: list[dict[str, Any]] = []
    for name, amount in spent.items():
        total = {"total_spent_epsilon": amount.epsilon_text, "total_spent_delta": amount.delta_text}
        users.append({"user_name": name, "datasets_list": [{"dataset_name": dataset} | budget | total]})
    return _written(folder / "users.yaml", {"users": users})


def _written(file: Path, collection: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(collection))
    return file

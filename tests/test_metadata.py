from __future__ import annotations

from typing import Any

import pytest

from lomas_gql.metadata import CategoricalColumn, Metadata, MetadataError, TextColumn
from tests.conftest import PENGUIN


def table(**columns: dict[str, Any]) -> dict[str, Any]:
    return {"max_ids": 1, "rows": 10, "row_privacy": True, "columns": columns}


def test_what_the_owner_leaves_out_is_false() -> None:
    metadata = Metadata.parse({"max_ids": 2, "rows": 10, "columns": {"x": {"type": "boolean"}}})
    assert (metadata.row_privacy, metadata.censor_dims) == (False, False)
    assert (metadata.columns[0].nullable, metadata.columns[0].private_id) == (False, False)


def test_group_keys_name_other_and_null_too() -> None:
    metadata = Metadata.parse(PENGUIN)
    assert metadata.by_name["sex"].keys == ("female", "male", "OTHER", None)
    assert metadata.by_name["species"].keys == ("Adelie", "Chinstrap", "Gentoo", "OTHER")
    assert metadata.by_name["tag"].keys is None
    assert metadata.by_name["ringed"].keys == (True, False)


def test_an_integer_outside_its_categories_is_null() -> None:
    metadata = Metadata.parse(table(year={"type": "int", "categories": [2007, 2008]}))
    assert metadata.by_name["year"] == CategoricalColumn(name="year", categories=(2007, 2008), integer=True)
    assert metadata.by_name["year"].keys == (2007, 2008, None)


def test_an_identifier_needs_no_bounds_and_is_kept_as_text() -> None:
    raw = {"max_ids": 3, "rows": 10, "columns": {"id": {"type": "int", "private_id": True}}}
    assert isinstance(Metadata.parse(raw).columns[0], TextColumn)


@pytest.mark.parametrize(
    ("raw", "path", "reason"),
    [
        (table(x={"type": "float"}), ("columns", "x"), "needs lower and upper"),
        (table(x={"type": "float", "lower": 2, "upper": 1}), ("columns", "x"), "lower <= upper"),
        (table(x={"type": "float", "lower": 0, "upper": float("inf")}), ("columns", "x"), "within"),
        (table(x={"type": "float", "lower": float("nan"), "upper": 1}), ("columns", "x"), "lower <= upper"),
        (table(x={"type": "int", "lower": 0.5, "upper": 2}), ("columns", "x"), "integers"),
        (table(x={"type": "float", "lower": 0, "uper": 2}), ("columns", "x", "uper"), "not permitted"),
        (table(x={"type": "string", "categories": ["a", "a"]}), ("columns", "x"), "repeated"),
        (table(x={"type": "strange"}), ("columns", "x", "type"), "'string'"),
        (table(x={"type": "boolean"}, X={"type": "boolean"}), ("columns", "x"), "upper and lower case"),
        (table(max_ids={"type": "boolean"}), ("columns", "max_ids"), "property of the table"),
        (table(**{'a"b': {"type": "boolean"}}), ("columns", 'a"b'), "quotes"),
        (table(x={"type": "boolean", "private_id": True}), ("row_privacy",), "each row is an individual"),
        ({"rows": 1, "columns": {}}, ("max_ids",), "required"),
        ({"max_ids": 0, "rows": 1, "columns": {"x": {"type": "boolean"}}}, ("max_ids",), "greater than"),
        ([], (), "dictionary"),
    ],
)
def test_each_mistake_is_named_with_its_place(raw: Any, path: tuple[str, ...], reason: str) -> None:
    with pytest.raises(MetadataError) as caught:
        Metadata.parse(raw)
    assert any(m.path == path and reason in m.reason for m in caught.value.mistakes), caught.value.mistakes


def test_smartnoise_reads_its_own_dictionary() -> None:
    from snsql.metadata import Metadata as Theirs

    theirs = Theirs.from_dict(Metadata.parse(PENGUIN).smartnoise())
    columns = theirs["df"].m_columns
    assert (columns["bill_length_mm"].lower, columns["bill_length_mm"].upper) == (30.0, 65.0)
    assert theirs["df"].row_privacy is True
    assert theirs["df"].sample_max_ids is False

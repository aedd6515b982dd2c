"""The rows that an engine found for the library, in an order that no row decides, and complete."""

from __future__ import annotations

import itertools
from typing import Any

from snsql._ast import ast

from lomas_gql.libraries.smartnoise_sql.gate import Gated
from lomas_gql.metadata import Metadata


def completed(
    query: ast.Query, gated: Gated, metadata: Metadata, found: list[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """`found`, ordered by its keys; with public keys, one row for each combination of them.

    A group without rows has no values, which the library takes as 0 before it adds noise.
    """
    places = {s.expression.colname: i for i, s in enumerate(query._select_symbols) if s.is_grouping_column}
    positions = [places[metadata.sql_names[name]] for name in gated.grouping]
    if not positions:
        return found
    by_key = {tuple(row[i] for i in positions): row for row in found}
    if gated.keys is None:
        return [by_key[key] for key in sorted(by_key, key=_order)]
    width = len(query._select_symbols)
    return [by_key.get(key) or _empty(key, positions, width) for key in itertools.product(*gated.keys)]


def _order(key: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, str(value)) for value in key]


def _empty(key: tuple[Any, ...], positions: list[int], width: int) -> tuple[Any, ...]:
    values = dict(zip(positions, key, strict=True))
    return tuple(values.get(i) for i in range(width))

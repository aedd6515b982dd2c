"""SmartNoise SQL's own reader of Spark, over rows that stay there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from snsql._ast import ast
from snsql.sql.reader.spark import SparkReader

from lomas_gql.libraries.smartnoise_sql.completion import completed
from lomas_gql.libraries.smartnoise_sql.conditions import write_conditions
from lomas_gql.libraries.smartnoise_sql.gate import Gated
from lomas_gql.metadata import TABLE
from lomas_gql.rows import RowsInPlace


class InSparkReader(SparkReader):  # type: ignore[misc]
    """Executes the library's rewritten query inside Spark: exact aggregates alone come here.

    They are collected once. Over the lazy DataFrame that the library's reader gives, the library would add noise
    inside Spark whenever a part of the answer is asked for, anew each time: two looks at one count.
    """

    def __init__(self, rows: RowsInPlace, gated: Gated) -> None:
        super().__init__(rows.connection)
        self.rows = rows
        self.gated = gated

    def _execute_ast(self, query: ast.Query, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        write_conditions(query, self.gated, self.rows.metadata)
        frame = self.execute(f"WITH {TABLE} AS ({self.rows.projection}) {self.serializer.serialize(query)}")
        found = [tuple(_plain(cell) for cell in row) for row in frame.collect()]
        return [tuple(frame.columns), *completed(query, self.gated, self.rows.metadata, found)]


def _plain(cell: Any) -> Any:
    # Whole numbers are DECIMAL in Spark.
    return int(cell) if isinstance(cell, Decimal) else cell

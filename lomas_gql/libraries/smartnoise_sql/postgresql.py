"""SmartNoise SQL's own reader of PostgreSQL, over rows that stay there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from snsql._ast import ast
from snsql._ast.tokens import Identifier
from snsql.sql.reader.postgres import PostgresReader

from lomas_gql.libraries.smartnoise_sql.completion import completed
from lomas_gql.libraries.smartnoise_sql.conditions import write_conditions
from lomas_gql.libraries.smartnoise_sql.gate import Gated
from lomas_gql.metadata import TABLE
from lomas_gql.rows import RowsInPlace


class InPostgresReader(PostgresReader):  # type: ignore[misc]
    """Executes the library's rewritten query inside PostgreSQL: exact aggregates alone come here."""

    def __init__(self, rows: RowsInPlace, gated: Gated) -> None:
        super().__init__(conn=rows.connection)
        self.rows = rows
        self.gated = gated

    def _execute_ast(self, query: ast.Query, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        write_conditions(query, self.gated, self.rows.metadata)
        names, *found = self.execute(self._written(query))
        whole = [tuple(_plain(cell) for cell in row) for row in found]
        return [names, *completed(query, self.gated, self.rows.metadata, whole)]

    def _written(self, query: ast.Query) -> str:
        """The query, with the projection in place of its table: so PostgreSQL computes no column in vain."""
        [table] = query.find_nodes(ast.Table)
        named = table.name
        table.name = Identifier(f"({self.rows.projection}) AS {TABLE}")
        try:
            return str(self.serializer.serialize(query))
        finally:
            table.name = named


def _plain(cell: Any) -> Any:
    # Sums of BIGINT come as NUMERIC, which the mechanisms do not know.
    return int(cell) if isinstance(cell, Decimal) else cell

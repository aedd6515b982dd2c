"""Rows for every table of whatever revision a database is at, made from its own description of itself."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Connection, MetaData, Table

Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]

EACH = 3
"""Rows for a table at each filling."""
STATUSES = ("RELEASED", "FAILED", "RUNNING")
CHARGED = (0, 0, 1)
"""Which dataset each user was charged on: the first has two users, the last has none."""
_numbers = itertools.count(1)


def tables_of(connection: Connection) -> dict[str, Table]:
    """The tables as the database describes them, those that others refer to first."""
    reflected = MetaData()
    reflected.reflect(connection)
    return {table.name: table for table in reflected.sorted_tables if table.name != "alembic_version"}


def rows_of(connection: Connection) -> Rows:
    """All rows: by table, by primary key."""
    return {
        name: {
            tuple(row[c.name] for c in table.primary_key): dict(row)
            for row in connection.execute(table.select()).mappings()
        }
        for name, table in tables_of(connection).items()
    }


def fill(connection: Connection, revision: str) -> None:
    """Puts rows into every table. Their references are to one another, so that each filling is a small world."""
    made: dict[str, list[dict[str, Any]]] = {}
    for name, table in tables_of(connection).items():
        made[name] = []
        # A release that runs has no model yet.
        for place in range(EACH - 1 if name == "fitted_model" else EACH):
            row = _row(connection, table, revision, place, made)
            made[name].append(row)
            # None is left out: for a JSON column it would be JSON's own null.
            given = {column: value for column, value in row.items() if value is not None}
            connection.execute(table.insert().values(given))


def _row(
    connection: Connection, table: Table, revision: str, place: int, made: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    number = next(_numbers)
    row = {column.name: _value(connection, column, revision, number, place, made) for column in table.columns}
    match table.name:
        case "release":
            running = STATUSES[place] == "RUNNING"
            row |= {"status": STATUSES[place], "slot": 0 if running else None}
            row |= {"finished_at": None if running else row["finished_at"]}
            row |= {"dataset_id": made["dataset"][CHARGED[place]]["id"], "epsilon": 1, "delta": 1}
            row |= {"answer": {"n": number} if place == 0 else None, "failure": "no answer" if place == 1 else None}
        case "user_grant":
            row |= {"dataset_id": made["dataset"][CHARGED[place]]["id"]}
            row |= {"spent_epsilon": _amount(place), "spent_delta": _amount(place)}
        case "dataset" if "spent_epsilon" in row:
            total = sum(_amount(user) for user in range(EACH) if CHARGED[user] == place)
            row |= {"spent_epsilon": total, "spent_delta": total}
    return row


def _amount(number: int) -> int:
    # More than 32 bits hold.
    return 10**12 + number


def _value(
    connection: Connection,
    column: Column[Any],
    revision: str,
    number: int,
    place: int,
    made: dict[str, list[dict[str, Any]]],
) -> Any:
    for key in column.foreign_keys:
        referred = made[key.column.table.name][: place + 1]
        return referred[-1][key.column.name] if referred else None
    if column.primary_key and isinstance(column.type, sa.Integer):
        # Said outright: references need it.
        return (connection.scalar(sa.select(sa.func.max(column))) or 0) + 1
    if column.nullable and place == EACH - 1:
        return None
    match column.type:
        case sa.Boolean():
            return place % 2 == 0
        case sa.Integer():
            return _amount(number) if isinstance(column.type, sa.BigInteger) else number
        case sa.DateTime():
            return datetime(2024, 1, 1, 12, 30, 15, 123456, tzinfo=UTC) + timedelta(days=number)
        case sa.JSON():
            return {"n": number, "list": [None, 0.1, "ε"]}
        case sa.LargeBinary():
            return bytes(range(256)) + number.to_bytes(4)
        case sa.String():
            return f"{revision}-{number}"[: column.type.length]
    raise NotImplementedError(f"{column.table.name}.{column.name}: what stands in a {column.type!r}?")

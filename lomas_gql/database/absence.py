"""Which errors mean that the database is away for now, and which are bugs."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Primary result codes (https://sqlite.org/rescode.html): locked too long, or its file cannot be read or written now.
_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
# SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html). Classes: the connection, too few
# resources, an operator (a shutdown, a crash, a limit), the system below. Codes: a transaction that sat idle too
# long, a server that only reads for now, a lock that was not to be had in time.
_POSTGRESQL = ("08", "53", "57", "58", "25P03", "25P04", "25006", "55P03")


def absence(error: BaseException) -> str | None:
    """Why the database does not answer: the driver's first line, which holds no value. None for a bug.

    A wrong statement, a constraint or a missing table stays what it is: waiting mends none of them.
    """
    if isinstance(error, PoolTimeout):
        return "no free connection in time"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, DBAPIError) and (error.connection_invalidated or _is_away(error)):
        return (str(error.orig).splitlines() or ["?"])[0]
    return None


def _is_away(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        # SQLite calls a missing table an OperationalError too: only its code tells.
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE
    state: str | None = getattr(error.orig, "sqlstate", None)
    # Without a state there was no connection, or it was lost.
    return isinstance(error, OperationalError) if state is None else state.startswith(_POSTGRESQL)

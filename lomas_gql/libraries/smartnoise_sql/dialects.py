"""How engines other than DuckDB write what may be evaluated on rows in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lomas_gql.words import Engine


@dataclass(frozen=True)
class Dialect:
    """Templates in one engine's SQL; `{}` stands for an argument that is already written.

    Each must be total on its arguments and mean what DuckDB makes of it. A function or part that is not there is
    refused.
    """

    # A text as a literal, whatever it holds. Texts are compared by their bytes.
    quoted: Callable[[str], str]
    # Of texts: LOWER, UPPER, TRIM, CHAR_LENGTH, POSITION, SUBSTRING, CONCAT; counted in characters.
    texts: Mapping[str, str]
    # Of times: EXTRACT's parts as whole numbers, and the English name of the day.
    parts: Mapping[str, str]
    day_name: str
    whole: str = "CAST({} AS BIGINT)"
    double: str = "CAST({} AS DOUBLE PRECISION)"
    time: str = "TIMESTAMP '{}'"


# What Unicode calls a space separator, which is what DuckDB's TRIM takes away.
SPACES = "\u0020\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def _quoted(text: str) -> str:
    # Standard strings are switched on for the session, and the gate lets no backslash pass.
    doubled = text.replace("'", "''")
    return f"('{doubled}' COLLATE \"C\")"


POSTGRESQL = Dialect(
    quoted=_quoted,
    texts={
        "LOWER": "LOWER({})",
        "UPPER": "UPPER({})",
        "TRIM": f"BTRIM({{}}, '{SPACES}')",
        "CHAR_LENGTH": "CAST(CHAR_LENGTH({}) AS BIGINT)",
        "POSITION": "CAST(POSITION({} IN {}) AS BIGINT)",
        "SUBSTRING": "SUBSTRING({} FROM {} FOR {})",
        "CONCAT": "CONCAT({})",
    },
    parts={
        part: f"CAST(FLOOR(EXTRACT({name} FROM {{}})) AS BIGINT)"
        for part, name in {
            **{part: part for part in ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")},
            "MICROSECOND": "MICROSECONDS",
            "WEEKDAY": "DOW",
        }.items()
    },
    # Without TM the name is English, whatever the server's language.
    day_name="(TO_CHAR({}, 'FMDay') COLLATE \"C\")",
)

SPARK = Dialect(
    # No variable is put into texts (see the session), and the gate lets no backslash pass.
    quoted=lambda text: "'" + text.replace("'", "''") + "'",
    texts={
        "LOWER": "LOWER({})",
        "UPPER": "UPPER({})",
        "TRIM": f"BTRIM({{}}, '{SPACES}')",
        "CHAR_LENGTH": "CAST(CHAR_LENGTH({}) AS BIGINT)",
        "POSITION": "CAST(POSITION({} IN {}) AS BIGINT)",
        "SUBSTRING": "SUBSTRING({} FROM {} FOR {})",
        # Spark's CONCAT of a null is null, DuckDB's is not.
        "CONCAT": "CONCAT_WS('', {})",
    },
    parts={
        **{
            part: f"CAST(FLOOR(EXTRACT({part} FROM {{}})) AS BIGINT)"
            for part in ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")
        },
        "MICROSECOND": "CAST(EXTRACT(SECOND FROM {}) * 1000000 AS BIGINT)",
        "WEEKDAY": "CAST(EXTRACT(DAYOFWEEK FROM {}) - 1 AS BIGINT)",
    },
    day_name="DATE_FORMAT({}, 'EEEE')",
    double="CAST({} AS DOUBLE)",
    time="TIMESTAMP_NTZ '{}'",
)

DIALECTS: Mapping[Engine, Dialect] = {Engine.POSTGRESQL: POSTGRESQL, Engine.SPARK: SPARK}

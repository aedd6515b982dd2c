"""Rule 3, in SQL: one SELECT of a closed grammar, read from SmartNoise's syntax tree and written anew.

Enforced in `libraries/smartnoise_sql/gate.gate`; conditions on synthetic rows in `smartnoise_synth/condition.parsed`.
"""

from __future__ import annotations

import pytest

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.smartnoise_synth.condition import parsed
from lomas_gql.metadata import Metadata
from tests.libraries import test_smartnoise_sql as sql
from tests.libraries import test_smartnoise_synth as synth


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "mismatched"),
        ("SELECT * FROM df", "GROUP BY"),
        ("SELECT tag FROM df", "GROUP BY"),
        ("SELECT 1 FROM df", "no aggregate"),
        ("SELECT species FROM df GROUP BY species", "no aggregate"),
        ("SELECT MIN(age) FROM df", "MIN"),
        ("SELECT MAX(age) FROM df", "MAX"),
        ("SELECT COUNT(*) FROM df; SELECT COUNT(*) FROM df", "one SELECT"),
        ("SELECT COUNT(*) FROM df JOIN df", "joins"),
        ("SELECT COUNT(*) FROM df, df", "one table"),
        ("SELECT COUNT(*) FROM (SELECT * FROM df) AS x", "sub-queries"),
        ("SELECT COUNT(*) FROM df WHERE age > (SELECT COUNT(*) FROM df)", "sub-queries"),
        ("SELECT COUNT(*) FROM release", "one table df"),
        ("SELECT COUNT(*) FROM information_schema.tables", "one table df"),
        ("SELECT COUNT(*) FROM read_csv('/etc/passwd')", "mismatched"),
        ("SELECT COUNT(*) FROM df WHERE tag = '\\' OR 1=1 --'", "backslashes"),
        ("SELECT COUNT(*) FROM df WHERE tag = :x", "recognition"),
        ("SELECT COUNT(*) FROM df WHERE tag = ?", "recognition"),
        ("SELECT COUNT(*) FROM df WHERE RANDOM() < 0.5", "without arguments"),
        ("SELECT COUNT(*) FROM df WHERE seen < CURRENT_TIMESTAMP", "current time"),
        ("SELECT COUNT(*) FROM df WHERE CAST(tag AS INTEGER) > 1", "casts"),
        ("SELECT COUNT(*) FROM df WHERE missing = 1", "no column missing"),
        ("SELECT COUNT(*) FROM df WHERE COUNT(*) > 1", "aggregates stand"),
        ("SELECT COUNT(*) FROM df GROUP BY age + 1", "columns, not expressions"),
        ("SELECT SUM(age + 1) FROM df", "expressions"),
        ("SELECT SUM(*) FROM df", "needs a column"),
        ("SELECT DISTINCT COUNT(*) FROM df", "DISTINCT"),
        ("SELECT tag, COUNT(*) FROM df GROUP BY tag", "delta must be above 0"),
        ("SELECT " + "(" * 60 + "COUNT(*)" + ")" * 60 + " FROM df", "nest"),
        ("SELECT COUNT(*) FROM df WHERE " + " OR ".join(["age > 1"] * 2000), "characters"),
        ("SELECT COUNT(*) FROM df WHERE tag = '\x00'", "control"),
        ("SELECT ROW_NUMBER() OVER (ORDER BY age) FROM df", "ranking"),
    ],
)
def test_other_sql_is_refused_with_the_reason(penguin: Metadata, text: str, reason: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        sql.query(text).cost(penguin)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "1 = 1",
        "species",
        "species = 'Gentoo' UNION SELECT * FROM read_csv('/etc/passwd')",
        "species = (SELECT 1)",
        "species = 'Gentoo'; DROP TABLE df",
        "species = 'Gentoo' -- ",
        "getenv('HOME') = 'x'",
        "species < 'Gentoo'",
        "species = 3",
        "body_mass_g = 'x'",
        "body_mass_g = body_mass_g",
        "nobody = 1",
        "species IN ()",
        "seen = 'tomorrow'",
        "ok > FALSE",
        "species = 'it",
        "species = 'Gentoo' AND",
        "(" * 30 + "species = 'Gentoo'" + ")" * 30,
        "NOT " * 300 + "species = 'Gentoo'",
        "a" * 3_000,
    ],
)
def test_nothing_but_a_condition_is_a_condition(condition: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parsed(condition, [*synth.PENGUIN.columns, *synth.MIXED.columns])

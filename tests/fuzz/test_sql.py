"""The gate before SmartNoise SQL, and the library behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lomas_gql.libraries.smartnoise_sql.query import MechanismChoice, SmartnoiseSqlQuery, SqlMechanism, SqlStatistic
from tests.fuzz.asking import METADATA, asked
from tests.fuzz.mutation import fuzzed

CORPUS = [
    "SELECT COUNT(*) AS n FROM df",
    'SELECT species, AVG(bill_length_mm) AS m, VAR("year") AS v FROM df GROUP BY species ORDER BY m DESC LIMIT 2',
    'SELECT "island of birth", sex, SUM("year") FROM df WHERE "year" > 2007 AND sex IN (\'MALE\') GROUP BY "island of birth", sex',
    "SELECT note, COUNT(DISTINCT stage) AS k FROM df GROUP BY note HAVING k > 3",
    "SELECT SUM(body_mass_g) / COUNT(*) AS mean FROM df WHERE bill_length_mm BETWEEN 40 AND 50.5 OR ringed = TRUE",
    "SELECT STDDEV(bill_length_mm) AS s FROM df WHERE note = 'x' OR NOT (stage > 1)",
]
NAMES = [column.name for column in METADATA.columns]
quoted = st.sampled_from(
    [
        *(f'"{name}"' if " " in name or name == "year" else name for name in NAMES),
        "missing",
        "df.year",
        "c0",
        "answer0",
    ]
)
numbers = st.sampled_from(
    ["0", "1", "-1", "2.5", "1e308", "1e999", "9" * 30, "9" * 400, ".5", "5.", "-0.0", "0x10", "1_000"]
)
texts = st.sampled_from(["''", "'a'", "'it''s'", "'\u2028'", "'é'", "'%'", "'2008-01-01'", "N'a'", "'\ud800'"])
literals = numbers | texts | st.sampled_from(["NULL", "TRUE", "FALSE", ":x", "?", "$1", "@v"])


def _joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


FUNCTIONS = [
    *(
        "ABS",
        "SQRT",
        "EXP",
        "LN",
        "LOG",
        "CEILING",
        "FLOOR",
        "SIGN",
        "SIN",
        "ASIN",
        "TRUNC",
        "ROUND",
        "POWER",
        "RANDOM",
    ),
    *("UPPER", "LOWER", "TRIM", "CHAR_LENGTH", "CONCAT", "SUBSTRING", "POSITION", "MD5", "HASH", "getenv", "NEWID"),
    *("COALESCE", "IIF", "CHOOSE", "NULLIF", "PI", "DAYNAME", "MONTHNAME"),
]


def _scalar(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    function = st.sampled_from(FUNCTIONS)
    arguments = st.lists(inner, max_size=3).map(", ".join)
    operator = st.sampled_from([" + ", " - ", " * ", " / ", " % ", " || ", "+"])
    return st.one_of(
        _joined(function, "(", arguments, ")"),
        _joined(inner, operator, inner),
        _joined("(", inner, ")"),
        _joined("CASE WHEN ", inner, " > ", inner, " THEN ", inner, " ELSE ", inner, " END"),
        _joined("CASE ", inner, " WHEN ", inner, " THEN ", inner, " END"),
        _joined("CAST(", inner, " AS ", st.sampled_from(["INT", "VARCHAR", "BLOB"]), ")"),
        _joined("EXTRACT(", st.sampled_from(["YEAR", "DAY", "EPOCH"]), " FROM ", inner, ")"),
    )


scalars = st.recursive(quoted | literals, _scalar, max_leaves=4)
aggregate = st.sampled_from(["COUNT", "SUM", "AVG", "VAR", "VARIANCE", "STDDEV", "MIN", "MAX", "STDEV", "MEDIAN"])
aggregates = st.one_of(
    st.just("COUNT(*)"),
    _joined(aggregate, "(", st.sampled_from(["", "DISTINCT ", "ALL "]), quoted | scalars | st.just("*"), ")"),
)
selected = st.recursive(aggregates | quoted, _scalar, max_leaves=3)
comparison = st.one_of(
    _joined(scalars, st.sampled_from([" = ", " <> ", " != ", " < ", " >= ", " LIKE ", " == "]), scalars),
    _joined(scalars, st.sampled_from([" IS NULL", " IS NOT NULL", " IS TRUE"])),
    _joined(scalars, st.sampled_from([" IN (", " NOT IN ("]), st.lists(literals, max_size=3).map(", ".join), ")"),
    _joined(scalars, " BETWEEN ", scalars, " AND ", scalars),
)
predicates = st.recursive(
    comparison,
    lambda inner: st.one_of(
        _joined(inner, st.sampled_from([" AND ", " OR "]), inner), _joined("NOT ", inner), _joined("(", inner, ")")
    ),
    max_leaves=3,
)
alias = st.one_of(
    st.just(""), _joined(" AS ", st.sampled_from(["a", "n", '"a b"', "year", "select", "c1", "answer1", '""']))
)


@st.composite
def selects(draw: st.DrawFn) -> str:
    """A SELECT of the library's grammar, or just beside it."""

    def maybe(word: str, what: st.SearchStrategy[str]) -> str:
        return f" {word} {draw(what)}" if draw(st.integers(0, 2)) == 0 else ""

    listed = draw(st.lists(_joined(selected, alias), min_size=1, max_size=3).map(", ".join))
    grouped = maybe("GROUP BY", st.lists(quoted, min_size=1, max_size=3).map(", ".join))
    return (
        f"SELECT {draw(st.sampled_from(['', '', '', 'DISTINCT ', 'TOP 2 ']))}{listed}"
        f" FROM {draw(st.sampled_from(['df'] * 8 + ['df AS d', 'df, df', '(SELECT * FROM df) AS d', 'main.df', 'duckdb_settings()']))}"
        + maybe("WHERE", predicates)
        + grouped
        + maybe("HAVING", _joined(selected, " > ", numbers))
        + maybe("ORDER BY", _joined(selected, st.sampled_from(["", " ASC", " DESC"])))
        + maybe("LIMIT", numbers)
        + draw(st.sampled_from([""] * 6 + [";", "; SELECT 1", " -- x", " /* x */", " UNION SELECT 1"]))
    )


choices = st.none() | st.lists(
    st.builds(
        MechanismChoice, statistic=st.sampled_from(list(SqlStatistic)), mechanism=st.sampled_from(list(SqlMechanism))
    ),
    max_size=2,
)
DELTAS = st.sampled_from([0.0, 1e-18, 1e-6, 0.01, 0.1, -0.0, -1e-5, 1.0])
EPSILONS = st.sampled_from([1.0, 0.1, 1e-6, 100.0, 1e-320, 1e308, -1.0])


@fuzzed(50)
@given(sql=selects(), epsilon=st.just(1.0) | EPSILONS, delta=DELTAS, mechanisms=choices, postprocess=st.booleans())
def test_sql_of_the_grammar_is_refused_or_runs(
    sql: str, epsilon: float, delta: float, mechanisms: list[MechanismChoice] | None, postprocess: bool
) -> None:
    asked(SmartnoiseSqlQuery(sql=sql, epsilon=epsilon, delta=delta, mechanisms=mechanisms, postprocess=postprocess))


PIECES = [
    "(",
    ")",
    "'",
    '"',
    ";",
    "--",
    "/*",
    "\\",
    "\0",
    "\n",
    "::int",
    "*",
    ",",
    "NOT ",
    "CASE ",
    "\ud800",
    "\u00a0",
    "ÿ",
]
PIECES += ["(" * 60, "NOT " * 60, "df." * 30, "1e999", "`", "[", "#", "|", "\x7f", "\u2028", "x" * 9_000]


@fuzzed(50)
@given(data=st.data(), sql=st.sampled_from(CORPUS), delta=DELTAS)
def test_damaged_sql_is_refused_or_runs(data: st.DataObject, sql: str, delta: float) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(sql)))
        end = data.draw(st.integers(start, min(len(sql), start + 12)))
        other = data.draw(st.sampled_from(CORPUS))
        cut = data.draw(st.integers(0, len(other)))
        spliced = st.sampled_from(PIECES) | st.text(max_size=3) | st.just(other[cut : cut + 15])
        sql = sql[:start] + data.draw(spliced) + sql[end:]
    asked(SmartnoiseSqlQuery(sql=sql, epsilon=1.0, delta=delta))


def test_the_corpus_is_valid() -> None:
    for sql in CORPUS:
        assert asked(SmartnoiseSqlQuery(sql=sql, epsilon=1.0, delta=0.01)), sql

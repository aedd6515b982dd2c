"""SmartNoise SQL (https://docs.smartnoise.org/sql): noisy aggregates of one SELECT.

Where the noise of an answer comes from: DuckDB computes exact aggregates per group; the library's own
PrivateReader adds Laplace or Gaussian noise (OpenDP measurements) to every one of them, and only sums and
counts that carry noise enter the expressions, HAVING, ORDER BY and LIMIT of the answer. Group keys are either
public (every combination is answered) or pass the library's noisy threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from lomas_gql.errors import InvalidQuery, Overspent
from lomas_gql.libraries.base import (
    Answer,
    Library,
    Table,
    checked_cost,
    checked_delta,
    checked_epsilon,
    described,
    first_line,
    table_of,
)
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows, RowsInPlace
from lomas_gql.words import Engine, Word

if TYPE_CHECKING:
    from snsql.sql.private_reader import PrivateReader

_PATH = ("query", "smartnoiseSql")


class SqlStatistic(Word):
    """The kinds of statistic that a mechanism can be chosen for. AVG, VAR and STDDEV are made of counts and sums."""

    COUNT = "count", "Counts of rows or of cells that are not null."
    SUM_INT = "sum_int", "Sums of whole numbers to which one row adds at most 1000."
    SUM_LARGE_INT = "sum_large_int", "Sums of whole numbers to which one row may add more than 1000."
    SUM_FLOAT = "sum_float", "Sums of decimal numbers to which one row adds at most 1000."
    SUM_LARGE_FLOAT = "sum_large_float", "Sums of decimal numbers to which one row may add more than 1000."
    THRESHOLD = "threshold", "The count of individuals by which groups that are not public are hidden."


class SqlMechanism(Word):
    """The mechanisms that add noise."""

    LAPLACE = "laplace", "Laplace noise: pure, spends no delta. The default for decimal sums."
    GEOMETRIC = "geometric", "The older name of DISCRETE_LAPLACE."
    GAUSSIAN = "gaussian", "Gaussian noise: needs a delta above 0. Not for the large sums."
    DISCRETE_LAPLACE = (
        "discrete_laplace",
        "Laplace noise on whole numbers: pure. The default for counts and sums of them.",
    )


@dataclass(frozen=True, kw_only=True)
class MechanismChoice:
    """Which mechanism adds the noise of a kind of statistic, in place of the library's default."""

    statistic: SqlStatistic = described("The kind of statistic.")
    mechanism: SqlMechanism = described("The mechanism that adds its noise.")


@dataclass(frozen=True, kw_only=True)
class SmartnoiseSqlQuery:
    """One SELECT over the table df: COUNT, SUM, AVG, VAR or STDDEV, with WHERE, GROUP BY, HAVING, ORDER BY."""

    library: ClassVar[Library] = Library.SMARTNOISE_SQL

    sql: str = described("The SELECT, in SmartNoise's SQL. The table is named df.")
    epsilon: float = described(
        "The epsilon of each noisy count or sum, from 1e-6 to 100. AVG is made of two, VAR and STDDEV of three; "
        "`estimateCost` tells the whole."
    )
    delta: float = described(
        "The delta of the whole query, from 0 to 0.1: for hiding rare groups and for Gaussian noise; 0 where neither "
        "is used."
    )
    mechanisms: list[MechanismChoice] | None = described(
        "Mechanisms in place of the library's own choice, at most one for each kind.", None
    )
    postprocess: bool = described(
        "Whether the answer's expressions, HAVING, ORDER BY and LIMIT are applied to the noisy values; "
        "without it the noisy counts and sums themselves are answered.",
        True,
    )

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        return self._prepared(metadata).cost

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        return Answer(self.library, table=self._prepared(metadata).answer(rows))

    def run_in_place(self, rows: RowsInPlace, metadata: Metadata) -> Answer:
        return Answer(self.library, table=self._prepared(metadata).answer(rows))

    def _prepared(self, metadata: Metadata) -> _Prepared:
        choices = tuple((choice.statistic, choice.mechanism) for choice in self.mechanisms or ())
        return _prepared(self.sql, self.epsilon, self.delta, choices, self.postprocess, metadata)


_Choices = tuple[tuple[SqlStatistic, SqlMechanism], ...]


class _Prepared:
    """A query that passed the gate, with the library's reader for it."""

    def __init__(
        self, sql: str, epsilon: float, delta: float, choices: _Choices, postprocess: bool, metadata: Metadata
    ) -> None:
        from lomas_gql.libraries.smartnoise_sql.gate import gate

        checked_epsilon(epsilon, *_PATH, "epsilon")
        checked_delta(delta, *_PATH, "delta")
        self.postprocess = postprocess
        self.epsilon = epsilon
        self.gated = gate(sql, metadata)
        self.censors = bool(self.gated.grouping) and (metadata.censor_dims or self.gated.censors)
        if self.censors and not delta > 0:
            message = "delta must be above 0: which groups exist is private unless all keys are public categories"
            raise InvalidQuery.at(*_PATH, "delta", message=message)
        self.reader = _private_reader(epsilon, delta, choices, metadata, censors=self.censors)
        self.sql = str(self.gated.query)
        self.cost = self._checked(metadata)
        self.query = self.reader.parse_query_string(self.sql)

    def _checked(self, metadata: Metadata) -> PrivacyLoss:
        """What the library charges for it, once each column that leaves is known to carry noise."""
        from lomas_gql.libraries.smartnoise_sql.conditions import write_conditions
        from lomas_gql.libraries.smartnoise_sql.gate import refuse

        try:
            subquery, _ = self.reader._rewrite(self.sql)
            epsilon, delta = self.reader.get_privacy_cost(self.sql)
        except Exception as error:  # noqa: BLE001 (the library raises plain ValueErrors and more; no rows here)
            raise refuse(self.gated.told(first_line(error))) from None
        if metadata.engine is not Engine.DUCKDB:
            write_conditions(subquery, self.gated, metadata)
        mechanisms = [s.mechanism for s in subquery._select_symbols if not s.is_grouping_column]
        if not mechanisms:
            raise refuse("the query has no aggregate: use COUNT, SUM, AVG, VAR or STDDEV")
        if not all(m is not None and m.scale is not None and 0 < m.scale < math.inf for m in mechanisms):
            raise refuse("the query would answer a column without noise")
        basic = math.fsum(m.epsilon for m in mechanisms)
        advanced = epsilon < basic * (1 - 1e-9)
        gaussian = any(m.mechanism.name == "gaussian" for m in mechanisms)
        if advanced and gaussian and self.censors:
            # A Gaussian threshold adds delta/2, for which the odometer's slack pays under basic composition alone.
            raise refuse("so many columns with a Gaussian threshold cannot be accounted for; ask for fewer")
        # Laplace noise alone is pure DP: what the library's odometer adds to delta then is residue.
        delta = float(delta) if advanced or gaussian or self.censors else 0.0
        return checked_cost(PrivacyLoss.charged(float(epsilon), delta, per=None if advanced else self.epsilon))

    def answer(self, rows: Rows | RowsInPlace) -> Table:
        import numpy as np
        from snsql._ast.ast import TableColumn

        from lomas_gql.libraries.smartnoise_sql.reader import reader_of

        self.reader.reader = reader_of(rows, self.gated)
        self.reader.odometer.reset()
        # The root of a negative noisy variance is NaN, which the library makes 0: no warning is due.
        with np.errstate(all="ignore"):
            answer = list(self.reader._execute_ast(self.query, postprocess=self.postprocess))
        self._check_spent()
        subquery, query = self.reader._rewrite_ast(self.query)
        symbols = (query if self.postprocess else subquery)._select_symbols
        headings = self.gated.headings if self.postprocess else [self.gated.told(str(s.name)) for s in symbols]
        columns = [(name, _dtype(s.expression.type())) for name, s in zip(headings, symbols, strict=True)]
        released = answer[1:] if self.postprocess else answer
        keys = {i for i, s in enumerate(symbols) if isinstance(s.expression, TableColumn)}
        if any(cell is None for row in released for i, cell in enumerate(row) if i not in keys):
            raise ValueError("the library cannot evaluate a column of the answer")
        return table_of(columns, released)

    def _check_spent(self) -> None:
        """Compares what the library says it has spent with what was charged."""
        epsilon, _ = self.reader.odometer.spent
        if PrivacyLoss.charged(float(epsilon), per=self.epsilon).epsilon_units > self.cost.epsilon_units:
            raise Overspent(PrivacyLoss.charged(float(epsilon), self.cost.delta))


# Parsing and rewriting take the library longer than counting a million rows.
_prepared = lru_cache(maxsize=64)(_Prepared)


def _private_reader(
    epsilon: float, delta: float, choices: _Choices, metadata: Metadata, *, censors: bool
) -> PrivateReader:
    from snsql.metadata import Metadata as SmartnoiseMetadata
    from snsql.sql._mechanisms.base import Mechanism
    from snsql.sql.privacy import Privacy, Stat

    from lomas_gql.libraries.smartnoise_sql.reader import DuckDBReader, OneQueryReader, ScaledMechanisms

    if len({statistic for statistic, _ in choices}) < len(choices):
        raise InvalidQuery.at(*_PATH, "mechanisms", message="a statistic is named twice")
    privacy = Privacy(epsilon=epsilon, delta=delta, mechanisms=ScaledMechanisms())
    for statistic, mechanism in choices:
        privacy.mechanisms.map[Stat[statistic.value]] = Mechanism[mechanism.value]
    facts = metadata.smartnoise(censor_dims=censors, names=metadata.sql_names)
    tables = SmartnoiseMetadata.from_dict(facts)
    return OneQueryReader(DuckDBReader(), tables, privacy)


def _dtype(kind: str) -> str:
    return kind if kind in ("int", "float", "boolean", "datetime") else "string"

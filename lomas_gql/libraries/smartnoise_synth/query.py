"""SmartNoise Synth: synthetic rows from noised marginals.

Each synthesizer says in its own docstring what it reads, where its noise is and what is charged:
`marginals` (MST, AIM), `mwem`, `pac`. What holds for all:

snsynth's own `fit` is not called. What has to change stands in the middle of it (exact totals, domains read
off the rows, dice), so the mechanisms are written anew after it, on mbi, OpenDP and pacsynth.

* Neighbours differ by one row added or removed; datasets with max_ids > 1 are refused. n is private.
* Rows become codes by public metadata alone (`codes`), so nothing is fitted on them and no
  epsilon goes into preprocessing. A cell outside the categories is the code OTHER, which is never drawn.
* A model is conditional probabilities over codes (`model`). Drawing from it is free.
* Noise and private choices come from OpenDP and the operating system (`noise`).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from lomas_gql.errors import ConditionTooRare, InvalidQuery
from lomas_gql.libraries.base import Answer, Library, Table, described, table_of
from lomas_gql.libraries.smartnoise_synth.codes import Coding, codes_of
from lomas_gql.libraries.smartnoise_synth.condition import parsed
from lomas_gql.libraries.smartnoise_synth.model import Model, model_of
from lomas_gql.libraries.smartnoise_synth.plan import (
    MAX_SAMPLE_ROWS,
    Bins,
    Plan,
    Synthesizer,
    invalid,
    planned,
)
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows

_MOST_DRAWN = 500_000
"""How many rows a condition may look at before it counts as too rare."""
_BATCH = 50_000
_PROBES = 20_000


@dataclass(frozen=True, kw_only=True)
class SmartnoiseSynthQuery:
    """A synthesizer to fit once, and to sample from."""

    library: ClassVar[Library] = Library.SMARTNOISE_SYNTH

    synthesizer: Synthesizer = described("The synthesizer to fit.")
    epsilon: float = described("The epsilon of the whole fit, from 1e-6 to 100; sampling is free.")
    delta: float | None = described(
        "The delta of the whole fit, up to 0.1. Required by AIM, MST and PACSYNTH; MWEM spends none.", default=None
    )
    columns: list[str] | None = described("The columns to synthesize; all of them when left out.", default=None)
    nullable: bool = described(
        "Whether the synthetic columns may hold nulls; acts only on columns that the metadata call nullable.",
        default=True,
    )
    bins: list[Bins] | None = described(
        "Bins for numeric and datetime columns; 10 for a column that is left out.", default=None
    )
    params: Any = described(
        "The synthesizer's own parameters, by name; others are refused by name. AIM: degree, max_model_size, "
        "max_cells. MWEM: iterations, marginal_width, mult_weights_iterations. PACSYNTH: reporting_length.",
        default=None,
    )
    sample_rows: int = described(
        "How many rows to sample into the answer, exactly, from 0 to 10000; 0 keeps the model for sampling later.",
        default=100,
    )
    condition: str | None = described(
        "Keep only sampled rows for which this holds, e.g. \"species = 'Gentoo'\".", default=None
    )

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        """The declared epsilon and delta: each synthesizer spends at most those. Fits nothing.

        Raises:
            InvalidQuery: the query cannot be run, and why.
        """
        self._plan(metadata)
        return PrivacyLoss.charged(self.epsilon, self.delta or 0.0)

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        """Fits the synthesizer on `rows` and, with `sample_rows`, draws from it; without, the model is kept.

        Raises:
            InvalidQuery: as `cost`.
            ConditionTooRare: fitted, but the condition is met too rarely; the error keeps the model.
        """
        plan = self._plan(metadata)
        with _quiet():
            model = self._fitted(plan, rows.frame)
        kept = Answer(self.library, {"synthesizer": self.synthesizer.value}, model=model.to_bytes())
        if self.sample_rows == 0:
            return kept
        try:
            return Answer(self.library, kept.value, _sampled(model, self.sample_rows, self.condition))
        except ConditionTooRare as error:
            raise ConditionTooRare(error.found, error.wanted, _MOST_DRAWN, kept) from None

    def _plan(self, metadata: Metadata) -> Plan:
        if not 0 <= self.sample_rows <= MAX_SAMPLE_ROWS:
            raise invalid("sampleRows", f"sampleRows must lie between 0 and {MAX_SAMPLE_ROWS}")
        plan = planned(self.synthesizer, self.epsilon, self.delta, self.columns, self.bins, self.params, metadata)
        try:
            _check_condition(self.condition, plan.codings, self.nullable)
        except ValueError as error:
            raise invalid("condition", str(error)) from None
        return plan

    def _fitted(self, plan: Plan, frame: pl.DataFrame) -> Model:
        # Late: jax, pandas and pacsynth take seconds to import, and only workers need them.
        module = importlib.import_module(f"{__package__}.{plan.kind.module}")
        fit = getattr(module, self.synthesizer.value.lower())
        codes = codes_of(frame, plan.codings)
        tables = fit(codes, plan.sizes, self.epsilon, self.delta or 0.0, plan.params)
        return model_of(self.synthesizer.value, plan.codings, tables, self.nullable)


def sample(model: bytes, rows: int, condition: str | None, metadata: Metadata) -> Table:
    """`rows` new synthetic rows from a stored model. It spends nothing.

    Raises:
        InvalidQuery: too many rows, a condition that cannot be read, or metadata that changed since the fit.
        ConditionTooRare: too few synthetic rows meet the condition.
    """
    if not 1 <= rows <= MAX_SAMPLE_ROWS:
        raise InvalidQuery.at("rows", message=f"rows must lie between 1 and {MAX_SAMPLE_ROWS}")
    try:
        fitted = Model.from_bytes(model, metadata)
    except ValueError as error:
        raise InvalidQuery.at("sample", message=str(error)) from None
    try:
        _check_condition(condition, fitted.codings, True)
    except ValueError as error:
        raise InvalidQuery.at("condition", message=str(error)) from None
    return _sampled(fitted, rows, condition)


def _sampled(model: Model, rows: int, condition: str | None) -> Table:
    # Never the generator of a mechanism: its state can be wound back from what is drawn.
    generator = np.random.default_rng()
    parts: list[pl.DataFrame] = []
    found = drawn = 0
    while found < rows:
        if drawn >= _MOST_DRAWN:
            raise ConditionTooRare(found, rows, _MOST_DRAWN)
        batch = rows if condition is None else min(max(4 * rows, 1_000, drawn), _BATCH)
        codes = model.draw(batch, generator)
        parts.append(_met(_frame(codes, model.codings, generator), condition, model.codings))
        drawn += batch
        found += parts[-1].height
    columns = [(coding.column.name, coding.dtype) for coding in model.codings]
    return table_of(columns, pl.concat(parts).head(rows).rows())


def _frame(
    codes: np.ndarray[Any, np.dtype[np.int64]], codings: tuple[Coding, ...], generator: np.random.Generator
) -> pl.DataFrame:
    return pl.DataFrame([coding.decoded(codes[:, i], generator) for i, coding in enumerate(codings)])


def _met(frame: pl.DataFrame, condition: str | None, codings: tuple[Coding, ...]) -> pl.DataFrame:
    if condition is None:
        return frame
    return frame.filter(parsed(condition, [coding.column for coding in codings]))


def _check_condition(condition: str | None, codings: tuple[Coding, ...], nullable: bool) -> None:
    """Refuses a condition that cannot be read, or that no row within the metadata seems to meet.

    Raises:
        ValueError: with the reason. It is found on public random rows, the same each time.
    """
    if condition is None:
        return
    generator = np.random.default_rng(0)
    choices = [np.flatnonzero(coding.allowed(nullable)) for coding in codings]
    codes = np.stack([generator.choice(choice, _PROBES) for choice in choices], axis=1)
    if _met(_frame(codes, codings, generator), condition, codings).is_empty():
        raise ValueError(f"not one of {_PROBES} random rows within the metadata meets the condition")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that a library prints or warns of leaves: it may speak of the rows."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

"""OpenDP: measurements as the library writes them, and Polars plans of its Context queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lomas_gql.libraries.base import Answer, Library, checked_cost, checked_delta, checked_epsilon, described
from lomas_gql.libraries.opendp.text import refused
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows
from lomas_gql.words import Word

# opendp takes a second to import and switches features on for its whole process, so both walkers are
# imported where they are used: in worker processes.


class OpenDpNoise(Word):
    """The noise of a plan."""

    LAPLACE = "LAPLACE", "Laplace noise: pure differential privacy, delta 0 but for a threshold."
    GAUSSIAN = "GAUSSIAN", "Gaussian noise: zero-concentrated differential privacy, charged at `fixedDelta`."


@dataclass(frozen=True, kw_only=True)
class OpenDpQuery:
    """A query of OpenDP, as the library itself writes it. Give one of `measurement` and `polarsPlan`."""

    library: ClassVar[Library] = Library.OPENDP

    measurement: str | None = described(
        "The text that `opendp.prelude.serialize(measurement)` writes. Its own scales say what it costs.", None
    )
    polars_plan: str | None = described(
        'The text that `query.polars_plan.serialize(format="json")` writes for an OpenDP Context query. Its rows '
        "are dropped; the server brings rows, bounds, margins and keys.",
        None,
    )
    column: str | None = described(
        "For a measurement over one vector: the column that it reads (int reads as float, anything as text; "
        "other mismatches are refused; a null reads as NaN or as empty text). Without it the measurement reads "
        "the rows as CSV text: metadata's column order, no header, separators and line breaks inside cells "
        "replaced, the private_id's cells empty.",
        None,
    )
    fixed_delta: float | None = described(
        "For zero-concentrated DP and for privacy profiles: the delta, from 1e-18 to 0.1, at which epsilon is "
        "charged. Required there.",
        None,
    )
    epsilon: float | None = described(
        "For a plan whose noise has no scale of its own, which is what a Context query serialises to: the "
        "epsilon to spend on the plan as a whole, from 1e-6 to 100; the server finds the one global scale. Required "
        "there, and left out where every "
        "noise has its own scale.",
        None,
    )
    noise: OpenDpNoise = described("For a plan: LAPLACE (pure) or GAUSSIAN (needs fixedDelta).", OpenDpNoise.LAPLACE)
    delta: float | None = described(
        "For a plan whose group keys have no public categories: the delta, from 1e-18 to 0.1, of the threshold that "
        "hides small groups. Required there.",
        None,
    )

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        """What a run on private rows would cost: for a plan without scales its declared epsilon.

        Raises:
            InvalidQuery: the query is not one that this server runs, and why.
        """
        return self._prepared(metadata)[1]

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        """Releases the measurement's value, or the plan's table, of `rows`."""
        release, _ = self._prepared(metadata)
        return release(rows)

    def _prepared(self, metadata: Metadata) -> tuple[Callable[[Rows], Answer], PrivacyLoss]:
        if (self.measurement is None) == (self.polars_plan is None):
            raise refused("measurement", "give one of measurement and polarsPlan")
        for name, value in (("fixedDelta", self.fixed_delta), ("delta", self.delta)):
            if value is not None and not checked_delta(value, "query", "opendp", name):
                raise refused(name, f"{name} must be above 0 where it is given")
        prepare = self._prepared_plan if self.measurement is None else self._prepared_measurement
        release, cost = prepare(metadata)
        return release, checked_cost(cost)

    def _prepared_measurement(self, metadata: Metadata) -> tuple[Callable[[Rows], Answer], PrivacyLoss]:
        from lomas_gql.libraries.opendp import measurement as form

        self._refuse_unused("a measurement has noise of its own", epsilon=self.epsilon, delta=self.delta)
        if self.noise is not OpenDpNoise.LAPLACE:
            raise refused("noise", "it is unused: a measurement has noise of its own")
        assert self.measurement is not None
        measurement = form.built(self.measurement)
        form.check_input(measurement, metadata, self.column)
        measurement = form.converted(measurement, self.fixed_delta)
        epsilon, delta = form.loss(measurement, metadata.max_ids)

        def release(rows: Rows) -> Answer:
            return Answer(Library.OPENDP, value=form.released(measurement, rows, self.column))

        return release, _charged("measurement", epsilon, delta)

    def _prepared_plan(self, metadata: Metadata) -> tuple[Callable[[Rows], Answer], PrivacyLoss]:
        from lomas_gql.libraries.opendp import plan as plans
        from lomas_gql.libraries.opendp import release as releases

        self._refuse_unused("a plan names its columns", column=self.column)
        assert self.polars_plan is not None
        plan = plans.read(self.polars_plan, metadata)
        self._check_noise(plan.scales)
        self._check_deltas(hides_groups=bool(plan.grouping.by) and plan.grouping.keys is None)
        measurement, (epsilon, _) = releases.priced(
            plan, metadata, epsilon=self.epsilon, fixed_delta=self.fixed_delta, delta=self.delta
        )

        def release(rows: Rows) -> Answer:
            return Answer(Library.OPENDP, table=releases.collected(plan, measurement, rows))

        # The scale was searched for, so the library's figure is at most the declared epsilon, which is spent.
        charged = epsilon if self.epsilon is None else max(epsilon, self.epsilon)
        return release, _charged("polarsPlan", charged, (self.fixed_delta or 0.0) + (self.delta or 0.0))

    def _check_noise(self, scales: Sequence[float | None]) -> None:
        """Either every noise of a plan has its own scale, or none has and one global scale is found."""
        if not scales:
            raise refused("polarsPlan", "it adds no noise: use dp.len, dp.sum, dp.mean … of an OpenDP context")
        if None not in scales:
            self._refuse_unused("every noise of the plan has a scale of its own", epsilon=self.epsilon)
            return
        if any(scale is not None for scale in scales):
            raise refused("polarsPlan", "give each noise a scale, or none: one epsilon cannot be split with scales")
        if self.epsilon is None:
            raise refused("epsilon", "it is required: the noise of the plan has no scale of its own")
        checked_epsilon(self.epsilon, "query", "opendp", "epsilon")

    def _check_deltas(self, *, hides_groups: bool) -> None:
        if self.noise is OpenDpNoise.GAUSSIAN and self.fixed_delta is None:
            raise refused("fixedDelta", "it is required for GAUSSIAN noise: epsilon is charged at this delta")
        if self.noise is OpenDpNoise.LAPLACE:
            self._refuse_unused("LAPLACE noise is pure", fixedDelta=self.fixed_delta)
        if not hides_groups:
            self._refuse_unused("no group key is without public categories", delta=self.delta)
        elif self.delta is None:
            raise refused("delta", "it is required: a group key without public categories needs a threshold")

    def _refuse_unused(self, why: str, **fields: object) -> None:
        for name, value in fields.items():
            if value is not None:
                raise refused(name, f"{name} is unused: {why}")


def _charged(field: str, epsilon: float, delta: float) -> PrivacyLoss:
    try:
        return PrivacyLoss.charged(epsilon, delta)
    except (ValueError, ArithmeticError):
        raise refused(field, "its privacy loss is not finite, or more than any budget holds") from None

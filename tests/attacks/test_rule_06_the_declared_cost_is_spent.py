"""Rule 6: what was declared is what is spent. Where a library's own figure is larger, that is charged, and no answer leaves.

Enforced for each library where its own account is at hand: `smartnoise_sql/query._check_spent`,
`diffprivlib/models.answer`, `smartnoise_synth/noise.Spending`; OpenDP's map is the charge itself. What they
raise is charged in `services/running._settled`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import opendp.prelude as dp
import pytest

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.errors import (
    LibraryFailed,
    Overspent,
)
from lomas_gql.libraries.diffprivlib.estimators import SPECS, Role
from lomas_gql.libraries.diffprivlib.plan import planned
from lomas_gql.libraries.diffprivlib.query import Imputation, PipelineStep
from lomas_gql.libraries.smartnoise_sql.query import (
    _Prepared,
)
from lomas_gql.libraries.smartnoise_synth.query import (
    Synthesizer,
)
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows
from lomas_gql.services import releases
from lomas_gql.services.runtime import Runtime
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_smartnoise_synth as synth
from tests.services import test_releases as running


async def test_a_run_that_spends_more_than_declared_is_charged_more_and_withheld(runtime: Runtime) -> None:
    with pytest.raises(LibraryFailed) as caught:
        await releases.execute(runtime, running.VIEWER, running.asked(running.Fake(private="overspend")), None)
    assert caught.value.cost.epsilon_text == await running.spent(runtime) == "0.75"


def test_a_library_that_has_spent_more_answers_nothing(penguin: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    from snsql.sql.odometer import OdometerHeterogeneous

    rows = dummy_rows(penguin, 10, 1)
    monkeypatch.setattr(
        OdometerHeterogeneous, "spend", lambda self, privacy: self.steps.append((privacy.epsilon * 2, 0))
    )
    prepared = _Prepared("SELECT COUNT(*) AS n FROM df", 1.0, 0.0, (), True, penguin)
    object.__setattr__(prepared, "cost", PrivacyLoss.charged(1.0))
    with pytest.raises(Overspent) as caught:
        prepared.answer(rows)
    assert caught.value.spent.epsilon == 2


@pytest.mark.parametrize("imputation", list(Imputation))
@pytest.mark.parametrize(
    "steps",
    [[models.step(estimator, 0.3)] for estimator in models.Est]
    + [
        [
            models.step(models.Est.STANDARD_SCALER, 0.1),
            models.step(models.Est.PCA, 0.2, n_components=2),
            models.step(models.Est.LOGISTIC_REGRESSION, 0.3),
        ]
    ],
    ids=lambda steps: steps[-1].estimator.value + str(len(steps)),
)
def test_the_accountant_agrees_with_the_cost(
    steps: list[PipelineStep], imputation: Imputation, bird: Metadata, birds: Rows
) -> None:
    from diffprivlib import BudgetAccountant

    from lomas_gql.libraries.diffprivlib.models import fitted

    scored = SPECS[steps[-1].estimator].role in (Role.CLASSIFIER, Role.REGRESSOR)
    asked = models.query(*steps, imputation=imputation, imputation_epsilon=0.1, score_epsilon=0.2 if scored else None)
    accountant = BudgetAccountant()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as `answer` does: the library calls SciPy in a deprecated way
        fitted(asked, planned(asked, bird), birds.frame, accountant)
    assert accountant.total()[0] == pytest.approx(asked.cost(bird).epsilon, rel=1e-12)
    assert accountant.total()[1] == 0


def test_a_library_that_spends_more_than_declared_gives_no_answer(
    bird: Metadata, birds: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lomas_gql.libraries.diffprivlib import models as diffprivlib_models

    honest = diffprivlib_models._FITS[models.Est.K_MEANS]

    def greedy(training: Any, epsilon: float, params: Any, accountant: Any) -> Any:
        return honest(training, epsilon * 1.001, params, accountant)

    monkeypatch.setitem(diffprivlib_models._FITS, models.Est.K_MEANS, greedy)  # type: ignore[arg-type]
    with pytest.raises(Overspent):
        models.query(models.step(models.Est.K_MEANS)).run(birds, bird)


@pytest.mark.parametrize("synthesizer", [Synthesizer.MST, Synthesizer.AIM, Synthesizer.MWEM])
def test_what_is_spent_is_what_was_declared(
    synthesizer: Synthesizer, penguins: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lomas_gql.libraries.smartnoise_synth import noise as noise

    accounts = []
    begin = noise.Spending.__init__

    def opened(self: Any, budget: float) -> None:
        begin(self, budget)
        accounts.append(self)

    monkeypatch.setattr(noise.Spending, "__init__", opened)
    attempt = synth.query(synthesizer, epsilon=1.0, columns=["species", "island", "sex"], sample_rows=0)
    attempt.run(penguins, synth.PENGUIN)
    (account,) = accounts
    assert 0.999 * account.budget < account.spent <= account.budget * (1 + 1e-9)
    if synthesizer is Synthesizer.MWEM:
        assert account.spent <= 1.0
        return
    # OpenDP's own figure for the whole: one Gaussian of the rho that was spent.
    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)
    whole = dp.m.make_gaussian(*space, math.sqrt(1 / (2 * account.spent)))
    whole = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(whole), delta=1e-5)
    assert whole.map(1.0)[0] <= 1.0

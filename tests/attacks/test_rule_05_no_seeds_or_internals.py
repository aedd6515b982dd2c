"""Rule 5: no seed, accountant or internal comes from a client, and nothing that other code sets changes a meaning.

Enforced in the libraries' allowlists: `diffprivlib/params.checked_params`, `smartnoise_synth/plan._params`,
`opendp/constructors.ALLOWED`. SmartNoise SQL takes no parameters but its input's fields.
"""

from __future__ import annotations

import opendp.prelude as dp
import pytest

from lomas_gql.libraries.smartnoise_synth.query import (
    Synthesizer,
)
from lomas_gql.metadata import Metadata
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_opendp_measurement as measurements
from tests.libraries import test_smartnoise_synth as synth

PARAMS = {
    "random_state": "random_state",
    "accountant": "accountant",
    "warm_start": "warm_start",
    "n_jobs": "n_jobs",
    "verbose": "verbose",
    "nonsense": "nonsense",
}


@pytest.mark.parametrize("estimator", list(models.Est))
@pytest.mark.parametrize("name", PARAMS)
def test_parameters_off_the_list_are_refused_by_name(estimator: models.Est, name: str, bird: Metadata) -> None:
    [(path, message)] = models.refusal(models.query(models.step(estimator, 1.0, **{name: 1})), bird)
    assert path == f"steps.0.params.{name}"
    assert message.startswith(f"{name} cannot be set")


@pytest.mark.parametrize("synthesizer", synth.GANS)
def test_gans_are_refused_by_name_with_the_reason(synthesizer: Synthesizer) -> None:
    field, message = synth.issue(synth.query(synthesizer))
    assert field == "synthesizer"
    assert message.startswith(f"{synthesizer.value} is not offered: it")


@pytest.mark.parametrize("name", ["rounds", "num_marginals", "random_state", "epochs", "delta", "verbose"])
@pytest.mark.parametrize("synthesizer", synth.ALLOWED)
def test_internals_are_refused_by_name(synthesizer: Synthesizer, name: str) -> None:
    attempt = synth.query(synthesizer, columns=["species", "sex", "island"], params={name: 1})
    field, message = synth.issue(attempt)
    assert field == "params"
    assert name in message


def test_defaults_that_other_code_sets_change_nothing() -> None:
    counting = measurements.query(measurements.counted(4.0), column="species")
    integers = (
        measurements.over(T="i32") >> dp.t.then_clamp((2007, 2009)) >> dp.t.then_sum() >> dp.m.then_laplace(2009.0)
    )
    summing = measurements.query(integers, column="year")
    dp.set_default_int_type("i64")
    try:
        assert counting.cost(measurements.PENGUINS).epsilon == 0.5
        assert abs(counting.run(measurements.ROWS, measurements.PENGUINS).value - 200) < 200
        assert summing.cost(measurements.PENGUINS).epsilon == 2
        assert summing.run(measurements.ROWS, measurements.PENGUINS).value == pytest.approx(200 * 2008, rel=0.5)
    finally:
        dp.set_default_int_type("i32")


def test_types_whose_meaning_depends_on_defaults_are_refused() -> None:
    stock = dp.serialize(measurements.counted())
    assert measurements.refusal(stock.replace('"TO": "i32"', '"TO": "int"'), column="species")
    assert measurements.refusal(stock.replace('"TO": "i32"', '"TO": null'), column="species")
    assert measurements.refusal(stock.replace('"TO": "i32"', '"TO": "i32<' + "(" * 5000 + '"'), column="species")

"""Rule 7: nothing leaves without noise: no score, label, count, attribute or rare value, on neighbours compared.

Enforced by what each library's answer is built from: an allowlist of parameters (`diffprivlib/models._fit`),
conditional probabilities (`smartnoise_synth/model`), a finite scale for each column (`smartnoise_sql/query._checked`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import palmerpenguins
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.typing import fit
from lomas_gql.libraries.diffprivlib.estimators import SPECS, Role
from lomas_gql.libraries.diffprivlib.plan import planned
from lomas_gql.libraries.smartnoise_synth.query import (
    Synthesizer,
    sample,
)
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_smartnoise_synth as synth


@pytest.mark.parametrize("estimator", list(models.Est))
def test_no_attribute_of_rows_leaves_without_noise(estimator: models.Est, mixed: Metadata) -> None:
    # Without nulls and a test side every fit reads the same rows: what differs is noise, or random splits.
    target = {Role.CLASSIFIER: ["label"], Role.REGRESSOR: ["whole"]}.get(SPECS[estimator].role)
    asked = models.query(
        models.step(estimator, 0.5), feature_columns=["x", "z"], target_columns=target, test_size=0.0
    )
    rows = dummy_rows(mixed, 300, 3)
    first, *others = (asked.run(rows, mixed).value["steps"][0]["parameters"] for _ in range(4))
    same = {name for name in SPECS[estimator].released if all(answer[name] == first[name] for answer in others)}
    # What is rounded or cut off at 0 may come out alike a few times.
    for _ in range(40):
        if same <= {"classes_"}:
            break
        again = asked.run(rows, mixed).value["steps"][0]["parameters"]
        same -= {name for name in same if again.get(name) != first[name]}
    assert same <= {"classes_"}


PLANTED = {
    "rare label": {"species": "Macaroni", "bill_length_mm": 41.23456789},
    "extreme value": {"bill_length_mm": 64.98765432, "flipper_length_mm": 1e300},
    "null": {"bill_length_mm": None, "bill_depth_mm": 21.23456789},
    "not a number": {"bill_length_mm": math.nan},
    "unseen category": {"island": "Atlantis", "bill_length_mm": 33.45678912},
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_row_shows_in_no_answer(
    planted: dict[str, Any], raw_penguins: pl.DataFrame, bird: Metadata
) -> None:
    head, tail = raw_penguins.slice(0, 7), raw_penguins.slice(8)
    changed = raw_penguins.slice(7, 1).with_columns(
        pl.lit(cell, dtype=raw_penguins.schema[name]).alias(name) for name, cell in planted.items()
    )
    neighbour = Rows(fit(pl.concat([head, changed, tail]).lazy(), bird, 1).collect(), bird)
    for estimator in models.Est:
        scored = 1.0 if SPECS[estimator].role in (Role.CLASSIFIER, Role.REGRESSOR) else None
        value = models.query(models.step(estimator, 1.0), score_epsilon=scored).run(neighbour, bird).value
        text = json.dumps(value)
        for cell in planted.values():
            shown = f"{cell:.8g}" if isinstance(cell, float) else str(cell)
            assert cell is None or shown not in text
        if "classes_" in value["steps"][0]["parameters"]:
            classes = value["steps"][0]["parameters"]["classes_"]
            assert classes == ["Adelie", "Chinstrap", "Gentoo", "OTHER"]


@pytest.mark.parametrize("estimator", list(models.Est))
def test_a_small_epsilon_tells_nothing_even_of_all_rows(estimator: models.Est, mixed: Metadata) -> None:
    """Twenty rows, all in one corner or all in the other: at epsilon 0.01 no attribute tells which."""
    base = dummy_rows(mixed, 20, 1).frame
    corners = [
        base.with_columns(x=pl.lit(x), z=pl.lit(z), label=pl.lit(label))
        for x, z, label in ((-3.0, 100.0, "a"), (10.0, 200.0, "b"))
    ]
    role = SPECS[estimator].role
    target = {Role.CLASSIFIER: ["label"], Role.REGRESSOR: ["z"]}.get(role)
    small = {"max_depth": 1} if "max_depth" in SPECS[estimator].parameters else {}
    asked = models.query(
        models.step(estimator, 0.01, **small), feature_columns=["x"], target_columns=target, test_size=0
    )
    runs = [
        [asked.run(Rows(frame, mixed), mixed).value["steps"][0]["parameters"] for _ in range(40)] for frame in corners
    ]
    for name in SPECS[estimator].released:
        if name != "classes_":
            for place in range(len(list(flat(runs[0][0][name])))):
                one, other = (np.array([list(flat(run[name]))[place] for run in side]) for side in runs)
                higher = (one[:, None] > other).mean() + (one[:, None] == other).mean() / 2
                assert 0.15 < higher < 0.85, (name, place)


def flat(value: Any) -> Iterator[float]:
    """All numbers within, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield float(value)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(5, 60),
    split=st.integers(-5, 5),
    test_size=st.sampled_from([0, 0.2, 0.5, 0.9]),
    size=st.integers(1, 60),
    estimator=st.sampled_from([models.Est.GAUSSIAN_NB, models.Est.LINEAR_REGRESSION, models.Est.PCA]),
)
def test_neighbouring_rows_give_neighbouring_training_sets_of_one_size(
    seed: int, rows: int, split: int, test_size: float, size: int, estimator: models.Est
) -> None:
    from diffprivlib import BudgetAccountant

    from lomas_gql.libraries.diffprivlib import rows as diffprivlib_rows

    metadata = Metadata.parse(models.PENGUIN)
    asked = models.query(models.step(estimator), split_seed=split, test_size=test_size)
    frame = dummy_rows(metadata, rows, seed).frame
    other = pl.concat([frame[:2], dummy_rows(metadata, 1, seed + 1).frame, frame[3:]])
    sets = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(diffprivlib_rows, "_noisy_count", lambda *_: size)
        for one in (frame, other):
            got = diffprivlib_rows.sides(asked, planned(asked, metadata), one, BudgetAccountant())
            sets.append([tuple(row) for row in np.column_stack([got.x, got.y]).tolist()])
    assert len(sets[0]) == len(sets[1])
    left = list(sets[1])
    for row in sets[0]:
        if row in left:
            left.remove(row)
    assert len(left) <= 1


PLANTED = {
    "species": "Zorgonian",
    "island": "Atlantis-7",
    "bill_length_mm": float("nan"),
    "bill_depth_mm": 1e300,
    "flipper_length_mm": 8_675_309,
    "body_mass_g": -31_337.25,
    "sex": "zz-secret",
}


@pytest.mark.parametrize("synthesizer", synth.ALLOWED)
def test_a_planted_row_shows_nowhere(synthesizer: Synthesizer) -> None:
    path = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
    frame = pl.read_csv(path, null_values="NA").select(*PLANTED).cast(pl.String)
    row = pl.DataFrame({name: str(value) for name, value in PLANTED.items()})
    names = ["species", "sex"] if synthesizer is Synthesizer.AIM else ["species", "sex", "flipper_length_mm"]
    attempt = synth.query(synthesizer, columns=names, sample_rows=0)
    answers = [
        attempt.run(synth.prepared(rows, synth.PENGUIN), synth.PENGUIN) for rows in (frame, pl.concat([frame, row]))
    ]
    assert attempt.cost(synth.PENGUIN) == PrivacyLoss.charged(5.0, attempt.delta or 0.0)
    for answer in answers:
        assert answer.model is not None
        head, arrays = synth.contents(answer.model)
        drawn = sample(answer.model, 200, None, synth.PENGUIN)
        assert len(drawn.rows) == 200
        shown = json.dumps(answer.to_json()) + json.dumps(head) + json.dumps(drawn.rows)
        assert not any(str(value) in shown for value in PLANTED.values())
        assert "OTHER" not in shown
        # Probabilities, from which no count can be read, and the same shapes whatever the rows hold.
        assert all(((array >= 0) & (array <= 1)).all() for array in arrays)
        assert set(head) == {"synthesizer", "columns", "tables", "metadata"}


def test_a_synthesizer_at_a_tiny_epsilon_tells_nothing_even_of_all_rows() -> None:
    """Twenty rows, all in the north or all in the south: at epsilon 0.01 no model tells which."""
    asked = synth.query(Synthesizer.MWEM, epsilon=0.01, columns=["place"], sample_rows=0)
    shares = []
    for place in ("north", "south"):
        frame = dummy_rows(synth.MIXED, 20, 1).frame.with_columns(place=pl.lit(place))
        fitted = [asked.run(Rows(frame, synth.MIXED), synth.MIXED).model for _ in range(30)]
        shares.append(np.array([synth.contents(model or b"")[1][0].ravel()[0] for model in fitted]))
    higher = (shares[0][:, None] > shares[1]).mean() + (shares[0][:, None] == shares[1]).mean() / 2
    assert 0.15 < higher < 0.85

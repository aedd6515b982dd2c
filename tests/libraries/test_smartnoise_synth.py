"""SmartNoise Synth: useful rows, refusals by name, and no way to see one row."""

from __future__ import annotations

import io
import json
import math
import pickle
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import palmerpenguins
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lomas_gql.datasets.dummy import dummy_rows
from lomas_gql.datasets.typing import fit
from lomas_gql.errors import ConditionTooRare, InvalidQuery
from lomas_gql.libraries.base import DPQuery, Table
from lomas_gql.libraries.smartnoise_synth import query as synth
from lomas_gql.libraries.smartnoise_synth.codes import coding
from lomas_gql.libraries.smartnoise_synth.condition import parsed
from lomas_gql.libraries.smartnoise_synth.padding import padding
from lomas_gql.libraries.smartnoise_synth.query import (
    Bins,
    SmartnoiseSynthQuery,
    Synthesizer,
    sample,
)
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows

ALLOWED = [Synthesizer.MWEM, Synthesizer.MST, Synthesizer.PACSYNTH, Synthesizer.AIM]
GANS = [Synthesizer.DPCTGAN, Synthesizer.DPGAN, Synthesizer.PATECTGAN, Synthesizer.PATEGAN]

PENGUIN = Metadata.parse(
    {
        "max_ids": 1,
        "rows": 344,
        "row_privacy": True,
        "columns": {
            "species": {"type": "string", "categories": ["Adelie", "Chinstrap", "Gentoo"]},
            "island": {"type": "string", "categories": ["Torgersen", "Biscoe", "Dream"]},
            "bill_length_mm": {"type": "float", "lower": 30.0, "upper": 65.0, "nullable": True},
            "bill_depth_mm": {"type": "float", "lower": 13.0, "upper": 23.0, "nullable": True},
            "flipper_length_mm": {"type": "int", "lower": 150, "upper": 250},
            "body_mass_g": {"type": "float", "lower": 2000.0, "upper": 7000.0},
            "sex": {"type": "string", "categories": ["male", "female"], "nullable": True},
        },
    }
)

MIXED = Metadata.parse(
    {
        "max_ids": 1,
        "rows": 60,
        "columns": {
            "seen": {"type": "datetime", "lower": "2020-01-01", "upper": "2021-01-01", "nullable": True},
            "score": {"type": "float", "lower": -1.0, "upper": 1.0},
            "grade": {"type": "int", "categories": [1, 2, 5]},
            "ok": {"type": "boolean", "nullable": True},
            "place": {"type": "string", "categories": ["north", "south"]},
            "note": {"type": "string"},
        },
    }
)
MIXED_COLUMNS = ["seen", "score", "grade", "ok", "place"]


def query(synthesizer: Synthesizer, **more: Any) -> SmartnoiseSynthQuery:
    delta = None if synthesizer is Synthesizer.MWEM else 1e-5
    return SmartnoiseSynthQuery(**{"synthesizer": synthesizer, "epsilon": 5.0, "delta": delta} | more)


def prepared(frame: pl.DataFrame, metadata: Metadata) -> Rows:
    return Rows(fit(frame.lazy(), metadata, 1).collect(), metadata)


@pytest.fixture(scope="module")
def penguins() -> Rows:
    path = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
    return prepared(pl.read_csv(path, null_values="NA"), PENGUIN)


def cells(table: Table | None, name: str) -> list[Any]:
    assert table is not None
    at = [column.name for column in table.columns].index(name)
    return [row[at] for row in table.rows]


def issue(attempt: SmartnoiseSynthQuery, metadata: Metadata = PENGUIN) -> tuple[str, str]:
    with pytest.raises(InvalidQuery) as caught:
        attempt.cost(metadata)
    (only,) = caught.value.issues
    assert only.path[:2] == ("query", "smartnoiseSynth")
    return only.path[2], only.message


def contents(model: bytes) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
    with np.load(io.BytesIO(model), allow_pickle=False) as stored:
        head = json.loads(stored["head"].tobytes())
        return head, [stored[name] for name in stored.files if name != "head"]


# ---- useful rows


def test_mst_marginals_are_within_a_few_percent_of_the_truth(penguins: Rows) -> None:
    answer = query(Synthesizer.MST, epsilon=10.0, sample_rows=10_000).run(penguins, PENGUIN)
    for name in ("species", "island"):
        truth = {key: n / 344 for key, n in penguins.frame[name].value_counts().iter_rows()}
        drawn = cells(answer.table, name)
        assert set(drawn) == set(truth)
        for category, share in truth.items():
            assert abs(drawn.count(category) / 10_000 - share) < 0.05
    mean = np.mean(cells(answer.table, "body_mass_g"))
    assert abs(mean - penguins.frame["body_mass_g"].mean()) < 150
    flippers = dict.fromkeys(["Adelie", "Gentoo"], 0.0)
    for species in flippers:
        pairs = zip(cells(answer.table, "species"), cells(answer.table, "flipper_length_mm"), strict=True)
        flippers[species] = float(np.mean([length for kind, length in pairs if kind == species]))
    assert flippers["Gentoo"] - flippers["Adelie"] > 15  # 27 in truth: columns keep hanging together


@pytest.mark.parametrize("synthesizer", ALLOWED)
def test_each_synthesizer_runs_and_is_sampled_again(synthesizer: Synthesizer, penguins: Rows) -> None:
    # AIM compiles anew in each of its rounds, four for a column.
    names = ["species", "sex"] if synthesizer is Synthesizer.AIM else ["species", "sex", "flipper_length_mm"]
    attempt = query(synthesizer, epsilon=20.0, columns=names, sample_rows=0)
    assert isinstance(attempt, DPQuery)
    assert attempt.cost(PENGUIN) == PrivacyLoss.charged(20.0, attempt.delta or 0.0)
    answer = attempt.run(penguins, PENGUIN)
    assert answer.value == {"synthesizer": synthesizer.value}
    assert answer.table is None
    assert answer.model is not None
    assert "model" not in answer.to_json()
    first, second = (sample(answer.model, 2_000, None, PENGUIN) for _ in range(2))
    assert first.rows != second.rows
    assert [column.dtype for column in first.columns] == ["string", "string", "int"][: len(names)]
    assert abs(cells(first, "species").count("Gentoo") / 2_000 - 0.36) < 0.15
    gentoo = sample(answer.model, 500, "species = 'Gentoo' AND sex IS NOT NULL", PENGUIN)
    assert len(gentoo.rows) == 500
    assert set(cells(gentoo, "species")) == {"Gentoo"}
    assert None not in cells(gentoo, "sex")


@pytest.mark.parametrize("nullable", [True, False])
def test_rows_have_the_types_bounds_and_categories_of_the_metadata(nullable: bool) -> None:
    rows = dummy_rows(MIXED, 200, 3)
    attempt = query(Synthesizer.MWEM, epsilon=90.0, columns=MIXED_COLUMNS, sample_rows=2_000, nullable=nullable)
    table = attempt.run(rows, MIXED).table
    assert table is not None
    assert [(c.name, c.dtype) for c in table.columns] == [
        ("seen", "datetime"),
        ("score", "float"),
        ("grade", "int"),
        ("ok", "boolean"),
        ("place", "string"),
    ]
    assert len(table.rows) == 2_000
    seen = [datetime.fromisoformat(cell) for cell in cells(table, "seen") if cell is not None]
    assert all(time.year in (2020, 2021) for time in seen)
    assert all(-1 <= cell <= 1 for cell in cells(table, "score"))
    assert set(cells(table, "grade")) == {1, 2, 5}  # never the null of a cell outside the list
    assert set(cells(table, "place")) == {"north", "south"}  # never OTHER
    assert (None in cells(table, "ok")) is nullable
    json.dumps(table.rows, allow_nan=False)


def test_codes_and_cells_are_inverse() -> None:
    generator = np.random.default_rng(0)
    for column in (*PENGUIN.columns, *MIXED.columns[:5]):
        code = coding(column, 7)
        codes = np.arange(code.size).repeat(200)
        back = pl.DataFrame([code.decoded(codes, generator)]).select(code.encoded()).to_series().to_numpy()
        # A time is cut to whole seconds, which may fall below its bin's edge.
        assert (abs(back - codes) <= (code.dtype == "datetime")).all()


def test_an_integer_column_has_no_more_bins_than_values() -> None:
    narrow = Metadata.parse({"max_ids": 1, "rows": 9, "columns": {"n": {"type": "int", "lower": 3, "upper": 5}}})
    assert coding(narrow.columns[0], 200).size == 3


# ---- cost and refusals


@pytest.mark.parametrize("synthesizer", ALLOWED)
def test_a_cost_takes_milliseconds(synthesizer: Synthesizer) -> None:
    attempt = query(synthesizer, columns=["species", "island", "sex"])
    attempt.cost(PENGUIN)
    begun = time.perf_counter()
    attempt.cost(PENGUIN)
    assert time.perf_counter() - begun < 0.05


def test_importing_the_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, lomas_gql.libraries.smartnoise_synth as s; "
        "print({'torch', 'jax', 'pandas', 'snsynth', 'mbi', 'opendp', 'pacsynth'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": 1e9}, "epsilon"),
        ({"delta": None}, "delta"),
        ({"delta": 0.0}, "delta"),
        ({"delta": -1e-5}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"columns": []}, "columns"),
        ({"columns": ["species"]}, "columns"),
        ({"columns": ["species", "species"]}, "columns"),
        ({"columns": ["species", "nobody"]}, "columns"),
        ({"bins": [Bins(column="species", bins=4)]}, "bins"),
        ({"bins": [Bins(column="body_mass_g", bins=1)]}, "bins"),
        ({"bins": [Bins(column="body_mass_g", bins=201)]}, "bins"),
        ({"bins": [Bins(column="body_mass_g", bins=5)] * 2}, "bins"),
        ({"sample_rows": -1}, "sampleRows"),
        ({"sample_rows": 10_001}, "sampleRows"),
        ({"params": {"verbose": True}}, "params"),
        ({"params": [1]}, "params"),
        ({"condition": "species = "}, "condition"),
        ({"condition": "body_mass_g > 9000"}, "condition"),
        ({"condition": "species = 'Dodo'"}, "condition"),
    ],
)
def test_bad_input_is_refused_at_its_field(changed: dict[str, Any], field: str) -> None:
    assert issue(query(Synthesizer.MST, **changed))[0] == field


@pytest.mark.parametrize(
    ("synthesizer", "params"),
    [
        (Synthesizer.AIM, {"degree": 4}),
        (Synthesizer.AIM, {"degree": True}),
        (Synthesizer.AIM, {"degree": 2.5}),
        (Synthesizer.AIM, {"max_cells": 10**9}),
        (Synthesizer.AIM, {"max_model_size": math.nan}),
        (Synthesizer.MWEM, {"iterations": 0}),
        (Synthesizer.MWEM, {"marginal_width": "2"}),
        (Synthesizer.PACSYNTH, {"reporting_length": 9}),
    ],
)
def test_parameters_have_ranges(synthesizer: Synthesizer, params: dict[str, Any]) -> None:
    field, message = issue(query(synthesizer, columns=["species", "sex", "island"], params=params))
    assert field == "params"
    assert next(iter(params)) in message


def test_columns_that_cannot_be_synthesised_are_named() -> None:
    assert "note" in issue(query(Synthesizer.MST), MIXED)[1]
    raw = {"who": {"type": "string", "private_id": True}, "n": {"type": "int", "lower": 0, "upper": 9}}
    owned = Metadata.parse({"max_ids": 1, "rows": 9, "columns": raw})
    assert "who" in issue(query(Synthesizer.MWEM), owned)[1]
    many = Metadata.parse({"max_ids": 3, "rows": 9, "columns": raw})
    assert "max_ids" in issue(query(Synthesizer.MWEM, columns=["n"]), many)[1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
names = st.sampled_from(["degree", "max_cells", "max_model_size", "iterations", "reporting_length"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    synthesizer=st.sampled_from(ALLOWED),
    params=json_values | st.dictionaries(names | st.text(max_size=5), json_values, max_size=3),
    columns=st.none() | st.lists(st.sampled_from([*PENGUIN.by_name, "x"]), max_size=4),
    epsilon=st.floats(),
    delta=st.none() | st.floats(),
    condition=st.none() | st.text(max_size=20),
    sample_rows=st.integers(),
)
def test_only_invalid_query_escapes_from_a_cost(**fields: Any) -> None:
    try:
        loss = SmartnoiseSynthQuery(**fields).cost(PENGUIN)
    except InvalidQuery:
        return
    assert loss == PrivacyLoss.charged(fields["epsilon"], fields["delta"] or 0.0)


# ---- conditions


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("species = 'Gentoo'", [2]),
        ("species <> 'Gentoo'", [0, 1]),
        ("Species IN ('Adelie', 'Chinstrap')", [0, 1]),
        ("species NOT IN ('Adelie')", [1, 2]),
        ('"flipper_length_mm" BETWEEN 190 AND 210', [1]),
        ("flipper_length_mm NOT BETWEEN 190 AND 210", [0, 2]),
        ("bill_length_mm IS NULL", [2]),
        ("bill_length_mm > 1e1", [0, 1]),
        ("NOT bill_length_mm > 40.5", [0]),
        ("species = 'Adelie' OR sex = 'male' AND flipper_length_mm >= 200", [0, 1]),
        ("(species = 'Adelie' OR sex = 'male') AND NOT (flipper_length_mm < 200)", [1]),
        ("flipper_length_mm=200", [1]),
    ],
)
def test_a_condition_means_what_it_means_in_sql(condition: str, kept: list[int]) -> None:
    frame = pl.DataFrame(
        {
            "species": ["Adelie", "Chinstrap", "Gentoo"],
            "bill_length_mm": [40.0, 41.0, None],
            "flipper_length_mm": [180, 200, 220],
            "sex": [None, "male", "female"],
            "at": [0, 1, 2],
        }
    )
    assert frame.filter(parsed(condition, PENGUIN.columns))["at"].to_list() == kept


def test_times_and_booleans_can_be_conditions() -> None:
    frame = pl.DataFrame(
        {"seen": [datetime.fromisoformat(f"2020-0{month}-01") for month in (3, 9)], "ok": [True, None]}
    )
    assert frame.filter(parsed("seen < '2020-06-01' AND ok = TRUE", MIXED.columns)).height == 1


def test_a_condition_too_rare_keeps_the_model(monkeypatch: pytest.MonkeyPatch, penguins: Rows) -> None:
    monkeypatch.setattr(synth, "_MOST_DRAWN", 3_000)
    attempt = query(
        Synthesizer.MWEM, columns=["flipper_length_mm"], sample_rows=100, condition="flipper_length_mm = 151"
    )
    with pytest.raises(ConditionTooRare, match="too rare") as caught:
        attempt.run(penguins, PENGUIN)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.message == caught.value.message
    assert len(sample(again.kept.model, 10, None, PENGUIN).rows) == 10


def test_a_model_knows_when_its_metadata_changed(penguins: Rows) -> None:
    model = query(Synthesizer.MWEM, columns=["species"], sample_rows=0).run(penguins, PENGUIN).model
    assert model is not None
    raw = {"species": {"type": "string", "categories": ["Gentoo", "Adelie", "Chinstrap"]}}
    with pytest.raises(InvalidQuery, match="changed"):
        sample(model, 5, None, Metadata.parse({"max_ids": 1, "rows": 344, "columns": raw}))
    with pytest.raises(InvalidQuery, match="rows"):
        sample(model, 10_001, None, PENGUIN)
    with pytest.raises(InvalidQuery, match="synthesised"):
        sample(model, 5, "island = 'Dream'", PENGUIN)


# ---- privacy


def test_noise_and_choices_have_their_scale() -> None:
    from lomas_gql.libraries.smartnoise_synth import noise as noise

    zeros = np.zeros(20_000, dtype=np.int64)
    assert abs(noise.gaussian(zeros, 12.0).std() - 12) < 0.5
    assert abs(np.abs(noise.laplace(zeros, 0.1)).mean() - 10) < 0.5
    picks = [noise.choose([0.0, 2.0, 1e9 - 1e9], 1.0) for _ in range(6_000)]
    assert abs(picks.count(1) / picks.count(0) - math.e) < 0.5
    with pytest.raises(RuntimeError, match="more than was declared"):
        noise.Spending(1.0).spend(1.1)


def test_padding_is_public_and_grows_as_epsilon_falls() -> None:
    pads = [padding(4, 2, epsilon, 1e-5) for epsilon in (100.0, 10.0, 1.0, 0.1)]
    assert pads == sorted(pads, key=lambda n: n or 0)
    assert padding(4, 2, 1e-4, 1e-5) is None


def test_pacsynth_padding_survives_the_noise() -> None:
    from lomas_gql.libraries.smartnoise_synth import pac as pac

    records = [["c0", "c1", "c2"]] + [["pad"] * 3] * (padding(3, 2, 1.0, 1e-6) or 0)
    for _ in range(20):
        kept = pac._fitted(records, ["c0", "c1", "c2"], 2, 1.0, 1e-6)
        assert len(kept) == 6

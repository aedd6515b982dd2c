"""Exhaustion: what would fill memory, time or sockets is refused by public sizes, or ends with its own worker.

How requests as such are bounded (bodies, documents, nested JSON, pages) is in `tests/schema/test_limits.py` and
`benchmarks/hostile.py`; what a worker does that is over its limits, in the tests of rule 11.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import opendp.prelude as dp
import polars as pl
import pytest
import websockets.exceptions

from lomas_gql.errors import InvalidQuery
from lomas_gql.libraries.smartnoise_synth.query import (
    Bins,
    Synthesizer,
)
from lomas_gql.metadata import Metadata
from lomas_gql.schema import listeners
from tests.attacks.neighbours import ESTIMATE, EXECUTE, NEAR, Pair, synthesizer
from tests.attacks.queries import ORDINARY
from tests.conftest import Client, new_server
from tests.libraries import test_diffprivlib as models
from tests.libraries import test_opendp_measurement as measurements
from tests.libraries import test_opendp_plan as plans
from tests.libraries import test_smartnoise_sql as sql
from tests.libraries import test_smartnoise_synth as synth
from tests.schema.test_streams import conversation, events, in_this_process


def test_a_deep_long_or_mistyped_measurement_is_refused() -> None:
    assert measurements.refusal("[" * 100_000)[0] == "measurement"
    assert measurements.refusal("[" * 300 + "]" * 300)[0] == "measurement"
    assert measurements.refusal('{"a":' * 90_000 + "1" + "}" * 90_000)[0] == "measurement"
    assert "longer" in measurements.refusal(" " * 1_000_001)[1]
    for text in ("", "null", "1", '"\\ud800"', '{"__tuple__": []}', "{}", '{"__function__": 1}', "\ud800", "\0"):
        assert measurements.refusal(text, column="species")[0] == "measurement"


def test_too_many_combinations_are_refused() -> None:
    columns = {name: {"type": "string", "categories": [str(n) for n in range(30)]} for name in "abc"}
    metadata = Metadata.parse({"max_ids": 1, "rows": 10, "columns": columns})
    lazy = pl.LazyFrame(schema=dict.fromkeys("abc", pl.String))
    assert "combinations" in plans.refusal(plans.written(lazy.group_by("a", "b", "c").agg(dp.len())), metadata)[1]


def test_a_deep_long_or_mistyped_plan_is_refused() -> None:
    deep = plans.LEN
    for _ in range(120):
        deep = '{"Filter": {"predicate": {"Literal": {"Scalar": {"Boolean": true}}}, "input": ' + deep + "}}"
    for text in ("[" * 100_000, deep, "", "null", "[]", "{}", '"Len"', '{"Select": 1}', '{"Select": {}}', "\ud800"):
        assert plans.refusal(text)[0] == "polarsPlan"
    assert "longer" in plans.refusal(" " * 2_000_001)[1]
    many = plans.raw(lambda lazy: lazy.select(pl.sum_horizontal(plans.BILL), dp.len()))
    assert plans.refusal(many)[0] == "polarsPlan"


def test_a_forest_too_large_to_answer_is_refused(bird: Metadata) -> None:
    large = models.step(models.Est.RANDOM_FOREST_CLASSIFIER, 1.0, n_estimators=100, max_depth=10)
    assert models.refusal(models.query(large), bird)[0][0] == "steps.0.params.max_depth"


def test_a_domain_too_large_is_refused_before_the_charge() -> None:
    assert synth.issue(synth.query(Synthesizer.MWEM))[0] == "columns"
    fine = [Bins(column=name, bins=200) for name in ("bill_length_mm", "body_mass_g", "bill_depth_mm")]
    assert synth.issue(synth.query(Synthesizer.AIM, bins=fine[:1], params={"max_cells": 500}))[0] == "columns"
    assert synth.issue(synth.query(Synthesizer.PACSYNTH, bins=fine, params={"reporting_length": 3}))[0] == "columns"
    assert synth.issue(synth.query(Synthesizer.PACSYNTH, epsilon=1e-5))[0] == "epsilon"
    assert synth.issue(synth.query(Synthesizer.MWEM, columns=["species"], delta=1e-5))[0] == "delta"
    assert synth.issue(synth.query(Synthesizer.PACSYNTH), replace(synth.PENGUIN, rows=10**6))[0] == "columns"


EIGHT = {f"d{i}": {"type": "string", "categories": [str(n) for n in range(9)]} for i in range(8)}
HISTOGRAM = Metadata.parse({"max_ids": 1, "rows": 10, "row_privacy": True, "columns": EIGHT})
"""With OTHER, ten values in each of eight columns: 10**8 cells."""


def test_a_histogram_of_10_to_the_8_cells_is_refused_by_each_library() -> None:
    listed = ", ".join(EIGHT)
    with pytest.raises(InvalidQuery, match="combinations"):
        sql.query(f"SELECT {listed}, COUNT(*) AS n FROM df GROUP BY {listed}").cost(HISTOGRAM)
    frame = pl.LazyFrame(schema=dict.fromkeys(EIGHT, pl.String))
    assert "combinations" in plans.refusal(plans.written(frame.group_by(*EIGHT).agg(dp.len())), HISTOGRAM)[1]
    with pytest.raises(InvalidQuery, match="cells"):
        synth.query(synth.Synthesizer.MWEM, columns=list(EIGHT)).cost(HISTOGRAM)
    scores = measurements.over(**measurements.FLOATS) >> dp.t.then_quantile_score_candidates([30.0, 65.0], 0.5)
    text = dp.serialize(scores >> dp.m.then_noisy_max(dp.max_divergence(), 1.0))
    many = text.replace("[30.0, 65.0]", json.dumps([30 + n / 10**4 for n in range(20_000)]))
    assert many != text
    assert "list of at most" in measurements.refusal(many, column="bill_length_mm")[1]


def test_a_size_that_nobody_can_hold_is_refused() -> None:
    resized = measurements.over(**measurements.FLOATS) >> dp.t.then_clamp((30.0, 65.0)) >> dp.t.then_resize(344, 45.0)
    text = dp.serialize(resized >> dp.t.then_sum() >> dp.m.then_laplace(9e3))
    for size in (10**7 + 1, 10**12, 2**63, 10**30):
        huge = text.replace('"size": 344', f'"size": {size}')
        assert huge != text
        assert "size" in measurements.refusal(huge, column="bill_length_mm")[1]


def test_deep_json_in_the_parameters_of_a_model_is_refused(pair: Pair) -> None:
    for opening, closing in (("[", "]"), ('{"a": ', "}")):
        nested = opening * 5_000 + "1" + closing * 5_000
        query = f'{{"steps": [{{"estimator": "K_MEANS", "params": {nested}}}], "featureColumns": ["age"]}}'
        variables = f'{{"input": {{"dataset": "{NEAR}", "query": {{"diffprivlib": {query}}}}}}}'
        body = f'{{"query": {json.dumps(ESTIMATE)}, "variables": {variables}}}'
        headers = {"Authorization": f"Bearer {pair.attacker.token}", "Content-Type": "application/json"}
        answer = httpx.post(f"{pair.server.url}/graphql", content=body, headers=headers, timeout=60)
        assert answer.status_code < 500
        assert "INTERNAL" not in answer.text
        assert "Estimate" not in answer.text


def test_a_condition_that_no_row_meets_is_refused_before_the_charge(pair: Pair) -> None:
    never = synthesizer("MWEM", "points", epsilon=90.0, sampleRows=10_000, condition="points > 1099511627774")
    assert "not one of" in pair.ask(EXECUTE, NEAR, never)["message"]


def test_aliases_of_one_execution_are_charged_one_by_one(pair: Pair) -> None:
    """Five in one request run one after the other; a sixth is refused with all of them; a key is charged once."""
    query = {"input": {"dataset": NEAR, "query": ORDINARY["a count"]}}

    def aliased(count: int, key: str = "") -> dict[str, Any]:
        fields = " ".join(f"a{i}: execute(input: $input{key}) {{ __typename }}" for i in range(count))
        return pair.attacker.post(f"mutation($input: DpQueryInput!) {{ {fields} }}", query).json()  # type: ignore[no-any-return]

    def spent() -> float:
        return pair.spent(NEAR)[0]

    before = spent()
    assert aliased(6)["errors"][0]["extensions"]["code"] == "MAX_MUTATIONS_EXCEEDED"
    assert spent() == before
    assert {answer["__typename"] for answer in aliased(5)["data"].values()} == {"Executed"}
    assert spent() == pytest.approx(before + 5)
    aliased(5, ', idempotencyKey: "once"')
    assert spent() == pytest.approx(before + 6)


@pytest.mark.parametrize("most", [3])
def test_open_connections_are_limited_for_a_user_and_leave_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(listeners, "MAX_LISTENERS_PER_USER", most)
    monkeypatch.setattr(listeners, "MAX_LISTENERS", 3 * most)
    server = new_server(tmp_path)
    with in_this_process(server), ExitStack() as held:
        greedy, other = server.user(), server.user()
        for _ in range(most):
            held.enter_context(conversation(greedy))
        with pytest.raises(websockets.exceptions.ConnectionClosed) as refused, conversation(greedy):
            pass
        assert refused.value.rcvd is not None
        assert refused.value.rcvd.code == 1013
        [(_, streamed), _] = events(greedy, "{ serverState { live } }")
        assert streamed["errors"][0]["extensions"]["code"] == "MAX_LISTENERS_EXCEEDED"
        with conversation(other):
            assert events(other, "{ serverState { live } }")[0][1]["data"]
        # Those of nobody are as many together; with them, the process is full for everybody.
        for user in [Client(server.url, None)] * most + [other] * most:
            held.enter_context(conversation(user))
        with pytest.raises(websockets.exceptions.ConnectionClosed), conversation(server.user()):
            pass
        assert greedy.data("{ serverState { live } }")["serverState"]["live"]
        held.close()
        with conversation(greedy):
            pass

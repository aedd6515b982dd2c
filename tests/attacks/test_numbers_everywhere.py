"""Numbers that are none, or far too large or small, in each place that takes a number: refused, for free.

Scales of 0 or 1e-320 make OpenDP answer exactly, 1e308 overflows, NaN passes every comparison that is written the
wrong way round, and a tiny epsilon makes samplers spin.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import opendp.prelude as dp
import pytest

from tests.attacks.neighbours import EXECUTE, NEAR, Pair, model, sql, synthesizer
from tests.attacks.queries import measured, plan

COUNT = plan(lambda q: q.select(dp.len()))["opendp"]
GROUPS = plan(lambda q: q.group_by("note").agg(dp.len()), delta=1e-7)["opendp"]
CLAMPED = measured("age", dp.t.then_clamp((0, 7)), dp.t.then_sum(), dp.m.then_laplace(777.0), T="i64")["opendp"]
X = 123.456
"""Where the bad number goes."""

PLACES: dict[str, dict[str, Any]] = {
    "epsilon of SQL": sql("SELECT COUNT(*) AS n FROM df", epsilon=X),
    "delta of SQL": sql("SELECT note, COUNT(*) AS n FROM df GROUP BY note", delta=X),
    "epsilon of a plan": {"opendp": COUNT | {"epsilon": X}},
    "delta of a plan": {"opendp": GROUPS | {"delta": X}},
    "fixedDelta of a plan": {"opendp": COUNT | {"noise": "GAUSSIAN", "fixedDelta": X}},
    "scale of a measurement": {"opendp": CLAMPED | {"measurement": CLAMPED["measurement"].replace("777.0", str(X))}},
    "epsilon of a model": model("GAUSSIAN_NB", "age", target="kind", params={"epsilon": X}),
    "smoothing of a model": model("GAUSSIAN_NB", "age", target="kind", params={"var_smoothing": X}),
    "C of a model": model("LOGISTIC_REGRESSION", "age", target="kind", params={"C": -X}),
    "a bound of a model": model("K_MEANS", "age", params={"bounds": [[X], [X]]}),
    "clusters of a model": model("K_MEANS", "age", params={"n_clusters": X}),
    "testSize": model("GAUSSIAN_NB", "age", target="kind", testSize=X),
    "scoreEpsilon": model("GAUSSIAN_NB", "age", target="kind", scoreEpsilon=X),
    "imputationEpsilon": model("K_MEANS", "income", imputation="MEAN", imputationEpsilon=X),
    "epsilon of a synthesizer": synthesizer("MWEM", "kind", epsilon=X),
    "delta of a synthesizer": synthesizer("MST", "kind", "age", delta=X),
    "a parameter of a synthesizer": synthesizer("MWEM", "kind", params={"iterations": X}),
    "bins of a synthesizer": synthesizer("MWEM", "age", bins=[{"column": "age", "bins": X}]),
    "sampleRows": synthesizer("MWEM", "kind", sampleRows=X),
}
NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1",
    "-1e-300",
    "1e308",
    "1e-320",
    "5e-324",
    "9" * 30,
    '"1"',
    "[1]",
]
ZEROS = ["0", "-0.0", "1e-19"]
# A share of 0 has a meaning there; so have no rows.
MAY_BE_ZERO = {"testSize", "sampleRows", "a bound of a model", "C of a model", "smoothing of a model"}
MAY_BE_SMALL = {"testSize", "smoothing of a model"}


def sent(pair: Pair, query: dict[str, Any], number: str) -> str:
    """The text that is answered to a body in which the number stands as it is."""
    variables = json.dumps({"input": {"dataset": NEAR, "query": query}})
    # Within a measurement's text the quotes of a text are escaped.
    written = (
        number.replace('"', '\\"') if str(X) in json.dumps(query.get("opendp", {}).get("measurement", "")) else number
    )
    body = f'{{"query": {json.dumps(EXECUTE)}, "variables": {variables.replace(str(X), written)}}}'
    assert written in body
    headers = {"Authorization": f"Bearer {pair.attacker.token}", "Content-Type": "application/json"}
    return httpx.post(f"{pair.server.url}/graphql", content=body, headers=headers, timeout=60).text


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_number_is_refused_wherever_it_stands(pair: Pair, place: str) -> None:
    before = pair.spent(NEAR)
    numbers = NUMBERS + ([] if place in MAY_BE_ZERO else ZEROS)
    if place in MAY_BE_SMALL:
        numbers = [number for number in numbers if number not in ("1e-320", "5e-324")]
    for number in numbers:
        answer = json.loads(sent(pair, PLACES[place], number))
        if "errors" not in answer:
            assert answer["data"]["execute"]["__typename"] == "InvalidQuery", (number, answer)
        else:
            assert answer["errors"][0]["extensions"]["code"] != "INTERNAL_SERVER_ERROR", number
    assert pair.spent(NEAR) == before


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-320", "-0.0", "9" * 30])
def test_a_bad_number_is_refused_in_the_document_too(pair: Pair, number: str) -> None:
    inputs = [
        f'smartnoiseSql: {{sql: "SELECT COUNT(*) AS n FROM df", epsilon: {number}, delta: 0}}',
        f'diffprivlib: {{steps: [{{estimator: K_MEANS, params: {{epsilon: {number}}}}}], featureColumns: ["age"]}}',
        f'smartnoiseSynth: {{synthesizer: MWEM, columns: ["kind"], epsilon: {number}}}',
    ]
    for written in inputs:
        query = f'mutation {{ execute(input: {{dataset: "{NEAR}", query: {{{written}}}}}) {{ __typename }} }}'
        answer = pair.attacker.post(query).json()
        assert "errors" in answer or answer["data"]["execute"]["__typename"] == "InvalidQuery", answer


def test_the_smallest_epsilon_of_each_library_ends(pair: Pair) -> None:
    smallest = [
        sql("SELECT COUNT(*) AS n FROM df", 1e-6),
        {"opendp": COUNT | {"epsilon": 1e-6}},
        synthesizer("MWEM", "kind", epsilon=1e-6),
        model("GAUSSIAN_NB", "age", target="kind", params={"epsilon": 1e-5}),
    ]
    for query in smallest:
        assert pair.ask(EXECUTE, NEAR, query)["__typename"] == "Executed"
    spinning = model("GAUSSIAN_NB", "age", target="kind", params={"epsilon": 1e-6})
    assert pair.ask(EXECUTE, NEAR, spinning)["__typename"] == "InvalidQuery"

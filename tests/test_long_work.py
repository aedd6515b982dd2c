"""Models and synthesizers over HTTP, and long work that a client follows, leaves or stops."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import websockets.exceptions
import websockets.sync.client
from gql import Client as GqlClient
from gql import gql
from gql.transport.websockets import WebsocketsTransport

from tests.conftest import DEMO, Client, Server
from tests.test_main_path import BUDGET

CLIENTS = Path(__file__).parent / "clients"
FEATURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]
SPECIES = ["species", "island", "sex"]

ANSWER = """
fragment A on DpResult {
  __typename
  ... on DiffprivlibResult { score steps { name estimator parameters } }
  ... on SmartnoiseSynthSamples { synthesizer table { rowCount columns { name dtype } rows } }
  ... on SmartnoiseSynthModel { synthesizer sample(rows: 5) { rowCount rows } }
}"""
ESTIMATE = """mutation($input: DpQueryInput!) { estimateCost(input: $input) {
  __typename ... on Estimate { cost { epsilon delta } } ... on UserError { message } } }"""
DUMMY = (
    """mutation($input: DpQueryInput!) { runDummy(input: $input) {
  __typename ... on DummyRun { cost { epsilon delta } result { ...A } } ... on UserError { message } } }"""
    + ANSWER
)
EXECUTE = (
    """mutation($input: DpQueryInput!) { execute(input: $input) { __typename
  ... on Executed { cost { epsilon delta } release { id } result { ...A } } ... on UserError { message } } }"""
    + ANSWER
)
SUBMIT = """mutation($input: DpQueryInput!, $key: String) { submit(input: $input, idempotencyKey: $key) { __typename
  ... on Submitted { replayed release { id status cost { epsilon } } } ... on UserError { code message } } }"""
CANCEL = """mutation($id: ID!) { cancel(release: $id) { __typename
  ... on Cancelled { release { id status error { message } } } ... on UserError { code } } }"""
FETCH = (
    """query($id: ID!) { release(id: $id) { status progress phase cost { epsilon } error { message }
  result { ...A } } }"""
    + ANSWER
)


def model(estimator: str, dataset: str = "PENGUIN", target: str | None = None, **more: Any) -> dict[str, Any]:
    params = {"epsilon": 5.0} | more.pop("params", {})
    features = FEATURES if dataset == "PENGUIN" else ["sepal_length", "petal_length", "petal_width"]
    query = {
        "steps": [{"estimator": estimator, "params": params}],
        "featureColumns": features,
        "targetColumns": [target] if target else None,
    }
    return {"input": {"dataset": dataset, "query": {"diffprivlib": query | more}}}


def synth(synthesizer: str, delta: float | None = 1e-5, **more: Any) -> dict[str, Any]:
    query = {"synthesizer": synthesizer, "epsilon": 3.0, "delta": delta, "columns": SPECIES, "sampleRows": 20}
    return {"input": {"dataset": "PENGUIN", "query": {"smartnoiseSynth": query | more}}}


MODELS = [
    model("STANDARD_SCALER"),
    model("PCA", params={"n_components": 2}),
    model("K_MEANS", params={"n_clusters": 3}),
    model("GAUSSIAN_NB", target="species", scoreEpsilon=1.0),
    model("LOGISTIC_REGRESSION", "IRIS", target="species"),
    model("DECISION_TREE_CLASSIFIER", target="species"),
    model("RANDOM_FOREST_CLASSIFIER", target="species", params={"n_estimators": 3}),
    model("LINEAR_REGRESSION", target="body_mass_g", imputation="MEAN", imputationEpsilon=0.5),
]
SYNTHESIZERS = [synth("MWEM", None), synth("PACSYNTH"), synth("MST"), synth("AIM")]


@pytest.mark.parametrize("query", [*MODELS, *SYNTHESIZERS], ids=lambda q: str(q["input"]["query"])[16:70])
def test_estimate_dummy_run_and_execution_agree(server: Server, query: dict[str, Any]) -> None:
    client = server.user(epsilon="20", dataset=query["input"]["dataset"])
    estimate = client.data(ESTIMATE, query)["estimateCost"]
    dummy = client.data(DUMMY, query)["runDummy"]
    executed = client.data(EXECUTE, query)["execute"]
    assert executed["__typename"] == "Executed", executed
    assert estimate["cost"] == dummy["cost"] == executed["cost"]
    assert dummy["result"]["__typename"] == executed["result"]["__typename"]


def test_species_are_predicted_from_the_answer_alone(server: Server) -> None:
    answer = server.user().data(EXECUTE, model("GAUSSIAN_NB", target="species"))["execute"]["result"]
    fitted = answer["steps"][0]["parameters"]
    frame = pl.read_csv(DEMO / "penguins.csv", null_values="NA").drop_nulls(FEATURES)
    means, variances = np.array(fitted["theta_"]), np.array(fitted["var_"])
    rows = frame.select(FEATURES).to_numpy()[:, None, :]
    likelihood = -0.5 * (np.log(variances) + (rows - means) ** 2 / variances).sum(axis=2)
    likelihood += np.log(np.maximum(fitted["class_prior_"], 1e-9))
    found = np.array(fitted["classes_"])[likelihood.argmax(axis=1)]
    # The most frequent species makes 0.44.
    assert (found == frame["species"].to_numpy()).mean() > 0.7


def test_a_model_that_stays_on_the_server_is_sampled_later_for_free(server: Server) -> None:
    client = server.user(epsilon="3", delta="0.001")
    executed = client.data(EXECUTE, synth("MST", sampleRows=0))["execute"]
    assert executed["result"]["__typename"] == "SmartnoiseSynthModel"
    spent = client.data(BUDGET)["dataset"]["budget"]
    sample = """query($id: ID!, $n: Int!) { release(id: $id) { result { ... on SmartnoiseSynthModel {
      sample(rows: $n, condition: "species = 'Gentoo'") { rowCount rows columns { name } } } } } }"""
    tables = [
        client.data(sample, {"id": executed["release"]["id"], "n": n})["release"]["result"]["sample"]
        for n in (30, 30, 7)
    ]
    assert [table["rowCount"] for table in tables] == [30, 30, 7]
    assert tables[0]["rows"] != tables[1]["rows"]
    assert {row[0] for table in tables for row in table["rows"]} == {"Gentoo"}
    assert client.data(BUDGET)["dataset"]["budget"] == spent
    assert spent["remaining"]["epsilon"] == 0.0


def test_a_client_in_python_follows_a_submitted_run_to_its_end(server: Server) -> None:
    client = server.user()
    release = submitted(client, synth("AIM"))
    assert release["status"] == "RUNNING"
    seen = asyncio.run(followed(client, release["id"]))
    assert seen[0]["status"] == "RUNNING"
    assert seen[-1]["status"] == "RELEASED"
    assert any(state["phase"] == "choosing marginals" for state in seen)
    shares = [state["progress"] for state in seen if state["progress"] is not None]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    fetched = client.data(FETCH, {"id": release["id"]})["release"]
    assert fetched["result"]["table"]["rowCount"] == 20
    assert fetched["progress"] is None


@pytest.mark.skipif(
    shutil.which("node") is None or not (CLIENTS / "node_modules").exists(),
    reason="Node or its packages are not here: make clients",
)
def test_a_client_in_javascript_follows_a_submitted_run_to_its_end(server: Server) -> None:
    client = server.user()
    release = submitted(client, synth("AIM"))
    command = ["node", "follow.js", f"{server.url}/graphql", str(client.token), release["id"]]
    ended = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    statuses = ended.stdout.split()
    assert (statuses[0], statuses[-1]) == ("RUNNING", "RELEASED")


EXECUTED = "mutation($input: DpQueryInput!) { execute(input: $input) { __typename } }"


@pytest.mark.parametrize(
    "text", ["{", "[]", "5", "NaN", '{"type": "subscribe", "id": "1", "payload": 5}', '{"type": "x"}', "\x00"]
)
def test_a_malformed_message_ends_its_connection_alone(server: Server, text: str) -> None:
    url = server.url.replace("http", "ws") + "/graphql"
    with websockets.sync.client.connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv(10))["type"] == "connection_ack"
        socket.send(text)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as ended:
            socket.recv(10)
    assert ended.value.rcvd is not None
    assert 4400 <= ended.value.rcvd.code < 4500
    assert server.user().data("{ serverState { live } }")["serverState"]["live"] is True
    assert "Traceback" not in (server.data_dir / "server.log").read_text()


def test_cancelling_stops_the_worker_and_keeps_the_charge(server: Server) -> None:
    client = server.user()
    release = submitted(client, synth("AIM", columns=None))
    while client.data(FETCH, {"id": release["id"]})["release"]["phase"] is None:
        time.sleep(0.05)
    cancelled = client.data(CANCEL, {"id": release["id"]})["cancel"]
    assert cancelled["release"]["status"] == "CANCELLED"
    assert "cancelled" in cancelled["release"]["error"]["message"]
    assert client.data(CANCEL, {"id": release["id"]})["cancel"] == {
        "__typename": "ReleaseNotRunning",
        "code": "RELEASE_NOT_RUNNING",
    }
    budget = client.data(BUDGET)["dataset"]["budget"]
    assert budget["spent"]["epsilon"] == 3.0
    # The worker is free for the next query.
    assert client.data(EXECUTE, synth("MWEM", None))["execute"]["__typename"] == "Executed"


def test_a_key_submits_once(server: Server) -> None:
    client = server.user()
    first = client.data(SUBMIT, synth("AIM") | {"key": "k"})["submit"]
    again = client.data(SUBMIT, synth("AIM") | {"key": "k"})["submit"]
    assert again["replayed"] is True
    assert again["release"]["id"] == first["release"]["id"]
    busy = client.data(SUBMIT, synth("AIM"))["submit"]
    assert busy["code"] == "QUERY_ONGOING"
    asyncio.run(followed(client, first["release"]["id"]))
    assert client.data(BUDGET)["dataset"]["budget"]["spent"]["epsilon"] == 3.0


def test_a_condition_too_rare_is_a_clear_error(server: Server) -> None:
    client = server.user(epsilon="30")
    # In bounds, and so no mistake; but no species has nearly so few, so hardly a synthetic row meets it.
    rare = synth(
        "MWEM", None, epsilon=20.0, columns=["flipper_length_mm"], sampleRows=10_000,
        bins=[{"column": "flipper_length_mm", "bins": 200}], condition="flipper_length_mm < 150.5",
    )  # fmt: skip
    failed = client.data(EXECUTE, rare)["execute"]
    assert failed["__typename"] == "LibraryFailed"
    assert "too rare" in failed["message"]
    nodes = '{ dataset(name: "PENGUIN") { history { nodes { id } } } }'
    [release] = client.data(nodes)["dataset"]["history"]["nodes"]
    kept = client.data(FETCH, {"id": release["id"]})["release"]
    assert kept["status"] == "FAILED"
    assert kept["result"]["sample"]["rowCount"] == 5
    impossible = client.data(ESTIMATE, synth("MWEM", None, condition="species = 'Emu'"))["estimateCost"]
    assert impossible["__typename"] == "InvalidQuery"


@pytest.mark.parametrize("name", ["DPCTGAN", "DPGAN", "PATECTGAN", "PATEGAN"])
def test_a_gan_is_refused_by_name_with_the_reason(server: Server, name: str) -> None:
    refused = server.user().data(ESTIMATE, synth(name))["estimateCost"]
    assert refused["__typename"] == "InvalidQuery"
    assert refused["message"].startswith(f"{name} is not offered: it")


def submitted(client: Client, query: dict[str, Any]) -> dict[str, Any]:
    answer = client.data(SUBMIT, query)["submit"]
    assert answer["__typename"] == "Submitted", answer
    return answer["release"]  # type: ignore[no-any-return]


def websocket(client: Client) -> WebsocketsTransport:
    return WebsocketsTransport(
        url=client.url.replace("http", "ws") + "/graphql",
        init_payload={"authorization": f"Bearer {client.token}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )


async def followed(client: Client, release: str) -> list[dict[str, Any]]:
    """The states that a subscription by graphql-transport-ws tells."""
    query = gql("subscription($id: ID!) { release(id: $id) { status progress phase } }")
    query.variable_values = {"id": release}
    async with GqlClient(transport=websocket(client)) as session:
        return [told["release"] async for told in session.subscribe(query)]

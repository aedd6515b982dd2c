"""Other people's releases, jobs, histories and names: what is not the viewer's looks like what is not there.

Enforced in `services/catalogue`, where every read of a grant or release has the viewer in its WHERE. Budgets under
races of users, on both databases: `tests/services/test_ledger.py` and `tests/test_faults.py`.
"""

from __future__ import annotations

import asyncio

import pytest
from gql import Client as GqlClient
from gql import gql
from gql.transport.exceptions import TransportQueryError

from lomas_gql.auth import digest_of
from lomas_gql.database.engine import Database
from lomas_gql.schema.ids import opaque
from lomas_gql.services import tokens
from tests import test_long_work as long
from tests import test_main_path as main
from tests.conftest import Server


def test_a_release_is_its_owners_alone(server: Server) -> None:
    owner, other = server.user(), server.user()
    release = owner.data(main.EXECUTE, main.sql("SELECT COUNT(*) AS n FROM df"))["execute"]["release"]["id"]
    fetch = "query($id: ID!) { release(id: $id) { status } node(id: $id) { id } }"
    assert owner.data(fetch, {"id": release}) == {"release": {"status": "RELEASED"}, "node": {"id": release}}
    assert other.data(fetch, {"id": release}) == {"release": None, "node": None}


def test_a_dataset_without_a_grant_looks_like_an_unknown_one(server: Server) -> None:
    client = server.user(dataset="PENGUIN")
    answers = []
    for name in ("IRIS", "NO_SUCH"):
        found = client.data("query($n: String!) { dataset(name: $n) { id } }", {"n": name})
        answers.append(
            (
                found,
                *(
                    client.data(m, main.sql("SELECT COUNT(*) AS n FROM df", dataset=name))
                    for m in (main.ESTIMATE, main.EXECUTE)
                ),
            )
        )
    assert answers[0] == answers[1]
    assert answers[0][2]["execute"]["__typename"] == "DatasetUnavailable"


def test_a_stranger_follows_nothing(server: Server) -> None:
    release = long.submitted(server.user(), long.synth("MWEM", None))
    assert asyncio.run(long.followed(server.user(), release["id"])) == []


def test_a_revoked_token_is_refused_on_a_connection_that_is_open(server: Server) -> None:
    client = server.user()
    cheap = long.synth("MWEM", None)

    async def converse() -> list[str]:
        async with GqlClient(transport=long.websocket(client)) as session:
            query = gql(long.EXECUTED)
            query.variable_values = cheap
            seen = [(await session.execute(query))["execute"]["__typename"]]
            state = gql('{ dataset(name: "PENGUIN") { budget { spent { epsilon } } history { totalCount } } }')
            fresh = (await session.execute(state))["dataset"]
            # What was read on this connection before must not stand for what is so now.
            assert (fresh["budget"]["spent"]["epsilon"], fresh["history"]["totalCount"]) == (3.0, 1)
            await asyncio.to_thread(server.run, revoke_all)
            with pytest.raises(TransportQueryError) as refused:
                await session.execute(query)
            assert refused.value.errors is not None
            return [*seen, refused.value.errors[0]["extensions"]["code"]]

    async def revoke_all(database: Database) -> None:
        for info in await tokens.tokens(database):
            if digest_of(str(client.token)) == info.token.digest:
                await tokens.revoke_token(database, info.token.id)

    assert asyncio.run(converse()) == ["Executed", "UNAUTHENTICATED"]


def test_nobody_cancels_for_another(server: Server) -> None:
    owner, other = server.user(), server.user()
    release = long.submitted(owner, long.synth("AIM"))
    assert other.data(long.CANCEL, {"id": release["id"]})["cancel"]["__typename"] == "ReleaseNotRunning"
    assert asyncio.run(long.followed(owner, release["id"]))[-1]["status"] == "RELEASED"


NODE = "query($id: ID!) { node(id: $id) { __typename id } release(id: $id) { status result { __typename } } }"


def test_no_id_opens_what_is_another_ones(server: Server) -> None:
    owner, thief = server.user(), server.user(dataset="IRIS")
    mine = owner.data(main.EXECUTE, main.sql("SELECT COUNT(*) AS n FROM df"))["execute"]["release"]["id"]
    ids = owner.data('{ viewer { id } dataset(name: "PENGUIN") { id } }')
    for id in (mine, ids["viewer"]["id"], ids["dataset"]["id"]):
        assert owner.data(NODE, {"id": id})["node"] is not None
        # As for an id of a thing that never was.
        assert thief.data(NODE, {"id": id}) == thief.data(NODE, {"id": opaque("Release", 10**9)})


def test_a_cursor_of_another_ones_history_is_none_of_the_viewers(server: Server) -> None:
    owner, thief = server.user(), server.user()
    owner.data(main.EXECUTE, main.sql("SELECT COUNT(*) AS n FROM df"))
    page = """query($after: String) { dataset(name: "PENGUIN") { history(after: $after) {
      totalCount edges { cursor } } } }"""
    [edge] = owner.data(page)["dataset"]["history"]["edges"]
    [error] = thief.post(page, {"after": edge["cursor"]}).json()["errors"]
    assert error["extensions"]["code"] == "BAD_CURSOR"
    assert thief.data(page)["dataset"]["history"]["totalCount"] == 0


def test_a_key_of_another_user_replays_nothing(server: Server) -> None:
    owner, thief = server.user(), server.user()
    query = main.sql("SELECT COUNT(*) AS n FROM df") | {"key": "guessed"}
    first = owner.data(main.EXECUTE, query)["execute"]
    second = thief.data(main.EXECUTE, query)["execute"]
    assert (second["replayed"], second["release"]["id"] == first["release"]["id"]) == (False, False)


def test_a_dataset_that_is_not_granted_answers_like_one_that_is_not_there_by_every_way_in(server: Server) -> None:
    thief = server.user(dataset="PENGUIN")
    asked = {"dummy": long.synth("MWEM", None), "release": opaque("Release", 10**9)}
    told = []
    for name in ("IRIS", "NO_SUCH", "penguin", "PENGUIN ", "user1", "' OR 1=1 --"):
        query = main.sql("SELECT COUNT(*) AS n FROM df", dataset=name)
        answers = [thief.post(operation, query).json() for operation in (main.ESTIMATE, main.DUMMY, main.EXECUTE)]
        submitted = thief.post(long.SUBMIT, asked["dummy"] | {"input": asked["dummy"]["input"] | {"dataset": name}})
        told.append([*answers, submitted.json()])
    assert all(answer == told[0] for answer in told)
    assert "DatasetUnavailable" in str(told[0])

"""Rules 1 and 2, on two neighbours: what is free or fails is the same, letter by letter, with a person and without.

Rule 7 too: after all of it, no cell of the planted person stands in an answer, a log, a table or a stored model.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.attacks.neighbours import DUMMY, ESTIMATE, EXECUTE, NEAR, PLANTED, SPENT, Pair, sql, visible
from tests.attacks.queries import HOSTILE, ORDINARY

REFUSED: dict[str, dict[str, Any]] = {
    "no such column": sql("SELECT COUNT(*) AS n FROM df WHERE nobody = 1"),
    "no delta": sql("SELECT note, COUNT(*) AS n FROM df GROUP BY note"),
    "too much": sql("SELECT COUNT(*) AS n FROM df", 1e9),
    "half a measurement": {"opendp": {"measurement": "{", "column": "age"}},
    "a seed": {"smartnoiseSynth": {"synthesizer": "MWEM", "epsilon": 1, "params": {"random_state": 1}}},
}
ANSWERED = ORDINARY | HOSTILE
HISTORY = """query($name: String!) { dataset(name: $name) { metadata { smartnoise rows } dummy { rows }
  history(first: 100) { nodes { query status createdAt finishedAt error { message } } } } }"""


@pytest.mark.parametrize("query", (ANSWERED | REFUSED).values(), ids=ANSWERED | REFUSED)
def test_what_is_free_is_the_same_on_neighbours(pair: Pair, query: dict[str, Any]) -> None:
    for operation in (ESTIMATE, DUMMY):
        near, far = pair.both(operation, query)
        assert near == far
        assert (near.outcome["__typename"] == "InvalidQuery") == (query in REFUSED.values())


@pytest.mark.parametrize("query", (ORDINARY | REFUSED).values(), ids=ORDINARY | REFUSED)
def test_all_but_the_noise_is_the_same_on_neighbours(pair: Pair, query: dict[str, Any]) -> None:
    near, far = pair.both(EXECUTE, query)
    assert visible(near.outcome) == visible(far.outcome)
    assert near.outcome["__typename"] == ("InvalidQuery" if query in REFUSED.values() else "Executed")


def test_charges_and_log_lines_are_the_same_on_neighbours(pair: Pair) -> None:
    for query in (ANSWERED | REFUSED).values():
        near, far = pair.both(EXECUTE, query)
        assert near.log == far.log
        assert near.charged == far.charged
        assert any(near.charged) == (query not in REFUSED.values())


def test_a_planted_person_is_in_no_answer_log_table_or_model(pair: Pair) -> None:
    shown = [pair.both(operation, query) for query in ANSWERED.values() for operation in (ESTIMATE, DUMMY, EXECUTE)]
    told = json.dumps([near.outcome for near, _ in shown])
    told += json.dumps([pair.attacker.data(query, {"name": NEAR}) for query in (HISTORY, SPENT)])
    # The rows themselves, as the owner has them and as they are prepared, are where they belong.
    files = [file for file in pair.server.data_dir.rglob("*") if file.is_file()]
    kept = {file.name: file.read_bytes() for file in files if file.suffix not in (".arrow", ".csv")}
    assert {"lomas.db", "server.log"} <= kept.keys()
    for name in ("who", "income", "note", "kind"):
        assert PLANTED[name] not in told
        assert [file for file, content in kept.items() if PLANTED[name].encode() in content] == []

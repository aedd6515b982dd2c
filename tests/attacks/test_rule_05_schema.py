"""Rule 5, in the contract: no input of the schema has a place for a seed, an accountant or an internal."""

from __future__ import annotations

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType

from lomas_gql.libraries.diffprivlib.estimators import SPECS
from lomas_gql.libraries.smartnoise_synth.plan import KINDS
from lomas_gql.schema.schema import schema
from tests.attacks.neighbours import EXECUTE, NEAR, Pair

INTERNAL = {"random_state", "seed", "rng", "accountant", "disabled_dp", "sigma", "rounds", "epochs", "max_ids"}
INTERNAL |= {"censor_dims", "row_privacy", "clamp_counts", "clamp_columns", "neighborhood", "sample_max_ids", "rows"}
INTERNAL |= {"lib", "margins", "max_contributions", "d_in", "num_rows", "verbose", "warm_start", "n_jobs", "delta_"}

# Dummy rows are public, and which rows a model sees is no noise: each row's side follows from its own content.
PUBLIC = {"DummyInput.rows", "DummyInput.seed", "DiffprivlibInput.splitSeed"}


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def test_no_input_takes_a_seed_an_accountant_or_a_claim() -> None:
    types = schema._schema.type_map.values()
    inputs = [kind for kind in types if isinstance(kind, GraphQLInputObjectType)]
    fields = {(f"{kind.name}.{name}", snake(name)) for kind in inputs for name in kind.fields}
    assert len(fields) > 30
    assert {place for place, name in fields if name in INTERNAL or "seed" in name} == PUBLIC
    [mutations] = [kind for kind in types if isinstance(kind, GraphQLObjectType) and kind.name == "Mutation"]
    arguments = {name for field in mutations.fields.values() for name in field.args}
    assert arguments == {"input", "dummy", "idempotencyKey", "reuse", "release"}


def test_no_allowlist_of_parameters_has_an_internal() -> None:
    allowed = {name for spec in SPECS.values() for name in spec.parameters}
    allowed |= {name for kind in KINDS.values() for name in kind.params}
    assert allowed & INTERNAL == set()


@pytest.mark.parametrize("name", sorted(INTERNAL))
def test_an_internal_is_an_unknown_field_of_each_library(pair: Pair, name: str) -> None:
    for library in ("smartnoiseSql", "opendp", "diffprivlib", "smartnoiseSynth"):
        query = {"dataset": NEAR, "query": {library: {name: 1}}}
        answer = pair.attacker.post(EXECUTE, {"input": query}).json()
        assert "data" not in answer or answer["data"] is None
        assert answer["errors"]

"""The libraries' queries as GraphQL inputs: the very dataclasses, decorated."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any, TypeVar

import strawberry
from strawberry.types.base import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from lomas_gql.libraries.diffprivlib.estimators import DiffprivlibEstimator
from lomas_gql.libraries.diffprivlib.plan import Imputation
from lomas_gql.libraries.diffprivlib.query import DiffprivlibQuery, PipelineStep
from lomas_gql.libraries.opendp.query import OpenDpNoise, OpenDpQuery
from lomas_gql.libraries.smartnoise_sql.query import MechanismChoice, SmartnoiseSqlQuery, SqlMechanism, SqlStatistic
from lomas_gql.libraries.smartnoise_synth.plan import Bins, Synthesizer
from lomas_gql.libraries.smartnoise_synth.query import SmartnoiseSynthQuery
from lomas_gql.schema.scalars import JSON
from lomas_gql.schema.words import described_enum
from lomas_gql.services import releases

T = TypeVar("T")


def _described_input(query: type[T], name: str) -> type[T]:
    """Makes a query's dataclass a GraphQL input, with the descriptions of its fields."""
    descriptions = {f.name: f.metadata.get("description") for f in dataclasses.fields(query)}  # type: ignore[arg-type]
    # A library knows no scalars: what it calls Any is JSON here.
    any_json = {field: JSON | None for field, kind in query.__annotations__.items() if kind == "Any"}
    query.__annotations__ |= any_json
    decorated = strawberry.input(query, name=name, description=query.__doc__)
    for field in get_object_definition(decorated, strict=True).fields:
        field.description = descriptions[field.python_name]
        if field.default is None:
            # Absent, not null: the contract's optional fields have no default.
            field.default = dataclasses.MISSING
            field.default_value = strawberry.UNSET
    return decorated


for _words in (SqlStatistic, SqlMechanism, OpenDpNoise, Synthesizer, DiffprivlibEstimator, Imputation):
    described_enum(_words)
_described_input(MechanismChoice, "MechanismInput")
_described_input(SmartnoiseSqlQuery, "SmartnoiseSqlInput")
_described_input(OpenDpQuery, "OpenDpInput")
_described_input(Bins, "BinsInput")
_described_input(SmartnoiseSynthQuery, "SmartnoiseSynthInput")
_described_input(PipelineStep, "PipelineStepInput")
_described_input(DiffprivlibQuery, "DiffprivlibInput")


@strawberry.input(one_of=True, description="A query in one of the libraries: give exactly one field.")
class LibraryQueryInput:
    opendp: OpenDpQuery | None = strawberry.field(
        default=strawberry.UNSET, description="A measurement or a Polars plan of OpenDP."
    )
    smartnoise_sql: SmartnoiseSqlQuery | None = strawberry.field(
        default=strawberry.UNSET, description="A SELECT of SmartNoise SQL."
    )
    smartnoise_synth: SmartnoiseSynthQuery | None = strawberry.field(
        default=strawberry.UNSET, description="A synthesizer of SmartNoise Synth."
    )
    diffprivlib: DiffprivlibQuery | None = strawberry.field(
        default=strawberry.UNSET, description="A model of diffprivlib, or a pipeline."
    )


@strawberry.input(description="A query and the dataset that it is for.")
class DpQueryInput:
    dataset: str = strawberry.field(description="The dataset's name, as `datasets` lists it.")
    query: LibraryQueryInput = strawberry.field(description="The query, in one of the libraries.")

    def asked(self) -> releases.Input:
        """The query itself, and the JSON in which it was sent."""
        [(name, query)] = [(k, v) for k, v in vars(self.query).items() if v is not strawberry.UNSET]
        return releases.Input(self.dataset, query, {to_camel_case(name): _sent(query)})


@strawberry.input(description="The dummy rows on which a query is tried: random, from public metadata alone.")
class DummyInput:
    rows: int = strawberry.field(default=100, description="How many rows, from 0 to `limits.maxDummyRows`.")
    seed: int = strawberry.field(default=42, description="The same seed gives the same rows.")


def _sent(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return [_sent(item) for item in value]
    if dataclasses.is_dataclass(value):
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {to_camel_case(name): _sent(item) for name, item in given.items() if item is not None}
    return value

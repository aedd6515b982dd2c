"""What the attacks are tried on: fixtures of the tests of each room, under names that do not meet."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from lomas_gql.datasets.typing import fit
from lomas_gql.metadata import Metadata
from lomas_gql.rows import Rows
from lomas_gql.services import administration
from tests.attacks import neighbours
from tests.attacks.neighbours import FAR, NEAR, Pair
from tests.libraries import test_diffprivlib as models
from tests.libraries.test_diffprivlib import mixed, raw_penguins
from tests.libraries.test_smartnoise_synth import penguins
from tests.services.test_releases import runtime
from tests.workers.test_pool import workers

__all__ = ["mixed", "penguins", "raw_penguins", "runtime", "workers"]


@pytest.fixture(scope="module")
def bird() -> Metadata:
    """Penguins as a model reads them: the measures may be null."""
    return Metadata.parse(models.PENGUIN)


@pytest.fixture(scope="module")
def birds(raw_penguins: pl.DataFrame, bird: Metadata) -> Rows:
    """The penguins themselves."""
    return Rows(fit(raw_penguins.lazy(), bird, 1).collect(), bird)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A server of two neighbouring datasets, and an attacker who may spend much on both."""
    server = neighbours.served(tmp_path_factory.mktemp("pair"))
    server.start()
    attacker = server.user("100000", "1", NEAR)
    name = attacker.data("{ viewer { name } }")["viewer"]["name"]
    server.run(lambda database: administration.grant(database, name, FAR, "100000", "1"))
    yield Pair(server, attacker)
    server.stop()

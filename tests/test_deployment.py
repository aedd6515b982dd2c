"""What docs/deployment.md says: several servers share the database and nothing else, and its names are the code's."""

from __future__ import annotations

import asyncio
import configparser
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from lomas_gql.settings import Login, Settings
from tests import faults
from tests.conftest import Client, Server, new_server
from tests.test_long_work import followed

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FILES = [DOCS / "deployment.md", *sorted((DOCS / "deployment").iterdir())]
SUBMIT = """mutation($synthesizer: Synthesizer!) { submit(input: {dataset: "PENGUIN", query: {smartnoiseSynth:
  {synthesizer: $synthesizer, epsilon: 1, delta: 1e-5, sampleRows: 0}}}) { ... on Submitted { release { id status } } } }"""
COUNT = """mutation($key: String) { execute(idempotencyKey: $key, input: {dataset: "PENGUIN", query: {smartnoiseSql:
  {sql: "SELECT COUNT(*) AS n FROM df", epsilon: 0.5, delta: 0}}}) { __typename
    ... on Executed { replayed release { id } result { ... on SmartnoiseSqlResult { table { rows } } } } } }"""


@pytest.fixture(scope="module")
def pair(postgresql: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers on one PostgreSQL, each with a data directory of its own."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE DATABASE deployed")
    options = faults.LIGHT | {"LOMAS_DATABASE_URL": postgresql.replace("/postgres?", "/deployed?")}
    one = new_server(tmp_path_factory.mktemp("one"), **options)
    other = Server(tmp_path_factory.mktemp("other"), options)
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Server.start, (one, other)))
        yield one, other
    finally:
        one.stop()
        other.stop()


@pytest.fixture
def ways(pair: tuple[Server, Server]) -> tuple[Client, Client]:
    """One user's way into each server."""
    client = pair[0].user(epsilon="1")
    return client, Client(pair[1].url, client.token)


def test_a_budget_is_one_budget_through_all_servers(ways: tuple[Client, Client]) -> None:
    names = [ways[turn % 2].data(COUNT)["execute"]["__typename"] for turn in range(3)]
    assert names == ["Executed", "Executed", "BudgetExceeded"]


def test_an_answer_is_replayed_and_read_through_another_server(ways: tuple[Client, Client]) -> None:
    one, other = ways
    first, again = (client.data(COUNT, {"key": "once"})["execute"] for client in ways)
    assert (first.pop("replayed"), again.pop("replayed")) == (False, True)
    assert first == again
    query = "query($id: ID!) { release(id: $id) { status result { ... on SmartnoiseSqlResult { table { rows } } } } }"
    told = [client.data(query, {"id": first["release"]["id"]})["release"] for client in (one, other)]
    assert told == [{"status": "RELEASED", "result": first["result"]}] * 2


def test_a_submitted_release_is_followed_and_sampled_through_another_server(ways: tuple[Client, Client]) -> None:
    one, other = ways
    begun = one.data(SUBMIT, {"synthesizer": "PACSYNTH"})["submit"]["release"]
    assert begun["status"] == "RUNNING"
    states = asyncio.run(followed(other, begun["id"]))
    assert states[-1]["status"] == "RELEASED"
    sample = (
        "query($id: ID!) { release(id: $id) { result { ... on SmartnoiseSynthModel { sample(rows: 7) { rows } } } } }"
    )
    assert len(other.data(sample, {"id": begun["id"]})["release"]["result"]["sample"]["rows"]) == 7


def test_a_submitted_release_is_cancelled_through_another_server(ways: tuple[Client, Client]) -> None:
    one, other = ways
    begun = one.data(SUBMIT, {"synthesizer": "AIM"})["submit"]["release"]
    cancel = "mutation($id: ID!) { cancel(release: $id) { __typename } }"
    assert other.data(cancel, {"id": begun["id"]})["cancel"]["__typename"] == "Cancelled"
    assert asyncio.run(followed(one, begun["id"]))[-1]["status"] == "CANCELLED"


def known_variables() -> set[str]:
    return {f"LOMAS_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_deployment_names_settings_of_the_code(file: Path) -> None:
    for name in re.findall(r"\bLOMAS_[A-Z_]+", file.read_text()):
        variable, _, login = name.partition("__")
        assert variable in known_variables(), name
        # "LOMAS_CREDENTIALS__…" in the text, or __NAME__FIELD of a login.
        if login.strip("_"):
            fields = [
                str(choice) for field in Login.model_fields.values() for choice in field.validation_alias.choices
            ]  # type: ignore[union-attr]
            assert login.partition("__")[2].lower() in fields, name


def test_the_environment_file_is_what_a_server_accepts(tmp_path: Path) -> None:
    shown = (DOCS / "deployment" / "lomas.env").read_text().replace("\n#LOMAS", "\nLOMAS")
    (tmp_path / "lomas.env").write_text(shown)
    settings = Settings(_env_file=tmp_path / "lomas.env")  # type: ignore[call-arg]
    assert settings.url.startswith("postgresql+psycopg://lomas:")
    assert settings.login("minio") is not None
    assert settings.origins == ("https://dashboard.example.org",)


def test_the_files_fit_each_other_and_the_project() -> None:
    folder = DOCS / "deployment"
    compose: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    assert set(compose["services"]) == {"database", "migrate", "server", "proxy"}
    build = compose["services"]["server"]["build"]
    assert (folder / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == folder / "Dockerfile"
    # A name of their own: two servers of one name take each other's releases for dead.
    assert all("hostname" not in service for service in compose["services"].values())
    assert compose["configs"]["upstream"]["content"].startswith("upstream lomas ")
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (folder / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(folder / "lomas-gql.service")
    # Else systemd's signal ends the workers, and with them what they run.
    assert unit["Service"]["KillMode"] == "mixed"
    # A server must see the others of its host.
    assert "ProtectProc" not in unit["Service"]


def test_deployment_links_to_files_that_exist() -> None:
    page = DOCS / "deployment.md"
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (DOCS / link).exists(), link

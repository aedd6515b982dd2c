"""The command line, as an owner types it."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lomas_gql.cli import app, main
from tests.conftest import DEMO


@dataclass
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def lomas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder, with a data directory of its own."""
    for name in [name for name in os.environ if name.startswith("LOMAS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOMAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, **more: str) -> Ended:
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["lomas-gql", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


def succeed(result: Ended) -> str:
    assert result.code == 0, result.stderr
    return result.stdout


def test_an_owner_sets_up_users_budgets_and_tokens(lomas: Run) -> None:
    succeed(lomas("db", "upgrade"))
    assert "dataset PENGUIN: added" in succeed(lomas("catalogue", "import", str(DEMO / "catalogue.yaml")))
    assert "nothing to change" in succeed(lomas("catalogue", "import", str(DEMO / "catalogue.yaml")))
    assert "PENGUIN" in succeed(lomas("dataset", "list"))
    assert "flipper_length_mm" in succeed(lomas("dataset", "show", "PENGUIN"))
    succeed(lomas("user", "add", "new", "--email", "new@example.org"))
    assert "epsilon 0 of 2.5 spent" in succeed(
        lomas("grant", "new", "PENGUIN", "--epsilon", "2.5", "--delta", "1e-5")
    )
    assert "PENGUIN\tepsilon 0 of 2.5 spent, delta 0 of 0.00001 spent" in succeed(lomas("user", "show", "new"))
    secret = succeed(lomas("token", "create", "new", "--expires-in", "30")).strip()
    assert re.fullmatch(r"lomas_[\w-]{43}", secret)
    listed = succeed(lomas("token", "list"))
    assert "new" in listed
    assert "valid" in listed
    assert secret not in listed
    succeed(lomas("token", "revoke", "1"))
    assert "revoked" in succeed(lomas("token", "list"))
    assert "caps: none" in succeed(lomas("dataset", "show", "PENGUIN"))
    capped = succeed(lomas("dataset", "cap", "PENGUIN", "--epsilon", "50", "--query-epsilon", "2"))
    assert capped == "PENGUIN: epsilon 50 left over all users, epsilon 2 for one query\n"
    assert "epsilon 2 for one query" in succeed(lomas("dataset", "cap", "PENGUIN", "--epsilon", "none"))
    succeed(lomas("user", "remove", "new"))
    assert "new" not in succeed(lomas("user", "list"))
    succeed(lomas("dataset", "remove", "IRIS"))
    assert "IRIS" not in succeed(lomas("dataset", "list"))
    lines = [json.loads(line) for line in succeed(lomas("audit", "export")).splitlines()]
    assert lines[-1]["kind"] == "DATASET_REMOVED"
    verified = succeed(lomas("audit", "verify"))
    assert verified.endswith(f"head: {lines[-1]['hash']}\n")
    assert succeed(lomas("audit", "verify", "--head", lines[3]["hash"])) == verified


def test_a_tampered_budget_is_told_with_exit_code_1(lomas: Run, tmp_path: Path) -> None:
    succeed(lomas("db", "upgrade"))
    succeed(lomas("catalogue", "import", str(DEMO / "catalogue.yaml")))
    with sqlite3.connect(tmp_path / "data" / "lomas.db") as connection:
        connection.execute("UPDATE user_grant SET initial_epsilon = 1 WHERE user_id = 1 AND dataset_id = 1")
    failed = lomas("audit", "verify")
    assert failed.code == 1
    assert "grant of ample on PENGUIN: initial is epsilon 0.000000000001" in failed.stdout
    assert "findings: 1;" in failed.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["user", "show", "nobody"], "no user nobody"),
        (["user", "remove", "nobody"], "no user nobody"),
        (["dataset", "show", "none"], "no dataset none"),
        (["token", "create", "nobody"], "no user nobody"),
        (["token", "revoke", "99"], "no token 99"),
        (["dataset", "cap", "none", "--epsilon", "1"], "no dataset none"),
        (["user", "add", ""], "1 to 200 characters"),
        (["grant", "a", "b", "--epsilon", "NaN", "--delta", "0"], "NaN is not a finite number"),
        (["grant", "a", "b", "--epsilon", "ten", "--delta", "0"], "ten is not a number"),
        (["grant", "a", "b", "--epsilon", "1", "--delta", "Infinity"], "Infinity is not a finite number"),
        (["catalogue", "import", "none.yaml"], "none.yaml: the whole file: No such file"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_1(lomas: Run, words: list[str], told: str) -> None:
    succeed(lomas("db", "upgrade"))
    failed = lomas(*words)
    assert failed.code == 1
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("words", [["serve", "--port", "0"], ["user", "list"], ["token", "list"]])
def test_an_unmigrated_database_is_named_with_what_to_type(lomas: Run, words: list[str]) -> None:
    failed = lomas(*words)
    assert failed.code == 1
    assert failed.stderr == "lomas-gql: the database is not migrated; type: lomas-gql db upgrade\n"


def test_a_bad_setting_is_named(lomas: Run) -> None:
    failed = lomas("user", "list", LOMAS_PRIVATE_WORKERS="many")
    assert failed.code == 1
    assert "LOMAS_PRIVATE_WORKERS" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("LOMAS_CREDENTIALS", "{planted", "credentials"),
        ("LOMAS_CREDENTIALS__MINIO", "planted", "LOMAS_CREDENTIALS__MINIO:"),
        ("LOMAS_CREDENTIALS__MINIO__PASSWORD", "planted", "LOMAS_CREDENTIALS__MINIO__USERNAME: Field required"),
        ("LOMAS_CREDENTIALS__MINIO__PASWORD", "planted", "LOMAS_CREDENTIALS__MINIO__"),
    ],
)
def test_a_mistake_in_credentials_is_one_clear_line_without_the_secret(
    lomas: Run, setting: str, value: str, told: str
) -> None:
    failed = lomas("user", "list", **{setting: value})
    assert failed.code == 1
    assert told in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert "planted" not in failed.stderr


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "postgresql://127.0.0.1:1/x"])
def test_a_database_that_cannot_be_used_is_one_clear_line(lomas: Run, url: str) -> None:
    failed = lomas("serve", LOMAS_DATABASE_URL=url)
    assert failed.code == 1
    assert "Traceback" not in failed.stderr


def test_a_taken_port_is_one_clear_line(lomas: Run) -> None:
    succeed(lomas("db", "upgrade"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failed = lomas("serve", "--port", str(taken.getsockname()[1]))
    assert failed.code == 1
    assert "cannot listen on 127.0.0.1" in failed.stderr


def test_a_database_that_is_away_is_one_clear_line(lomas: Run) -> None:
    failed = lomas("serve", LOMAS_DATABASE_URL="sqlite:////proc/nowhere/x.db")
    assert failed.code == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [[], ["demo"], ["serve"], ["db", "upgrade"], ["catalogue", "import"], ["grant"]]
    + [["dataset", verb] for verb in ("list", "show", "cap", "remove")]
    + [["user", verb] for verb in ("list", "show", "add", "remove")]
    + [["token", verb] for verb in ("create", "list", "revoke")]
    + [["audit", verb] for verb in ("verify", "export")],
)
def test_every_command_has_help(words: list[str]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.split("Usage")[1]) > 150

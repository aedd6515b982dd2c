"""Credentials by name, as an owner writes them into the environment or into .env."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lomas_gql.datasets.fetching import login
from lomas_gql.errors import SourceUnavailable
from lomas_gql.settings import Settings


@pytest.mark.parametrize("name", ["minio-1", "MINIO_1", "Minio-1"])
def test_a_name_is_found_in_any_case_and_with_a_dash(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LOMAS_CREDENTIALS__MINIO_1__ACCESS_KEY_ID", "id")
    monkeypatch.setenv("LOMAS_CREDENTIALS__MINIO_1__SECRET_ACCESS_KEY", "key")
    assert login(name).secrets == ("id", "key")


@pytest.mark.parametrize("password", ["12345", "1e5", "true", "null", '{"a": 1}', "[1]", " spaced ", "p%40$x"])
def test_a_password_is_taken_letter_by_letter(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("LOMAS_CREDENTIALS__X__USERNAME", "007")
    monkeypatch.setenv("LOMAS_CREDENTIALS__X__PASSWORD", password)
    assert login("x").secrets == ("007", password)


def test_credentials_may_stand_in_a_file_or_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("LOMAS_CREDENTIALS__X__USERNAME=user\nLOMAS_CREDENTIALS__X__PASSWORD=word\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOMAS_CREDENTIALS", '{"y": {"username": "other", "password": "words"}}')
    assert login("x").secrets == ("user", "word")
    assert login("y").secrets == ("other", "words")


def test_an_unknown_name_is_told_with_what_to_set() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        login("none-such")
    assert "LOMAS_CREDENTIALS__NONE_SUCH__USERNAME and LOMAS_CREDENTIALS__NONE_SUCH__PASSWORD" in caught.value.reason


def test_a_mistake_in_credentials_does_not_print_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOMAS_CREDENTIALS__X__PASSWORD", "planted")
    monkeypatch.setenv("LOMAS_CREDENTIALS__X__PASSWROD", "planted")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "planted" not in str(caught.value) + repr(caught.value)

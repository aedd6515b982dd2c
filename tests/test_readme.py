"""The README names every setting, as the code has it."""

from __future__ import annotations

from pathlib import Path

from lomas_gql.settings import Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


# Defaults that are told in words.
TOLD = {
    "data_dir": "the user's data folder",
    "database_url": "`lomas.db` in the data folder",
    "cors_origins": "none",
    "credentials": "none",
    "spark_conf": "none",
}


def settings_table() -> str:
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = TOLD.get(name, field.default)
        rows.append(f"| `LOMAS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_readme_lists_the_settings_of_the_code() -> None:
    assert settings_table() in README, settings_table()

"""The README names every setting, as the code has it."""

from __future__ import annotations

from pathlib import Path

from lomas_gql.settings import Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


def settings_table() -> str:
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "the user's data folder" if name == "data_dir" else field.default or "`lomas.db` in the data folder"
        rows.append(f"| `LOMAS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_readme_lists_the_settings_of_the_code() -> None:
    assert settings_table() in README, settings_table()

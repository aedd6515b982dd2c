"""The threat model names its tests, and all of them: a line without its test, or a test without its line, is told."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent
MODEL = (TOP / "docs" / "threat-model.md").read_text()
# They try the traps and the tables themselves.
OWN = {"test_the_traps_catch", "test_the_names_of_a_model_are_looked_at"}


def attacks() -> dict[str, str]:
    """Each attack and its file."""
    return {
        node.name: file.name
        for file in HERE.glob("test_*.py")
        if file != Path(__file__)
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_test_of_the_model_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", MODEL))
    assert len(named) > 80
    assert named - attacks().keys() == set()
    files = set(re.findall(r"`(test_\w+\.py)`", MODEL))
    assert files - {file.name for file in HERE.glob("*.py")} == set()
    others = set(re.findall(r"`(tests/[\w/]+\.py)`", MODEL))
    assert [path for path in others if not (TOP / path).exists()] == []


def test_every_place_of_the_model_is_there() -> None:
    for folder, module in set(re.findall(r"`(?!tests/)([a-z_]+)/([a-z_]+)[.`]", MODEL)):
        found = [*(TOP / "lomas_gql").rglob(f"{folder}/{module}.py")]
        assert len(found) == 1, f"{folder}/{module}"
    for folder, module, name in set(re.findall(r"`(?!tests/)([a-z_]+)/([a-z_]+)\.(\w+)", MODEL)):
        if name != "py":
            [file] = (TOP / "lomas_gql").rglob(f"{folder}/{module}.py")
            assert re.search(rf"(def|class) {name}\b|^{name}\b", file.read_text(), re.MULTILINE), name


def test_every_attack_stands_in_the_model() -> None:
    told = {name for name, file in attacks().items() if f"`{name}`" in MODEL}
    by_rule = {name for name, file in attacks().items() if f"`{file}`" in MODEL}
    assert attacks().keys() - told - by_rule - OWN == set()

"""Mutations of JSON values that are near the valid: nodes swapped, spliced, deepened, and filled with what hurts."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Path = tuple[Any, ...]

LONG = bool(os.environ.get("FUZZ"))
"""`make fuzz`: other seeds each time, and many more examples."""

HURTFUL: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400),
    *(0.0, -0.0, 5e-324, 1e-320, 1e-300, 1e308, -1e308, 0.1, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "\0",
        "\x1b[0m",
        "\ud800",
        "\U0001f427",
        "é",
        "a\nb",
        "'",
        '"',
        "\\",
        "; DROP",
        "^.*$",
        "*",
        "NaN",
        "1e999",
    ),
    *("x" * 5_000, "{}", "[]", [], {}, [[]], {"": None}, [None] * 300, {"__proto__": {}}, {"a": {"a": {"a": {}}}}),
]


def fuzzed(examples: int) -> Any:
    """The settings of a fuzz test: bounded and repeatable in the suite, far longer in `make fuzz`."""
    return settings(
        max_examples=examples * 20 if LONG else examples,
        derandomize=not LONG,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def places(value: Any, path: Path = ()) -> list[Path]:
    """The path of every node; of a long list, of its first items only."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:8]) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """`value` with `new` at `path`; the rest is shared."""
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


anything = st.sampled_from(HURTFUL) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn, corpus: list[Any], most: int = 3) -> Any:
    """One of `corpus` after one to `most` changes, with nodes of the others among what is put in."""
    value = draw(st.sampled_from(corpus))
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(value)))
        node = at(value, path)
        value = replaced(value, path, draw(_change(node, corpus)))
    return value


@st.composite
def _change(draw: st.DrawFn, node: Any, corpus: list[Any]) -> Any:
    """What stands in the place of `node`."""
    kind = draw(st.sampled_from(["put", "splice", "wrap", "lose", "add", "double", "rename"]))
    if kind == "splice":
        other = draw(st.sampled_from(corpus))
        return at(other, draw(st.sampled_from(places(other))))
    if kind == "wrap":
        return draw(st.sampled_from([[node], {"x": node}, [node, node], json.dumps(node, default=str)]))
    if isinstance(node, dict) and node:
        key = draw(st.sampled_from(sorted(node)))
        rest = {name: item for name, item in node.items() if name != key}
        match kind:
            case "lose":
                return rest
            case "rename":
                return rest | {draw(st.sampled_from(sorted(node)) | st.text(max_size=5)): node[key]}
            case "add":
                return node | {draw(st.text(max_size=5)): draw(anything)}
    if isinstance(node, list):
        match kind:
            case "lose":
                return node[1:]
            case "double":
                return node * draw(st.sampled_from([2, 50]))
            case "add":
                return [*node, draw(anything)]
    if isinstance(node, int | float) and kind == "double":
        return draw(st.sampled_from([-node, 0 * node, str(node), 0.5]))
    return copy.copy(draw(anything))


def deepened(value: Any, path: Path, depth: int) -> str:
    """The text of `value` with the node at `path` nested `depth` times: json.dumps itself would not go so deep."""
    marked = json.dumps(replaced(value, path, "\x02"))
    return marked.replace(json.dumps("\x02"), "[" * depth + "]" * depth)

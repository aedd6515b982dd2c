"""Rule 3, in OpenDP's measurements: the text names functions, and only those of a closed table are called.

Enforced in `libraries/opendp/measurement._call`; `dp.deserialize` is never used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import opendp.prelude as dp
import pytest

from tests.libraries import test_opendp_measurement as measurements


def by_name(function: str, module: str, **arguments: Any) -> str:
    """A query whose count reads the domain that `function` would make: the text that an attacker writes."""
    text = json.loads(dp.serialize(measurements.counted()))
    call = {"__function__": function, "__module__": module, "__kwargs__": arguments, "__version__": "0.14.2"}
    text["__kwargs__"]["transformation0"] = call
    return json.dumps(text)


@pytest.mark.parametrize(
    ("function", "module", "word"),
    [
        ("make_user_transformation", "transformations", "Python code"),
        ("user_domain", "domains", "Python code"),
        ("new_function", "core", "Python code"),
        ("new_queryable", "core", "Python code"),
        ("make_population_amplification", "combinators", "claim"),
        ("make_metric_bounded", "transformations", "claim"),
        ("make_adaptive_composition", "combinators", "interactive"),
        ("make_privacy_filter", "combinators", "interactive"),
        ("make_alp_queryable", "measurements", "interactive"),
        ("make_randomized_response_bool", "measurements", "randomized response"),
        ("make_sized_bounded_float_checked_sum", "transformations", "claim"),
        ("make_private_lazyframe", "measurements", "polarsPlan"),
        ("enable_features", "mod", "constructs nothing"),
        ("deserialize", "mod", "constructs nothing"),
        ("import_optional_dependency", "_lib", "constructs nothing"),
        ("system", "extras.numpy.os", "not on the list"),
        ("__import__('os')", "mod", "something unnamed"),
    ],
)
def test_everything_outside_the_table_is_refused_with_its_reason(function: str, module: str, word: str) -> None:
    assert word in measurements.refusal(by_name(function, module), column="species")[1]


def test_no_pickle_and_no_polars_object_is_read(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = f"cos\nsystem\n(S'touch {marker}'\ntR."
    for key in ("__expr__", "__lazyframe__", "__margin__"):
        assert "polarsPlan" in measurements.refusal(json.dumps({key: payload}), column="species")[1]
    assert measurements.refusal(
        by_name("make_user_measurement", "measurements", privacy_map=payload), column="species"
    )
    assert not marker.exists()


def test_messages_hold_no_paths() -> None:
    bad = dp.serialize(measurements.counted()).replace('"AtomDomain', "").replace('"T": "String"', '"T": "u8"')
    _, message = measurements.refusal(bad, column="species")
    assert "/" not in message
    assert "\n" not in message

"""The closed table of OpenDP constructors that a client's measurement may be made of, and of their arguments.

Every transformation in it is total: it gives an answer for each member of its input domain, so that no row
can make a run fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lomas_gql.libraries.opendp.text import LIST_LENGTH, is_number, is_text

SIZE_LIMIT = 10_000_000

_ATOM = r"(?:bool|String|[iu](?:8|16|32|64)|usize|f32|f64)"
_INNER = rf"(?:{_ATOM}|(?:Vec|Option)<{_ATOM}>)"
_MEASURE = r"(?:MaxDivergence|ZeroConcentratedDivergence|SmoothedMaxDivergence)"
# "int", "float" and "str" are not here: what they mean depends on defaults that other code may have set.
_TYPE = re.compile(
    rf"{_INNER}|(?:AbsoluteDistance|L1Distance|L2Distance|LInfDistance|Pairwise|Sequential)<{_ATOM}>"
    rf"|SymmetricDistance|InsertDeleteDistance|{_MEASURE}|Approximate<{_MEASURE}>"
)

_SPACE = {"input_domain": "domain", "input_metric": "metric"}
_NOISE = _SPACE | {"scale": "scale", "k": "absent", "MO": "type"}
_CHOICE = _SPACE | {"output_measure": "measure", "scale": "scale", "negate": "flag"}

# By module: what each constructor gives, and the kind of each of its arguments; a stock text has them all.
# - Casts are total: what cannot be cast becomes null, NaN or the type's default.
# - resize makes a size by padding and dropping (a stable transformation), so that sum, mean and variance
#   after it rest on no claim; the sums that take a size or a summation order themselves are left out.
# - Counts saturate. Float sums are built only if they cannot overflow.
# - split_* take any text; a line with too few cells is padded.
# - Functions (make_cdf …) are pure, of the library's own, and see only what was already noised.
ALLOWED: dict[str, dict[str, tuple[str, dict[str, str]]]] = {
    "domains": {
        "atom_domain": ("domain", {"bounds": "bounds", "nan": "maybe flag", "T": "type"}),
        "vector_domain": ("domain", {"atom_domain": "domain", "size": "no size"}),
        "map_domain": ("domain", {"key_domain": "domain", "value_domain": "domain"}),
    },
    "metrics": {
        "symmetric_distance": ("metric", {}),
        "absolute_distance": ("metric", {"T": "type"}),
        "l1_distance": ("metric", {"T": "type"}),
        "l2_distance": ("metric", {"T": "type"}),
        "linf_distance": ("metric", {"T": "type", "monotonic": "flag"}),
        "l01inf_distance": ("metric", {"metric": "metric"}),
        "l02inf_distance": ("metric", {"metric": "metric"}),
    },
    "measures": {
        "max_divergence": ("measure", {}),
        "zero_concentrated_divergence": ("measure", {}),
        "smoothed_max_divergence": ("measure", {}),
        "approximate": ("measure", {"measure": "measure"}),
    },
    "core": {
        "transformation_input_domain": ("domain", {"this": "transformation"}),
        "transformation_input_metric": ("metric", {"this": "transformation"}),
        "transformation_output_domain": ("domain", {"this": "transformation"}),
        "transformation_output_metric": ("metric", {"this": "transformation"}),
        "measurement_input_domain": ("domain", {"this": "measurement"}),
        "measurement_input_metric": ("metric", {"this": "measurement"}),
        "measurement_output_measure": ("measure", {"this": "measurement"}),
    },
    "transformations": {
        "make_cast": ("transformation", _SPACE | {"TOA": "type"}),
        "make_cast_default": ("transformation", _SPACE | {"TOA": "type"}),
        "make_cast_inherent": ("transformation", _SPACE | {"TOA": "type"}),
        "make_clamp": ("transformation", _SPACE | {"bounds": "bounds"}),
        "make_count": ("transformation", _SPACE | {"TO": "type"}),
        "make_count_by": ("transformation", _SPACE | {"TV": "type"}),
        "make_count_by_categories": (
            "transformation",
            _SPACE | {"categories": "atoms", "null_category": "flag", "MO": "type", "TOA": "type"},
        ),
        "make_count_distinct": ("transformation", _SPACE | {"TO": "type"}),
        "make_drop_null": ("transformation", _SPACE),
        "make_find": ("transformation", _SPACE | {"categories": "atoms"}),
        "make_find_bin": ("transformation", _SPACE | {"edges": "atoms"}),
        "make_index": ("transformation", _SPACE | {"categories": "atoms", "null": "atom", "TOA": "type"}),
        "make_impute_constant": ("transformation", _SPACE | {"constant": "atom"}),
        "make_is_equal": ("transformation", _SPACE | {"value": "atom"}),
        "make_is_null": ("transformation", _SPACE),
        "make_resize": ("transformation", _SPACE | {"size": "size", "constant": "atom", "MO": "type"}),
        "make_sum": ("transformation", _SPACE),
        "make_mean": ("transformation", _SPACE),
        "make_variance": ("transformation", _SPACE | {"ddof": "few", "S": "type"}),
        "make_b_ary_tree": (
            "transformation",
            _SPACE | {"leaf_count": "length", "branching_factor": "length"},
        ),
        "make_quantile_score_candidates": (
            "transformation",
            _SPACE | {"candidates": "atoms", "alpha": "share"},
        ),
        "make_split_lines": ("transformation", {}),
        "make_split_dataframe": ("transformation", {"separator": "comma", "col_names": "atoms", "K": "type"}),
        "make_select_column": ("transformation", {"key": "atom", "K": "type", "TOA": "type"}),
        "make_df_cast_default": (
            "transformation",
            _SPACE | {"column_name": "atom", "TIA": "type", "TOA": "type"},
        ),
        "make_df_is_equal": ("transformation", _SPACE | {"column_name": "atom", "value": "atom", "TIA": "type"}),
        "make_subset_by": ("transformation", {"indicator_column": "atom", "keep_columns": "atoms", "TK": "type"}),
        "make_cdf": ("function", {"TA": "type"}),
        "make_consistent_b_ary_tree": (
            "function",
            {"branching_factor": "length", "TIA": "type", "TOA": "type"},
        ),
        "make_quantiles_from_counts": (
            "function",
            {"bin_edges": "atoms", "alphas": "atoms", "interpolation": "atom", "TA": "type", "F": "type"},
        ),
    },
    "measurements": {
        "make_laplace": ("measurement", _NOISE),
        "make_gaussian": ("measurement", _NOISE),
        "make_geometric": ("measurement", _SPACE | {"scale": "scale", "bounds": "absent", "MO": "type"}),
        "make_laplace_threshold": ("measurement", _NOISE | {"threshold": "number"}),
        "make_gaussian_threshold": ("measurement", _NOISE | {"threshold": "number"}),
        "make_noise": ("measurement", _SPACE | {"output_measure": "measure", "scale": "scale", "k": "absent"}),
        "make_noise_threshold": (
            "measurement",
            _SPACE | {"output_measure": "measure", "scale": "scale", "threshold": "number", "k": "absent"},
        ),
        "make_noisy_max": ("measurement", _CHOICE),
        "make_noisy_top_k": ("measurement", _CHOICE | {"k": "length"}),
        "make_report_noisy_max_gumbel": ("measurement", _SPACE | {"scale": "scale", "optimize": "atom"}),
        "make_private_quantile": (
            "measurement",
            _SPACE | {"output_measure": "measure", "candidates": "atoms", "alpha": "share", "scale": "scale"},
        ),
    },
    "combinators": {
        "make_chain_tt": (
            "transformation",
            {"transformation1": "transformation", "transformation0": "transformation"},
        ),
        "make_chain_mt": ("measurement", {"measurement1": "measurement", "transformation0": "transformation"}),
        "make_chain_pm": ("measurement", {"postprocess1": "function", "measurement0": "measurement"}),
        "make_composition": ("measurement", {"measurements": "measurements"}),
        "make_basic_composition": ("measurement", {"measurements": "measurements"}),
        "make_approximate": ("measurement", {"measurement": "measurement"}),
        "make_pureDP_to_zCDP": ("measurement", {"measurement": "measurement"}),
        "make_zCDP_to_approxDP": ("measurement", {"measurement": "measurement"}),
        "make_fix_delta": ("measurement", {"measurement": "measurement", "delta": "share"}),
    },
}

_CARRIES_CODE = "it carries Python code"
_INTERACTIVE = "it is interactive; a query is answered at once, with one measurement"
_CLAIM = "it takes a claim about the rows on trust"
REFUSED = {
    r"(make_|then_)?user_|new_(function|queryable|privacy_profile)": _CARRIES_CODE,
    r"make_population_amplification": f"population amplification: {_CLAIM}",
    r"make_metric_": f"metric casts: {_CLAIM}",
    r"make_identity|renyi_divergence": "it can recast metrics or measures",
    r"make_(\w*adaptive|sequential)_composition|make_privacy_filter|odometer|queryable": _INTERACTIVE,
    r"make_alp_queryable": _INTERACTIVE,
    r"make_select_private_candidate": "how long it runs depends on the rows",
    r"make_randomized_response|debias_": "randomized response is for one person's value, not for rows",
    r"make_(sized_|bounded_)": "it takes a size or an order as a claim; use make_sum, after make_resize for floats",
    r"make_(stable|private)_(lazyframe|expr)|\w*(lazyframe|series|expr)_domain": "send a Polars plan as polarsPlan",
    r"(de)?serialize|import_\w+|enable_\w+|disable_\w+|set_\w+": "it constructs nothing",
}
"""Why some well-known names are refused, by what they begin with."""


def _checked(value: Any, holds: bool, wanted: str) -> Any:
    if not holds:
        raise ValueError(f"must be {wanted}")
    return value


def _integer(value: Any, least: int, most: int) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    return int(_checked(value, whole, f"an integer from {least:,} to {most:,}"))


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict) and value.keys() == {"__tuple__"}:
        value = value["__tuple__"]
    short = isinstance(value, list) and len(value) <= LIST_LENGTH
    return list(_checked(value, short, f"a list of at most {LIST_LENGTH:,}"))


def _atom(value: Any) -> Any:
    return _checked(value, isinstance(value, bool) or is_number(value) or is_text(value), "a number or a short text")


def _bounds(value: Any) -> Any:
    if value is None:
        return None
    pair = _items(value)
    return tuple(_checked(pair, len(pair) == 2 and all(map(is_number, pair)), "two finite numbers"))


def _type(value: Any) -> Any:
    return _checked(
        value, isinstance(value, str) and _TYPE.fullmatch(value) is not None, "one of OpenDP's type descriptors"
    )


def _number(value: Any) -> Any:
    return _checked(value, is_number(value), "a finite number")


# A known size is refused even where it is true: under adding and removing rows it makes a mean nearly free.
_SIZE_IS_A_CLAIM = "left out: a known size is a claim about the rows; make_resize makes one"

LEAVES: dict[str, Callable[[Any], Any]] = {
    "type": _type,
    "bounds": _bounds,
    "number": _number,
    "scale": lambda value: float(_checked(_number(value), value > 0, "above 0")),
    "share": lambda value: float(_checked(_number(value), 0 <= value <= 1, "between 0 and 1")),
    "size": lambda value: _integer(value, 1, SIZE_LIMIT),
    "length": lambda value: _integer(value, 1, LIST_LENGTH),
    "few": lambda value: _integer(value, 0, 10),
    "flag": lambda value: _checked(value, isinstance(value, bool), "true or false"),
    "maybe flag": lambda value: _checked(value, value is None or isinstance(value, bool), "true, false or null"),
    "atom": _atom,
    "atoms": lambda value: [_atom(item) for item in _items(value)],
    "comma": lambda value: _checked(value, value == ",", "a comma: the rows are read as CSV"),
    "absent": lambda value: _checked(value, value is None, "left out"),
    "no size": lambda value: _checked(value, value is None, _SIZE_IS_A_CLAIM),
}
"""What an argument of each kind must be; each gives the value to build with or raises a ValueError."""

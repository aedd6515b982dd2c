"""OpenDP measurements: the allowlisting walker of `dp.serialize` text, and how a measurement reads rows.

`dp.deserialize` calls any function of opendp.* that the text names, so it is never used: the walker builds
bottom-up through the closed table in `constructors`.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from importlib import import_module
from typing import Any

import opendp.prelude as dp

from lomas_gql.libraries.base import json_value
from lomas_gql.libraries.opendp.constructors import ALLOWED, LEAVES, REFUSED
from lomas_gql.libraries.opendp.text import LIST_LENGTH, building, parsed, refused, shown
from lomas_gql.metadata import BooleanColumn, CategoricalColumn, Column, Metadata, NumericColumn
from lomas_gql.rows import Rows

FIELD = "measurement"
TEXT_LIMIT = 1_000_000
# Each object is a call into Rust. Stock text repeats subtrees; equal ones are built once and count once.
OBJECT_LIMIT = 2_000

_CALL = {"__function__", "__module__", "__kwargs__", "__version__"}
# Within a cell these would end it or its line; a NUL would end the whole text on its way into Rust.
_BREAKS = re.compile("[,\0\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

_Made = tuple[Any, int]


def built(text: str) -> Any:
    """The measurement that `text` describes.

    Raises:
        InvalidQuery: a constructor or an argument outside the table, or one that OpenDP refuses.
    """
    dp.enable_features("contrib")
    value = parsed(text, FIELD, TEXT_LIMIT)
    with building(FIELD):
        return _object(value, "measurement", {})[0]


def converted(measurement: Any, fixed_delta: float | None) -> Any:
    """`measurement` with a loss in epsilon, or in (epsilon, delta).

    zCDP (rho) and privacy profiles are read at `fixed_delta`.

    Raises:
        InvalidQuery: fixedDelta is missing, or given where nothing reads it, or there is no conversion.
    """
    measure = str(measurement.output_measure.type)
    if measure in ("MaxDivergence", "Approximate<MaxDivergence>"):
        if fixed_delta is not None:
            raise refused("fixedDelta", "it is unused: the measurement's loss is already in epsilon and delta")
        return measurement
    inner = measure.removeprefix("Approximate<").removesuffix(">")
    if inner not in ("ZeroConcentratedDivergence", "SmoothedMaxDivergence"):
        raise refused(FIELD, f"there is no conversion of {shown(inner)} to epsilon and delta")
    if not fixed_delta:
        raise refused("fixedDelta", f"it is required for {inner}, and above 0: epsilon is charged at this delta")
    with building("fixedDelta"):
        if inner == "ZeroConcentratedDivergence":
            measurement = dp.c.make_zCDP_to_approxDP(measurement)
        return dp.c.make_fix_delta(measurement, fixed_delta)


def loss(measurement: Any, max_ids: int) -> tuple[float, float]:
    """(epsilon, delta) of a converted measurement, where an individual owns at most `max_ids` rows."""
    with building(FIELD):
        mapped = measurement.map(max_ids)
    return mapped if isinstance(mapped, tuple) else (mapped, 0.0)


def check_input(measurement: Any, metadata: Metadata, column: str | None) -> None:
    """Refuses a measurement whose input metric or domain says more than `metadata` does."""
    with building(FIELD):
        symmetric = measurement.input_metric == dp.symmetric_distance()
        domain = measurement.input_domain
        is_text_domain = str(domain.type) == "AtomDomain<String>"
    if not symmetric:
        raise refused(FIELD, "the input metric must be SymmetricDistance: neighbours differ in added or removed rows")
    if column is None:
        if not is_text_domain:
            raise refused("column", "name the column to read; only a measurement over String reads rows as CSV")
        return
    if column not in metadata.by_name:
        raise refused("column", "the dataset has no column of that name")
    if metadata.by_name[column].private_id:
        raise refused("column", "the private_id column is not read by a measurement")
    if not isinstance(domain, dp.VectorDomain) or domain.size is not None:
        raise refused(FIELD, "with a column, the input domain must be a VectorDomain without a size")
    _check_cells(domain.element_domain, metadata.by_name[column])


def released(measurement: Any, rows: Rows, column: str | None) -> Any:
    """The value that `measurement` releases of `rows`: a number, a list, or a dictionary in the order of its keys."""
    value = measurement(_argument_for(measurement, rows, column))
    return json_value(dict(sorted(value.items(), key=str)) if isinstance(value, dict) else value)


def _argument_for(measurement: Any, rows: Rows, column: str | None) -> Any:
    if column is None:
        return csv(rows)
    cells = rows.frame[column].to_list()
    match str(measurement.input_domain.carrier_type):
        case "Vec<String>":
            return [_text(cell) for cell in cells]
        case "Vec<f64>" | "Vec<f32>":
            return [float("nan") if cell is None else float(cell) for cell in cells]
    return cells


def csv(rows: Rows) -> str:
    """`rows` as text: one line for each, in metadata's column order; the private_id's cells are empty."""
    blank = [""] * rows.frame.height
    columns = [
        blank if column.private_id else [_BREAKS.sub(" ", _text(cell)) for cell in rows.frame[column.name].to_list()]
        for column in rows.metadata.columns
    ]
    # Each line ends in a break: without it, no row and one empty row would read alike.
    return "".join(",".join(cells) + "\n" for cells in zip(*columns, strict=True))


def _object(node: Any, wanted: str, made: dict[tuple[Any, ...], _Made]) -> _Made:
    module, name, arguments = _call(node)
    gives, kinds = ALLOWED[module][name]
    if gives != wanted:
        raise refused(FIELD, f"{name} stands where a {wanted} belongs")
    if arguments.keys() != kinds.keys():
        raise refused(FIELD, f"{name} takes exactly {', '.join(kinds) or 'no arguments'}")
    given = {key: _argument(f"{key} of {name}", kind, arguments[key], made) for key, kind in kinds.items()}
    identity = (name, *(mark for _, mark in given.values()))
    if identity not in made:
        if len(made) >= OBJECT_LIMIT:
            raise refused(FIELD, f"it is made of more than {OBJECT_LIMIT:,} objects")
        constructor = getattr(import_module(f"opendp.{module}"), name)
        # A deprecated constructor warns through a wrapper, and the warning would be the analyst's, not ours.
        constructor = getattr(constructor, "__wrapped__", constructor)
        made[identity] = constructor(**{key: value for key, (value, _) in given.items()}), len(made)
    return made[identity]


def _call(node: Any) -> tuple[str, str, dict[str, Any]]:
    if not isinstance(node, dict) or not _CALL >= node.keys() >= _CALL - {"__version__"}:
        if isinstance(node, dict) and node.keys() & {"__expr__", "__lazyframe__", "__margin__"}:
            raise refused(FIELD, "it holds a Polars object: send the plan as polarsPlan")
        raise refused(FIELD, "it is not what opendp.prelude.serialize writes")
    module, name, version = node["__module__"], node["__function__"], node.get("__version__", dp.__version__)
    arguments = node["__kwargs__"]
    if not all(isinstance(part, str) for part in (module, name, version)) or not isinstance(arguments, dict):
        raise refused(FIELD, "it is not what opendp.prelude.serialize writes")
    if version.split(".")[:2] != dp.__version__.split(".")[:2]:
        raise refused(FIELD, f"it comes from another version of OpenDP; this server runs {dp.__version__}")
    if module not in ALLOWED or name not in ALLOWED[module]:
        reason = next((why for start, why in REFUSED.items() if re.match(start, name)), "it is not on the list")
        raise refused(FIELD, f"{shown(name)} is not accepted: {reason}")
    return module, name, arguments


def _argument(place: str, kind: str, value: Any, made: dict[tuple[Any, ...], _Made]) -> tuple[Any, Any]:
    if kind == "measurements":
        if not isinstance(value, list) or not 0 < len(value) <= LIST_LENGTH:
            raise refused(FIELD, f"{place} must be a list of measurements")
        parts = [_object(item, "measurement", made) for item in value]
        return [part for part, _ in parts], tuple(mark for _, mark in parts)
    if kind not in LEAVES:
        return _object(value, kind, made)
    try:
        return LEAVES[kind](value), json.dumps(value)
    except ValueError as error:
        raise refused(FIELD, f"{place} {error}") from None


def _check_cells(domain: Any, column: Column) -> None:
    kind = str(domain.carrier_type)
    if kind == "String":
        return
    if isinstance(column, BooleanColumn) and kind == "bool":
        if column.nullable:
            raise refused(FIELD, f"{column.name} holds nulls; read it with T=String, where they are empty")
        return
    numeric = column if isinstance(column, NumericColumn) else None
    if not numeric and not (isinstance(column, CategoricalColumn) and column.integer):
        raise refused(FIELD, f"{column.name} is not read as {kind}; use T=String")
    # An integer outside its column's categories becomes null, so such a column always admits null.
    has_null = column.nullable or not numeric
    if kind in ("f64", "f32"):
        if has_null and not domain.nan:
            raise refused(FIELD, f"{column.name} holds nulls, which read as NaN; use atom_domain(T=float, nan=True)")
    elif not _is_integer_type(kind) or (numeric and not numeric.integer):
        raise refused(FIELD, f"{column.name} is not read as {kind}; use T=float or T=String")
    elif has_null:
        raise refused(FIELD, f"{column.name} holds nulls; read it with T=float and nan=True, where they are NaN")
    _check_bounds(domain, column, kind)


def _check_bounds(domain: Any, column: Column, kind: str) -> None:
    with building(FIELD):
        bounds = domain.bounds
    if not isinstance(column, NumericColumn):
        if bounds is not None:
            raise refused(FIELD, f"{column.name} has categories and no bounds; leave bounds out of its domain")
        return
    if bounds is not None and not (bounds[0] <= column.lower and column.upper <= bounds[1]):
        raise refused(FIELD, f"the bounds of the input domain must not be tighter than those of {column.name}")
    least, most = _range(kind)
    if not (least <= column.lower and column.upper <= most):
        raise refused(FIELD, f"{kind} does not hold every value of {column.name}")


def _is_integer_type(kind: str) -> bool:
    return re.fullmatch(r"[iu](8|16|32|64)", kind) is not None


def _range(kind: str) -> tuple[float, float]:
    if not _is_integer_type(kind):
        return float("-inf"), float("inf")
    bits = int(kind[1:])
    return (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _text(cell: Any) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case datetime():
            return cell.isoformat()
    # A NUL would end the text on its way into Rust.
    return str(cell).replace("\0", " ")

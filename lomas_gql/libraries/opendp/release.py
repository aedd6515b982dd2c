"""Gives a walked Polars plan its noise, says what that costs, and collects the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import opendp.prelude as dp
import polars as pl

from lomas_gql.libraries.base import Table, table_of
from lomas_gql.libraries.opendp.literals import FIELD
from lomas_gql.libraries.opendp.plan import Grouping, Plan
from lomas_gql.libraries.opendp.text import building, refused
from lomas_gql.metadata import (
    BooleanColumn,
    CategoricalColumn,
    Column,
    DatetimeColumn,
    Metadata,
    NumericColumn,
)
from lomas_gql.rows import Rows

# OpenDP counts rows and thresholds in 32 bits.
MOST_ROWS = 2**32 - 1
# The scale found is at most this share larger than the smallest that keeps to epsilon.
SCALE_PRECISION = 1e-9
PROPORTIONAL_STEPS = 8

Loss = tuple[float, float]


def priced(
    plan: Plan,
    metadata: Metadata,
    *,
    epsilon: float | None,
    fixed_delta: float | None,
    delta: float | None,
) -> tuple[Any, Loss]:
    """The measurement of `plan`, and its loss (epsilon, delta) by OpenDP's own map.

    Noise is Gaussian (zCDP, read at `fixed_delta`) where `fixed_delta` is given, else Laplace. Where the
    noises have no scales, the one global scale is found that keeps to `epsilon`. Groups without public keys
    get the smallest threshold that keeps to `delta`.

    Raises:
        InvalidQuery: OpenDP refuses the plan, or no scale or threshold does.
    """
    domain = _domain(plan, metadata)
    measure = dp.max_divergence() if fixed_delta is None else dp.zero_concentrated_divergence()
    if delta is not None:
        measure = dp.approximate(measure)

    def made(scale: float | None, threshold: int | None) -> Any:
        return dp.m.make_private_lazyframe(domain, dp.symmetric_distance(), measure, plan.lazy, scale, threshold)

    def loss(scale: float | None, threshold: int | None, at: float) -> Loss:
        measurement = made(scale, threshold)
        if fixed_delta is not None:
            measurement = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(measurement), at)
        mapped = measurement.map(metadata.max_ids)
        return mapped if isinstance(mapped, tuple) else (mapped, 0.0)

    with building(FIELD):
        widest = None if delta is None else MOST_ROWS
        at = fixed_delta or 0.0
        scale = None if epsilon is None else _smallest_scale(lambda s: loss(s, widest, at)[0], epsilon)
        threshold = None
        if delta is not None:
            # A hair less than delta: zCDP is then read at no less than fixedDelta, as it was for the scale.
            hidden = delta * (1 - 1e-6)
            threshold = _smallest_threshold(lambda t: made(scale, t).map(metadata.max_ids)[1], hidden)
        return made(scale, threshold), loss(scale, threshold, at + (delta or 0.0))


def collected(plan: Plan, measurement: Any, rows: Rows) -> Table:
    """What `measurement` releases of `rows`, in an order that depends on nothing but the released cells."""
    answer = measurement(rows.frame.select(plan.columns).lazy()).collect()
    answer = _arranged(answer, plan.grouping)
    for order in plan.orders:
        answer = answer.sort(order.by, descending=order.descending, nulls_last=order.nulls_last, maintain_order=True)
    return table_of([(name, _kind(dtype)) for name, dtype in answer.schema.items()], answer.rows())


def _domain(plan: Plan, metadata: Metadata) -> Any:
    """What metadata says of the rows, and no more. Margins hold no invariants: keys come by a join."""
    domain = dp.lazyframe_domain(
        [_series_domain(column) for column in metadata.columns if column.name in plan.columns]
    )
    # Twice the declared number of rows: a loose bound that the relaxation of float sums needs.
    longest = min(2 * metadata.rows, MOST_ROWS)
    domain = dp.with_margin(domain, dp.polars.Margin(by=[], max_length=longest))
    group = plan.grouping
    if group.untouched:
        limit = metadata.by_name[group.by[0]].max_partition_length if len(group.by) == 1 else None
        margin = dp.polars.Margin(
            by=list(group.by),
            max_length=min(longest, limit or longest),
            max_groups=_most_groups([metadata.by_name[name] for name in group.by], longest),
        )
        domain = dp.with_margin(domain, margin)
    return domain


def _most_groups(columns: list[Column], rows: int) -> int:
    """How many groups there can be: as many as combinations of values within metadata, or as rows."""
    counts = [
        len(column.keys)
        if column.keys is not None
        else int(column.upper) - int(column.lower) + 2
        if isinstance(column, NumericColumn) and column.integer
        else rows
        for column in columns
    ]
    return min(rows, math.prod(counts))


def _series_domain(column: Column) -> Any:
    match column:
        case NumericColumn(integer=True, lower=lower, upper=upper):
            element = dp.atom_domain(T="i64", bounds=(int(lower), int(upper)))
        case NumericColumn(lower=lower, upper=upper):
            element = dp.atom_domain(T="f64", bounds=(float(lower), float(upper)), nan=False)
        case CategoricalColumn(integer=True):
            element = dp.atom_domain(T="i64")
        case BooleanColumn():
            element = dp.atom_domain(T="bool")
        case DatetimeColumn():
            element = dp.datetime_domain("us")
        case _:
            element = dp.atom_domain(T="String")
    admits_null = column.admits_null if isinstance(column, CategoricalColumn) else column.nullable
    return dp.series_domain(column.name, dp.option_domain(element) if admits_null else element)


def _smallest_scale(epsilon_at: Callable[[float], float], target: float) -> float:
    """Epsilon falls about as 1/scale does: a few proportional steps, a narrow bracket, and a bisection."""

    def reached(scale: float) -> float:
        try:
            return epsilon_at(scale)
        except dp.OpenDPException:
            # The library's arithmetic overflows at scales near 0 and near the largest float.
            return math.inf

    high, epsilon = 1.0, epsilon_at(1.0)
    for _ in range(PROPORTIONAL_STEPS):
        if not 0 < epsilon < math.inf:
            raise refused(FIELD, "no scale of its noise can be found: nothing in it depends on the rows, or too much")
        high *= epsilon / target
        epsilon = reached(high)
        if math.isclose(epsilon, target, rel_tol=SCALE_PRECISION):
            break
    step = 1 + SCALE_PRECISION
    while reached(high) > target:
        high, step = high * step, step**4
        if step > 1e30:
            raise refused("epsilon", "there is no scale of noise that keeps to it")
    low, step = high / (1 + SCALE_PRECISION), 1 + SCALE_PRECISION
    while reached(low) <= target and step < 1e30:
        high, low, step = low, low / step, step**4
    while high / low > 1 + SCALE_PRECISION:
        middle = math.sqrt(low) * math.sqrt(high)
        low, high = (low, middle) if reached(middle) <= target else (middle, high)
    return high


def _smallest_threshold(delta_at: Callable[[int], float], target: float) -> int:
    def keeps(threshold: int) -> bool:
        try:
            return delta_at(threshold) <= target
        except dp.OpenDPException:
            # A threshold within one individual's rows hides nobody.
            return False

    low, high = 0, MOST_ROWS
    # Once as it is, for the library's own reason where there is one.
    if delta_at(high) > target:
        raise refused("delta", "there is no threshold that keeps to it")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _arranged(answer: pl.DataFrame, grouping: Grouping) -> pl.DataFrame:
    if grouping.keys is not None:
        place = {key: index for index, key in enumerate(grouping.keys)}
        places = [place[key] for key in answer.select(grouping.by).rows()]
        return answer[sorted(range(len(places)), key=places.__getitem__)]
    by = [pl.col(name).cast(pl.String) if _kind(answer.schema[name]) == "string" else name for name in grouping.by]
    return answer.sort(by, nulls_last=True) if by else answer


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "int"
    if dtype.is_numeric():
        return "float"
    if dtype.is_temporal():
        return "datetime"
    return "boolean" if dtype == pl.Boolean else "string"

"""What each library does when it is called by itself, on rows that are ready in this process.

Each function takes the rows and gives the query as a client sends it, with a call of the library that does the same
work. Libraries are imported late: a benchmark of one need not wait for all.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import polars as pl
from asking import Query
from timing import Call

from lomas_gql.metadata import CategoricalColumn, NumericColumn
from lomas_gql.rows import Rows

EPSILON = 1.0
BILL = "bill_length_mm"
FEATURES = [BILL, "bill_depth_mm", "flipper_length_mm"]
SYNTHESIZED = ["species", "island", "sex", "year"]


def opendp_plan(rows: Rows, *, ready: bool) -> tuple[Query, Call]:
    """A count and a sum by species. The library's call makes a context, builds the query and collects its release.

    With `ready` it only collects: the context's measurement was made before, its scale found.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    longest = 2 * rows.metadata.rows

    def asked(frame: pl.LazyFrame) -> Any:
        context = dp.Context.compositor(
            data=frame,
            privacy_unit=dp.unit_of(contributions=1),
            privacy_loss=dp.loss_of(epsilon=EPSILON),
            split_evenly_over=1,
            margins=[dp.polars.Margin(by=["species"], invariant="keys", max_length=longest, max_groups=4)],
        )
        summed = pl.col(BILL).fill_null(40.0).dp.sum((30.0, 65.0))
        return context.query().group_by("species").agg(dp.len(), summed)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Polars means to drop the JSON in which clients send plans.
        plan = asked(pl.LazyFrame(schema=rows.frame.schema)).polars_plan.serialize(format="json")
    query = {"opendp": {"polarsPlan": plan, "epsilon": EPSILON}}
    read = rows.frame.select("species", BILL).lazy()
    if not ready:
        return query, lambda: asked(read).release().collect()
    measurement = asked(read).resolve()
    return query, lambda: measurement(read).collect()


def opendp_measurement(rows: Rows) -> tuple[Query, Call]:
    """A sum over a column that is a NumPy array already, by a measurement that is built already."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=float, nan=True)), dp.symmetric_distance()
    measurement = (
        space
        >> dp.t.then_impute_constant(40.0)
        >> dp.t.then_clamp((30.0, 65.0))
        >> dp.t.then_sum()
        >> dp.m.then_laplace(65.0)
    )
    cells = rows.frame[BILL].fill_null(math.nan).to_numpy()
    query = {"opendp": {"measurement": dp.serialize(measurement), "column": BILL}}
    return query, lambda: measurement(cells)


def gaussian_nb(rows: Rows) -> tuple[Query, Call]:
    from diffprivlib import BudgetAccountant
    from diffprivlib.models import GaussianNB

    x, y = _training(rows)
    bounds = _bounds(rows)

    def fit() -> object:
        return GaussianNB(epsilon=EPSILON, bounds=bounds, accountant=BudgetAccountant()).fit(x, y)

    return _model("GAUSSIAN_NB"), fit


def logistic_regression(rows: Rows) -> tuple[Query, Call]:
    from diffprivlib import BudgetAccountant
    from diffprivlib.models import LogisticRegression

    x, y = _training(rows)
    norm = math.hypot(*_bounds(rows)[1])

    def fit() -> object:
        with warnings.catch_warnings():
            # How far its solver came; scikit-learn's farewell to an argument.
            warnings.simplefilter("ignore")
            return LogisticRegression(epsilon=EPSILON, data_norm=norm, accountant=BudgetAccountant()).fit(x, y)

    return _model("LOGISTIC_REGRESSION"), fit


def synthesizer(name: str, rows: Rows) -> tuple[Query, Call]:
    """Fitted on four columns with public categories, and 100 rows drawn. The library's call is snsynth's own."""
    import pandas as pd
    from snsynth import Synthesizer
    from snsynth.transform import LabelTransformer, NoTransformer, TableTransformer

    frame = rows.frame.select(pl.col(SYNTHESIZED).cast(pl.String).fill_null("none")).to_pandas()
    columns = [rows.metadata.by_name[column] for column in SYNTHESIZED]
    categories = [_categories(column) for column in columns if isinstance(column, CategoricalColumn)]
    public = pd.DataFrame(list(itertools.product(*categories)), columns=SYNTHESIZED)
    spent: dict[str, float] = {"epsilon": EPSILON} | ({} if name == "MWEM" else {"delta": 1e-5})

    def fit() -> object:
        transformer = TableTransformer([LabelTransformer() for _ in SYNTHESIZED])
        transformer.fit(public)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while True:
                fitted = Synthesizer.create(name.lower(), **spent)
                try:
                    fitted.fit(frame, transformer=NoTransformer() if name == "PACSYNTH" else transformer)
                except BaseException as error:
                    # On few rows one PACSYNTH in eight: its noise makes their number negative.
                    if type(error).__name__ != "PanicException":
                        raise
                else:
                    return fitted.sample(100)

    return {"smartnoiseSynth": {"synthesizer": name, "columns": SYNTHESIZED, "sampleRows": 100} | spent}, fit


def _categories(column: CategoricalColumn) -> list[str]:
    return [str(key) for key in column.keys if key is not None] + ["none"]


def _model(estimator: str) -> Query:
    steps = [{"estimator": estimator, "params": {"epsilon": EPSILON}}]
    model = {"steps": steps, "featureColumns": FEATURES, "targetColumns": ["species"], "testSize": 0}
    return {"diffprivlib": model}


def _training(rows: Rows) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    complete = rows.frame.drop_nulls(FEATURES)
    return complete.select(FEATURES).to_numpy(), complete["species"].to_numpy()


def _bounds(rows: Rows) -> tuple[list[float], list[float]]:
    columns = [rows.metadata.by_name[name] for name in FEATURES]
    numeric = [column for column in columns if isinstance(column, NumericColumn)]
    return [column.lower for column in numeric], [column.upper for column in numeric]

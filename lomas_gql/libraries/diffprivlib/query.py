"""diffprivlib: models with noise in their training, alone or as a pipeline, released as parameters.

**The promise.** Two datasets are neighbours if one can be had from the other by replacing one row; the number
of rows is public. Each query is epsilon-differentially private for this relation (delta 0), with epsilon the
sum of what its parts declare: every step, every imputed column, the score. The parts may depend on what
earlier parts released, and all of them may read the replaced row (basic composition, Dwork and Roth,
theorem 3.16). How each part keeps its share is argued where it is computed: rows and imputation in
`rows`, the score in `models`, the estimators beside them.

No parameter describes the rows except through metadata, so no claim of an analyst can weaken this: whatever
bounds or norms are used, rows are clipped to them before the library sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lomas_gql.libraries.base import Answer, Library, described
from lomas_gql.libraries.diffprivlib.estimators import DiffprivlibEstimator
from lomas_gql.libraries.diffprivlib.plan import Imputation, planned
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.rows import Rows


@dataclass(frozen=True, kw_only=True)
class PipelineStep:
    """One step of a pipeline: a model and its parameters."""

    name: str | None = described("The step's name in the answer; the estimator's when left out.", None)
    estimator: DiffprivlibEstimator = described("The model. Transformers may stand anywhere, the others last.")
    params: Any = described(
        "Parameters by diffprivlib's names. `epsilon`, up to 100, is required and is what the step spends; bounds, "
        "norms and classes follow from the metadata "
        "where they are left out, and may only narrow them.",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class DiffprivlibQuery:
    """A model of diffprivlib, or a pipeline that ends in one. It spends the sum of its epsilons, and no delta."""

    library: ClassVar[Library] = Library.DIFFPRIVLIB

    steps: list[PipelineStep] = described("One to five steps, in order.")
    feature_columns: list[str] = described(
        "The columns that the model reads: numbers, integers or booleans; 1 to 50."
    )
    target_columns: list[str] | None = described(
        "What the model predicts: one column for a classifier or a regressor; none for clustering and PCA.", None
    )
    test_size: float = described("The share of rows, from 0 to 0.9, that no model sees; they are for `score`.", 0.2)
    split_seed: int = described(
        "Chooses the split. Each row's side follows from a keyed hash of the row's own content and this "
        "number, so no row moves another.",
        1,
    )
    imputation: Imputation = described(
        "What stands for a missing feature. DROP leaves the row out; where columns may be null, a twentieth "
        "of the first step's epsilon counts the rows that are left.",
        Imputation.DROP,
    )
    imputation_epsilon: float | None = described(
        "Epsilon, up to 100, that each feature column which may be null spends on imputation.",
        None,
    )
    score_epsilon: float | None = described(
        "Epsilon, up to 100, for a noisy score on the test rows; no score without it.", None
    )

    def cost(self, metadata: Metadata) -> PrivacyLoss:
        """The sum of the declared epsilons; it reads no rows and fits nothing.

        Raises:
            InvalidQuery: a bad parameter, an unfit column, or individuals with several rows.
        """
        return planned(self, metadata).cost

    def run(self, rows: Rows, metadata: Metadata) -> Answer:
        """Fits the pipeline on `rows` and answers with the parameters that are differentially private.

        Raises:
            InvalidQuery: as in `cost`.
            Overspent: the library spent more than was declared; nothing is released.
        """
        # scikit-learn takes seconds to import, and the server itself never runs a model.
        from lomas_gql.libraries.diffprivlib import models

        plan = planned(self, metadata)
        return Answer(self.library, models.answer(self, plan, rows.frame))

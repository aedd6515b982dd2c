"""Turns a query and metadata into a checked plan. No rows are read here, and nothing is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lomas_gql.errors import InvalidQuery, Issue
from lomas_gql.libraries.base import EPSILON_CAP, EPSILON_FLOOR, checked_cost
from lomas_gql.libraries.diffprivlib.columns import (
    Feature,
    box_of,
    classes_of,
    feature_of,
    may_be_null,
    unfit_feature,
    unfit_target,
)
from lomas_gql.libraries.diffprivlib.estimators import (
    MAX_FEATURES,
    SPECS,
    Box,
    DiffprivlibEstimator,
    Role,
    Setting,
    Step,
)
from lomas_gql.libraries.diffprivlib.params import checked_params, number, whole
from lomas_gql.metadata import Key, Metadata, NumericColumn
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.words import Word

if TYPE_CHECKING:
    from lomas_gql.libraries.diffprivlib.query import DiffprivlibQuery

PATH = ("query", "diffprivlib")
MAX_STEPS = 5
MAX_TEST_SIZE = 0.9


class Imputation(Word):
    """What stands for a missing feature: nothing (the row is left out), or a noisy statistic."""

    DROP = "DROP", "Rows with a missing feature are left out."
    MEAN = "MEAN", "The column's noisy mean, for `imputationEpsilon`."
    MEDIAN = "MEDIAN", "The column's noisy median, for `imputationEpsilon`."
    MOST_FREQUENT = "MOST_FREQUENT", "The column's most frequent value under noise, for `imputationEpsilon`."


@dataclass(frozen=True)
class Plan:
    """What a run does, and what it costs. Everything here follows from the query and the metadata.

    `imputed` names the features that get a noisy statistic; `droppable` says whether some rows may have to
    be left out, for a missing feature, a missing target or a class that the analyst does not ask for.
    """

    steps: tuple[Step, ...]
    features: tuple[Feature, ...]
    target: str | None
    target_box: Box | None
    classes: tuple[Key, ...]
    imputed: tuple[str, ...]
    droppable: bool
    cost: PrivacyLoss

    @property
    def role(self) -> Role:
        return self.steps[-1].spec.role

    @property
    def box(self) -> Box:
        return box_of(self.features)

    @property
    def columns(self) -> list[str]:
        """The columns that a run reads."""
        names = [feature.name for feature in self.features]
        return names if self.target is None or self.target in names else [*names, self.target]


def planned(query: DiffprivlibQuery, metadata: Metadata) -> Plan:
    """The plan of `query`.

    Raises:
        InvalidQuery: with all mistakes of one stage: first of the query as a whole, then of the params.
    """
    mistakes = [
        *_whose_rows(metadata),
        *_step_mistakes(query.steps),
        *_column_mistakes(query, metadata),
        *_number_mistakes(query),
    ]
    if mistakes:
        raise InvalidQuery(*mistakes)
    features = tuple(feature_of(metadata.by_name[name]) for name in query.feature_columns)
    target = metadata.by_name[query.target_columns[0]] if query.target_columns else None
    classes = classes_of(target) if target and _role(query) is Role.CLASSIFIER else ()
    target_box = Box((target.lower,), (target.upper,)) if isinstance(target, NumericColumn) else None
    steps = _checked_steps(query, Setting(len(features), box_of(features), target_box, classes))
    kept = steps[-1].params.get("classes") or classes
    nullable = tuple(feature.name for feature in features if feature.nullable)
    imputed = () if query.imputation is Imputation.DROP else nullable
    droppable = imputed != nullable or len(kept) < len(classes) or (target is not None and may_be_null(target))
    cost = _cost(query, steps, len(imputed))
    name = target.name if target else None
    return Plan(steps, features, name, target_box, kept, imputed, droppable, cost)


def _whose_rows(metadata: Metadata) -> Iterator[Issue]:
    if metadata.max_ids > 1:
        yield Issue(
            PATH,
            f"an individual may have {metadata.max_ids} rows in this dataset, "
            "and diffprivlib protects one row of each: max_ids must be 1",
        )


def _role(query: DiffprivlibQuery) -> Role:
    return SPECS[query.steps[-1].estimator].role


def _step_mistakes(steps: Any) -> Iterator[Issue]:
    path = (*PATH, "steps")
    if not isinstance(steps, list | tuple) or not 1 <= len(steps) <= MAX_STEPS:
        yield Issue(path, f"a pipeline has 1 to {MAX_STEPS} steps")
        return
    names = [step_name(step.name, step.estimator) for step in steps]
    for place, step in enumerate(steps):
        here = (*path, str(place))
        if SPECS[step.estimator].role is not Role.TRANSFORMER and place < len(steps) - 1:
            yield Issue((*here, "estimator"), f"{step.estimator.value} can only be the last step")
        if not 1 <= len(names[place]) <= 60 or "__" in names[place]:
            yield Issue((*here, "name"), "a step's name has 1 to 60 characters and no double underscore")
        if names.index(names[place]) < place:
            yield Issue((*here, "name"), "two steps have the same name: give one another")
        if step.params is not None and not isinstance(step.params, dict):
            yield Issue((*here, "params"), "params must be an object, with epsilon at least")


def step_name(name: str | None, estimator: DiffprivlibEstimator) -> str:
    """What a step is called: by default its estimator, in lower case."""
    return estimator.value.lower() if name is None else name


def _column_mistakes(query: DiffprivlibQuery, metadata: Metadata) -> Iterator[Issue]:
    path = (*PATH, "featureColumns")
    names = query.feature_columns
    if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) != len(names):
        yield Issue(path, f"featureColumns are 1 to {MAX_FEATURES} columns, each named once")
        return
    for place, name in enumerate(names):
        if reason := unfit_feature(metadata.by_name.get(name), name):
            yield Issue((*path, str(place)), reason)
    if query.steps and isinstance(query.steps, list | tuple):
        yield from _target_mistakes(query, metadata)


def _target_mistakes(query: DiffprivlibQuery, metadata: Metadata) -> Iterator[Issue]:
    path = (*PATH, "targetColumns")
    role, targets = _role(query), query.target_columns or []
    if role not in (Role.CLASSIFIER, Role.REGRESSOR):
        if targets:
            yield Issue(path, f"a {role.value} step learns without a target")
        return
    if len(targets) != 1:
        yield Issue(path, f"a {role.value} needs one target column")
        return
    if targets[0] in query.feature_columns:
        yield Issue(path, "the target is among the features")
    elif reason := unfit_target(metadata.by_name.get(targets[0]), targets[0], role):
        yield Issue((*path, "0"), reason)


def _number_mistakes(query: DiffprivlibQuery) -> Iterator[Issue]:
    limits: list[tuple[str, Any, float, float]] = [("testSize", query.test_size, 0, MAX_TEST_SIZE)]
    if query.imputation is not Imputation.DROP:
        limits.append(("imputationEpsilon", query.imputation_epsilon, EPSILON_FLOOR, EPSILON_CAP))
    if query.score_epsilon is not None:
        limits.append(("scoreEpsilon", query.score_epsilon, EPSILON_FLOOR, EPSILON_CAP))
    for name, value, lower, upper in limits:
        try:
            number(name, value, lower, upper)
        except ValueError as error:
            why = ", since imputation is not DROP" if name == "imputationEpsilon" else ""
            yield Issue((*PATH, name), f"{error}{why}")
    try:
        whole("splitSeed", query.split_seed, -(2**63), 2**63 - 1)
    except ValueError as error:
        yield Issue((*PATH, "splitSeed"), str(error))
    if query.score_epsilon is not None and query.steps:
        yield from _score_mistakes(query)


def _score_mistakes(query: DiffprivlibQuery) -> Iterator[Issue]:
    path = (*PATH, "scoreEpsilon")
    if (role := _role(query)) not in (Role.CLASSIFIER, Role.REGRESSOR):
        yield Issue(path, f"a {role.value} step has no score")
    if query.test_size == 0:
        yield Issue(path, "a score needs test rows: testSize is 0")


def _checked_steps(query: DiffprivlibQuery, setting: Setting) -> tuple[Step, ...]:
    steps: list[Step] = []
    mistakes: list[Issue] = []
    for place, step in enumerate(query.steps):
        values, wrong = checked_params(step.estimator, step.params or {}, setting)
        path = (*PATH, "steps", str(place), "params")
        mistakes += [Issue((*path, name), message) for name, message in wrong]
        epsilon = values.pop("epsilon", 0.0)
        steps.append(Step(step_name(step.name, step.estimator), step.estimator, epsilon, values))
        width = values.get("n_components") or setting.width
        setting = Setting(width, None, setting.target, setting.classes)
    if mistakes:
        raise InvalidQuery(*mistakes)
    return tuple(steps)


def _cost(query: DiffprivlibQuery, steps: tuple[Step, ...], imputed: int) -> PrivacyLoss:
    """The exact sum of what was declared; delta is 0, since every mechanism here is pure."""
    declared = [step.epsilon for step in steps] + [query.imputation_epsilon or 0.0] * imputed
    if query.score_epsilon is not None:
        declared.append(query.score_epsilon)
    return checked_cost(sum((PrivacyLoss.charged(epsilon) for epsilon in declared), PrivacyLoss()))

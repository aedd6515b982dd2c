"""MST and AIM: snsynth's algorithms over public codes, with what it left un-noised repaired.

Imported by workers only (jax, pandas, snsynth). Neighbours differ by one row added or removed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import networkx as nx
import numpy as np
from disjoint_set import DisjointSet
from mbi import Domain, LinearMeasurement, estimation, junction_tree, marginal_oracles
from mbi.markov_random_field import MarkovRandomField
from numpy.typing import NDArray
from snsynth.aim.aim import compile_workload
from snsynth.utils import cdp_rho

from lomas_gql import progress
from lomas_gql.libraries.smartnoise_synth.model import Table
from lomas_gql.libraries.smartnoise_synth.noise import Spending, choose, counts, gaussian

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Clique = tuple[int, ...]


def mst(codes: Codes, sizes: Sequence[int], epsilon: float, delta: float, _: Mapping[str, Any]) -> list[Table]:
    """MST (McKenna, Miklau and Sheldon, 2021; `snsynth.mst`): a tree of noised two-way marginals.

    Reads every one- and two-way marginal. Noise: a third of rho = cdp_rho(epsilon, delta) goes as discrete
    Gaussian noise into all one-way marginals (each at sigma * sqrt(columns): a row changes one cell of
    each), a third into d - 1 choices of tree edges by the exponential mechanism (the L1 error of a marginal
    moves by at most one per row, since the estimate that it is compared with is noised), a third into the
    marginals of those edges. Charged: (epsilon, delta), by zCDP composition. Repaired: snsynth passes the
    exact number of rows to both estimations, where the score of every edge then moves by two; here the total
    comes from the noised one-way marginals. Which cells are merged follows from noised counts alone.
    """
    spending = Spending(cdp_rho(epsilon, delta) * (1 - 1e-9))
    sigma = math.sqrt(3 / (2 * spending.budget))
    columns = [(i,) for i in range(len(sizes))]
    with jax.enable_x64(True):
        progress.tell(0.0, "measuring columns")
        ones = _measured(codes, sizes, columns, sigma, spending)
        merged = [_support(ones[clique], sigma * math.sqrt(len(sizes))) for clique in columns]
        small = np.stack([merge[column] for merge, column in zip(merged, codes.T, strict=True)], axis=1)
        domain = [int(merge.max()) + 1 for merge in merged]
        first = [_merged(ones[clique], merge) for clique, merge in zip(columns, merged, strict=True)]
        spread = sigma * math.sqrt(len(sizes))
        log = [_measurement(y, (i,), spread * s) for i, (y, s) in enumerate(first)]
        total = _total(list(ones.values()))
        progress.tell(0.3, "choosing pairs of columns")
        edges = _tree(small, domain, _estimated(domain, log, total, 1000), spending)
        progress.tell(0.6, "fitting the model")
        twos = _measured(small, domain, edges, sigma, spending)
        log += [_measurement(twos[e].astype(float), e, sigma * math.sqrt(len(edges))) for e in edges]
        model = _estimated(domain, log, total, 2500)
        return _unmerged(_junction_tables(model, domain), merged)


def aim(codes: Codes, sizes: Sequence[int], epsilon: float, delta: float, params: Mapping[str, Any]) -> list[Table]:
    """AIM (McKenna, Mullins, Sheldon and Miklau, 2022; `snsynth.aim`): marginals chosen round by round.

    Reads all marginals of up to `degree` columns. Noise: discrete Gaussian in every measured marginal, the
    exponential mechanism in every choice (a score moves by at most its weight per row: the model and its
    total come from noised counts). Each round's rho is added up before it is spent, and the last round takes
    exactly what remains of rho = cdp_rho(epsilon, delta). Charged: (epsilon, delta). Repaired: `num_rows` is
    not kept, `rounds` is fixed by the server (with rounds under the number of columns, snsynth's first
    measurements overspend), and choices use the operating system's dice.
    """
    rho = cdp_rho(epsilon, delta) * (1 - 1e-9)
    spending = Spending(rho)
    candidates = _candidates(sizes, params)
    answers = {clique: counts(codes, sizes, clique) for clique in candidates}
    rounds = 4 * len(sizes)
    sigma, step = math.sqrt(rounds / (1.8 * rho)), math.sqrt(0.8 * rho / rounds)
    with jax.enable_x64(True):
        log = []
        for single in (clique for clique in candidates if len(clique) == 1):
            spending.spend(0.5 / sigma**2)
            log.append(_measurement(gaussian(answers[single], sigma), single, sigma))
        model = _estimated(sizes, log, None, 1000)
        last = False
        while not last:
            # What was spent follows from public figures and noised answers alone.
            progress.tell(spending.spent / rho, "choosing marginals")
            left = rho - spending.spent
            if left < 2 * (0.5 / sigma**2 + step**2 / 8):
                sigma, step, last = math.sqrt(1 / (1.8 * left)), math.sqrt(0.8 * left), True
            spending.spend(0.5 / sigma**2 + step**2 / 8)
            limit = params["max_model_size"] * spending.spent / rho
            small = _affordable(candidates, model, limit)
            clique = _worst(small, answers, model, sigma, step)
            before = _marginal_of(model, clique)
            log.append(_measurement(gaussian(answers[clique], sigma), clique, sigma))
            model = _estimated(sizes, log, None, 1000 if last else 300, model)
            moved = np.abs(_marginal_of(model, clique) - before).sum()
            if moved <= sigma * math.sqrt(2 / math.pi) * before.size:
                sigma, step = sigma / 2, step * 2
        return _junction_tables(model, sizes)


def _measured(
    codes: Codes, sizes: Sequence[int], cliques: Sequence[Clique], sigma: float, spending: Spending
) -> dict[Clique, Codes]:
    """All `cliques` with noise such that together they cost 1/(2 sigma²) of rho."""
    each = sigma * math.sqrt(len(cliques))
    spending.spend(0.5 / sigma**2)
    return {clique: gaussian(counts(codes, sizes, clique), each) for clique in cliques}


def _total(noised: Sequence[Codes]) -> float:
    """The number of rows as the noised marginals tell it, weighted by how few cells each has."""
    weights = np.array([1 / y.size for y in noised])
    return max(1.0, float(np.average([y.sum() for y in noised], weights=weights)))


def _support(noised: Codes, sigma: float) -> Codes:
    """For each code its code after compression: cells under three sigma are merged into one last code."""
    kept = noised >= 3 * sigma
    if kept.sum() < 2 or kept.all():
        return np.arange(noised.size)
    return np.where(kept, kept.cumsum() - 1, kept.sum())


def _merged(noised: Codes, merge: Codes) -> tuple[Floats, Floats]:
    """A noised marginal over merged codes, and by what factor the deviation of each cell has grown."""
    weights = np.asarray(np.bincount(merge, weights=noised.ravel()), dtype=np.float64)
    return weights, np.sqrt(np.bincount(merge).astype(np.float64))


def _measurement(noised: Any, clique: Clique, sigma: Any) -> LinearMeasurement:
    """mbi's measurement; with a sigma for each cell, both sides are divided by it."""
    names = _names(clique)
    if np.ndim(sigma) == 0:
        return LinearMeasurement(np.asarray(noised, dtype=float).ravel(), names, float(sigma))
    scale = np.asarray(sigma)
    query: Callable[[Any], Any] = lambda factor: factor.datavector() / scale  # noqa: E731
    return LinearMeasurement(np.asarray(noised, dtype=float).ravel() / scale, names, 1.0, query)


def _estimated(
    sizes: Sequence[int],
    log: list[LinearMeasurement],
    total: float | None,
    iterations: int,
    start: MarkovRandomField | None = None,
) -> MarkovRandomField:
    """The graphical model nearest to the noised marginals: post-processing."""
    if total is None:
        total = float(estimation.minimum_variance_unbiased_total(log))
    return estimation.mirror_descent(
        Domain(_names(tuple(range(len(sizes)))), sizes),
        log,
        known_total=total,
        iters=iterations,
        potentials=start.potentials if start else None,
        marginal_oracle=marginal_oracles.message_passing_stable,
    )


def _tree(codes: Codes, sizes: Sequence[int], model: MarkovRandomField, spending: Spending) -> list[Clique]:
    """d - 1 edges of a spanning tree, chosen for the marginals that `model` gets most wrong."""
    pairs: list[Clique] = list(itertools.combinations(range(len(sizes)), 2))
    errors = {pair: np.abs(_marginal_of(model, pair) - counts(codes, sizes, pair)).sum() for pair in pairs}
    epsilon = math.sqrt(8 * spending.budget / 3 / (len(sizes) - 1))
    joined = DisjointSet()
    edges: list[Clique] = []
    for _ in range(len(sizes) - 1):
        pairs = [pair for pair in pairs if not joined.connected(*pair)]
        spending.spend(epsilon**2 / 8)
        edges.append(pairs[choose([errors[pair] for pair in pairs], epsilon)])
        joined.union(*edges[-1])
    return edges


def _candidates(sizes: Sequence[int], params: Mapping[str, Any]) -> dict[Clique, int]:
    """Marginals that AIM may measure, and how often the workload needs each. Public."""
    cliques = itertools.combinations(range(len(sizes)), params["degree"])
    workload = [c for c in cliques if math.prod(sizes[i] for i in c) <= params["max_cells"]]
    return dict(compile_workload(workload))


def _affordable(candidates: Mapping[Clique, int], model: MarkovRandomField, limit: float) -> dict[Clique, int]:
    """The candidates with which the junction tree stays within `limit` megabytes; always some.

    snsynth adds up the marginals' own sizes, and a cycle of small ones can make a tree that fills the memory.
    """
    free = {clique for clique in candidates if model.marginals.supports(_names(clique))}

    def size(clique: Clique) -> float:
        return float(junction_tree.hypothetical_model_size(model.domain, [*model.cliques, _names(clique)]))

    return {c: weight for c, weight in candidates.items() if c in free or size(c) <= limit}


def _names(clique: Clique) -> tuple[str, ...]:
    return tuple(str(i) for i in clique)


def _worst(
    candidates: Mapping[Clique, int],
    answers: Mapping[Clique, Codes],
    model: MarkovRandomField,
    sigma: float,
    epsilon: float,
) -> Clique:
    cliques = list(candidates)
    bias = math.sqrt(2 / math.pi) * sigma
    scores = []
    for clique in cliques:
        error = np.abs(answers[clique] - _marginal_of(model, clique)).sum()
        scores.append(candidates[clique] * (error - bias * answers[clique].size))
    return cliques[choose(scores, epsilon, max(candidates.values()))]


def _marginal_of(model: MarkovRandomField, clique: Clique) -> Floats:
    """A marginal of the model, in counts, with the axes of `clique`: mbi's compiles anew for each clique."""
    potentials = model.potentials
    factors: list[Any] = []
    for names in potentials.cliques:
        log = np.asarray(potentials[names].datavector(flatten=False), dtype=np.float64)
        factors += [np.exp(log - log.max()), [int(name) for name in names]]
    for i in set(clique) - {column for columns in factors[1::2] for column in columns}:
        factors += [np.ones(model.domain[str(i)]), [i]]
    weights = np.einsum(*factors, list(clique), optimize="greedy")
    total = weights.sum()
    if not (np.isfinite(total) and total > 0):
        weights, total = np.ones_like(weights), weights.size
    return np.asarray(weights / total * float(model.total))


def _junction_tables(model: MarkovRandomField, sizes: Sequence[int]) -> list[Table]:
    """The model's junction tree, from its root outwards, as tables to draw from."""
    domain = Domain(_names(tuple(range(len(sizes)))), sizes)
    cliques = [tuple(clique) for clique in model.potentials.cliques]
    tree, _ = junction_tree.make_junction_tree(domain, cliques)
    tables, seen = [], set[int]()
    for part in nx.connected_components(tree):
        for names in nx.dfs_preorder_nodes(tree.subgraph(part)):
            clique = tuple(int(name) for name in names)
            given = tuple(i for i in clique if i in seen)
            new = tuple(i for i in clique if i not in seen)
            seen.update(new)
            tables.append(Table(given, new, _marginal_of(model, given + new)))
    return [table for table in tables if table.new]


def _unmerged(tables: Sequence[Table], merged: Sequence[Codes]) -> list[Table]:
    """Tables over the full codes: a merged cell's weight is spread evenly over what was merged."""
    return [Table(table.given, table.new, _spread(table, merged)) for table in tables]


def _spread(table: Table, merged: Sequence[Codes]) -> Floats:
    weights = table.weights
    for axis, column in enumerate(table.given + table.new):
        merge = merged[column]
        weights = weights.take(merge, axis=axis)
        if axis >= len(table.given):
            sizes = np.bincount(merge)[merge].astype(float)
            weights = weights / sizes.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    return np.asarray(weights)

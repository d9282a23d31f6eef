"""Two models on the same rows: the change of figures of scores, from sums over rows.

Brier score and ECE are functions of sums. AUROC, average precision and calibration are, to first order, their value
plus a sum of influences. So a resample or an exchange of rows is a change of sums. Up to `EXACT` rows times draws they
are really drawn; beyond that from the normal law that the sums of many rows have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from equiprune.metrics import calibration, gaps
from equiprune.metrics.gaps import Pairs, Policy
from equiprune.metrics.null import EXACT
from equiprune.metrics.paired import Changes, Figures, Reaches, changes, drawn
from equiprune.metrics.ranking import NAMES as RANKED
from equiprune.metrics.ranking import ranking
from equiprune.metrics.sampling import Atoms, chunks, covariance, resample, row_atoms, slots
from equiprune.predictions import Predictions

_BINS = slice(2, 2 + calibration.BINS)
_FROM = 2 + calibration.BINS
"""The first column that holds influences: calibration intercept and slope, AUROC, average precision, the latter two
over the classes that every group has."""
INFLUENCES = ("calibration_intercept", "calibration_slope", *RANKED)
WIDTH = _FROM + len(INFLUENCES) + len(RANKED)


@dataclass(frozen=True, eq=False)
class Sums:
    """What a model's figures of scores are made of, with a side for every group and, last, for all rows.

    Args:
        own: what a row adds to the sums of its group.
        whole: what it adds to those of all rows.
        total: the sums; in columns of influences the figure itself.
    """

    own: Float[np.ndarray, "row column"]
    whole: Float[np.ndarray, "row column"]
    total: Float[np.ndarray, "side column"]


def sums(predictions: Predictions, shared: Bool[np.ndarray, " class"]) -> Sums:
    """The sums of one model.

    Args:
        predictions: of n rows.
        shared: the classes that groups are compared on.
    """
    slot, groups, n = slots(predictions), len(predictions.groups), len(predictions)
    ranks, cells = ranking(predictions, slot, None, shared), calibration.cells(predictions)
    added = np.column_stack([cells.weight, cells.brier, calibration.excess(cells)])
    own, whole, total = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((groups + 1, WIDTH))
    own[:, :_FROM] = whole[:, :_FROM] = added
    for column in range(_FROM):
        total[:-1, column] = np.bincount(slot, added[:, column], groups + 1)[:-1]
    total[-1, :_FROM] = added.sum(axis=0)
    of = slot[cells.row]
    for side in range(groups + 1):
        inside = np.flatnonzero(of == side) if side < groups else np.arange(len(of))
        fitted = calibration.recalibration(cells.confidence[inside], cells.right[inside])
        total[side, _FROM : _FROM + 2] = fitted.value
        for column, influence in enumerate(fitted.influence, _FROM):
            (own if side < groups else whole)[:, column] += np.bincount(cells.row[inside], influence, n)
    total[:, _FROM + 2 : _FROM + 4] = ranks.macro().T
    total[:-1, _FROM + 4 :] = ranks.shared_macro().T
    own[:, _FROM + 2 :] = np.concatenate([ranks.own, ranks.common]).T
    whole[:, _FROM + 2 : _FROM + 4] = ranks.influence.T
    return Sums(own, whole, total)


def figures_of_sums(total: Float[np.ndarray, "*draw side column"], among: Pairs) -> Figures:
    """Every figure of scores and its gaps, from sums."""
    weight = total[..., 0]
    sided = {
        "ece": calibration.ece(weight, total[..., _BINS]),
        "brier": calibration.brier(weight, total[..., 1]),
        **{name: total[..., column] for column, name in enumerate(INFLUENCES, _FROM)},
    }
    compared = sided | {name: total[..., column] for column, name in enumerate(RANKED, _FROM + len(INFLUENCES))}
    return Figures(sided, {name: gaps.scalar_by_pair(value, among) for name, value in compared.items()})


def score_changes(
    baseline: Predictions,
    models: tuple[Sums, Sums],
    reaches: Reaches,
    among: Pairs,
    policy: Policy,
    draws: int,
    rng: np.random.Generator,
) -> Changes:
    """Changes of every figure and gap of scores.

    Args:
        baseline: one model's predictions, for its groups and units.
        models: the sums of the baseline, and of another model on the same rows in the same order.
        reaches: the intervals of both models' audits.
        among: the pairs of groups that are compared.
        policy: the conventions of the gaps.
        draws: resamples, and exchanges.
        rng: where randomness comes from.
    """
    first, second = models
    slot, groups = slots(baseline), len(baseline.groups)
    step = second.total - first.total
    shape = (-1, *step.shape)
    delta = second.own - first.own, second.whole - first.whole
    # The other model as baseline + difference: where both are equal, so are all draws, to the last bit.
    parts = [_laid_out(first.own, first.whole, slot, groups), _laid_out(*delta, slot, groups)]
    both = _bootstrap(row_atoms(sparse.csr_array(sparse.hstack(parts)), baseline), draws, rng)
    drifts = [part.reshape(shape) for part in np.split(both, 2, axis=1)]
    left = first.total + drifts[0]
    right = left + step + drifts[1]
    swapped = row_atoms(_laid_out(*_full(delta, step, slot), slot, groups), baseline)
    half = _signs(swapped, draws, rng).reshape(shape) / 2
    middle = (first.total + second.total) / 2

    def read(total: Float[np.ndarray, "*draw side column"]) -> Figures:
        return figures_of_sums(total, among)

    return changes(
        read(first.total),
        read(second.total),
        drawn(iter([(read(left), read(right))])),
        drawn(iter([(read(middle - half), read(middle + half))])),
        reaches,
        policy,
    )


def _laid_out(
    own: Float[np.ndarray, "row column"],
    whole: Float[np.ndarray, "row column"],
    slot: Int[np.ndarray, " row"],
    groups: int,
) -> sparse.csr_array:
    """A block of columns for each side; a row of unknown group adds to the last one only."""
    row, column = np.nonzero(own * (slot < groups)[:, None])
    at, place = np.nonzero(whole)
    value = np.concatenate([own[row, column], whole[at, place]])
    columns = np.concatenate([slot[row] * WIDTH + column, groups * WIDTH + place])
    shape = (len(slot), (groups + 1) * WIDTH)
    return sparse.csr_array((value, (np.concatenate([row, at]), columns)), shape=shape)


def _full(
    delta: tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]],
    step: Float[np.ndarray, "side column"],
    slot: Int[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
    """Differences whose sums are the change: influences sum to 0, so each row takes its share of it.

    So exchanging all rows turns one model into the other, as it does with counts.
    """
    own, whole = delta[0].copy(), delta[1].copy()
    share = np.nan_to_num(step[:, _FROM:])
    known = slot < len(step) - 1
    size = np.bincount(slot[known], minlength=len(step))
    size[-1] = len(slot)
    share = share / np.maximum(size, 1)[:, None]
    own[known, _FROM:] += share[slot[known]]
    whole[:, _FROM:] += share[-1]
    return own, whole


def _bootstrap(atoms: Atoms, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw column"]:
    """By how much the sums of a resample differ from those of the rows."""
    if draws * len(atoms) <= EXACT:
        return np.concatenate(list(resample(atoms, draws, rng))) - atoms.totals.sum(axis=0)
    width = atoms.totals.shape[1]
    spread = np.zeros((width, width))
    for stratum in np.unique(atoms.stratum):
        columns, values = _dense(atoms, np.flatnonzero(atoms.stratum == stratum))
        spread[np.ix_(columns, columns)] += covariance(values, None)
    return _normal(spread, draws, rng)


def _signs(atoms: Atoms, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw column"]:
    """Sums with random signs."""
    width = atoms.totals.shape[1]
    if draws * len(atoms) <= EXACT:
        transposed = sparse.csr_array(atoms.totals.T)
        found = []
        for size in chunks(draws, len(atoms) + width):
            sign = rng.integers(2, size=(len(atoms), size), dtype=np.int8) * 2.0 - 1
            found.append((transposed @ sign).T)
        return np.concatenate(found)
    spread = np.zeros((width, width))
    for stratum in np.unique(atoms.stratum):
        columns, values = _dense(atoms, np.flatnonzero(atoms.stratum == stratum))
        spread[np.ix_(columns, columns)] += values.T @ values
    return _normal(spread, draws, rng)


def _dense(
    atoms: Atoms, members: Int[np.ndarray, " some"]
) -> tuple[Int[np.ndarray, " column"], Float[np.ndarray, "some column"]]:
    """The columns that some atoms add to, and what they add."""
    part = atoms.totals[members]
    columns = np.unique(part.indices)
    return columns, part[:, columns].toarray()


def _normal(
    spread: Float[np.ndarray, "column column"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw column"]:
    """Normal draws of mean 0; what does not vary is exactly 0."""
    varies = np.flatnonzero(np.diag(spread) > 0)
    result = np.zeros((draws, len(spread)))
    if len(varies):
        cut, centre = spread[np.ix_(varies, varies)], np.zeros(len(varies))
        result[:, varies] = rng.multivariate_normal(centre, cut, draws, check_valid="ignore", method="eigh")
    return result

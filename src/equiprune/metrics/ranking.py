"""AUROC and average precision, of every class, overall and in every group, in one pass over a class's scores.

Both depend on a score only through its place among the scores of the class's positives. So every row
is placed once among them, the places are counted per group, and all figures follow from the counts. A
table over places gives each row's influence: a figure of a resample that takes row i w_i times is, to
first order, the figure plus Σ (w_i - 1) influence_i. For AUROC, Σ influence² is DeLong's variance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from equiprune.metrics.clusters import Clusters
from equiprune.metrics.places import Places
from equiprune.metrics.rates import ratio
from equiprune.predictions import Predictions

NAMES = ("auroc", "average_precision")
THREADED = 2_000_000
"""Scores from which on two or more threads are worth their start."""
MOST_THREADS = 4
HEAVY = 50_000_000
"""Numbers from which on what each row adds is held in single precision."""

Sides = Float[np.ndarray, "metric side class"]


@dataclass(frozen=True, eq=False)
class Ranking:
    """AUROC and average precision (axis `metric`, in this order).

    A side is a group, or, last, all rows. Undefined figures are nan.

    Args:
        value: of every class, one against the rest.
        variance: of `value`, for independent units (DeLong 1988 for AUROC, delta method for average precision).
        kinds: the smaller of the numbers of positives and negatives.
        influence: of each row on the mean over classes of all rows.
        own: of each row on the mean over classes of its group.
        common: the same where the classes are the `shared` ones.
        shared: classes with positives and negatives in every group that has rows.
        base: mean over the shared classes that each group would have were its scores those of all groups together.
        null: of each row on the figure of each group under that assumption, should it fall to the group.
    """

    value: Sides
    variance: Sides
    kinds: Float[np.ndarray, "side class"]
    influence: Float[np.ndarray, "metric row"]
    own: Float[np.ndarray, "metric row"]
    common: Float[np.ndarray, "metric row"]
    shared: Bool[np.ndarray, " class"]
    base: Float[np.ndarray, "metric group"]
    null: Float[np.ndarray, "metric row group"]

    def macro(self) -> Float[np.ndarray, "metric side"]:
        """Mean over the classes that a side has positives and negatives of."""
        return ratio(np.nansum(self.value, axis=-1), (~np.isnan(self.value)).sum(axis=-1))

    def shared_macro(self) -> Float[np.ndarray, "metric group"]:
        """Mean over the shared classes, in each group; nan where there is none."""
        found = self.value[:, :-1, self.shared]
        return found.mean(axis=-1) if self.shared.any() else np.full(found.shape[:-1], np.nan)


def auroc(score: Float[np.ndarray, " row"], positive: Bool[np.ndarray, " row"]) -> float:
    """P(score of a positive > score of a negative) + half of P(equal); nan where one kind lacks.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
        0.875
    """
    return _single(score, positive, 0)


def average_precision(score: Float[np.ndarray, " row"], positive: Bool[np.ndarray, " row"]) -> float:
    """Mean over positives of the precision at their score (step-wise, no interpolation); nan without both kinds.

    Example:
        >>> average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.8333333333333333
    """
    return _single(score, positive, 1)


def _single(score: Float[np.ndarray, " row"], positive: Bool[np.ndarray, " row"], metric: int) -> float:
    rank = np.unique(score, return_inverse=True)[1].ravel().astype(np.float64)
    places = Places.of(rank, positive, np.zeros(len(score), dtype=np.int64), 1)
    return float("nan") if places is None else float(_tables(places.pos, places.neg).value[metric, 0])


@dataclass(frozen=True, eq=False)
class _Tables:
    """Figures of sides, and what a positive at each score or a negative at each place adds; axis 0 is the metric."""

    value: Float[np.ndarray, "metric side"]
    positive: Float[np.ndarray, "metric side score"]
    negative: Float[np.ndarray, "metric side place"]


def _tables(
    pos: Float[np.ndarray, "side score"],
    neg: Float[np.ndarray, "side place"],
    many: tuple[Float[np.ndarray, " side"], Float[np.ndarray, " side"]] | None = None,
) -> _Tables:
    """From counts of positives and negatives by place; `many` are the kinds' numbers where they are not the counts'."""
    m, n = (pos.sum(axis=1), neg.sum(axis=1)) if many is None else many
    share, rest = ratio(pos, pos.sum(axis=1)[:, None]), ratio(neg, neg.sum(axis=1)[:, None])
    below = np.cumsum(rest, axis=1)[:, 0:-1:2]  # share of negatives below each distinct score of a positive
    above = np.maximum(1 - np.cumsum(share, axis=1), 0)  # share of positives above it
    placed = below + rest[:, 1::2] / 2
    area = (share * placed).sum(axis=1)
    lost = _stairs(above, 1.0)
    lost[:, 1::2] += share / 2
    at = above + share
    odds = ratio(n, m)[:, None]
    false = odds * (1 - below)
    called = np.where(at + false == 0, 1.0, at + false)  # 0 only above all scores of this side: nothing is read there
    precision = at / called
    mean = (share * precision).sum(axis=1)
    slope = share / called**2
    gain = np.cumsum(slope * false, axis=1)  # a positive lifts the precision at every score up to its own,
    harm = _stairs(np.cumsum(slope * at, axis=1) * odds, 0.0)  # a negative lowers it
    return _Tables(
        value=np.stack([area, mean]),
        positive=np.stack([placed - area[:, None], precision - mean[:, None] + gain]) / _or_nan(m),
        negative=np.stack([lost - area[:, None], -harm]) / _or_nan(n),
    )


def _stairs(after: Float[np.ndarray, "side score"], before: float) -> Float[np.ndarray, "side place"]:
    """A value for every place: that of the last score which the place has reached, `before` the first one."""
    first = np.full((len(after), 1), before)
    return np.repeat(np.concatenate([first, after], axis=1), 2, axis=1)[:, 1:]


def _or_nan(many: Float[np.ndarray, " side"]) -> Float[np.ndarray, "side 1"]:
    return np.where(many > 0, many, np.nan)[:, None]


def _unbiased(tables: _Tables, pos: Float[np.ndarray, "side score"], neg: Float[np.ndarray, "side place"]) -> _Tables:
    """Scaled by √(m / (m - 1)), so that the sum of squares estimates the variance without bias."""
    m, n = pos.sum(axis=1)[:, None], neg.sum(axis=1)[:, None]
    up, down = (np.sqrt(np.where(many > 1, many / np.maximum(many - 1, 1), 1.0)) for many in (m, n))
    return _Tables(tables.value, tables.positive * up, tables.negative * down)


class _Sums:
    """What is added up over classes; every thread has its own.

    Args:
        value: see `Ranking`.
        variance: see `Ranking`.
        kinds: see `Ranking`.
        base: see `Ranking`.
        shared: over the classes that groups are compared on, what each row adds: to all rows and to its group (both
            metrics), then to every group if their scores were alike.
        rest: over the other classes, what each row adds to all rows and to its group.
    """

    def __init__(self, rows: int, groups: int, classes: int) -> None:
        self.value = np.full((2, groups + 1, classes), np.nan)
        self.variance = np.full((2, groups + 1, classes), np.nan)
        self.kinds = np.zeros((groups + 1, classes))
        self.base = np.zeros((2, groups))
        width = 4 + 2 * groups
        self.shared = np.zeros((rows, width), dtype=np.float32 if rows * width > HEAVY else np.float64)
        self.rest = np.zeros((rows, 4))

    def add(self, other: _Sums, classes: Int[np.ndarray, " some"]) -> None:
        """Adds what another thread found for some classes."""
        for part in ("value", "variance", "kinds"):
            getattr(self, part)[..., classes] = getattr(other, part)[..., classes]
        for part in ("base", "shared", "rest"):
            getattr(self, part)[...] += getattr(other, part)


@dataclass(frozen=True, eq=False)
class _Task:
    """What every class needs to know of the predictions."""

    predictions: Predictions
    slot: Int[np.ndarray, " row"]
    clusters: tuple[Clusters, Clusters] | None
    shared: Bool[np.ndarray, " class"]

    @property
    def groups(self) -> int:
        return len(self.predictions.groups)

    def carry_out(self, classes: Iterable[int]) -> _Sums:
        sums = _Sums(len(self.slot), self.groups, len(self.predictions.classes))
        for k in classes:
            self._one(k, sums)
        return sums

    def _one(self, k: int, sums: _Sums) -> None:
        positive, known = truth(self.predictions, k)
        rows: slice | Int[np.ndarray, " some"] = slice(None) if known.all() else np.flatnonzero(known)
        places = Places.of(self.predictions.score[rows, k], positive[rows], self.slot[rows], self.groups + 1)
        if places is None:
            return
        pos, neg = (np.concatenate([part[:-1], part.sum(axis=0)[None]]) for part in (places.pos, places.neg))
        tables = _unbiased(_tables(pos, neg), pos, neg)
        sums.value[:, :, k] = tables.value
        sums.kinds[:, k] = np.minimum(pos.sum(axis=1), neg.sum(axis=1))
        if self.shared[k]:
            alike = _alike(places)
            sums.base += np.nan_to_num(alike.value)
            places.add(*_by_cell(tables, alike), rows, sums.shared)
        else:
            places.add(*_by_cell(tables), rows, sums.rest)
        if self.clusters is None:
            squares = (pos * tables.positive**2).sum(axis=-1) + (neg * tables.negative**2).sum(axis=-1)
        else:
            added = np.zeros((len(self.slot), 4))
            places.add(*_by_cell(tables), rows, added)
            whole, own = self.clusters
            squares = np.stack([[*own.variance(added[:, 2 + i])[:-1], *whole.variance(added[:, i])] for i in (0, 1)])
        sums.variance[:, :, k] = np.where(np.isnan(tables.value), np.nan, squares)


def _alike(places: Places) -> _Tables:
    """Of every group, were its scores those of all groups together; a row of unknown group counts for none."""
    pos, neg = places.pos[:-1], places.neg[:-1]
    pooled = [np.broadcast_to(part.sum(axis=0), part.shape) for part in (pos, neg)]
    return _tables(pooled[0], pooled[1], (pos.sum(axis=1), neg.sum(axis=1)))


def _by_cell(
    tables: _Tables, alike: _Tables | None = None
) -> tuple[Float[np.ndarray, "slot place column"], Float[np.ndarray, "slot score column"]]:
    """What a row of each cell adds to `_Sums.shared` or `_Sums.rest`; 0 where there is no figure."""
    found = []
    for kind in ("negative", "positive"):
        table = getattr(tables, kind)
        _, slots, size = table.shape
        groups = slots - 1
        part = np.zeros((slots, size, 4 if alike is None else 4 + 2 * groups))
        part[..., :2] = table[:, -1].T
        part[:-1, :, 2:4] = np.moveaxis(table[:, :-1], 0, -1)  # a row of unknown group adds to no group
        if alike is not None:
            part[..., 4:] = getattr(alike, kind).reshape(2 * groups, size).T
        found.append(np.nan_to_num(part, copy=False))
    return found[0], found[1]


def truth(predictions: Predictions, k: int) -> tuple[Bool[np.ndarray, " sample"], Bool[np.ndarray, " sample"]]:
    """Which rows are of class k, and which rows are known to be or not to be."""
    if predictions.task == "multiclass":
        return predictions.label == k, np.ones(len(predictions), dtype=bool)
    return predictions.label[:, k] == 1, ~np.isnan(predictions.label[:, k])


def ranking(
    predictions: Predictions,
    slot: Int[np.ndarray, " row"],
    clusters: tuple[Clusters, Clusters] | None,
    shared: Bool[np.ndarray, " class"],
) -> Ranking:
    """Places every row among the positives of every class, and reads all figures from the places.

    Args:
        predictions: of n rows.
        slot: the group of each row; the number of groups where it is unknown.
        clusters: which rows hang together, of all and by slot; None where rows are independent.
        shared: the classes that groups are compared on.
    """
    classes, groups = len(predictions.classes), len(predictions.groups)
    task = _Task(predictions, slot, clusters, shared)
    threads = min(os.cpu_count() or 1, MOST_THREADS) if predictions.score.size > THREADED else 1
    parts = [np.arange(first, classes, threads) for first in range(threads)]
    if threads == 1:
        sums = task.carry_out(range(classes))
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda part: task.carry_out(part.tolist()), parts))
        sums = found[0]
        for part, other in zip(parts[1:], found[1:], strict=True):
            sums.add(other, part)
    valid = (~np.isnan(sums.value)).sum(axis=-1)
    per_slot = np.concatenate([valid[:, :groups], np.ones((2, 1), dtype=np.int64)], axis=1)
    several = max(int(shared.sum()), 1)
    common, every = sums.shared[:, 2:4].T, (sums.shared[:, :4] + sums.rest).T
    return Ranking(
        value=sums.value,
        variance=sums.variance,
        kinds=sums.kinds,
        influence=every[:2] / np.maximum(valid[:, -1:], 1),
        own=every[2:] / np.maximum(per_slot, 1)[:, slot],
        common=common / several,
        shared=shared,
        base=sums.base / several,
        null=np.moveaxis(sums.shared[:, 4:].reshape(len(slot), 2, groups), 1, 0) / several,
    )

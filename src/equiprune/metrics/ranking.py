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

from equiprune.metrics.rates import ratio
from equiprune.predictions import Predictions

NAMES = ("auroc", "average_precision")
THREADED = 2_000_000
"""Scores from which on two or more threads are worth their start."""
MOST_THREADS = 4
BUCKETED = 20_000

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
    places = _Places.of(np.asarray(score, dtype=np.float64), positive, np.zeros(len(score), dtype=np.int64), 1)
    return float("nan") if places is None else float(_tables(places.pos[:1], places.neg[:1]).value[metric, 0])


@dataclass(frozen=True, eq=False)
class _Places:
    """Where rows stand among the q distinct scores of the positives: 2 j below the j-th, 2 j + 1 equal to it."""

    place: Int[np.ndarray, " row"]
    pos: Float[np.ndarray, "slot score"]
    neg: Float[np.ndarray, "slot place"]

    @classmethod
    def of(
        cls,
        score: Float[np.ndarray, " row"],
        positive: Bool[np.ndarray, " row"],
        slot: Int[np.ndarray, " row"],
        slots: int,
    ) -> _Places | None:
        steps = np.unique(score[positive])
        if not len(steps):
            return None
        place = _place(steps, score)
        width = 2 * len(steps) + 1
        cells = np.bincount((slot * 2 + positive) * width + place, minlength=slots * 2 * width)
        found = cells.reshape(slots, 2, width).astype(np.float64)
        return cls(place, found[:, 1, 1::2], found[:, 0])


def _place(steps: Float[np.ndarray, " score"], score: Float[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """2 j for a score between the steps j - 1 and j, 2 j + 1 for one equal to step j.

    A binary search costs most where it is sure from the first: so the scores are first put into buckets by their
    leading bits (which order non-negative floats), and only those that share a bucket with a step are searched.
    """
    if len(score) < BUCKETED:
        left = np.searchsorted(steps, score)
        return np.asarray(2 * left + (steps[np.minimum(left, len(steps) - 1)] == score))
    as_bits, shift = ("i4", 11) if score.dtype == np.float32 else ("i8", 40)
    # + 0.0: -0.0 becomes 0.0
    bits = [np.right_shift((part + 0.0).view(as_bits), shift).astype(np.int64) for part in (steps, score)]
    last = int(bits[0][-1] - bits[0][0]) + 1
    bucket = np.clip(bits[1] - bits[0][0], -1, last) + 1
    inside = np.bincount(bits[0] - bits[0][0] + 1, minlength=last + 2)
    place = (2 * (np.cumsum(inside) - inside))[bucket]
    near = np.flatnonzero((inside > 0)[bucket])
    left = np.searchsorted(steps, score[near])
    place[near] = 2 * left + (steps[np.minimum(left, len(steps) - 1)] == score[near])
    return np.asarray(place)


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
    """What is added up over classes; every thread has its own."""

    def __init__(self, rows: int, groups: int, classes: int) -> None:
        self.value = np.full((2, groups + 1, classes), np.nan)
        self.variance = np.full((2, groups + 1, classes), np.nan)
        self.kinds = np.zeros((groups + 1, classes))
        self.influence = np.zeros((2, rows))
        self.own = np.zeros((2, rows))
        self.common = np.zeros((2, rows))
        self.base = np.zeros((2, groups))
        self.null = np.zeros((2, rows, groups), dtype=np.float32 if rows * groups > THREADED else np.float64)

    def add(self, other: _Sums, classes: Int[np.ndarray, " some"]) -> None:
        """Adds what another thread found for some classes."""
        for part in ("value", "variance", "kinds"):
            getattr(self, part)[..., classes] = getattr(other, part)[..., classes]
        for part in ("influence", "own", "common", "base", "null"):
            getattr(self, part)[...] += getattr(other, part)


@dataclass(frozen=True, eq=False)
class _Task:
    """What every class needs to know of the predictions."""

    predictions: Predictions
    slot: Int[np.ndarray, " row"]
    unit: Int[np.ndarray, " row"] | None
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
        score = np.ascontiguousarray(self.predictions.score[rows, k])
        places = _Places.of(score, positive[rows], self.slot[rows], self.groups + 1)
        if places is None:
            return
        pos, neg = (np.concatenate([part[:-1], part.sum(axis=0)[None]]) for part in (places.pos, places.neg))
        plain = _tables(pos, neg)
        tables = _unbiased(plain, pos, neg)
        sums.value[:, :, k] = tables.value
        sums.kinds[:, k] = np.minimum(pos.sum(axis=1), neg.sum(axis=1))
        hit = np.flatnonzero(positive[rows])
        overall = np.full(len(score), self.groups)
        whole = _looked_up(tables, places.place, hit, overall)
        # A row of unknown group is on no group's side: its own influence is that of a side without figures, 0.
        known_group = np.concatenate([tables.positive[:, :-1], 0 * tables.positive[:, :1]], axis=1)
        known_rest = np.concatenate([tables.negative[:, :-1], 0 * tables.negative[:, :1]], axis=1)
        own = _looked_up(_Tables(tables.value, known_group, known_rest), places.place, hit, self.slot[rows])
        sums.influence[:, rows] += whole
        sums.own[:, rows] += own
        sums.variance[:, :, k] = self._variance(tables, pos, neg, whole, own, rows)
        if self.shared[k]:
            sums.common[:, rows] += own
            self._null(places, hit, rows, sums)

    def _variance(
        self,
        tables: _Tables,
        pos: Float[np.ndarray, "side score"],
        neg: Float[np.ndarray, "side place"],
        whole: Float[np.ndarray, "metric row"],
        own: Float[np.ndarray, "metric row"],
        rows: slice | Int[np.ndarray, " some"],
    ) -> Float[np.ndarray, "metric side"]:
        if self.unit is None:
            return np.asarray((pos * tables.positive**2).sum(axis=-1) + (neg * tables.negative**2).sum(axis=-1))
        unit, slot = self.unit[rows], self.slot[rows]
        found = np.array(
            [
                [
                    *clustered(own[metric], unit, slot, self.groups + 1)[:-1],
                    clustered(whole[metric], unit, 0 * slot, 1)[0],
                ]
                for metric in range(len(NAMES))
            ]
        )
        return np.where(np.isnan(tables.value), np.nan, found)

    def _null(
        self, places: _Places, hit: Int[np.ndarray, " hit"], rows: slice | Int[np.ndarray, " some"], sums: _Sums
    ) -> None:
        pos, neg = places.pos[:-1], places.neg[:-1]
        many = (pos.sum(axis=1), neg.sum(axis=1))
        pooled = [np.broadcast_to(part.sum(axis=0), part.shape) for part in (pos, neg)]
        tables = _tables(pooled[0], pooled[1], many)
        sums.base += np.nan_to_num(tables.value)
        for g in range(self.groups):
            side = np.full(len(places.place), g)
            sums.null[:, rows, g] += _looked_up(tables, places.place, hit, side)


def _looked_up(
    tables: _Tables, place: Int[np.ndarray, " row"], hit: Int[np.ndarray, " hit"], side: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "metric row"]:
    """What each row adds on its side; 0 where the side has no figure."""
    scores, places = tables.positive.shape[-1], tables.negative.shape[-1]
    code, hits = side * places + place, side[hit] * scores + place[hit] // 2
    found = np.empty((len(NAMES), len(place)))
    for metric in range(len(NAMES)):
        np.take(np.nan_to_num(tables.negative[metric]).ravel(), code, out=found[metric])
        found[metric, hit] = np.nan_to_num(tables.positive[metric]).ravel()[hits]
    return found


def clustered(
    influence: Float[np.ndarray, " row"],
    unit: Int[np.ndarray, " row"] | None,
    slot: Int[np.ndarray, " row"],
    slots: int,
) -> Float[np.ndarray, " slot"]:
    """Variance of a sum of influences in each slot, where the rows of a unit hang together.

    Example:
        >>> clustered(np.array([1.0, 1.0, 2.0]), np.array([0, 0, 1]), np.array([0, 0, 0]), 1).tolist()
        [8.0]
    """
    if unit is None:
        return np.bincount(slot, influence**2, slots)
    pairs, place = np.unique(slot * (int(unit.max()) + 1) + unit, return_inverse=True)
    sums = np.bincount(place.ravel(), influence, len(pairs))
    return np.bincount(pairs // (int(unit.max()) + 1), sums**2, slots)


def truth(predictions: Predictions, k: int) -> tuple[Bool[np.ndarray, " sample"], Bool[np.ndarray, " sample"]]:
    """Which rows are of class k, and which rows are known to be or not to be."""
    if predictions.task == "multiclass":
        return predictions.label == k, np.ones(len(predictions), dtype=bool)
    return predictions.label[:, k] == 1, ~np.isnan(predictions.label[:, k])


def ranking(
    predictions: Predictions,
    slot: Int[np.ndarray, " row"],
    unit: Int[np.ndarray, " row"] | None,
    shared: Bool[np.ndarray, " class"],
) -> Ranking:
    """Places every row among the positives of every class, and reads all figures from the places.

    Args:
        predictions: of n rows.
        slot: the group of each row; the number of groups where it is unknown.
        unit: of each row, from 0; None where rows are independent.
        shared: the classes that groups are compared on.
    """
    classes, groups = len(predictions.classes), len(predictions.groups)
    task = _Task(predictions, slot, unit, shared)
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
    return Ranking(
        value=sums.value,
        variance=sums.variance,
        kinds=sums.kinds,
        influence=sums.influence / np.maximum(valid[:, -1:], 1),
        own=sums.own / np.maximum(per_slot, 1)[:, slot],
        common=sums.common / several,
        shared=shared,
        base=sums.base / several,
        null=sums.null / several,
    )

"""How good a classifier is, overall and per group: from counts, and from scores.

Precision, recall and F1 are macro averages over the labels that are present in the truth or the
predictions of the rows at hand, with 0 for a present label's empty ratio: scikit-learn's
`average="macro", zero_division=0` on that subset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from equiprune.metrics.counts import Counts
from equiprune.metrics.rates import ratio
from equiprune.predictions import Predictions

BINS = 15


def accuracy(counts: Counts, *, multilabel: bool = False) -> Float[np.ndarray, "*draw group"]:
    """Share of right decisions; nan without rows.

    Multi-class: rows whose class is the predicted one. Multi-label: right decisions among all
    known (row, finding) cells, not the share of rows with every finding right.

    Example:
        >>> accuracy(Counts.from_confusion(np.array([[[3, 1], [0, 4]]]))).tolist()
        [0.875]
    """
    if multilabel:
        right = (counts.tp + counts.tn).sum(axis=-1)
        return ratio(right, right + (counts.fp + counts.fn).sum(axis=-1))
    return ratio(counts.tp.sum(axis=-1), counts.positive.sum(axis=-1))


def _macro(
    part: Shaped[np.ndarray, "*draw group class"], whole: Shaped[np.ndarray, "*draw group class"], counts: Counts
) -> Float[np.ndarray, "*draw group"]:
    present = (counts.tp + counts.fp + counts.fn) > 0
    each = np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)
    return ratio(each.sum(axis=-1), present.sum(axis=-1))


def precision(counts: Counts) -> Float[np.ndarray, "*draw group"]:
    """Macro precision, TP / (TP + FP), over present labels; nan where none is present."""
    return _macro(counts.tp, counts.called, counts)


def recall(counts: Counts) -> Float[np.ndarray, "*draw group"]:
    """Macro recall, TP / (TP + FN), over present labels; nan where none is present."""
    return _macro(counts.tp, counts.positive, counts)


def f1(counts: Counts) -> Float[np.ndarray, "*draw group"]:
    """Macro F1, 2 TP / (2 TP + FP + FN), over present labels; nan where none is present.

    Example:
        >>> f1(Counts.from_confusion(np.array([[[2, 0, 0], [0, 2, 0], [0, 0, 0]]]))).tolist()
        [1.0]
    """
    return _macro(2 * counts.tp, counts.called + counts.positive, counts)


@dataclass(frozen=True, eq=False)
class Auroc:
    """The area under the ROC curve of one score, with what every row adds to its uncertainty.

    Args:
        value: P(score of a positive > score of a negative) + half of P(equal); nan where one kind lacks.
        placement: for a positive row, the share of negatives that it beats; for a negative row, the share
            of positives that beat it (ties half). Their means over either kind are `value` (DeLong et al. 1988).
    """

    value: float
    placement: Float[np.ndarray, " sample"]


def auroc(score: Float[np.ndarray, " sample"], positive: Bool[np.ndarray, " sample"]) -> Auroc:
    """Area under the ROC curve of one class against the rest, ties counted half.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])).value
        0.875
    """
    hits, rest = np.sort(score[positive]), np.sort(score[~positive])
    if not len(hits) or not len(rest):
        return Auroc(np.nan, np.full(len(score), np.nan))
    placement = np.empty(len(score))
    placement[positive] = _below(rest, score[positive])
    placement[~positive] = 1 - _below(hits, score[~positive])
    return Auroc(float(placement[positive].mean()), placement)


def _below(ordered: Float[np.ndarray, " m"], value: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Share of `ordered` below each value, equals counted half."""
    twice = np.searchsorted(ordered, value, "left") + np.searchsorted(ordered, value, "right")
    return np.asarray(twice / (2 * len(ordered)))


def truth(predictions: Predictions, k: int) -> tuple[Bool[np.ndarray, " sample"], Bool[np.ndarray, " sample"]]:
    """Which rows are of class k, and which rows are known to be or not to be."""
    if predictions.task == "multiclass":
        return predictions.label == k, np.ones(len(predictions), dtype=bool)
    return predictions.label[:, k] == 1, ~np.isnan(predictions.label[:, k])


def macro_auroc(
    predictions: Predictions, rows: Bool[np.ndarray, " sample"], among: Bool[np.ndarray, " class"] | None = None
) -> tuple[float, Float[np.ndarray, " sample"]]:
    """Mean of the one-vs-rest AUROC over the classes with positives and negatives among the rows.

    Args:
        predictions: of n samples.
        rows: the rows to look at (one group).
        among: only these classes.

    Returns:
        The mean (nan where there is no such class), and each row's influence on it: a resample that takes
        row i w_i times has the mean + Σ (w_i - 1) influence_i to first order, and Σ influence² is DeLong's
        variance. Rows outside have 0.
    """
    values: list[float] = []
    influence = np.zeros(len(predictions))
    for k in range(len(predictions.classes)) if among is None else np.flatnonzero(among).tolist():
        positive, known = truth(predictions, k)
        kept = np.flatnonzero(rows & known)
        found = auroc(predictions.score[kept, k], positive[kept])
        if np.isnan(found.value):
            continue
        values.append(found.value)
        many = positive[kept].sum()
        influence[kept] += (found.placement - found.value) / np.where(positive[kept], many, len(kept) - many)
    return (float(np.mean(values)), influence / len(values)) if values else (np.nan, influence)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Per row, what ECE and the Brier score are sums of.

    Args:
        weight: known cells of the row: 1 (multi-class), or the number of known findings.
        brier: squared error of the row, summed over its cells.
        excess: confidence minus correctness, summed in each of the 15 bins.
    """

    weight: Float[np.ndarray, " sample"]
    brier: Float[np.ndarray, " sample"]
    excess: Float[np.ndarray, "sample bin"]


def calibration(predictions: Predictions) -> Calibration:
    """Rows' parts of two figures that weights apply to directly: `ece` and `brier`.

    Multi-class: the confidence is the top probability, correct when that class is the true one; the
    squared error is summed over classes (0 to 2). Multi-label: every known (row, finding) cell
    counts, with the finding's probability against 0 or 1 (squared error 0 to 1). The 15 bins have
    equal width and hold their upper edge, ((b - 1) / 15, b / 15].
    """
    score, n = predictions.score, len(predictions)
    if predictions.task == "multiclass":
        top = predictions.predicted
        confidence = score[np.arange(n), top]
        right = (top == predictions.label).astype(np.float64)
        own = score[np.arange(n), predictions.label]
        brier = (score**2).sum(axis=1) - 2 * own + 1
        excess = np.zeros((n, BINS))
        excess[np.arange(n), _bin(confidence)] = confidence - right
        return Calibration(np.ones(n), brier, excess)
    known = ~np.isnan(predictions.label)
    error = np.where(known, score - np.nan_to_num(predictions.label), 0.0)
    cell = np.arange(n)[:, None] * BINS + _bin(score)
    summed = np.bincount(cell.ravel(), error.ravel(), n * BINS).reshape(n, BINS)
    return Calibration(known.sum(axis=1).astype(np.float64), (error**2).sum(axis=1), summed)


def _bin(confidence: Float[np.ndarray, "*axes"]) -> Int[np.ndarray, "*axes"]:
    return np.asarray(np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64))


def ece(
    weight: Float[np.ndarray, "*draw"] | np.generic, excess: Float[np.ndarray, "*draw bin"]
) -> Float[np.ndarray, "*draw"]:
    """Expected calibration error from sums over rows: Σ_bins |Σ (confidence - correct)| / number of cells.

    Example:
        >>> float(ece(np.array(4.0), np.array([0.4, -0.8])))
        0.30000000000000004
    """
    return ratio(np.abs(excess).sum(axis=-1), weight)


def brier(
    weight: Float[np.ndarray, "*draw"] | np.generic, squared: Float[np.ndarray, "*draw"] | np.generic
) -> Float[np.ndarray, "*draw"]:
    """Brier score from sums over rows: squared error per known cell (per row in multi-class)."""
    return ratio(squared, weight)

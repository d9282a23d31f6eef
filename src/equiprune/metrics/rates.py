"""Rates of one class against the rest. Where a rate has no denominator it is nan, never 0."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from equiprune.metrics.counts import Counts


def ratio(
    part: Shaped[np.ndarray, "*#axes"] | np.generic, whole: Shaped[np.ndarray, "*#axes"] | np.generic
) -> Float[np.ndarray, ...]:
    """`part / whole`, broadcast; nan where `whole` is 0.

    Example:
        >>> ratio(np.array([1, 0]), np.array([2, 0])).tolist()
        [0.5, nan]
    """
    shape = np.broadcast_shapes(part.shape, whole.shape)
    undefined = np.full(shape, np.nan)
    return np.asarray(np.divide(part, whole, out=undefined, where=np.broadcast_to(whole != 0, shape)))


def tpr(counts: Counts) -> Float[np.ndarray, "*draw group class"]:
    """True positive rate (sensitivity, recall): TP / (TP + FN); nan without a row of the class.

    Example:
        >>> tpr(Counts.from_confusion(np.array([[[3, 1], [0, 0]]]))).tolist()
        [[0.75, nan]]
    """
    return ratio(counts.tp, counts.positive)


def fnr(counts: Counts) -> Float[np.ndarray, "*draw group class"]:
    """False negative rate: FN / (TP + FN) = 1 - TPR; nan without a row of the class."""
    return ratio(counts.fn, counts.positive)


def tnr(counts: Counts) -> Float[np.ndarray, "*draw group class"]:
    """True negative rate (specificity): TN / (TN + FP); nan without a row of another class."""
    return ratio(counts.tn, counts.negative)


def fpr(counts: Counts) -> Float[np.ndarray, "*draw group class"]:
    """False positive rate: FP / (TN + FP) = 1 - TNR; nan without a row of another class."""
    return ratio(counts.fp, counts.negative)


def ppv(counts: Counts) -> Float[np.ndarray, "*draw group class"]:
    """Positive predictive value (precision): TP / (TP + FP); nan where the class is never called."""
    return ratio(counts.tp, counts.called)


def selection_rate(counts: Counts) -> Float[np.ndarray, "*draw group class"]:
    """Share of rows that are predicted to be of the class: (TP + FP) / all known; nan without a known row."""
    return ratio(counts.called, counts.positive + counts.negative)

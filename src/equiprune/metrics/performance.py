"""How good a classifier is, overall and per group, from counts.

Precision, recall and F1 are macro averages over the labels that are present in the truth or the
predictions of the rows at hand, with 0 for a present label's empty ratio: scikit-learn's
`average="macro", zero_division=0` on that subset.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Shaped

from equiprune.metrics.counts import Counts
from equiprune.metrics.rates import ratio


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


def present(counts: Counts) -> Bool[np.ndarray, "*draw group class"]:
    """The labels that are in the truth or the predictions of a group."""
    return np.asarray((counts.tp + counts.fp + counts.fn) > 0)


def per_class(
    part: Shaped[np.ndarray, "*draw group class"], whole: Shaped[np.ndarray, "*draw group class"]
) -> Float[np.ndarray, "*draw group class"]:
    """`part / whole`, 0 where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0))


def _macro(
    part: Shaped[np.ndarray, "*draw group class"], whole: Shaped[np.ndarray, "*draw group class"], counts: Counts
) -> Float[np.ndarray, "*draw group"]:
    return ratio(per_class(part, whole).sum(axis=-1), present(counts).sum(axis=-1))


def precision(counts: Counts, *, multilabel: bool = False) -> Float[np.ndarray, "*draw group"]:  # noqa: ARG001
    """Macro precision, TP / (TP + FP), over present labels; nan where none is present."""
    return _macro(counts.tp, counts.called, counts)


def recall(counts: Counts, *, multilabel: bool = False) -> Float[np.ndarray, "*draw group"]:  # noqa: ARG001
    """Macro recall, TP / (TP + FN), over present labels; nan where none is present."""
    return _macro(counts.tp, counts.positive, counts)


def f1(counts: Counts, *, multilabel: bool = False) -> Float[np.ndarray, "*draw group"]:  # noqa: ARG001
    """Macro F1, 2 TP / (2 TP + FP + FN), over present labels; nan where none is present.

    Example:
        >>> f1(Counts.from_confusion(np.array([[[2, 0, 0], [0, 2, 0], [0, 0, 0]]]))).tolist()
        [1.0]
    """
    return _macro(2 * counts.tp, counts.called + counts.positive, counts)


def balanced_accuracy(counts: Counts, *, multilabel: bool = False) -> Float[np.ndarray, "*draw group"]:
    """Mean over classes of the true positive rate (of the classes that have rows); nan without rows.

    Multi-label: mean over findings of (TPR + TNR) / 2, of the findings that have both.

    Example:
        >>> balanced_accuracy(Counts.from_confusion(np.array([[[1, 1], [0, 6]]]))).tolist()
        [0.75]
    """
    sensitivity = ratio(counts.tp, counts.positive)
    if multilabel:
        sensitivity = (sensitivity + ratio(counts.tn, counts.negative)) / 2
    return ratio(np.nansum(sensitivity, axis=-1), (~np.isnan(sensitivity)).sum(axis=-1))


class Metric(Protocol):
    """A figure of counts."""

    def __call__(self, counts: Counts, *, multilabel: bool = False) -> Float[np.ndarray, "*draw group"]:
        """One number a group."""
        ...


FROM_COUNTS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}

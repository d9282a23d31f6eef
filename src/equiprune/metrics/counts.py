"""True and false positives and negatives, one class against the rest, per group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from equiprune.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each class was found, missed or called wrongly, in each group.

    The axes are `*draw group class`: any number of leading axes for bootstrap or permutation draws.
    Multi-class: every class against all others. Multi-label: a finding that is not known (nan) is
    in none of the four.

    Args:
        tp: is of the class and called so.
        fp: is not of the class and called so.
        fn: is of the class and not called so.
        tn: neither.

    Example:
        >>> counts = Counts.from_confusion(np.array([[[3, 1], [0, 2]]]))  # one group, two classes
        >>> counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist(), counts.tn.tolist()
        ([[3, 2]], [[0, 1]], [[1, 0]], [[2, 3]])
    """

    tp: Shaped[np.ndarray, "*draw group class"]
    fp: Shaped[np.ndarray, "*draw group class"]
    fn: Shaped[np.ndarray, "*draw group class"]
    tn: Shaped[np.ndarray, "*draw group class"]

    @classmethod
    def from_confusion(cls, confusion: Shaped[np.ndarray, "*draw group true predicted"]) -> Counts:
        """From the number of rows of each group, true class and predicted class."""
        tp = np.diagonal(confusion, axis1=-2, axis2=-1)
        return cls.from_totals(tp, confusion.sum(axis=-1), confusion.sum(axis=-2), confusion.sum(axis=(-2, -1)))

    @classmethod
    def from_totals(
        cls,
        tp: Shaped[np.ndarray, "*draw group class"],
        positive: Shaped[np.ndarray, "*draw group class"],
        called: Shaped[np.ndarray, "*draw group class"],
        known: Shaped[np.ndarray, "*draw group"] | Shaped[np.ndarray, "*draw group class"],
    ) -> Counts:
        """From the hits, the rows of the class, the rows called so, and all rows (one number a group will do)."""
        if known.ndim < tp.ndim:
            known = known[..., None]
        return cls(tp, called - tp, positive - tp, known - positive - called + tp)

    @classmethod
    def from_labels(
        cls,
        label: Float[np.ndarray, "sample class"],
        predicted: Shaped[np.ndarray, "sample class"],
        group: Int[np.ndarray, " sample"],
        groups: int,
    ) -> Counts:
        """From 0/1/nan labels and 0/1 decisions; rows of group -1 are left out."""
        member = (group == np.arange(groups)[:, None]).astype(np.float64)
        known, called = ~np.isnan(label), predicted.astype(bool)
        positive = label == 1
        parts = (positive & called, positive, called & known, known)
        return cls.from_totals(*((member @ part.astype(np.float64)).astype(np.int64) for part in parts))

    @property
    def positive(self) -> Shaped[np.ndarray, "*draw group class"]:
        """Rows that are of the class: its support."""
        return np.asarray(self.tp + self.fn)

    @property
    def negative(self) -> Shaped[np.ndarray, "*draw group class"]:
        """Rows that are known not to be of the class."""
        return np.asarray(self.fp + self.tn)

    @property
    def called(self) -> Shaped[np.ndarray, "*draw group class"]:
        """Rows that are predicted to be of the class."""
        return np.asarray(self.tp + self.fp)

    def take(self, groups: slice) -> Counts:
        """Only some groups."""
        return Counts(*(part[..., groups, :] for part in (self.tp, self.fp, self.fn, self.tn)))

    def pooled(self) -> Counts:
        """All groups as one: the group axis has length 1."""
        return Counts(*(part.sum(axis=-2, keepdims=True) for part in (self.tp, self.fp, self.fn, self.tn)))


def confusion(
    label: Int[np.ndarray, " sample"],
    predicted: Int[np.ndarray, " sample"],
    group: Int[np.ndarray, " sample"],
    groups: int,
    classes: int,
) -> Int[np.ndarray, "group true predicted"]:
    """Number of rows of each group, true class and predicted class; rows of group -1 are left out.

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 0, -1]), 1, 2).tolist()
        [[[1, 0], [1, 0]]]
    """
    kept = group >= 0
    code = (group[kept] * classes + label[kept]) * classes + predicted[kept]
    return np.bincount(code, minlength=groups * classes * classes).reshape(groups, classes, classes)


def count(predictions: Predictions) -> Counts:
    """Counts with one slot a group, and a last one for the rows whose group is unknown.

    `count(p).take(slice(-1))` are the groups, `count(p).pooled()` is everything.
    """
    slots = len(predictions.groups) + 1
    slot = np.where(predictions.group < 0, slots - 1, predictions.group)
    if predictions.task == "multilabel":
        return Counts.from_labels(predictions.label, predictions.predicted, slot, slots)
    cells = confusion(predictions.label, predictions.predicted, slot, slots, len(predictions.classes))
    return Counts.from_confusion(cells)

"""Where every row stands among the scores of a class's positives: all that AUROC and average precision look at.

With q distinct scores of positives there are 2 q + 1 places: 2 j below the j-th of them, 2 j + 1 equal to it. A
negative is in one of these, a positive at one of the q scores. So a row of a slot (a group) is in one of a few thousand
*cells*: the figures follow from how many rows are in each, and every row of a cell adds the same to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

BUCKETS = 1 << 19
"""The most buckets that scores are put into: a table of that size still fits into a processor's cache."""
BLOCK = 1 << 19
"""Numbers that are looked up at a time."""


@dataclass(frozen=True, eq=False)
class Places:
    """The rows of one class's curve.

    Args:
        cell: of each row; first all cells of negatives (slot, place), then those of positives (slot, score).
        pos: how many positives have each score.
        neg: how many negatives are in each place.
    """

    cell: Int[np.ndarray, " row"]
    pos: Float[np.ndarray, "slot score"]
    neg: Float[np.ndarray, "slot place"]

    @classmethod
    def of(
        cls,
        score: Float[np.ndarray, " row"],
        positive: Bool[np.ndarray, " row"],
        slot: Int[np.ndarray, " row"],
        slots: int,
    ) -> Places | None:
        """Places every row; None where there is no positive."""
        hit = np.flatnonzero(positive)
        score = score + 0.0  # -0.0 becomes 0.0; and a column of a table becomes one piece of memory
        steps = np.unique(score[hit])
        if not len(steps):
            return None
        cell = place(steps, score)
        scores, places = len(steps), 2 * len(steps) + 1
        of_hit = slots * places + slot[hit] * scores + cell[hit] // 2
        cell += slot * places
        cell[hit] = of_hit
        many = np.bincount(cell, minlength=slots * (places + scores)).astype(np.float64)
        neg, pos = np.split(many, [slots * places])
        return cls(cell, pos.reshape(slots, scores), neg.reshape(slots, places))

    def add(
        self,
        negative: Float[np.ndarray, "slot place column"],
        positive: Float[np.ndarray, "slot score column"],
        rows: slice | Int[np.ndarray, " row"],
        into: Float[np.ndarray, "every column"],
    ) -> None:
        """Adds to each row what a row of its cell adds.

        Args:
            negative: what a negative adds in each place.
            positive: what a positive adds at each score.
            rows: which rows of `into` the curve's rows are.
            into: where it is added.
        """
        width = into.shape[1]
        table = np.concatenate([negative.reshape(-1, width), positive.reshape(-1, width)]).astype(
            into.dtype, copy=False
        )
        step = max(1, BLOCK // width)
        for start in range(0, len(self.cell), step):
            inside = slice(start, start + step)
            # "clip" looks nothing up that is not there: it only spares numpy a copy
            found = np.take(table, self.cell[inside], axis=0, mode="clip")
            into[inside if isinstance(rows, slice) else rows[inside]] += found


def place(steps: Float[np.ndarray, " score"], score: Float[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """2 j for a score between the steps j - 1 and j, 2 j + 1 for one equal to step j.

    A binary search costs most where it is sure from the first. So the scores are first put into buckets by their
    leading bits (which order non-negative floats), and only those that share a bucket with a step are searched.

    Args:
        steps: distinct and rising; none negative, nor -0.0.
        score: of the same type; none negative, nor -0.0.

    Example:
        >>> place(np.array([0.25, 0.5]), np.array([0.125, 0.25, 0.375, 0.5, 0.75])).tolist()
        [0, 1, 2, 3, 4]
    """
    as_integers = "i4" if score.dtype == np.float32 else "i8"
    marks, bits = (np.asarray(part.view(as_integers)) for part in (steps, score))
    reach = int(marks[-1]) - int(marks[0])
    shift = max(0, reach.bit_length() - min(BUCKETS, max(2, len(score) // 2)).bit_length() + 1)
    first = marks[0] >> shift
    last = int((marks[-1] >> shift) - first) + 1
    bucket = np.clip((bits >> shift) - first, -1, last) + 1  # the first and the last lie beyond all steps
    inside = np.bincount((marks >> shift) - first + 1, minlength=last + 2)
    below = 2 * (np.cumsum(inside) - inside)
    below[inside > 0] = -1  # to be searched
    found = below[bucket]
    near = np.flatnonzero(found < 0)
    left = np.searchsorted(steps, score[near])
    found[near] = 2 * left + (steps[np.minimum(left, len(steps) - 1)] == score[near])
    return np.asarray(found)

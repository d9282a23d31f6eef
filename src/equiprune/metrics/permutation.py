"""The attribute permuted within each true class: what a classifier with the same error rates in every group shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from equiprune.metrics.counts import Counts
from equiprune.metrics.sampling import chunks, counts_of


def permuted_cells(
    confusion: Int[np.ndarray, "group true predicted"], draws: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """Counts when the attribute is permuted within each true class, for independent rows.

    Within a true class the groups keep their sizes and share out the cells of the pooled confusion
    (multivariate hypergeometric), so that the cost does not depend on the number of rows.
    """
    groups, classes, _ = confusion.shape
    pool, positive = confusion.sum(axis=0), confusion.sum(axis=2)
    for size in chunks(draws, 4 * groups * classes):
        tp, called = np.zeros((2, size, groups, classes), dtype=np.int64)
        for true in range(classes):
            left = np.tile(positive[:, true], (size, 1))
            for predicted in np.flatnonzero(pool[true]):
                share = _dealt(left, int(pool[true, predicted]), rng)
                left -= share
                called[..., predicted] += share
                if predicted == true:
                    tp[..., true] = share
        support = np.broadcast_to(positive, tp.shape)
        yield Counts.from_totals(tp, support, called, support.sum(axis=-1))


def _dealt(left: Int[np.ndarray, "draw group"], many: int, rng: np.random.Generator) -> Int[np.ndarray, "draw group"]:
    """How many of `many` rows fall to each group, when they are drawn from what is left of the groups."""
    share = np.empty_like(left)
    rest, behind = np.full(len(left), many), left.sum(axis=1)
    for g in range(left.shape[1] - 1):
        behind = behind - left[:, g]
        share[:, g] = rng.hypergeometric(left[:, g], behind, rest)
        rest = rest - share[:, g]
    share[:, -1] = rest
    return share


def permuted_groups(
    group: Int[np.ndarray, " atom"], stratum: Int[np.ndarray, " atom"], draws: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "draw atom"]]:
    """The group of every atom (row or unit), permuted within its stratum (its true class)."""
    mixed = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    mixed = [members for members in mixed if len(np.unique(group[members])) > 1]
    for size in chunks(draws, len(group)):
        drawn = np.tile(group.astype(np.int16), (size, 1))
        for members in mixed:
            drawn[:, members] = rng.permuted(drawn[:, members], axis=1)
        yield drawn


def permuted_units(
    totals: sparse.csr_array,
    group: Int[np.ndarray, " unit"],
    stratum: Int[np.ndarray, " unit"],
    groups: int,
    classes: int,
    draws: int,
    rng: np.random.Generator,
) -> Iterator[Counts]:
    """Counts when the units' groups are permuted within their (majority) true class.

    Args:
        totals: `contributions` of each unit with a single slot.
        group: of each unit.
        stratum: the class that most of its rows have.
        groups: how many.
        classes: how many.
        draws: how many permutations.
        rng: where randomness comes from.
    """
    transposed = sparse.csr_array(totals.T)
    for drawn in permuted_groups(group, stratum, draws, rng):
        parts = [(transposed @ np.ascontiguousarray((drawn == g).T, dtype=np.float64)).T for g in range(groups)]
        each = np.stack(parts, axis=1).reshape(len(drawn), groups, -1, classes)
        yield counts_of(np.moveaxis(each, 2, 1).reshape(len(drawn), -1), groups, classes)


def shares(values: Float[np.ndarray, "draw row"], sizes: Int[np.ndarray, " group"]) -> Float[np.ndarray, "draw group"]:
    """Sums of the values when the first `sizes[0]` rows fall to group 0, the next `sizes[1]` to group 1, and so on.

    Example:
        >>> shares(np.array([[1.0, 2.0, 4.0]]), np.array([1, 0, 2])).tolist()
        [[1.0, 0.0, 6.0]]
    """
    running = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    ends = np.cumsum(sizes)
    return np.asarray(running[:, ends] - running[:, ends - sizes])


def permuted_findings(
    label: Float[np.ndarray, "row finding"],
    values: Float[np.ndarray, "quantity row finding"],
    group: Int[np.ndarray, " row"],
    groups: int,
    unit: Int[np.ndarray, " row"],
    draws: int,
    rng: np.random.Generator,
) -> Iterator[Float[np.ndarray, "quantity truth draw group finding"]]:
    """Sums per group when the attribute is permuted within the true value of every finding (multi-label).

    Every unit gets one random key a draw. For each finding and each true value (0, 1) the rows are
    ordered by their keys and dealt to the groups in the groups' own sizes. So each finding is permuted within
    its true class, while a row, and a unit, tends to keep one group over all findings, as real rows do.

    Args:
        label: 0, 1 or nan.
        values: what is summed: decisions, placements.
        group: of each row, from 0.
        groups: how many.
        unit: of each row, from 0.
        draws: how many permutations.
        rng: where randomness comes from.

    Yields:
        For a chunk of draws, sums over the rows with truth 0 and with truth 1.
    """
    quantities, n, findings = values.shape
    units = int(unit.max()) + 1
    for size in chunks(draws, 2 * n):
        order = np.argsort(rng.random((size, units))[:, unit], axis=1)
        sums = np.zeros((quantities, 2, size, groups, findings))
        for k in range(findings):
            for truth in (0, 1):
                member = label[:, k] == truth
                sizes = np.bincount(group[member], minlength=groups)
                rows = order[member[order]].reshape(size, -1)
                for q in range(quantities):
                    sums[q, truth, :, :, k] = shares(values[q, :, k][rows], sizes)
        yield sums

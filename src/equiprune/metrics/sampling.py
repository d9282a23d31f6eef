"""What is drawn when a test set is resampled: confusion cells, rows, or units (patients, lesions).

Every figure that depends on counts is a function of sums over rows. So a resample needs no rows: it
needs a weight for each *atom*, and one sparse product of the weights with what each atom adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import sparse

from equiprune.metrics.counts import Counts
from equiprune.predictions import Predictions

CELLS = 4_000_000
"""Weights held at a time: bounds the memory of a resample, whatever the number of draws."""
FEWEST = 200
AFFORDABLE = 20_000_000


def affordable(draws: int, cost: int) -> int:
    """How many draws are made where each passes over `cost` cells: all that are asked, or at least 200 of them.

    Example:
        >>> affordable(2000, 5_000), affordable(2000, 20_000), affordable(2000, 10_000_000)
        (2000, 1000, 200)
    """
    return min(draws, max(FEWEST, AFFORDABLE // cost))


@dataclass(frozen=True, eq=False)
class Atoms:
    """The parts of a test set that are drawn with replacement, stratum by stratum.

    Args:
        totals: what one copy of an atom adds to each sum, (atom, column), sparse.
        copies: how many of it the test set holds: rows of a confusion cell, else 1.
        stratum: atoms are drawn within their stratum, so that group sizes stay as they are.
    """

    totals: sparse.csr_array
    copies: Int[np.ndarray, " atom"]
    stratum: Int[np.ndarray, " atom"]

    def __len__(self) -> int:
        return len(self.copies)


def slots(predictions: Predictions) -> Int[np.ndarray, " sample"]:
    """The group of each row, with one last slot for the unknown."""
    return np.where(predictions.group < 0, len(predictions.groups), predictions.group)


def contributions(
    label: Shaped[np.ndarray, "sample *class"],
    predicted: Shaped[np.ndarray, "sample *class"],
    slot: Int[np.ndarray, " sample"],
    many: int,
    classes: int,
) -> sparse.csr_array:
    """What each row adds to the counts of its slot: (sample, column), columns being (part, slot, class).

    The parts are hits, rows of the class, rows called so, and in multi-label known rows.
    """
    if label.ndim == 1:
        row = np.tile(np.arange(len(slot)), 3)
        part = np.repeat(np.arange(3), len(slot))
        klass = np.concatenate([label, label, predicted])
        value = np.concatenate([label == predicted, np.ones(2 * len(slot), dtype=bool)]).astype(np.float64)
    else:
        known, positive = ~np.isnan(label), label == 1
        parts = np.stack([positive & predicted, positive, known & predicted, known])
        part, row, klass = np.nonzero(parts)
        value = np.ones(len(row))
    column = (part * many + slot[row]) * classes + klass
    width = (3 if label.ndim == 1 else 4) * many * classes
    return sparse.csr_array((value, (row, column)), shape=(len(slot), width))


def counts_of(totals: Float[np.ndarray, "*draw column"], many: int, classes: int) -> Counts:
    """Counts from the sums of `contributions`, for each draw."""
    parts = totals.reshape(*totals.shape[:-1], -1, many, classes)
    tp, positive, called = (parts[..., i, :, :] for i in range(3))
    known = parts[..., 3, :, :] if parts.shape[-3] == 4 else positive.sum(axis=-1)
    return Counts.from_totals(tp, positive, called, known)


def by_unit(rows: sparse.csr_array, unit: Int[np.ndarray, " sample"]) -> sparse.csr_array:
    """Sums of rows over their unit."""
    n = len(unit)
    member = sparse.csr_array((np.ones(n), (unit, np.arange(n))), shape=(int(unit.max()) + 1, n))
    return sparse.csr_array(member @ rows)


def unit_strata(
    slot: Int[np.ndarray, " sample"], unit: Int[np.ndarray, " sample"], many: int
) -> Int[np.ndarray, " unit"]:
    """The stratum of each unit: the set of slots that its rows are in, as a number from 0."""
    member = np.zeros((int(unit.max()) + 1, many), dtype=bool)
    member[unit, slot] = True
    return np.unique(member, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def count_atoms(predictions: Predictions) -> Atoms:
    """Atoms whose totals `counts_of` turns into counts: cells, rows (multi-label) or units."""
    slot, many, classes = slots(predictions), len(predictions.groups) + 1, len(predictions.classes)
    label, predicted = predictions.label, predictions.predicted
    if predictions.unit is None and predictions.task == "multiclass":
        code = (slot * classes + label) * classes + predicted
        _, first, copies = np.unique(code, return_index=True, return_counts=True)
        rows = contributions(label[first], predicted[first], slot[first], many, classes)
        return Atoms(rows, copies, slot[first])
    return row_atoms(contributions(label, predicted, slot, many, classes), predictions)


def row_atoms(rows: sparse.csr_array, predictions: Predictions) -> Atoms:
    """Atoms from what each row adds: the rows themselves, or their units where the predictions have any."""
    slot = slots(predictions)
    if predictions.unit is None:
        return Atoms(rows, np.ones(len(slot), dtype=np.int64), slot)
    unit = predictions.unit_code
    stratum = unit_strata(slot, unit, len(predictions.groups) + 1)
    return Atoms(by_unit(rows, unit), np.ones(len(stratum), dtype=np.int64), stratum)


def resample(atoms: Atoms, draws: int, rng: np.random.Generator) -> Iterator[Float[np.ndarray, "draw column"]]:
    """The sums of as many bootstrap resamples, a chunk at a time so that memory stays bounded."""
    transposed = sparse.csr_array(atoms.totals.T)
    strata = [np.flatnonzero(atoms.stratum == s) for s in np.unique(atoms.stratum)]
    for size in chunks(draws, len(atoms) + atoms.totals.shape[1]):
        weight = np.empty((len(atoms), size))
        for members in strata:
            weight[members] = _weights(atoms.copies[members], size, rng)
        yield np.ascontiguousarray((transposed @ weight).T)


def chunks(draws: int, cells: int) -> Iterator[int]:
    """Sizes that sum to `draws`, each so small that size x cells stays bounded (but at least 1).

    Example:
        >>> list(chunks(5, 2_000_000))
        [2, 2, 1]
    """
    size = max(1, CELLS // max(1, cells))
    yield from [size] * (draws // size)
    if draws % size:
        yield draws % size


def _weights(copies: Int[np.ndarray, " atom"], draws: int, rng: np.random.Generator) -> Int[np.ndarray, "atom draw"]:
    """How often each atom is drawn, when as many copies are drawn as there are."""
    total = int(copies.sum())
    if copies.max() > 1:
        return rng.multinomial(total, copies / total, size=draws).T
    picks = rng.integers(total, size=(draws, total)) * draws + np.arange(draws)[:, None]
    return np.bincount(picks.ravel(), minlength=draws * total).reshape(total, draws)


def sides(counts: Counts) -> Counts:
    """Counts of every group and, last, of all rows, from counts whose last slot holds the rows of unknown group."""
    groups, overall = counts.take(slice(-1)), counts.pooled()
    return Counts(
        *(np.concatenate([getattr(groups, part), getattr(overall, part)], axis=-2) for part in ("tp", "fp", "fn", "tn"))
    )


def effective(predictions: Predictions, counts: Counts) -> dict[str, Float[np.ndarray, "side class"]]:
    """Independent observations behind each rate: rows, or (Σm)² / Σm² over units of m rows.

    With units, rows of one unit are treated as copies of each other, so that an interval built on it is rather
    too wide.

    Args:
        predictions: the test set.
        counts: of its sides.

    Returns:
        By what they are rows of: `positive` (of the class), `negative`, `called` so, `union` (of it or called so),
        `known`.
    """
    union = counts.tp + counts.fp + counts.fn
    known = np.broadcast_to(counts.positive + counts.negative, union.shape)
    totals = {
        "positive": counts.positive,
        "negative": counts.negative,
        "called": counts.called,
        "union": union,
        "known": known,
    }
    exact = {name: total.astype(np.float64) for name, total in totals.items()}
    if predictions.unit is None:
        return exact
    unit, slot, many = predictions.unit_code, slots(predictions), len(predictions.groups) + 1
    each = _unit_squares(predictions, unit, slot, many)
    whole = _unit_squares(predictions, unit, np.zeros_like(slot), 1)
    squares = {name: np.concatenate([each[name][:-1], whole[name]]) for name in exact}
    return {name: _over(exact[name] ** 2, squares[name]) for name in exact}


def _over(part: Float[np.ndarray, "side class"], whole: Float[np.ndarray, "side class"]) -> Float[np.ndarray, ...]:
    return np.asarray(np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0))


def _unit_squares(
    predictions: Predictions, unit: Int[np.ndarray, " row"], slot: Int[np.ndarray, " row"], many: int
) -> dict[str, Float[np.ndarray, "slot class"]]:
    """Sum over units of the squared number of a unit's rows, of each kind."""
    classes, label, predicted = len(predictions.classes), predictions.label, predictions.predicted
    shape = (many, classes)

    def sums(row: Int[np.ndarray, " cell"], klass: Int[np.ndarray, " cell"]) -> sparse.csr_array:
        cells = (np.ones(len(row)), (unit[row], slot[row] * classes + klass))
        return sparse.csr_array(cells, shape=(int(unit.max()) + 1, many * classes))

    def squared(found: sparse.csr_array) -> Float[np.ndarray, "slot class"]:
        return np.asarray(found.power(2).sum(axis=0)).reshape(shape)

    if predictions.task == "multilabel":
        known = ~np.isnan(label)
        positive, called = label == 1, predicted & known
        parts = {"positive": positive, "negative": known & ~positive, "called": called, "known": known}
        parts["union"] = positive | called
        return {name: squared(sums(*np.nonzero(part))) for name, part in parts.items()}
    every = np.arange(len(label))
    wrong = np.flatnonzero(label != predicted)
    positive = sums(every, label)
    union = sums(np.concatenate([every, wrong]), np.concatenate([label, predicted[wrong]]))
    size = positive @ sparse.csr_array(np.kron(np.eye(many), np.ones((classes, 1))))
    cross = (size.T @ positive).toarray().reshape(many, many, classes)[np.arange(many), np.arange(many)]
    whole = np.asarray(size.power(2).sum(axis=0))[:, None]
    return {
        "positive": squared(positive),
        "negative": whole - 2 * cross + squared(positive),  # (n - p)² summed without the dense n - p
        "called": squared(sums(every, predicted)),
        "union": squared(union),
        "known": np.broadcast_to(whole, shape),
    }


def covariance(
    values: Float[np.ndarray, "row column"], unit: Int[np.ndarray, " row"] | None
) -> Float[np.ndarray, "column column"]:
    """Covariance of the columns' sums when rows, or units of rows, are drawn anew.

    Example:
        >>> covariance(np.array([[1.0], [3.0]]), None).tolist()
        [[4.0]]
    """
    if unit is not None:
        codes, unit = np.unique(unit, return_inverse=True)
        values = np.stack([np.bincount(unit, column, len(codes)) for column in values.T], axis=1)
    n = len(values)
    if n < 2:
        return np.zeros((values.shape[1], values.shape[1]))
    total = values.sum(axis=0)
    return np.asarray((values.T @ values - np.outer(total, total) / n) * n / (n - 1))

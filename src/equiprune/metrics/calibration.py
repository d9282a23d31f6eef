"""Do probabilities mean what they say: ECE, Brier score, calibration intercept and slope.

All four are made of sums over cells. Multi-class: a cell is a row with its top probability, right
when that class is the true one. Multi-label: a cell is a known finding of a row, with its probability
against 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import expit

from equiprune.metrics.intervals import Z
from equiprune.metrics.rates import ratio
from equiprune.predictions import Predictions

BINS = 15
_EDGE = 1e-6
_STEPS = 30
_STEEPEST = 1e3


@dataclass(frozen=True, eq=False)
class Cells:
    """Confidence and correctness of every cell.

    Args:
        row: which row a cell is of.
        confidence: the probability, 0 to 1.
        right: whether it came true, 0 or 1.
        brier: squared error of each row: summed over its classes (multi-class), or over its known findings.
        weight: what `brier` is divided by: 1 a row (multi-class), or the number of known findings.
    """

    row: Int[np.ndarray, " cell"]
    confidence: Float[np.ndarray, " cell"]
    right: Float[np.ndarray, " cell"]
    brier: Float[np.ndarray, " row"]
    weight: Float[np.ndarray, " row"]


def cells(predictions: Predictions) -> Cells:
    """The cells of predictions.

    Example:
        >>> found = cells(Predictions([0, 1], [[0.75, 0.25], [1.0, 0.0]], [0, 1], ["a", "b"], ["f", "m"]))
        >>> found.confidence.tolist(), found.right.tolist(), found.brier.tolist()
        ([0.75, 1.0], [1.0, 0.0], [0.125, 2.0])
    """
    score, n = predictions.score, len(predictions)
    if predictions.task == "multiclass":
        row = np.arange(n)
        called = score.argmax(axis=1) if predictions.threshold is not None else predictions.predicted
        squared = np.einsum("nk,nk->n", score, score, dtype=np.float64)
        brier = squared - 2.0 * score[row, predictions.label] + 1
        return Cells(
            row=row,
            confidence=score[row, called].astype(np.float64),
            right=(called == predictions.label).astype(np.float64),
            brier=brier,
            weight=np.ones(n),
        )
    known = ~np.isnan(predictions.label)
    row = np.nonzero(known)[0]
    confidence, right = score[known].astype(np.float64), predictions.label[known]
    return Cells(row, confidence, right, np.bincount(row, (confidence - right) ** 2, n), known.sum(axis=1) * 1.0)


def excess(found: Cells) -> Float[np.ndarray, "row bin"]:
    """Confidence minus correctness of each row's cells, summed in each of the 15 bins ((b - 1) / 15, b / 15]."""
    n = len(found.weight)
    return np.bincount(found.row * BINS + _bin(found), found.confidence - found.right, n * BINS).reshape(n, BINS)


def _bin(found: Cells) -> Int[np.ndarray, " cell"]:
    return np.asarray(np.clip(np.ceil(found.confidence * BINS) - 1, 0, BINS - 1), dtype=np.int64)


def unseen(
    predictions: Predictions, found: Cells, slot: Int[np.ndarray, " row"], sides: int
) -> Float[np.ndarray, "side column"]:
    """The variance that z²/2 more right and as many wrong cells would add to sums of Brier score and bins.

    Where all cells of a group are right, or all but few, their sample variance says too little of what another test
    set could show, as for any proportion near 1 (Agresti and Coull 1998). A cell that turns out otherwise changes its
    squared error by `change` and the excess of its bin by 1.

    Args:
        predictions: the test set.
        found: its cells.
        slot: the group of every row.
        sides: how many groups and, last, all rows; a slot at least as large is in no group.
    """
    held = 2 * found.confidence - 1
    if predictions.task == "multiclass":  # from the called class to another one
        held = 2 * (len(predictions.classes) * found.confidence - 1) / max(len(predictions.classes) - 1, 1)
    of = np.minimum(slot[found.row], sides - 1)
    change = np.bincount(of, held**2, sides)
    bins = np.bincount(of * BINS + _bin(found), minlength=sides * BINS).reshape(sides, BINS)
    total = np.column_stack([change, bins])
    total[-1] = total.sum(axis=0)
    return Z**2 / 2 * ratio(total, np.maximum(total[:, 1:].sum(axis=1, keepdims=True), 1))


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
    weight: Shaped[np.ndarray, "*draw"] | np.generic, squared: Float[np.ndarray, "*draw"] | np.generic
) -> Float[np.ndarray, "*draw"]:
    """Brier score from sums over rows: squared error per known cell (per row in multi-class)."""
    return ratio(squared, weight)


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Intercept and slope of correctness regressed on the logit of confidence, with each cell's influence.

    Args:
        value: calibration intercept (slope held at 1; 0 is calibrated, below 0 over-confident), and slope
            (intercept free; 1 is calibrated, below 1 too extreme). nan where they are not estimable: all
            right, all wrong, or confidence separates right from wrong.
        influence: to first order, a cell taken w times adds (w - 1) times this.
    """

    value: Float[np.ndarray, " coefficient"]
    influence: Float[np.ndarray, "coefficient cell"]


def recalibration(confidence: Float[np.ndarray, " cell"], right: Float[np.ndarray, " cell"]) -> Recalibration:
    """Calibration intercept and slope (Cox 1958; Van Calster et al. 2019), by Newton's method.

    Example:
        >>> confidence = np.array([0.5, 0.5, 0.75, 0.75, 0.75, 0.75])
        >>> found = recalibration(confidence, np.array([1.0, 0.0, 1.0, 1.0, 1.0, 0.0]))
        >>> np.round(np.abs(found.value), 6).tolist()
        [0.0, 1.0]
    """
    logit = _logit(confidence)
    influence = np.zeros((2, len(logit)))
    every = np.ones((1, len(logit)), dtype=bool)
    fits = [_fitted(logit, right, every, slope=slope)[0] for slope in (False, True)]
    value = np.array([fits[0][0], fits[1][1]])
    if np.isnan(value).any():
        return Recalibration(np.full(2, np.nan), influence)
    x = np.stack([np.ones(len(logit)), logit])
    for i, (a, b) in enumerate(fits):
        free = slice(0, i + 1)
        mean = expit(a + b * logit)
        bend = (x[free] * (mean * (1 - mean))) @ x[free].T
        influence[i] = np.linalg.solve(bend, x[free])[i] * (right - mean)
    return Recalibration(value, influence)


def recalibrations(
    confidence: Float[np.ndarray, " cell"], right: Float[np.ndarray, " cell"], inside: Bool[np.ndarray, "draw cell"]
) -> Float[np.ndarray, "coefficient draw"]:
    """Calibration intercept and slope of many sets of cells at once; nan where not estimable.

    Args:
        confidence: of every cell.
        right: whether it came true.
        inside: which cells each set has.

    Example:
        >>> confidence, right = np.array([0.5, 0.5, 0.5, 0.5]), np.array([1.0, 0.0, 1.0, 1.0])
        >>> inside = np.array([[True, True, False, False], [True, False, True, False]])
        >>> recalibrations(confidence, right, inside)[0].tolist()  # the second set is right throughout
        [0.0, nan]
    """
    logit = _logit(confidence)
    fits = [_fitted(logit, right, inside, slope=slope) for slope in (False, True)]
    return np.stack([fits[0][:, 0], fits[1][:, 1]])


def _logit(confidence: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " cell"]:
    held = np.clip(confidence, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(held / (1 - held)))


def _fitted(
    logit: Float[np.ndarray, " cell"],
    right: Float[np.ndarray, " cell"],
    inside: Bool[np.ndarray, "draw cell"],
    *,
    slope: bool,
) -> Float[np.ndarray, "draw coefficient"]:
    """Intercept and slope (held at 1, or free) of every set; nan where the likelihood has no maximum."""
    result = np.full((len(inside), 2), np.nan)
    hits = inside @ right
    at = np.flatnonzero((hits > 0) & (hits < inside.sum(axis=1)))
    beta = np.tile([0.0, 1.0], (len(at), 1))
    for _ in range(_STEPS):
        mean = np.where(inside[at], expit(beta[:, :1] + beta[:, 1:] * logit), 0.0)
        spread = mean * (1 - mean)
        bend, pull = spread.sum(axis=1), hits[at] - mean.sum(axis=1)
        if slope:
            cross, square = spread @ logit, spread @ logit**2
            tilt = inside[at] @ (right * logit) - mean @ logit
            room = bend * square - cross**2
            move = np.stack([square * pull - cross * tilt, bend * tilt - cross * pull], axis=1)
            known = room > np.finfo(np.float64).eps * bend * square
        else:
            room, move, known = bend, np.stack([pull, 0 * pull], axis=1), bend > 0
        move = move / np.where(known, room, np.nan)[:, None]
        beta = beta + move
        known &= np.abs(beta).max(axis=1) <= _STEEPEST
        done = known & (np.abs(move).max(axis=1) < 1e-7)  # steps shrink quadratically: the next would be 1e-14
        result[at[done]] = beta[done]
        going = known & ~done
        at, beta = at[going], beta[going]
        if not len(at):
            break
    return result

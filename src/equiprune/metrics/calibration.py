"""Do probabilities mean what they say: ECE, Brier score, calibration intercept and slope.

All four are made of sums over cells. Multi-class: a cell is a row with its top probability, right
when that class is the true one. Multi-label: a cell is a known finding of a row, with its probability
against 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import expit

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
    place = np.clip(np.ceil(found.confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
    n = len(found.weight)
    return np.bincount(found.row * BINS + place, found.confidence - found.right, n * BINS).reshape(n, BINS)


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
    held = np.clip(confidence, _EDGE, 1 - _EDGE)
    logit = np.log(held / (1 - held))
    undefined = Recalibration(np.full(2, np.nan), np.zeros((2, len(logit))))
    if not len(right) or right.min() == right.max():
        return undefined
    alone = _fitted(logit, right, np.array([0.0, 1.0]), slope=False)
    both = _fitted(logit, right, np.array([0.0, 1.0]), slope=True)
    if alone is None or both is None:
        return undefined
    return Recalibration(np.array([alone[0][0], both[0][1]]), np.stack([alone[1][0], both[1][1]]))


def _fitted(
    logit: Float[np.ndarray, " cell"],
    right: Float[np.ndarray, " cell"],
    start: Float[np.ndarray, " coefficient"],
    *,
    slope: bool,
) -> tuple[Float[np.ndarray, " coefficient"], Float[np.ndarray, "coefficient cell"]] | None:
    """Coefficients and influences; None where the likelihood has no maximum."""
    x = np.stack([np.ones(len(logit)), logit])
    beta = start.copy()
    free = slice(0, 2 if slope else 1)
    for _ in range(_STEPS):
        mean = expit(beta[0] + beta[1] * logit)
        spread = mean * (1 - mean)
        bend = (x[free] * spread) @ x[free].T
        if not np.isfinite(bend).all() or np.linalg.cond(bend) > 1 / np.finfo(np.float64).eps:
            return None
        move = np.linalg.solve(bend, x[free] @ (right - mean))
        beta[free] += move
        if np.abs(beta).max() > _STEEPEST:
            return None
        if np.abs(move).max() < 1e-7:  # steps shrink quadratically: the next would be 1e-14
            influence = np.zeros((2, len(logit)))
            influence[free] = np.linalg.solve(bend, x[free] * (right - mean))
            return beta, influence
    return None

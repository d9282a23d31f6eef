"""What a model's predictions say by group, as small plain data: ROC, calibration and confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from equiprune.metrics.calibration import cells
from equiprune.metrics.intervals import covering_interval
from equiprune.predictions import Predictions

# Dense where few are called wrongly, which is where a model is used.
GRID = np.round(np.linspace(0, 1, 61) ** 2, 4)
BINS = 10
MOST_CLASSES = 12
MOST_PAIRS = 20

Numbers = NDArray[np.float64]


def summary(predictions: Predictions) -> dict[str, Any]:
    """ROC, calibration and confusion of every group, ready for JSON.

    Returns:
        roc: `fpr`, a grid; `mean`, by group the TPR averaged over the classes that have both kinds in every group
        (None for two classes, whose curves mirror each other); `classes`, the same of each class, None where a
        group lacks a kind.
        calibration: by group bins of `confidence`, `observed`, its interval `low` and `high`, and `n`.
        confusion: None in multi-label, where a row has no single class; else `counts` by group (rows are the truth) up
        to 12 classes, or else `pairs`, the most confused.

    Example:
        >>> p = Predictions([0, 1, 0, 1], [[1, 0], [0, 1], [1, 0], [1, 0]], [0, 0, 1, 1], ["a", "b"], ["f", "m"])
        >>> summary(p)["confusion"]["counts"]["m"]
        [[1, 0], [1, 0]]
    """
    return {"roc": _roc(predictions), "calibration": _calibration(predictions), "confusion": _confusion(predictions)}


def _roc(p: Predictions) -> dict[str, Any]:
    truth = np.eye(len(p.classes))[p.label] if p.task == "multiclass" else p.label
    of_class = [
        {group: _curve(truth[rows, k], p.score[rows, k]) for group, rows in _rows(p).items()}
        for k in range(len(p.classes))
    ]
    whole = [curves for found in of_class if (curves := _complete(found))]
    mean = None
    if whole and len(p.classes) > 2:
        mean = {group: _rounded(np.mean([curves[group] for curves in whole], axis=0)) for group in p.groups}
    classes = {
        name: {group: None if curve is None else _rounded(curve) for group, curve in found.items()}
        for name, found in zip(p.classes, of_class, strict=True)
    }
    return {"fpr": GRID.tolist(), "mean": mean, "averaged": len(whole), "classes": classes}


def _complete(found: dict[str, Numbers | None]) -> dict[str, Numbers]:
    curves = {group: curve for group, curve in found.items() if curve is not None}
    return curves if len(curves) == len(found) else {}


def _rows(p: Predictions) -> dict[str, NDArray[np.bool_]]:
    return {group: p.group == code for code, group in enumerate(p.groups)}


def _curve(truth: Numbers, score: Numbers) -> Numbers | None:
    """TPR at the FPRs of the grid; None where there are only positives, or only negatives."""
    seen = ~np.isnan(truth)
    truth, score = truth[seen], score[seen]
    order = np.argsort(-score, kind="stable")
    hit, score = truth[order] == 1, score[order]
    if not hit.any() or hit.all():
        return None
    last = np.append(score[1:] != score[:-1], True)  # equal scores are called together
    tpr, fpr = np.cumsum(hit)[last] / hit.sum(), np.cumsum(~hit)[last] / (~hit).sum()
    top = np.append(fpr[1:] != fpr[:-1], True)  # of one FPR, the highest TPR
    tpr, fpr = tpr[top], fpr[top]
    start = 0.0 if fpr[0] > 0 else tpr[0]
    return np.asarray(np.interp(GRID, np.append(0.0, fpr), np.append(start, tpr)))


def _rounded(values: Numbers) -> list[float]:
    return [round(float(value), 3) for value in values]


def _calibration(p: Predictions) -> dict[str, Any]:
    found = cells(p)
    group = p.group[found.row]
    at = np.minimum((found.confidence * BINS).astype(int), BINS - 1)
    return {
        name: [
            _bin(found.confidence[own], found.right[own])
            for b in range(BINS)
            if (own := (group == code) & (at == b)).any()
        ]
        for code, name in enumerate(p.groups)
    }


def _bin(confidence: Numbers, right: Numbers) -> dict[str, float | int]:
    observed, n = right.mean(), len(right)
    low, high = covering_interval(np.array(observed), np.array(float(n)))
    told = {"confidence": confidence.mean(), "observed": observed, "low": low, "high": high}
    return {**{name: round(float(value), 4) for name, value in told.items()}, "n": n}


def _confusion(p: Predictions) -> dict[str, Any] | None:
    if p.task == "multilabel":
        return None
    k = len(p.classes)
    counts = {
        group: np.bincount(p.label[rows] * k + p.predicted[rows], minlength=k * k).reshape(k, k)
        for group, rows in _rows(p).items()
    }
    if k <= MOST_CLASSES:
        return {"counts": {group: found.tolist() for group, found in counts.items()}, "pairs": None}
    together = np.sum(list(counts.values()), axis=0)
    np.fill_diagonal(together, 0)
    order = np.argsort(-together, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [
        {
            "truth": p.classes[row],
            "called": p.classes[column],
            "groups": {g: {"n": int(found[row, column]), "of": int(found[row].sum())} for g, found in counts.items()},
        }
        for row, column in zip(*np.unravel_index(order, together.shape), strict=True)
        if together[row, column]
    ]
    return {"counts": None, "pairs": pairs}

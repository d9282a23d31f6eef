"""Figures that need scores, of every group and of all rows, with their intervals; and what their gaps rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from equiprune.metrics import calibration
from equiprune.metrics.clusters import Clusters
from equiprune.metrics.intervals import Ends, Z, added_by_noise, score_interval
from equiprune.metrics.ranking import NAMES, Ranking, ranking
from equiprune.metrics.rates import ratio
from equiprune.metrics.sampling import covariance, slots
from equiprune.predictions import Predictions

Figures = dict[str, Float[np.ndarray, " side"]]
SCORED = (*NAMES, "ece", "brier", "calibration_intercept", "calibration_slope")


@dataclass(frozen=True, eq=False)
class Scored:
    """What scores say.

    Args:
        value: of every figure; a side is a group or, last, all rows.
        low: lower ends of the 95 % intervals.
        high: upper ends.
        compared: of AUROC and average precision over the classes that every group has, by group: gaps rest on it.
        reach: (low, high) of `compared`; the other figures are compared as they are.
        ranks: the ranks behind AUROC and average precision.
        sums: per row what Brier score and ECE are sums of (weight, squared error, 15 bins), then the row's
            influence on calibration intercept and slope of all rows.
        pooled: calibration intercept and slope of all rows.
    """

    value: Figures
    low: Figures
    high: Figures
    compared: dict[str, Float[np.ndarray, " group"]]
    reach: dict[str, Ends]
    ranks: Ranking
    sums: Float[np.ndarray, "row column"]
    pooled: Float[np.ndarray, " coefficient"]


def scored(predictions: Predictions, shared: Bool[np.ndarray, " class"]) -> Scored:
    """Computes all of them.

    Args:
        predictions: the test set.
        shared: the classes that groups are compared on.
    """
    slot = slots(predictions)
    unit = None if predictions.unit is None else predictions.unit_code
    together = Clusters(unit), Clusters(unit, slot, len(predictions.groups) + 1)
    ranks = ranking(predictions, slot, None if unit is None else together, shared)
    found = _Found({}, {}, {})
    reach = _ranked(found, ranks, together)
    cells = calibration.cells(predictions)
    width = 2 + calibration.BINS
    every = np.empty((len(predictions), width + 2))
    every[:, 0], every[:, 1], every[:, 2:width] = cells.weight, cells.brier, calibration.excess(cells)
    sums = every[:, :width]
    members: list[Int[np.ndarray, " some"] | slice] = [np.flatnonzero(slot == g) for g in range(ranks.base.shape[1])]
    for name in SCORED[2:]:
        for part in (found.value, found.low, found.high):
            part[name] = np.full(len(members) + 1, np.nan)
    more = calibration.unseen(predictions, cells, slot, len(members) + 1)
    for side, rows in enumerate([*members, slice(None)]):
        _errors(found, side, sums[rows], more[side], None if unit is None else unit[rows])
    every[:, width:] = _recalibrated(found, cells, slot, together[0]).T
    compared = dict(zip(NAMES, ranks.shared_macro(), strict=True))
    pooled = np.array([found.value[name][-1] for name in SCORED[4:]])
    return Scored(found.value, found.low, found.high, compared, reach, ranks, every, pooled)


@dataclass(frozen=True, eq=False)
class _Found:
    value: Figures
    low: Figures
    high: Figures


def _ranked(found: _Found, ranks: Ranking, clusters: tuple[Clusters, Clusters]) -> dict[str, Ends]:
    """AUROC and average precision; returns the intervals of the groups' figures over shared classes."""
    whole, own = clusters
    macro, common = ranks.macro(), ranks.shared_macro()
    fewest = np.where(np.isnan(ranks.value[0]), 0, ranks.kinds).sum(axis=-1)
    few = ranks.kinds[:-1, ranks.shared].sum(axis=-1)
    reach = {}
    for metric, name in enumerate(NAMES):
        variance = np.concatenate([own.variance(ranks.own[metric])[:-1], whole.variance(ranks.influence[metric])])
        found.value[name] = macro[metric]
        found.low[name], found.high[name] = rank_interval(macro[metric], variance, fewest)
        variance = own.variance(ranks.common[metric])[:-1]
        reach[name] = rank_interval(common[metric], variance, few)
    return reach


def rank_interval(
    value: Float[np.ndarray, "*axes"], variance: Float[np.ndarray, "*axes"], fewest: Float[np.ndarray, "*axes"]
) -> Ends:
    """Wilson's interval at the sample size that the variance stands for, so that it holds near 1.

    Args:
        value: an AUROC or average precision.
        variance: its variance.
        fewest: rows of the rarer kind: what the sample size is where all are told apart and nothing varies.

    Example:
        >>> low, high = rank_interval(np.array(1.0), np.array(0.0), np.array(8.0))
        >>> round(float(low), 3), float(high)
        (0.676, 1.0)
    """
    alike = np.minimum(ratio(value * (1 - value), variance), 4 * np.maximum(fewest, 1))
    size = np.where(np.isnan(alike) | (alike <= 0), fewest, alike)
    return score_interval(value, size)


def _errors(
    found: _Found,
    side: int,
    sums: Float[np.ndarray, "row column"],
    more: Float[np.ndarray, " some_columns"],
    unit: Int[np.ndarray, " row"] | None,
) -> None:
    """Brier score and ECE of one side."""
    if not len(sums):
        return
    if unit is not None:  # rows of a unit turn out otherwise together
        many = np.unique(unit, return_counts=True)[1]
        more = more * float((many**2).sum() / many.sum())
    total, spread = sums.sum(axis=0), covariance(sums, unit)
    cells = max(float(total[0]), 1.0)
    brier = float(calibration.brier(total[0], total[1]))
    away = sums[:, 1:2] - brier * sums[:, :1]
    half = Z * float(np.sqrt(covariance(away, unit)[0, 0] + more[0])) / cells
    ece = float(calibration.ece(total[0], total[2:]))
    ends = _of_bins(total[2:] / cells, (spread[2:, 2:] + np.diag(more[1:])) / cells**2)
    for name, value, low, high in (("brier", brier, max(brier - half, 0), brier + half), ("ece", ece, *ends)):
        found.value[name][side], found.low[name][side], found.high[name][side] = value, low, high


def _of_bins(share: Float[np.ndarray, " bin"], spread: Float[np.ndarray, "bin bin"]) -> tuple[float, float]:
    """Interval of ECE, a sum of sizes: like that of a gap over classes, with bins that may hang together."""
    sign, noise = np.where(share < 0, -1.0, 1.0), np.sqrt(np.diag(spread))
    error = Z * float(np.sqrt(max(sign @ spread @ sign, 0.0)))
    added = added_by_noise(np.abs(share), noise, noise * np.sqrt(2 / np.pi))
    value = float(np.abs(share).sum())
    return max(value - error - float(added.sum() - added.max()), 0.0), min(value + error, 1.0)


def _recalibrated(
    found: _Found, cells: calibration.Cells, slot: Int[np.ndarray, " row"], whole: Clusters
) -> Float[np.ndarray, "coefficient row"]:
    """Calibration intercept and slope of every side; returns each row's influence on those of all rows."""
    n, names = len(slot), SCORED[4:]
    of = slot[cells.row]
    influence: Float[np.ndarray, "coefficient row"] = np.zeros((2, n))
    for side in range(len(found.value["ece"])):
        inside = np.flatnonzero(of == side) if side < len(found.value["ece"]) - 1 else slice(None)
        fitted = calibration.recalibration(cells.confidence[inside], cells.right[inside])
        influence = np.stack([np.bincount(cells.row[inside], part, n) for part in fitted.influence]) * 1.0
        for name, value, rows in zip(names, fitted.value, influence, strict=True):
            half = Z * float(np.sqrt(whole.variance(rows)[0]))
            found.value[name][side], found.low[name][side], found.high[name][side] = value, value - half, value + half
    return influence

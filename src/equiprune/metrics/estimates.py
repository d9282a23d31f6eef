"""Every figure of an audit as named arrays: the value, its bootstrap draws, and a gap's draws by chance.

A name is `part.figure`: `overall.f1` is one number, `by_group.f1` one a group, `gaps.f1` one. Draws
have a leading axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from equiprune.metrics import gaps, performance, rates
from equiprune.metrics.counts import Counts, count
from equiprune.metrics.sampling import (
    by_unit,
    contributions,
    count_atoms,
    counts_of,
    resample,
    row_atoms,
    slots,
    unit_codes,
)
from equiprune.predictions import Predictions

RATES: dict[str, Callable[[Counts], Float[np.ndarray, "*draw group class"]]] = {
    "tpr": rates.tpr,
    "fpr": rates.fpr,
    "ppv": rates.ppv,
    "fnr": rates.fnr,
}
MACRO: dict[str, Callable[[Counts], Float[np.ndarray, "*draw group"]]] = {
    "precision": performance.precision,
    "recall": performance.recall,
    "f1": performance.f1,
}
FIGURES = ("accuracy", *MACRO, "auroc", "ece", "brier")
GAPS = ("eopp0", "eopp1", "eodd", *RATES, "f1", "auroc")
FEWEST = 200
AFFORDABLE = 20_000_000

Arrays = dict[str, Float[np.ndarray, "..."]]


@dataclass(frozen=True)
class Policy:
    """The two choices that change a gap's meaning; see `metrics.gaps`."""

    eodd: gaps.Eodd = "half_mean"
    zero_support: gaps.ZeroSupport = "skip"


def gaps_by_pair(counts: Counts, policy: Policy) -> Arrays:
    """Every gap that depends on counts alone, for each pair of groups."""
    tpr, fpr, ppv = (gaps.rate_by_pair(rate(counts)) for rate in (rates.tpr, rates.fpr, rates.ppv))
    return {
        "eopp0": gaps.eopp0_by_pair(counts, policy.zero_support),
        "eopp1": gaps.eopp1_by_pair(counts, policy.zero_support),
        "eodd": gaps.eodd_by_pair(counts, policy.eodd, policy.zero_support),
        "tpr": tpr,
        "fpr": fpr,
        "ppv": ppv,
        "fnr": tpr,  # FNR = 1 - TPR
        "f1": gaps.scalar_by_pair(performance.f1(counts)),
    }


def compared(name: str, counts: Counts, pair: tuple[int, int], policy: Policy) -> Bool[np.ndarray, " class"]:
    """The classes that a gap of a pair of groups rests on."""
    if name == "f1":
        found = (counts.tp + counts.fp + counts.fn)[list(pair)] > 0
        return np.asarray(found.any(axis=0))
    if name.startswith("eo") and policy.zero_support == "as_zero":
        return np.ones(counts.tp.shape[-1], dtype=bool)
    needed = {"eopp0": ("fpr",), "eopp1": ("tpr",), "eodd": ("tpr", "fpr")}.get(name, (name,))
    each = [gaps.compared(RATES[rate](counts), pair) for rate in needed]
    return np.asarray(np.logical_and.reduce(each))


def count_figures(counts: Counts, policy: Policy, *, multilabel: bool) -> Arrays:
    """All figures of counts whose last slot holds the rows of unknown group."""
    groups, overall = counts.take(slice(-1)), counts.pooled()
    found = {
        "by_group.accuracy": performance.accuracy(groups, multilabel=multilabel),
        "overall.accuracy": performance.accuracy(overall, multilabel=multilabel)[..., 0],
    }
    for name, metric in MACRO.items():
        found |= {f"by_group.{name}": metric(groups), f"overall.{name}": metric(overall)[..., 0]}
    return found | gap_figures(groups, policy)


def gap_figures(groups: Counts, policy: Policy) -> Arrays:
    """The gaps that depend on counts alone, of the worst pair."""
    return {f"gaps.{name}": gaps.worst(by_pair) for name, by_pair in gaps_by_pair(groups, policy).items()}


def stacked(chunks: Iterable[Arrays]) -> Arrays:
    """Chunks of draws, joined."""
    found = list(chunks)
    return {name: np.concatenate([chunk[name] for chunk in found]) for name in found[0]}


def count_draws(predictions: Predictions, policy: Policy, draws: int, rng: np.random.Generator) -> Arrays:
    """Bootstrap draws of `count_figures`."""
    many, classes, multilabel = len(predictions.groups) + 1, len(predictions.classes), _multilabel(predictions)
    totals = resample(count_atoms(predictions), draws, rng)
    return stacked(count_figures(counts_of(t, many, classes), policy, multilabel=multilabel) for t in totals)


def affordable(draws: int, cost: int) -> int:
    """How many draws are made where each passes over `cost` cells: all that are asked, or at least 200 of them.

    Example:
        >>> affordable(2000, 5_000), affordable(2000, 20_000), affordable(2000, 10_000_000)
        (2000, 1000, 200)
    """
    return min(draws, max(FEWEST, AFFORDABLE // cost))


def _multilabel(predictions: Predictions) -> bool:
    return predictions.task == "multilabel"


@dataclass(frozen=True, eq=False)
class ScoreSums:
    """What every row adds to the figures that need scores, and the AUROCs that the sums start from.

    Args:
        rows: per slot the weight, squared error and 15 bins of `calibration`; then the influence on each AUROC.
        auroc: overall, then per group over its own classes, then per group over the shared classes.
        shared: classes with positives and negatives in every group: the AUROC gap rests on them.
        groups: how many.
    """

    rows: sparse.csr_array
    auroc: Float[np.ndarray, " figure"]
    shared: Bool[np.ndarray, " class"]
    groups: int

    def figures(self, totals: Float[np.ndarray, "*draw column"]) -> Arrays:
        """AUROC (to first order in the weights: DeLong), ECE and Brier from sums over rows."""
        width, many = 2 + performance.BINS, self.groups + 1
        blocks = totals[..., : many * width].reshape(*totals.shape[:-1], many, width)
        auroc = np.clip(self.auroc + totals[..., many * width :], 0, 1)
        found = {"overall.auroc": auroc[..., 0], "by_group.auroc": auroc[..., 1:many]}
        for part, block in (("overall", blocks.sum(axis=-2)), ("by_group", blocks[..., :-1, :])):
            found[f"{part}.brier"] = performance.brier(block[..., 0], block[..., 1])
            found[f"{part}.ece"] = performance.ece(block[..., 0], block[..., 2:])
        return found | {
            "shared.auroc": auroc[..., many:],
            "gaps.auroc": gaps.worst(gaps.scalar_by_pair(auroc[..., many:])),
        }


def shared_classes(counts: Counts) -> Bool[np.ndarray, " class"]:
    """Classes with positives and negatives in every group that has rows."""
    both = (counts.positive > 0) & (counts.negative > 0)
    return np.asarray(both[(counts.positive + counts.negative).any(axis=-1)].all(axis=0))


def score_sums(predictions: Predictions) -> ScoreSums:
    """Prepares the figures that need scores."""
    n, many = len(predictions), len(predictions.groups)
    shared = shared_classes(count(predictions).take(slice(-1)))
    row, slot, known = np.arange(n), slots(predictions), np.flatnonzero(predictions.group >= 0)
    parts, width = performance.calibration(predictions), 2 + performance.BINS
    hit, place = np.nonzero(parts.excess)
    first = (many + 1) * width
    overall, influence = performance.macro_auroc(predictions, np.ones(n, dtype=bool))
    values, own, common = [overall], np.zeros(n), np.zeros(n)
    for among, total in ((None, own), (shared, common)):
        for g in range(many):
            value, added = performance.macro_auroc(predictions, predictions.group == g, among)
            values.append(value)
            total += added
    group = predictions.group[known]
    entries = [
        (row, slot * width, parts.weight),
        (row, slot * width + 1, parts.brier),
        (hit, slot[hit] * width + 2 + place, parts.excess[hit, place]),
        (row, np.full(n, first), influence),
        (known, first + 1 + group, own[known]),
        (known, first + 1 + many + group, common[known]),
    ]
    rows, columns, data = (np.concatenate(part) for part in zip(*entries, strict=True))
    shape = (n, first + 1 + 2 * many)
    return ScoreSums(sparse.csr_array((data, (rows, columns)), shape=shape), np.array(values), shared, many)


def score_draws(predictions: Predictions, sums: ScoreSums, draws: int, rng: np.random.Generator) -> Arrays:
    """Bootstrap draws of `ScoreSums.figures`."""
    return stacked(sums.figures(t) for t in resample(row_atoms(sums.rows, predictions), draws, rng))


def effective(predictions: Predictions) -> dict[str, Float[np.ndarray, "group class"]] | None:
    """The number of independent observations behind each rate, (Σm)² / Σm² over units of m rows; None without ids.

    It treats rows of one unit as copies of each other, so an interval built on it is rather too wide.
    """
    if predictions.unit is None:
        return None
    many, classes = len(predictions.groups) + 1, len(predictions.classes)
    slot = slots(predictions)
    rows = contributions(predictions.label, predictions.predicted, slot, many, classes)
    units = by_unit(rows, unit_codes(predictions))
    positive, called = (units[:, part * many * classes : (part + 1) * many * classes] for part in (1, 2))
    squares = {"positive": _squares(positive), "called": _squares(called)}
    if _multilabel(predictions):
        squares["negative"] = _squares(units[:, 3 * many * classes :] - positive)
    else:  # (n - p)² summed without the dense n - p
        size = positive @ sparse.csr_array(np.kron(np.eye(many), np.ones((classes, 1))))
        cross = (size.T @ positive).toarray().reshape(many, many, classes)[np.arange(many), np.arange(many)]
        every = np.repeat(_squares(size), classes)
        squares["negative"] = every - 2 * cross.ravel() + squares["positive"]
    counts = count(predictions)
    totals = {"positive": counts.positive, "negative": counts.negative, "called": counts.called}
    found = {
        name: rates.ratio(total.astype(np.float64) ** 2, squares[name].reshape(many, classes))[:-1]
        for name, total in totals.items()
    }
    by_rate = {"tpr": "positive", "fnr": "positive", "fpr": "negative", "ppv": "called"}
    return {rate: found[name] for rate, name in by_rate.items()}


def _squares(size: sparse.csr_array) -> Float[np.ndarray, " column"]:
    return np.asarray(size.power(2).sum(axis=0))

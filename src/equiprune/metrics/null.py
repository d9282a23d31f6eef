"""Every gap when the attribute is permuted within each true class: what chance alone would show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from equiprune.metrics import gaps, performance
from equiprune.metrics.counts import Counts, confusion, count
from equiprune.metrics.estimates import (
    Arrays,
    Policy,
    affordable,
    gap_figures,
    stacked,
)
from equiprune.metrics.inference import permuted_cells, permuted_findings, permuted_groups, permuted_units
from equiprune.metrics.rates import ratio
from equiprune.metrics.sampling import by_unit, contributions, unit_codes
from equiprune.predictions import Predictions


def null_draws(
    predictions: Predictions,
    shared: Bool[np.ndarray, " class"],
    policy: Policy,
    draws: int,
    rng: np.random.Generator,
) -> Arrays:
    """Draws of every gap under "same error rates in every group", named as in `estimates`.

    Rows of unknown group are left out. Where units exist, a unit's rows stay together: its group is
    permuted among the units that have the same majority class.

    Args:
        predictions: the test set.
        shared: the classes that the AUROC gap rests on.
        policy: the conventions of the gaps.
        draws: how many permutations; fewer are made where each costs a pass over rows.
        rng: where randomness comes from.
    """
    kept = predictions.group >= 0
    known = predictions if kept.all() else predictions.take(kept)
    if known.task == "multilabel":
        return stacked(_findings(known, shared, policy, affordable(draws, 2 * known.score.size), rng))
    found = stacked(gap_figures(counts, policy) for counts in _counts(known, draws, rng))
    return found | {"gaps.auroc": _auroc(known, shared, affordable(draws, len(known)), rng)}


def _counts(known: Predictions, draws: int, rng: np.random.Generator) -> Iterator[Counts]:
    groups, classes = len(known.groups), len(known.classes)
    if known.unit is None:
        cells = confusion(known.label, known.predicted, known.group, groups, classes)
        yield from permuted_cells(cells, draws, rng)
        return
    unit, one = unit_codes(known), np.zeros(len(known), dtype=np.int64)
    totals = by_unit(contributions(known.label, known.predicted, one, 1, classes), unit)
    group, stratum = majority(known.group, unit), majority(known.label, unit)
    yield from permuted_units(totals, group, stratum, groups, classes, affordable(draws, len(group)), rng)


def majority(code: Int[np.ndarray, " sample"], unit: Int[np.ndarray, " sample"]) -> Int[np.ndarray, " unit"]:
    """The code that most rows of each unit have (the least of equals).

    Example:
        >>> majority(np.array([2, 1, 1, 0]), np.array([0, 0, 0, 1])).tolist()
        [1, 0]
    """
    codes = int(code.max()) + 1
    pair, many = np.unique(unit * codes + code, return_counts=True)
    order = np.lexsort((pair, -many, pair // codes))
    first = np.unique(pair[order] // codes, return_index=True)[1]
    return np.asarray(pair[order[first]] % codes)


def _placements(
    known: Predictions, shared: Bool[np.ndarray, " class"]
) -> Iterator[tuple[int, Bool[np.ndarray, " sample"], Float[np.ndarray, " sample"]]]:
    """For every shared class: which rows are of it, and each row's placement among all groups' rows, centred."""
    for k in np.flatnonzero(shared).tolist():
        positive, seen = performance.truth(known, k)
        found = performance.auroc(known.score[seen, k], positive[seen])
        centred = np.zeros(len(known))
        centred[seen] = found.placement - found.value
        yield k, positive, centred


def _auroc(
    known: Predictions, shared: Bool[np.ndarray, " class"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, " draw"]:
    """To first order a group's AUROC is the pooled one plus the mean placement of its rows of either kind."""
    if not shared.any():
        return np.full(draws, np.nan)
    support, groups = count(known).take(slice(-1)), len(known.groups)
    part = np.zeros((len(known), groups))
    for k, positive, centred in _placements(known, shared):
        many = np.where(positive[:, None], support.positive[:, k], support.negative[:, k])
        part += ratio(centred[:, None], many) / shared.sum()
    unit = unit_codes(known)
    group, stratum = majority(known.group, unit), majority(known.label, unit)
    part = np.stack([np.bincount(unit, part[:, g]) for g in range(groups)], axis=1)
    found = []
    for drawn in permuted_groups(group, stratum, draws, rng):
        each = np.stack([(drawn == g).astype(np.float64) @ part[:, g] for g in range(groups)], axis=1)
        found.append(gaps.worst(gaps.scalar_by_pair(each)))
    return np.concatenate(found)


def _findings(
    known: Predictions,
    shared: Bool[np.ndarray, " class"],
    policy: Policy,
    draws: int,
    rng: np.random.Generator,
) -> Iterator[Arrays]:
    values = np.zeros((2, *known.score.shape))
    values[0] = known.predicted
    for k, _, centred in _placements(known, shared):
        values[1, :, k] = centred
    support, groups = count(known).take(slice(-1)), len(known.groups)
    for sums in permuted_findings(known.label, values, known.group, groups, unit_codes(known), draws, rng):
        fp, tp = sums[0]
        rest, own = sums[1]
        placed = ratio(own, support.positive) + ratio(rest, support.negative)
        auroc = placed[..., shared].sum(axis=-1) / shared.sum() if shared.any() else np.full(placed.shape[:2], np.nan)
        found = gap_figures(Counts(tp, fp, support.positive - tp, support.negative - fp), policy)
        yield found | {"gaps.auroc": gaps.worst(gaps.scalar_by_pair(auroc))}

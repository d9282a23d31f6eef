"""Every figure of an audit with its 95 % interval, as named arrays.

A *side* is a group or, last, all rows. Figures are by side; rates by side and class; gaps by pair of groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from equiprune.metrics import gaps, intervals, performance
from equiprune.metrics.counts import Counts, count
from equiprune.metrics.gaps import COUNT_GAPS, Pairs, Policy
from equiprune.metrics.intervals import Difference, Ends, Together
from equiprune.metrics.null import Null
from equiprune.metrics.ranking import NAMES as RANKED
from equiprune.metrics.rates import ratio
from equiprune.metrics.sampling import affordable, count_atoms, counts_of, effective, resample, sides
from equiprune.metrics.scored import SCORED, Scored, rank_interval
from equiprune.predictions import Predictions

FIGURES = (*performance.FROM_COUNTS, *SCORED)
GAPS = (*COUNT_GAPS, *FIGURES)
BY_CLASS = ("tpr", "fpr", "ppv", "fnr", "tnr", "selection_rate", "f1", *RANKED)
OF = {
    "tpr": "positive",
    "fnr": "positive",
    "fpr": "negative",
    "tnr": "negative",
    "ppv": "called",
    "selection_rate": "known",
}
"""What a rate is a share of: the key of `sampling.effective`."""

CASE_MIX = ("ppv", "selection_rate")
"""Rates whose noise is also that of how many rows of each class a group has."""

MULTINOMIAL = 10
"""What drawing a confusion cell costs, beside drawing a row."""

Values = Float[np.ndarray, "*axes"]


@dataclass(frozen=True, eq=False)
class Figure:
    """Values and the ends of their intervals, arrays of one shape; nan where undefined."""

    value: Values
    low: Values
    high: Values


@dataclass(frozen=True, eq=False)
class Counted:
    """What counts say, and how their sums hang together.

    Args:
        counts: of every side.
        rates: of every side.
        size: independent observations behind each rate; see `sampling.effective`.
        macro: for the means over classes, how errors of different classes hang together, by side.
        gap: the same for the gaps of counts, by pair.
        shift: bias of macro F1, by side: the mean of a ratio is not the ratio of the means.
        spread: the variance of each of these means, and of accuracy, by side.
    """

    counts: Counts
    rates: gaps.Rates
    size: dict[str, Float[np.ndarray, "side class"]]
    macro: dict[str, Float[np.ndarray, " side"]]
    gap: dict[str, Float[np.ndarray, " pair"]]
    shift: Float[np.ndarray, " side"]
    spread: dict[str, Float[np.ndarray, " side"]]
    replicates: int


def shared_classes(counts: Counts, among: Pairs | None = None) -> Bool[np.ndarray, " class"]:
    """Classes with positives and negatives in every group that is compared: by default, that has rows."""
    both = (counts.positive > 0) & (counts.negative > 0)
    groups = (counts.positive + counts.negative).any(axis=-1)
    if among is not None:
        groups = np.isin(np.arange(len(groups)), np.array(among))
    return np.asarray(both[groups].all(axis=0))


def _macro_parts(counts: Counts) -> dict[str, Float[np.ndarray, "*draw side class"]]:
    """What the means over classes are means of."""
    return {
        "precision": performance.per_class(counts.tp, counts.called),
        "recall": performance.per_class(counts.tp, counts.positive),
        "f1": performance.per_class(2 * counts.tp, counts.called + counts.positive),
    }


def _shares(used: Bool[np.ndarray, "*axes class"]) -> Float[np.ndarray, "*axes class"]:
    return ratio(used.astype(np.float64), np.maximum(used.sum(axis=-1, keepdims=True), 1))


def gap_weights(name: str, delta: Float[np.ndarray, "pair part class"], policy: Policy) -> Values:
    """The weight of every component in a gap; 0 for one that is skipped."""
    used = ~np.isnan(delta)
    return used.astype(np.float64) if name == "eodd" and policy.eodd == "sum" else _shares(used)


def counted(predictions: Predictions, among: Pairs, policy: Policy, draws: int, rng: np.random.Generator) -> Counted:
    """Counts of the test set, and bootstrap resamples of them for what a formula does not give.

    Args:
        predictions: the test set.
        among: the pairs of groups that are compared.
        policy: the conventions of the gaps.
        draws: resamples; fewer are made where each costs much.
        rng: where randomness comes from.
    """
    counts = sides(count(predictions))
    rates = gaps.all_rates(counts)
    multilabel = predictions.task == "multilabel"
    used = _shares(performance.present(counts))
    macro = {name: Together(part, used) for name, part in _macro_parts(counts).items()}
    macro["accuracy"] = Together(performance.accuracy(counts, multilabel=multilabel)[:, None], np.ones((len(used), 1)))
    balanced = rates["tpr"] if not multilabel else (rates["tpr"] + rates["tnr"]) / 2
    macro["balanced_accuracy"] = Together(balanced, _shares(~np.isnan(balanced)))
    together = {}
    for name in COUNT_GAPS:
        delta = _groups(name, rates, policy, among)
        together[name] = Together(_flat(delta), _flat(gap_weights(name, delta, policy) * _signs(delta)))
    atoms, slots_ = count_atoms(predictions), len(predictions.groups) + 1
    made = 0
    cost = len(atoms) * (MULTINOMIAL if atoms.copies.max() > 1 else 1)
    for totals in resample(atoms, affordable(draws, cost), rng):
        drawn = sides(counts_of(totals, slots_, len(predictions.classes)))
        found = gaps.all_rates(drawn)
        for name, part in _macro_parts(drawn).items():
            macro[name].add(part)
        macro["accuracy"].add(performance.accuracy(drawn, multilabel=multilabel)[..., None])
        macro["balanced_accuracy"].add(found["tpr"] if not multilabel else (found["tpr"] + found["tnr"]) / 2)
        for name in COUNT_GAPS:
            together[name].add(_flat(_groups(name, found, policy, among)))
        made += len(totals)
    return Counted(
        counts=counts,
        rates=rates,
        size=effective(predictions, counts),
        macro={name: part.ratio() for name, part in macro.items()},
        gap={name: part.ratio() for name, part in together.items()},
        shift=macro["f1"].shift(),
        spread={name: part.variance() for name, part in macro.items()},
        replicates=made,
    )


def _groups(name: str, rates: gaps.Rates, policy: Policy, among: Pairs) -> Values:
    """Components between groups (the last side, all rows, is in no pair)."""
    return gaps.components(name, rates, policy, among)


def _signs(delta: Float[np.ndarray, "pair part class"]) -> Float[np.ndarray, "pair part class"]:
    """What turns a sum of differences into one of their sizes.

    Of differences that are exactly 0 every other one is turned: the differences of selection rates add up to 0, and
    their sum would seem never to vary.
    """
    other = np.where(np.arange(delta.shape[-1]) % 2, -1.0, 1.0)
    return np.where(delta == 0, other, np.where(delta < 0, -1.0, 1.0))


def _flat(parts: Float[np.ndarray, "*axes part class"]) -> Float[np.ndarray, "*axes item"]:
    return parts.reshape(*parts.shape[:-2], -1)


def figures(found: Counted, scores: Scored, *, multilabel: bool) -> dict[str, Figure]:
    """Every figure of `FIGURES`, by side."""
    counts, size = found.counts, found.size
    used = _shares(performance.present(counts))
    result = {}
    union = counts.tp + counts.fp + counts.fn
    macro = {
        "precision": (ratio(counts.tp, counts.called), size["called"], used, None),
        "recall": (found.rates["tpr"], size["positive"], used, None),
        "f1": (ratio(counts.tp, union), size["union"], used, intervals.as_f1),
        "balanced_accuracy": (found.rates["tpr"], size["positive"], _shares(~np.isnan(found.rates["tpr"])), None),
    }
    for name, (p, n, weight, shape) in macro.items():
        value = performance.FROM_COUNTS[name](counts, multilabel=multilabel)
        spread = found.spread[name] * _lost(size["positive"], weight)
        ends = intervals.mean_of_proportions(p, n, weight, found.macro[name], spread, shape)
        if name == "f1":
            ends = np.clip(ends[0] - found.shift, 0, 1), np.clip(ends[1] - found.shift, 0, 1)
        result[name] = _holding(value, ends)
    if multilabel:
        result["balanced_accuracy"] = _balanced(found)
    result["accuracy"] = _accuracy(found, multilabel=multilabel)
    for name in SCORED:
        result[name] = _holding(scores.value[name], (scores.low[name], scores.high[name]))
    return result


def _lost(rows: Float[np.ndarray, "side class"], weight: Float[np.ndarray, "side class"]) -> Values:
    """What the bootstrap's variance has lost: a resample of m rows of a class varies (m - 1) / m as much as they do."""
    again = np.where(rows >= 2, rows / np.maximum(rows - 1, 1), 2.0)
    return np.asarray(np.maximum((weight * again).sum(axis=-1), 1.0))


def _holding(value: Values, ends: Ends) -> Figure:
    return Figure(
        value,
        np.where(np.isnan(value), np.nan, np.fmin(ends[0], value)),
        np.where(np.isnan(value), np.nan, np.fmax(ends[1], value)),
    )


def _balanced(found: Counted) -> Figure:
    """Multi-label: the mean of TPR and TNR over findings, from the intervals of both."""
    value = performance.balanced_accuracy(found.counts, multilabel=True)
    used = ~np.isnan(found.rates["tpr"] + found.rates["tnr"])
    ends = [
        intervals.mean_of_proportions(
            found.rates[rate], found.size[OF[rate]], _shares(used), found.macro["balanced_accuracy"]
        )
        for rate in ("tpr", "tnr")
    ]
    each = [ratio(np.where(used, found.rates[rate], 0.0).sum(axis=-1), used.sum(axis=-1)) for rate in ("tpr", "tnr")]
    down, up = (
        np.hypot(*(np.abs(mean - end[side]) for mean, end in zip(each, ends, strict=True))) / 2 for side in (0, 1)
    )
    return _holding(value, (np.maximum(value - down, 0), np.minimum(value + up, 1)))


def _accuracy(found: Counted, *, multilabel: bool) -> Figure:
    value = performance.accuracy(found.counts, multilabel=multilabel)
    rows = found.size["known"].max(axis=-1)
    if multilabel:  # cells of one row hang together: between one vote a row and one a cell, as the bootstrap says
        near = np.clip(value, 0.01, 0.99)
        cells = (found.counts.positive + found.counts.negative).sum(axis=-1).astype(np.float64)
        rows = np.clip(np.nan_to_num(ratio(near * (1 - near), found.spread["accuracy"])), rows, np.maximum(cells, rows))
    return _holding(value, intervals.covering_interval(value, rows))


def by_class(found: Counted, scores: Scored) -> dict[str, Figure]:
    """Every figure of `BY_CLASS`, by side and class."""
    result = {}
    for name, denominator in OF.items():
        value = found.rates[name]
        result[name] = _holding(value, intervals.covering_interval(value, found.size[denominator]))
    counts = found.counts
    jaccard = ratio(counts.tp, counts.tp + counts.fp + counts.fn)
    low, high = intervals.score_interval(jaccard, found.size["union"])
    result["f1"] = _holding(intervals.as_f1(jaccard), (intervals.as_f1(low), intervals.as_f1(high)))
    ranks = scores.ranks
    for metric, name in enumerate(RANKED):
        value = ranks.value[metric]
        result[name] = _holding(value, rank_interval(value, ranks.variance[metric], ranks.kinds))
    return result


@dataclass(frozen=True, eq=False)
class Gaps:
    """A gap of every pair; `low` and `high` hold for each pair, `least` for the largest of all pairs.

    Args:
        value: of each pair.
        low: lower ends.
        high: upper ends.
        least: lower ends that hold for all pairs together (Bonferroni).
    """

    value: Float[np.ndarray, " pair"]
    low: Float[np.ndarray, " pair"]
    high: Float[np.ndarray, " pair"]
    least: Float[np.ndarray, " pair"]


def all_gaps(
    found: Counted, scores: Scored, sided: dict[str, Figure], chance: Null, among: Pairs, policy: Policy
) -> dict[str, Gaps]:
    """Every gap of `GAPS`, by pair.

    Args:
        found: what counts say.
        scores: what scores say.
        sided: `figures`.
        chance: the gaps under equal error rates.
        among: the pairs that are compared.
        policy: the conventions.
    """
    strict = strict_z(len(among))
    result = {}
    for name in COUNT_GAPS:
        delta = _groups(name, found.rates, policy, among)
        value = gaps.total(name, delta, policy)
        top = np.inf if name == "eodd" and policy.eodd != "half_mean" else 1.0
        ends = [_count_gap(name, found, delta, chance, among, policy, z) for z in (intervals.Z, strict)]
        result[name] = _gaps(value, ends[0][0], ends[0][1], ends[1][0], top)
    for name in FIGURES:
        one = sided[name]
        if name in scores.compared:
            one = _holding(scores.compared[name], scores.reach[name])
        result[name] = _scalar_gap(
            one, among, strict, np.inf if name.startswith("calibration") else 1.0 + (name == "brier")
        )
    return result


def strict_z(pairs: int) -> float:
    """Standard errors of a one-sided limit that holds for all pairs together.

    Example:
        >>> round(strict_z(1), 2), round(strict_z(3), 2)
        (1.96, 2.39)
    """
    return float(-ndtri(intervals.LEVEL / 2 / max(pairs, 1)))


def _gaps(value: Values, low: Values, high: Values, least: Values, top: float) -> Gaps:
    low, high, least = (np.clip(end, 0, top) for end in (low, high, least))
    return Gaps(value, np.minimum(low, value), np.maximum(high, value), np.minimum(least, value))


def _count_gap(
    name: str,
    found: Counted,
    delta: Float[np.ndarray, "pair part class"],
    chance: Null,
    among: Pairs,
    policy: Policy,
    z: float,
) -> tuple[Values, Values]:
    weight = _flat(gap_weights(name, delta, policy))
    variance, _ = _reach(name, found, among, policy, np.full((len(among), 1), z))
    shrunk = intervals.shared_out(variance, weight, found.gap[name], z)
    _, reach = _reach(name, found, among, policy, shrunk)
    noise = _flat(chance.noise[name])
    if name in CASE_MIX:  # permutations keep the classes of each group, another test set would not
        noise = np.fmax(noise, np.sqrt(variance))
    noise = noise * np.sqrt(2 / np.pi)
    return intervals.sum_of_sizes(_flat(delta), reach, variance, weight, noise)


def _reach(
    name: str, found: Counted, among: Pairs, policy: Policy, z: Float[np.ndarray, "pair 1"]
) -> tuple[Float[np.ndarray, "pair item"], Difference]:
    """Variance and interval of every component of a gap."""
    first, second = np.array(among).reshape(-1, 2).T
    fixed = policy.zero_support == "as_zero" and name.startswith("eo")
    variances, downs, ups = [], [], []
    for part in gaps.parts(name, policy):
        variance = down = up = np.zeros(())
        for rate, times in part:
            p, n = found.rates[rate], found.size[OF[rate]]
            if fixed:  # a rate that counts as 0 by convention does not vary
                n = np.where(np.isnan(p), np.inf, n)
                p = np.nan_to_num(p)
            one = intervals.difference(p[first], n[first], p[second], n[second], z)
            variance = variance + times**2 * (_variance(p, n)[first] + _variance(p, n)[second])
            down, up = np.hypot(down, abs(times) * one.down), np.hypot(up, abs(times) * one.up)
        variances.append(variance)
        downs.append(down)
        ups.append(up)
    return np.concatenate(variances, axis=1), Difference(np.concatenate(downs, axis=1), np.concatenate(ups, axis=1))


def _variance(p: Values, n: Values) -> Values:
    return np.where(np.isinf(n), 0.0, intervals.smoothed(p, np.where(np.isinf(n), 1.0, n)))


def _scalar_gap(one: Figure, among: Pairs, strict: float, top: float) -> Gaps:
    """Of a figure a group: from the groups' intervals, as Newcombe does for proportions (MOVER)."""
    first, second = np.array(among).reshape(-1, 2).T
    below, above = one.value - one.low, one.high - one.value
    delta = one.value[first] - one.value[second]
    down, up = np.hypot(below[first], above[second]), np.hypot(above[first], below[second])
    size, (low, high) = np.abs(delta), Difference(down, up).of_size(delta)
    return _gaps(size, low, high, size - (size - low) * strict / intervals.Z, top)

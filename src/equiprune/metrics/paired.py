"""Two models on the same rows: what a paired bootstrap and a paired randomisation test say of counts.

Rows, or units of rows, carry both models' answers. The bootstrap draws them anew within groups: that gives the
interval of a change. The test exchanges the two models' answers, row by row or unit by unit, with probability 1/2:
were the models alike, nothing would tell the exchanged answers from the real ones (Fisher's sharp null hypothesis).
Independent multi-class rows of one *joint cell* (group, truth, one answer, the other answer) are alike, so cells are
drawn and no draw costs more for more rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from equiprune.metrics import gaps, intervals, mover, performance, testing
from equiprune.metrics.counts import Counts
from equiprune.metrics.gaps import COUNT_GAPS, Pairs, Policy
from equiprune.metrics.mover import Lifted
from equiprune.metrics.rates import ratio
from equiprune.metrics.sampling import (
    Atoms,
    affordable,
    chunks,
    contributions,
    counts_of,
    resample,
    row_atoms,
    sides,
    slots,
)
from equiprune.metrics.tradeoff import CRITERIA, fate, mean_f1
from equiprune.predictions import Predictions

Values = Float[np.ndarray, "*axes"]
Both = tuple[Float[np.ndarray, "draw column"], Float[np.ndarray, "draw column"]]
"""Sums of the baseline and of the other model."""


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of one model, or of draws of it.

    Args:
        sided: by name, of every group and, last, of all rows.
        gaps: by name, of every pair of groups.
    """

    sided: dict[str, Float[np.ndarray, "*draw side"]]
    gaps: dict[str, Float[np.ndarray, "*draw pair"]]


@dataclass(frozen=True, eq=False)
class Change:
    """How figures differ between two models, arrays of one shape; nan where undefined.

    Args:
        before: of the baseline.
        after: of the other model.
        low: lower end of the 95 % interval of after - before.
        high: upper end.
        p: how often exchanged models differ at least as much, either way (mid-p).
    """

    before: Values
    after: Values
    low: Values
    high: Values
    p: Values

    @property
    def value(self) -> Values:
        """The change."""
        return np.asarray(self.after - self.before)


@dataclass(frozen=True, eq=False)
class Reach:
    """How far the intervals of a model's own audit reach, of the figures that noise can lift.

    Args:
        gaps: (low, high) by name, of the worst pair.
        ece: (low, high) of every group and, last, of all rows.
    """

    gaps: dict[str, tuple[float, float]]
    ece: Float[np.ndarray, "side 2"]


Reaches = tuple[Reach, Reach]
"""Of the baseline and of the other model."""


@dataclass(frozen=True, eq=False)
class Changes:
    """The changes of every figure, by side, and of every gap, of the worst pair (no axis).

    Args:
        sided: by name.
        gaps: by name.
        pairs: by name of the gap, its value for every pair of groups, of the baseline and of the other model.
    """

    sided: dict[str, Change]
    gaps: dict[str, Change]
    pairs: dict[str, tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]]

    def joined(self, other: Changes) -> Changes:
        """The changes of both."""
        return Changes(self.sided | other.sided, self.gaps | other.gaps, self.pairs | other.pairs)


def figures_of_counts(counts: Counts, among: Pairs, policy: Policy, *, multilabel: bool) -> Figures:
    """Every figure and gap that depends on counts alone.

    Args:
        counts: of every side: see `sampling.sides`.
        among: the pairs of groups that are compared.
        policy: the conventions of the gaps.
        multilabel: which accuracy.
    """
    rates = gaps.all_rates(counts)
    sided = {name: metric(counts, multilabel=multilabel) for name, metric in performance.FROM_COUNTS.items()}
    found = {name: gaps.total(name, gaps.components(name, rates, policy, among), policy) for name in COUNT_GAPS}
    return Figures(sided, found | {name: gaps.scalar_by_pair(value, among) for name, value in sided.items()})


def joint_atoms(baseline: Predictions, other: Predictions) -> Atoms:
    """What is drawn: joint cells, rows (multi-label) or units; first the baseline's columns, then the other's.

    Args:
        baseline: one model's predictions.
        other: another's of the same rows in the same order.
    """
    slot, many, classes = slots(baseline), len(baseline.groups) + 1, len(baseline.classes)
    label, answers = baseline.label, (baseline.predicted, other.predicted)
    rows = np.arange(len(slot))
    copies = None
    if baseline.unit is None and baseline.task == "multiclass":
        code = ((slot * classes + label) * classes + answers[0]) * classes + answers[1]
        _, rows, copies = np.unique(code, return_index=True, return_counts=True)
    parts = [contributions(label[rows], answer[rows], slot[rows], many, classes) for answer in answers]
    both = sparse.csr_array(sparse.hstack(parts))
    return row_atoms(both, baseline) if copies is None else Atoms(both, copies, slot[rows])


def resampled(atoms: Atoms, draws: int, rng: np.random.Generator) -> Iterator[Both]:
    """Sums of bootstrap resamples of the rows, the same rows for both models."""
    for totals in resample(atoms, draws, rng):
        first, second = np.split(totals, 2, axis=1)
        yield first, second


def exchanged(atoms: Atoms, draws: int, rng: np.random.Generator) -> Iterator[Both]:
    """Sums when each copy of each atom has its two models exchanged with probability 1/2."""
    width = atoms.totals.shape[1] // 2
    whole = atoms.totals.T @ atoms.copies
    delta = sparse.csr_array(atoms.totals[:, width:] - atoms.totals[:, :width])
    delta.eliminate_zeros()
    moved = np.flatnonzero(np.diff(delta.indptr))  # exchanging equal answers changes nothing
    transposed, copies = sparse.csr_array(delta[moved].T), atoms.copies[moved]
    for size in chunks(draws, len(moved) + width):
        shift = np.ascontiguousarray((transposed @ _coins(copies, size, rng)).T)
        yield whole[:width] + shift, whole[width:] - shift


def _coins(copies: Int[np.ndarray, " atom"], draws: int, rng: np.random.Generator) -> Float[np.ndarray, "atom draw"]:
    """How many copies of each atom are exchanged."""
    shape = (len(copies), draws)
    if (copies == 1).all():
        return rng.integers(2, size=shape, dtype=np.int8).astype(np.float64)
    return rng.binomial(copies[:, None], 0.5, size=shape).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws of (baseline, other).

    Args:
        sided: of every figure, by side.
        gaps: of every gap, of the worst pair.
        f1: of F1 as FATE takes it; of no draw where only figures of scores are drawn.
    """

    sided: dict[str, Float[np.ndarray, "draw side 2"]]
    gaps: dict[str, Float[np.ndarray, "draw 2"]]
    f1: Float[np.ndarray, "draw_of_f1 2"]


def drawn(parts: Iterator[tuple[Figures, Figures]]) -> Drawn:
    """Gathers draws of (baseline, other) that come in chunks."""
    sided: dict[str, list[Values]] = {}
    worst: dict[str, list[Values]] = {}
    means: list[Values] = [np.empty((0, 2))]
    for first, second in parts:
        for name, value in first.sided.items():
            sided.setdefault(name, []).append(np.stack([value, second.sided[name]], axis=-1))
        for name, value in first.gaps.items():
            worst.setdefault(name, []).append(np.stack([gaps.worst(value), gaps.worst(second.gaps[name])], axis=-1))
        if "f1" in first.sided:
            means.append(np.stack([mean_f1(one.sided["f1"][..., :-1]) for one in (first, second)], axis=-1))
    return Drawn(_gathered(sided), _gathered(worst), np.concatenate(means))


def _gathered(parts: dict[str, list[Values]]) -> dict[str, Values]:
    return {name: np.concatenate(found) for name, found in parts.items()}


def changes(first: Figures, second: Figures, boot: Drawn, null: Drawn, reaches: Reaches, policy: Policy) -> Changes:
    """Values, intervals and p-values of every change.

    The interval of a change of a gap, or of an ECE, is put together from those of the models' own audits: noise
    lifts such figures, and by how much depends on what they truly are, which may differ between the models. Its p is
    the larger of two. Exchanging answers asks whether the models are alike; but they may differ and the gap be as large
    as before, because another group is served worse now. So the bootstrap's test of equal gaps has to agree. The
    interval ends at 0 where the test excludes it, and holds it where the test does not.

    Args:
        first: of the baseline.
        second: of the other model.
        boot: draws of the bootstrap.
        null: draws of the randomisation test.
        reaches: of both models' audits.
        policy: of the gaps.
    """
    sided = {}
    for name, value in first.sided.items():
        ends = [one.ece for one in reaches] if name == "ece" else None
        sided[name] = _change(value, second.sided[name], boot.sided[name], null.sided[name], ends, _top(name, policy))
    found = {}
    for name, value in first.gaps.items():
        before, after = gaps.worst(value), gaps.worst(second.gaps[name])
        ends = [np.array(one.gaps[name]) for one in reaches]
        found[name] = _change(before, after, boot.gaps[name], null.gaps[name], ends, _top(name, policy))
    return Changes(sided, found, {name: (value, second.gaps[name]) for name, value in first.gaps.items()})


def _top(name: str, policy: Policy) -> float:
    """How far a figure reaches, and so how much it can change."""
    if name.startswith("calibration") or (name == "eodd" and policy.eodd != "half_mean"):
        return np.inf
    return 2.0 if name == "brier" else 1.0


def _change(
    before: Values,
    after: Values,
    boot: Float[np.ndarray, "draw *axes 2"],
    null: Float[np.ndarray, "made *axes 2"],
    ends: list[Float[np.ndarray, "*axes 2"]] | None,
    top: float,
) -> Change:
    low, high, p = (np.full(before.shape, np.nan) for _ in range(3))
    value = np.asarray(after - before)
    for place in np.ndindex(before.shape):
        two, exchanged = boot[:, *place], null[:, *place]
        if np.isnan(value[place]):
            continue
        size, steps = abs(float(value[place])), two[:, 1] - two[:, 0]
        p[place] = testing.chance(size, np.abs(exchanged[:, 1] - exchanged[:, 0]))[2]
        if ends is None:
            both = intervals.interval(float(value[place]), steps, -top, top)
        else:
            pair = zip((before, after), ends, strict=True)
            old, new = (Lifted.of(float(one[place]), *end[place].tolist()) for one, end in pair)
            both = mover.change(old, new, mover.correlation(two[:, 0], two[:, 1]))
            known = steps[~np.isnan(steps)]
            p[place] = max(p[place], testing.two_sided(size, float(known.std()) if len(known) else 0.0))
            both = _agreeing(both, float(value[place]), float(p[place]))
        low[place], high[place] = np.clip(both, -top, top)
    return Change(before, after, low, high, p)


def _agreeing(ends: tuple[float, float], value: float, p: float) -> tuple[float, float]:
    """An interval that says of 0 what the test says: it holds 0 unless p < 0.05, and then ends there at the latest."""
    low, high = ends
    if p >= testing.LEVEL:
        return min(low, 0.0), max(high, 0.0)
    return (low, min(high, 0.0)) if value < 0 else (max(low, 0.0), high)


Fates = dict[str, tuple[float, float, float]]
"""FATE on each of `CRITERIA` with the ends of its 95 % interval; nan where undefined."""


def fates(first: Figures, second: Figures, boot: Drawn, reaches: Reaches) -> Fates:
    """FATE of the other model against the baseline: growth of F1 less growth of the gap, from the intervals of both.

    An end is infinite where the baseline's gap may be 0: then FATE has no bound.
    """
    result = {}
    f1 = [float(mean_f1(figures.sided["f1"][:-1])) for figures in (first, second)]
    gains = _growth(boot.f1)
    for name in CRITERIA:
        gap = [float(gaps.worst(figures.gaps[name])) for figures in (first, second)]
        value = fate(f1[1], f1[0], gap[1], gap[0])
        result[name] = value, np.nan, np.nan
        if np.isnan(value):
            continue
        draws = boot.gaps[name]
        old, new = (Lifted.of(gap[i], *reaches[i].gaps[name]) for i in (0, 1))
        gain = (f1[1] - f1[0]) / f1[0]
        gained = gain, *intervals.interval(gain, gains, -np.inf, np.inf)
        low, high = mover.gain_less_ratio(
            gained,
            (new, old),
            mover.correlation(draws[:, 0], draws[:, 1]),
            mover.correlation(gains, _growth(draws)),
        )
        result[name] = value, low + 1, high + 1
    return result


def _growth(two: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, " draw"]:
    """Relative growth from the first to the second; nan from 0."""
    return ratio(two[:, 1] - two[:, 0], two[:, 0])


def count_changes(
    baseline: Predictions,
    other: Predictions,
    reaches: Reaches,
    among: Pairs,
    policy: Policy,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Changes, Fates]:
    """Changes of every figure and gap of counts, and FATE.

    Args:
        baseline: one model's predictions.
        other: another's of the same rows in the same order.
        reaches: the intervals of both models' audits.
        among: the pairs of groups that are compared.
        policy: the conventions of the gaps.
        draws: resamples, and exchanges; fewer are made where each costs much.
        rng: where randomness comes from.
    """
    atoms = joint_atoms(baseline, other)
    many, classes = len(baseline.groups) + 1, len(baseline.classes)
    made = affordable(draws, max(len(atoms), 1))

    def read(sums: Float[np.ndarray, "*draw column"]) -> Figures:
        counts = sides(counts_of(sums, many, classes))
        return figures_of_counts(counts, among, policy, multilabel=baseline.task == "multilabel")

    observed = np.split(atoms.totals.T @ atoms.copies.astype(np.float64), 2)
    first, second = read(observed[0]), read(observed[1])
    boot = drawn((read(left), read(right)) for left, right in resampled(atoms, made, rng))
    null = drawn((read(left), read(right)) for left, right in exchanged(atoms, made, rng))
    return changes(first, second, boot, null, reaches, policy), fates(first, second, boot, reaches)

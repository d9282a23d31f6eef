"""The audit: from predictions to performance, fairness gaps, and how much of each is chance."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import get_args

import numpy as np

from equiprune.auditfile import Audit
from equiprune.errors import DataError, Problem, UsageError, nearest
from equiprune.metrics import gaps, performance
from equiprune.metrics.counts import count
from equiprune.metrics.gaps import Policy
from equiprune.predictions import Predictions

__all__ = ["Audit", "Point", "audit", "infer_privileged", "point"]

MANY_GROUPS = 64
MIN_SUPPORT = 10


@dataclass(frozen=True)
class Point:
    """Figures without resampling, for loops; nan where undefined.

    Args:
        f1: macro F1 over all rows.
        accuracy: over all rows.
        f1_by_group: macro F1 in each group.
        eopp0: of the worst pair.
        eopp1: of the worst pair.
        eodd: of the worst pair.
        worst_group_f1: the lowest of `f1_by_group`.
    """

    f1: float
    accuracy: float
    f1_by_group: dict[str, float]
    eopp0: float
    eopp1: float
    eodd: float
    worst_group_f1: float


def point(predictions: Predictions, *, eodd: gaps.Eodd = "half_mean", zero_support: gaps.ZeroSupport = "skip") -> Point:
    """The figures that a pruning loop watches, in a millisecond or so.

    Raises:
        UsageError: a convention that does not exist.

    Example:
        >>> p = Predictions([0, 1, 0, 1], [[1, 0], [0, 1], [1, 0], [1, 0]], [0, 0, 1, 1], ["a", "b"], ["f", "m"])
        >>> found = point(p)
        >>> found.accuracy, found.eopp1, found.f1_by_group["f"]
        (0.75, 0.5, 1.0)
    """
    check_options(eodd, zero_support, 1, 1)
    counts = count(predictions)
    groups, overall = counts.take(slice(-1)), counts.pooled()
    f1 = performance.f1(groups)
    return Point(
        f1=float(performance.f1(overall)[0]),
        accuracy=float(performance.accuracy(overall, multilabel=predictions.task == "multilabel")[0]),
        f1_by_group=dict(zip(predictions.groups, f1.tolist(), strict=True)),
        eopp0=float(gaps.eopp0(groups, zero_support)),
        eopp1=float(gaps.eopp1(groups, zero_support)),
        eodd=float(gaps.eodd(groups, eodd, zero_support)),
        worst_group_f1=float(np.fmin.reduce(f1, initial=np.nan)),
    )


def infer_privileged(predictions: Predictions) -> str:
    """The group with the highest macro F1 (the first of equals): on validation, the one to call privileged.

    Raises:
        DataError: no row has a known group.
    """
    f1 = performance.f1(count(predictions).take(slice(-1)))
    if np.isnan(f1).all():
        raise DataError(Problem("no row has a known group", column=predictions.attribute))
    return predictions.groups[int(np.nanargmax(f1))]


def audit(
    predictions: Predictions,
    *,
    privileged: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
    eodd: gaps.Eodd = "half_mean",
    zero_support: gaps.ZeroSupport = "skip",
    min_support: int = MIN_SUPPORT,
) -> Audit:
    """Performance overall and by group, gaps between groups, and how much of each is chance.

    Args:
        predictions: of one split.
        privileged: the privileged group; None takes the one with the higher macro F1 *on these predictions*.
        replicates: bootstrap draws and permutations.
        seed: the result is the same for the same seed.
        eodd: which Eodd; see `metrics.gaps.eodd`.
        zero_support: what a class without support in a group counts as; see `metrics.gaps`.
        min_support: positives that a group needs to be called worst, or to be in a worst pair (where there are
            three groups or more and two of them have that many). It is shown all the same.

    Raises:
        DataError: fewer than two groups or classes have rows.
        UsageError: a group, a convention or a number that does not exist.

    Example:
        >>> p = Predictions([0, 1] * 8, [[0.9, 0.1], [0.2, 0.8]] * 7 + [[0.4, 0.6]] * 2, [0] * 8 + [1] * 8,
        ...                 ["nevus", "melanoma"], ["female", "male"])
        >>> result = audit(p, replicates=100)
        >>> result.gaps["eopp1"].value, result.gaps["eopp1"].low, result.attribute.privileged
        (0.125, 0.0, 'female')
    """
    # scipy takes a third of a second to import: `equiprune --help` does without
    from equiprune import records
    from equiprune.metrics import estimates
    from equiprune.metrics.null import null_of_counts, null_of_scores
    from equiprune.metrics.scored import scored

    check_options(eodd, zero_support, replicates, min_support, seed)
    check_groups(predictions, privileged)
    policy = Policy(eodd, zero_support)
    first = infer_privileged(predictions) if privileged is None else privileged
    counts = count(predictions).take(slice(-1))
    supported = records.supported(counts, min_support)
    among = records.compared_pairs(counts, supported)
    by_counts, by_chance, by_rank = (np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(3))
    inside = np.flatnonzero(predictions.group >= 0)
    known = predictions if len(inside) == len(predictions) else predictions.take(inside)
    with ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(scored, predictions, estimates.shared_classes(counts, among))
        found = estimates.counted(predictions, among, policy, replicates, by_counts)
        null = null_of_counts(known, among, policy, replicates, by_chance)
        scores = waiting.result()
    null = null.joined(null_of_scores(known, scores, inside, among, replicates, by_rank))
    sided = estimates.figures(found, scores, multilabel=predictions.task == "multilabel")
    every = estimates.all_gaps(found, scores, sided, null, among, policy)
    return records.Sheet(
        predictions=predictions,
        policy=policy,
        privileged=first,
        supported=supported,
        among=among,
        counted=found,
        scores=scores,
        figures=sided,
        gaps=every,
        null=null,
    ).audit(replicates=replicates, seed=seed, min_support=min_support)


def chance(
    predictions: Predictions, names: Sequence[str], *, replicates: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The noise floor and the p-value of some gaps of counts, as `audit` has them, in a fraction of its time.

    Args:
        predictions: of one split.
        names: of eopp0, eopp1 and eodd.
        replicates: permutations.
        seed: see `audit`.

    Returns:
        By name; nan where undefined.
    """
    from equiprune import records
    from equiprune.metrics import testing
    from equiprune.metrics.null import null_of_counts

    check_groups(predictions, None)
    counts = count(predictions).take(slice(-1))
    among = records.compared_pairs(counts, records.supported(counts, MIN_SUPPORT))
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[1])
    known = predictions.take(np.flatnonzero(predictions.group >= 0))
    null = null_of_counts(known, among, Policy("half_mean", "skip"), replicates, rng)
    values = {"eopp0": gaps.eopp0(counts), "eopp1": gaps.eopp1(counts), "eodd": gaps.eodd(counts)}
    found = {}
    for name in names:
        floor, _, p = testing.chance(float(null.seen.get(name, values[name])), null.worst[name])
        found[name] = (floor, p)
    return found


def check_options(eodd: str, zero_support: str, replicates: int, min_support: int, seed: int = 0) -> None:
    """Refuses conventions that do not exist and numbers that are too small, all at once (UsageError)."""
    problems = [
        Problem(f"{name} {value!r} does not exist", hint=nearest(value, get_args(allowed)))
        for name, value, allowed in (
            ("eodd", eodd, gaps.Eodd),
            ("zero_support", zero_support, gaps.ZeroSupport),
        )
        if value not in get_args(allowed)
    ]
    problems += [
        Problem(f"{name} must be at least {least}, not {value}")
        for name, value, least in (("replicates", replicates, 1), ("min_support", min_support, 1), ("seed", seed, 0))
        if value < least
    ]
    if problems:
        raise UsageError(problems)


def check_groups(predictions: Predictions, privileged: str | None) -> None:
    """Refuses predictions in which nothing can be compared (DataError), and a group that is none (UsageError)."""
    problems = []
    present = np.unique(predictions.group[predictions.group >= 0])
    if len(present) < 2:
        names = ", ".join(repr(predictions.groups[g]) for g in present) or "none"
        what = f"two groups are needed; the rows with a known value hold {names}"
        problems.append(Problem(what, column=predictions.attribute, hint="Choose another attribute"))
    if len(predictions.groups) > MANY_GROUPS:
        what = f"{len(predictions.groups):,} groups are more than {MANY_GROUPS}: this looks like an id or a number"
        problems.append(
            Problem(what, column=predictions.attribute, hint='Regroup it: --groups "young=0-39;old=40-120"')
        )
    if predictions.task == "multiclass" and len(np.unique(predictions.label)) < 2:
        only = predictions.classes[int(predictions.label[0])]
        problems.append(Problem(f"every row is of the class {only!r}: nothing can be told apart", column="label"))
    if problems:
        raise DataError(problems)
    if privileged is not None and privileged not in predictions.groups:
        raise UsageError(Problem(f"there is no group {privileged!r}", hint=nearest(privileged, predictions.groups)))

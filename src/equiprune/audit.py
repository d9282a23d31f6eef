"""The audit: from predictions to performance, fairness gaps, and how much of each is chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Bool

from equiprune.auditfile import (
    SCHEMA,
    Attribute,
    Audit,
    ClassRates,
    Conventions,
    Estimate,
    Gap,
    GroupFigures,
)
from equiprune.errors import DataError, Problem, UsageError, nearest
from equiprune.metrics import estimates, gaps, performance
from equiprune.metrics.counts import Counts, count
from equiprune.metrics.estimates import FIGURES, GAPS, RATES, Arrays, Policy
from equiprune.metrics.inference import LEVEL, chance, interval, wilson
from equiprune.metrics.notices import notices
from equiprune.metrics.null import null_draws
from equiprune.metrics.sampling import unit_codes
from equiprune.predictions import Predictions

__all__ = ["Audit", "Point", "audit", "infer_privileged", "point"]

MANY_GROUPS = 64


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
    _check_options(eodd, zero_support, 1)
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
) -> Audit:
    """Performance overall and by group, gaps between groups, and how much of each is chance.

    Args:
        predictions: of one split.
        privileged: the privileged group; None takes the one with the higher macro F1 *on these predictions*.
        replicates: bootstrap draws and permutations.
        seed: the result is the same for the same seed.
        eodd: which Eodd; see `metrics.gaps.eodd`.
        zero_support: what a class without support in a group counts as; see `metrics.gaps`.

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
    _check_options(eodd, zero_support, replicates)
    _check_groups(predictions, privileged)
    found = _resampled(predictions, Policy(eodd, zero_support), replicates, seed)
    first = infer_privileged(predictions) if privileged is None else privileged
    groups = count(predictions).take(slice(-1))
    return Audit(
        schema=SCHEMA,
        task=predictions.task,
        n=len(predictions),
        n_units=_units(predictions, np.ones(len(predictions), dtype=bool)),
        classes=predictions.classes,
        attribute=Attribute(
            name=predictions.attribute,
            groups=predictions.groups,
            privileged=first,
            unknown=int((predictions.group < 0).sum()),
        ),
        overall={name: _estimate(found, f"overall.{name}") for name in FIGURES},
        by_group={name: _group(predictions, found, g) for g, name in enumerate(predictions.groups)},
        gaps={name: _gap(name, predictions, groups, found, first) for name in GAPS},
        by_class=tuple(_by_class(predictions, groups)),
        conventions=_conventions(predictions, found, replicates, seed),
        notices=notices(predictions, groups),
    )


def _check_options(eodd: str, zero_support: str, replicates: int) -> None:
    problems = [
        Problem(f"{name} {value!r} does not exist", hint=nearest(value, get_args(allowed)))
        for name, value, allowed in (
            ("eodd", eodd, gaps.Eodd),
            ("zero_support", zero_support, gaps.ZeroSupport),
        )
        if value not in get_args(allowed)
    ]
    if replicates < 1:
        problems.append(Problem(f"replicates must be at least 1, not {replicates}"))
    if problems:
        raise UsageError(problems)


def _check_groups(predictions: Predictions, privileged: str | None) -> None:
    problems = []
    present = np.unique(predictions.group[predictions.group >= 0])
    if len(present) < 2:
        names = ", ".join(repr(predictions.groups[g]) for g in present) or "none"
        what = f"two groups are needed; the rows with a known value hold {names}"
        problems.append(Problem(what, column=predictions.attribute, hint="Choose another attribute"))
    if len(predictions.groups) > MANY_GROUPS:
        what = f"{len(predictions.groups):,} groups are more than {MANY_GROUPS}: this looks like an id or a number"
        problems.append(Problem(what, column=predictions.attribute, hint="Regroup the attribute"))
    if predictions.task == "multiclass" and len(np.unique(predictions.label)) < 2:
        only = predictions.classes[int(predictions.label[0])]
        problems.append(Problem(f"every row is of the class {only!r}: nothing can be told apart", column="label"))
    if problems:
        raise DataError(problems)
    if privileged is not None and privileged not in predictions.groups:
        raise UsageError(Problem(f"there is no group {privileged!r}", hint=nearest(privileged, predictions.groups)))


@dataclass(frozen=True, eq=False)
class _Found:
    """Values, their bootstrap draws, the gaps' draws by chance, and what they rest on."""

    policy: Policy
    value: Arrays
    drawn: Arrays
    null: Arrays
    shared: Bool[np.ndarray, " class"]
    counts: Counts
    wilson: bool
    units: tuple[int, ...]


def _resampled(predictions: Predictions, policy: Policy, replicates: int, seed: int) -> _Found:
    by_counts, by_scores, by_chance = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    counts, sums = count(predictions), estimates.score_sums(predictions)
    multilabel = predictions.task == "multilabel"
    value = estimates.count_figures(counts, policy, multilabel=multilabel)
    drawn = estimates.count_draws(predictions, policy, replicates, by_counts)
    rows = estimates.affordable(replicates, len(predictions))
    return _Found(
        policy=policy,
        value=value | sums.figures(np.asarray(sums.rows.sum(axis=0))),
        drawn=drawn | estimates.score_draws(predictions, sums, rows, by_scores),
        null=null_draws(predictions, sums.shared, policy, replicates, by_chance),
        shared=sums.shared,
        counts=counts,
        wilson=predictions.unit is None and not multilabel,
        units=tuple(
            _units(predictions, rows) or int(rows.sum())
            for rows in (*(predictions.group == g for g in range(len(predictions.groups))), predictions.group >= -1)
        ),
    )


def _known(value: float) -> float | None:
    """None (null) for what is undefined."""
    return float(value) if math.isfinite(value) else None


def _estimate(found: _Found, name: str, group: int | None = None) -> Estimate:
    """A figure, overall or of a group, with its interval: Wilson for a plain proportion, else bootstrap."""
    value, drawn = found.value[name], found.drawn[name]
    if group is not None:
        value, drawn = value[group], drawn[:, group]
    if name.endswith("accuracy") and found.wilson:
        counts = found.counts.pooled() if group is None else found.counts
        low, high = wilson(counts.tp.sum(axis=-1), counts.positive.sum(axis=-1))
        return _proportion(float(value), float(low[group or 0]), float(high[group or 0]))
    low_, high_ = interval(float(value), drawn, 0.0, 2.0 if name.endswith("brier") else 1.0)
    if name.endswith("accuracy") and low_ == high_:
        # All right or all wrong: every draw is the same, and that is no certainty. One vote a unit.
        units = np.asarray(found.units[-1 if group is None else group])
        low, high = wilson(np.asarray(value * units), units)
        return _proportion(float(value), float(low), float(high))
    return _proportion(float(value), low_, high_)


def _proportion(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=_known(value), low=_known(low), high=_known(high))


def _units(predictions: Predictions, rows: Bool[np.ndarray, " sample"]) -> int | None:
    return None if predictions.unit is None else len(np.unique(unit_codes(predictions)[rows]))


def _group(predictions: Predictions, found: _Found, g: int) -> GroupFigures:
    rows = predictions.group == g
    figures = {name: _estimate(found, f"by_group.{name}", g) for name in FIGURES}
    return GroupFigures.model_validate({"n": int(rows.sum()), "n_units": _units(predictions, rows), **figures})


def _gap(name: str, predictions: Predictions, groups: Counts, found: _Found, privileged: str) -> Gap:
    value = float(found.value[f"gaps.{name}"])
    top = np.inf if name == "eodd" and found.policy.eodd != "half_mean" else 1.0
    low, high = interval(value, found.drawn[f"gaps.{name}"], 0.0, top)
    floor, p_value = chance(value, found.null[f"gaps.{name}"])
    pair = _worst_pair(name, groups, found)
    used = 0 if pair is None else int(_compared(name, groups, pair, found).sum())
    return Gap(
        value=_known(value),
        # No gap at all is among the values that the test does not reject, so the interval holds it.
        low=0.0 if p_value >= LEVEL else _known(low),
        high=_known(high),
        floor=_known(floor),
        p_value=_known(p_value),
        classes_used=used,
        classes_skipped=len(predictions.classes) - used,
        pair=None if pair is None else (predictions.groups[pair[0]], predictions.groups[pair[1]]),
        signed=_signed(name, predictions, groups, pair, privileged),
    )


def _worst_pair(name: str, groups: Counts, found: _Found) -> tuple[int, int] | None:
    if name == "auroc":
        by_pair = gaps.scalar_by_pair(found.value["shared.auroc"])
    else:
        by_pair = estimates.gaps_by_pair(groups, found.policy)[name]
    if np.isnan(by_pair).all():
        return None
    return gaps.pairs(groups.tp.shape[-2])[int(np.nanargmax(by_pair))]


def _compared(name: str, groups: Counts, pair: tuple[int, int], found: _Found) -> Bool[np.ndarray, " class"]:
    return found.shared if name == "auroc" else estimates.compared(name, groups, pair, found.policy)


def _signed(
    name: str, predictions: Predictions, groups: Counts, pair: tuple[int, int] | None, privileged: str
) -> float | None:
    first = predictions.groups.index(privileged)
    if name not in RATES or pair is None or first not in pair:
        return None
    other = pair[0] if pair[1] == first else pair[1]
    return _known(gaps.signed(RATES[name](groups), first, other))


def _by_class(predictions: Predictions, groups: Counts) -> Iterator[ClassRates]:
    parts = {
        "tpr": (groups.tp, groups.positive),
        "fpr": (groups.fp, groups.negative),
        "ppv": (groups.tp, groups.called),
        "fnr": (groups.fn, groups.positive),
    }
    independent = estimates.effective(predictions) or {}
    found = {
        name: (RATES[name](groups), *wilson(hits, total, independent.get(name)))
        for name, (hits, total) in parts.items()
    }
    for k, klass in enumerate(predictions.classes):
        for g, group in enumerate(predictions.groups):
            figures = {name: _proportion(*(float(array[g, k]) for array in arrays)) for name, arrays in found.items()}
            n = int(groups.positive[g, k])
            yield ClassRates.model_validate({"class": klass, "group": group, "n": n, **figures})


def _conventions(predictions: Predictions, found: _Found, replicates: int, seed: int) -> Conventions:
    drawn = {True: "units", False: "rows"}[predictions.unit is not None]
    multilabel = predictions.task == "multilabel"
    return Conventions(
        eodd=found.policy.eodd,
        zero_support=found.policy.zero_support,
        interval=f"95 %; rates by class: Wilson; else bias-corrected bootstrap of {drawn} within groups "
        "(AUROC to first order, DeLong); a gap's interval reaches 0 where p >= 0.05",
        replicates=replicates,
        seed=seed,
        score_replicates=len(found.drawn["overall.ece"]),
        floor_replicates=len(found.null["gaps.eopp1"]),
        auroc_floor_replicates=len(found.null["gaps.auroc"]),
        accuracy="right (row, finding) cells among those known" if multilabel else "rows with the right class",
        ece="15 bins of equal width on "
        + ("each finding's probability, cells pooled" if multilabel else "the top probability"),
        brier="mean squared error over known cells (0 to 1)"
        if multilabel
        else "squared error summed over classes, mean over rows (0 to 2)",
    )

"""Which point of a sweep is taken: on validation alone, and over seeds where there are several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equiprune.metrics.tradeoff import fate, pareto

SEED = "seed"


@dataclass(frozen=True)
class Outcome:
    """One setting of all axes but the seed, with the means over its seeds on validation.

    Args:
        choice: the value of every axis but the seed.
        points: names of the points it is made of.
        f1: macro F1 of the last step.
        gap: of the last step; nan where it is not estimable.
        lost: macro F1 lost against the first step of the same point.
        fate: FATE against the first step.
        half: half of the 95 % intervals over seeds of f1, gap, lost and fate; nan with one seed.
        constant: a point's model says the same of every image: its gap of 0 is no fairness, and it is never taken.
        front: no other outcome has as good an F1 and as small a gap.
    """

    choice: Mapping[str, Any]
    points: tuple[str, ...]
    f1: float
    gap: float
    lost: float
    fate: float
    half: Mapping[str, float]
    constant: bool = False
    front: bool = False


def outcomes(points: Mapping[str, Mapping[str, Any]], gap: str) -> list[Outcome]:
    """The outcomes of finished points, in the order of the sweep.

    Args:
        points: the content of each `point.json` by the point's name.
        gap: eopp0, eopp1 or eodd.
    """
    grouped: dict[str, list[str]] = {}
    for name, found in points.items():
        key = repr({axis: value for axis, value in found["choice"].items() if axis != SEED})
        grouped.setdefault(key, []).append(name)
    made = [_outcome(names, points, gap) for names in grouped.values()]
    known = [place for place, one in enumerate(made) if math.isfinite(one.gap) and not one.constant]
    on_front = pareto(np.array([made[place].f1 for place in known]), np.array([made[place].gap for place in known]))
    front = {place for place, on in zip(known, on_front, strict=True) if on}
    return [replace(one, front=place in front) for place, one in enumerate(made)]


def chosen(found: Sequence[Outcome], budget: float) -> Outcome | None:
    """The outcome with the smallest gap among those that lose at most `budget` of macro F1; of equals the better F1.

    Returns:
        None where no outcome has a gap, all lose more, or all are constant.
    """
    within = [one for one in found if one.lost <= budget and math.isfinite(one.gap) and not one.constant]
    return min(within, key=lambda one: (one.gap, -one.f1)) if within else None


def _outcome(names: Sequence[str], points: Mapping[str, Mapping[str, Any]], gap: str) -> Outcome:
    steps = [points[name]["steps"] for name in names]
    first, last = [own[0] for own in steps], [own[-1] for own in steps]
    values = {
        "f1": [own["f1"] for own in last],
        "gap": [_number(own[gap]) for own in last],
        "lost": [a["f1"] - b["f1"] for a, b in zip(first, last, strict=True)],
        "fate": [
            fate(_groups(b), _groups(a), _number(b[gap]), _number(a[gap])) for a, b in zip(first, last, strict=True)
        ],
    }
    choice = {axis: value for axis, value in points[names[0]]["choice"].items() if axis != SEED}
    means = {name: float(np.mean(own)) for name, own in values.items()}
    return Outcome(
        choice=choice,
        points=tuple(names),
        f1=means["f1"],
        gap=means["gap"],
        lost=means["lost"],
        fate=means["fate"],
        half={name: half_width(own) for name, own in values.items()},
        constant=any(own.get("constant", False) for own in last),
    )


def _groups(step: Mapping[str, Any]) -> float:
    """F1 as FATE takes it: the mean over groups."""
    return float(np.mean([_number(value) for value in step["f1_by_group"].values()]))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean over seeds, by Student's t; nan of one value.

    Example:
        >>> round(half_width([0.1, 0.2, 0.3]), 3), half_width([0.1])
        (0.248, nan)
    """
    from scipy.special import stdtrit  # Student's t without scipy.stats, which takes seconds to import

    many = len(values)
    if many < 2:
        return math.nan
    return float(stdtrit(many - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(many))

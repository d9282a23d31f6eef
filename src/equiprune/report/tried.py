"""The settings that a sweep tried: its points without their seeds, with means over seeds, all on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equiprune.choosing import SEED, Outcome, half_width, outcomes
from equiprune.report.content import SweepPage, Tried
from equiprune.report.numbers import counted, known

GAPS = ("eopp1", "eopp0", "eodd")
ENOUGH_SEEDS = 3
"""Of fewer the interval of a mean says nothing: that of two seeds is nine times as long as they lie apart."""

Step = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """A value of every axis but the seed, and its points.

    Args:
        name: its values in words.
        points: one a seed.
        taken: whether it is the one that was taken.
        constant: a model of it says the same of every image.
        fates: by gap the mean of FATE against each point's own first step; None where it is undefined.
        lost: macro F1 lost against the first step, the mean over seeds.
    """

    name: str
    points: tuple[Tried, ...]
    taken: bool
    constant: bool
    fates: Mapping[str, float | None]
    lost: float

    @property
    def choice(self) -> dict[str, Any]:
        """The value of every axis but the seed."""
        return without_seed(self.points[0])


@dataclass(frozen=True)
class Baseline:
    """A first step that settings share.

    Args:
        name: of the step, and where there are several baselines, what sets this one apart.
        steps: one a seed.
    """

    name: str
    steps: tuple[Step, ...]


def settings(sweep: SweepPage) -> tuple[Setting, ...]:
    """All of which at least one point is done, in the order of the sweep."""
    points = {point.name: point for point in sweep.points}
    told = {name: {"choice": point.choice, "steps": point.steps} for name, point in points.items()}
    by_gap = {gap: outcomes(told, gap) for gap in GAPS}
    return tuple(
        _setting(sweep, [points[name] for name in own[0].points], dict(zip(by_gap, own, strict=True)))
        for own in zip(*by_gap.values(), strict=True)
    )


def _setting(sweep: SweepPage, points: Sequence[Tried], found: Mapping[str, Outcome]) -> Setting:
    choice = without_seed(points[0])
    one = found[sweep.gap]
    return Setting(
        name=in_words(sweep, choice) or "the only setting",
        points=tuple(points),
        taken=sweep.taken == choice,
        constant=one.constant,
        fates={gap: known(own.fate) for gap, own in found.items()},
        lost=one.lost,
    )


def without_seed(point: Tried) -> dict[str, Any]:
    """The value of every axis but the seed."""
    return {axis: value for axis, value in point.choice.items() if axis != SEED}


def in_words(sweep: SweepPage, choice: Mapping[str, Any]) -> str:
    """The values of axes, such as `beta 0.33 · ratio 0.35`."""
    return " · ".join(f"{sweep.axes[axis]} {written(value)}" for axis, value in choice.items())


def written(value: object) -> str:
    """A value of an axis; of one that a search drew, no more digits than can be read.

    Example:
        >>> written(0.33), written(0.06431589102), written("resnet18"), written([0.5, 0.8])
        ('0.33', '0.0643159', 'resnet18', '[0.5, 0.8]')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def tried_axes(sweep: SweepPage) -> dict[str, list[Any]]:
    """The values of every axis but the seed, as far as points of them are done, in the order of the sweep."""
    found: dict[str, list[Any]] = {}
    for point in sweep.points:
        for axis, value in without_seed(point).items():
            own = found.setdefault(axis, [])
            if value not in own:
                own.append(value)
    return found


def seeds(sweep: SweepPage) -> list[Any]:
    """All seeds of points that are done; none where the seed is no axis."""
    return list(dict.fromkeys(point.choice[SEED] for point in sweep.points if SEED in point.choice))


def baselines(sweep: SweepPage) -> tuple[Baseline, ...]:
    """The first steps: one of all settings, unless an axis changes the first step as well."""
    early = [axis for axis, values in tried_axes(sweep).items() if _touches_first(axis) and len(values) > 1]
    found: dict[str, dict[str, Step]] = {}
    for point in sweep.points:
        apart = in_words(sweep, {axis: point.choice[axis] for axis in early})
        found.setdefault(apart, {}).setdefault(repr(point.choice.get(SEED)), point.steps[0])
    return tuple(
        Baseline(f"{_step_name(steps)}{f', {apart}' if apart else ''} (baseline)", tuple(steps.values()))
        for apart, steps in found.items()
    )


def _touches_first(axis: str) -> bool:
    section = axis.partition(".")[0]
    return not section.isdigit() or int(section) <= 1


def _step_name(steps: Mapping[str, Step]) -> str:
    return str(next(iter(steps.values()))["name"])


def mean_f1(step: Step) -> float | None:
    """The mean over groups."""
    values = [known(value) for value in step["f1_by_group"].values()]
    whole = [value for value in values if value is not None]
    return sum(whole) / len(whole) if whole and len(whole) == len(values) else None


def worst_f1(step: Step) -> float | None:
    """Of the group that is worst off."""
    return min((found for value in step["f1_by_group"].values() if (found := known(value)) is not None), default=None)


def of_group(group: str) -> Callable[[Step], object]:
    """The figure that is one group's F1."""
    return lambda step: step["f1_by_group"].get(group)


def over_seeds(steps: Sequence[Step], figure: Callable[[Step], object]) -> dict[str, float | None]:
    """The mean of a figure over seeds with its 95 % interval, cut at 0 and 1; all None where a seed has none."""
    return mean([known(figure(step)) for step in steps], least=0.0)


def mean(values: Sequence[float | None], *, least: float = -1.0) -> dict[str, float | None]:
    """The mean with its 95 % interval; without one of a single value.

    Args:
        values: one a seed.
        least: the interval is cut there, and at 1.
    """
    whole = [value for value in values if value is not None]
    if not whole or len(whole) < len(values):
        return {"value": None, "low": None, "high": None}
    value, half = sum(whole) / len(whole), known(half_width(whole))
    if half is None:
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": max(least, value - half), "high": min(1.0, value + half)}


def with_bars(found: Mapping[str, float | None], many: int) -> Mapping[str, float | None]:
    """The estimate as it is drawn: without an interval where too few seeds are behind it."""
    return found if many >= ENOUGH_SEEDS else {**found, "low": None, "high": None}


def of_seeds(setting: Setting) -> str:
    """Over what the means are taken."""
    own = [str(point.choice[SEED]) for point in setting.points if SEED in point.choice]
    return "one seed" if len(own) < 2 else f"mean over {counted(len(own), 'seed')} ({', '.join(own)})"

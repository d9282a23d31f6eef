"""F1 and gap over the values of each numeric axis of a sweep, as the papers draw β and the pruning ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from equiprune.report.content import SweepPage
from equiprune.report.curve import Curve, curves
from equiprune.report.draw import COLOURS, REFERENCE, Dot, Series, Spec
from equiprune.report.figures import Figure, Panel
from equiprune.report.numbers import counted, joined, known, measured, number
from equiprune.report.tables import GAPS, Table
from equiprune.report.tried import (
    Setting,
    Step,
    baselines,
    in_words,
    mean,
    over_seeds,
    settings,
    tried_axes,
    with_bars,
    written,
)

WIDE = 50
"""From so many times the smallest value on, an axis is logarithmic."""


def over_axes(sweep: SweepPage) -> tuple[Figure, ...]:
    """A figure for each axis with at least two numeric values; on validation."""
    axes = tried_axes(sweep)
    numeric = [axis for axis, values in axes.items() if len(values) > 1 and all(map(_is_number, values))]
    found = settings(sweep)
    return tuple(_over(sweep, found, axis, place) for place, axis in enumerate(numeric))


def _is_number(value: object) -> bool:
    return known(value) is not None and not isinstance(value, bool)


def _over(sweep: SweepPage, found: Sequence[Setting], axis: str, place: int) -> Figure:
    title = sweep.axes[axis]
    others = {name: values for name, values in tried_axes(sweep).items() if name != axis and len(values) > 1}
    panels = []
    for key, name in (("f1", "Overall F1"), (sweep.gap, GAPS[sweep.gap])):
        lines = _lines(sweep, found, axis, others, key)
        spec = curves([*lines, *_reference(sweep, axis, key)], title, f"{name} on validation")
        panels.append(Panel(f"over-{place}-{key}", f"{name} over {title}, on validation", _scaled(spec, sweep, axis)))
    return Figure(
        id=f"over-{place}",
        title=f"What {title} does, on validation",
        finding=_finding(sweep, found, axis, others),
        panels=tuple(panels),
        table=_table(sweep, found, axis),
    )


def _lines(
    sweep: SweepPage, found: Sequence[Setting], axis: str, others: dict[str, list[Any]], key: str
) -> list[Curve]:
    """A line for each value of the one other axis; else one through the means of all settings of a value."""
    other = next(iter(others)) if len(others) == 1 else None
    if other is None:
        return [_averaged(sweep, found, axis, key, "mean of the others" if others else "settings")]
    if len(others[other]) > COLOURS:  # so many lines cannot be told apart, and a search has hardly two points on one
        return [replace(_curve("settings", 0, found, axis, key), joined=False)]
    return [
        _curve(
            f"{sweep.axes[other]} {written(value)}",
            place,
            [one for one in found if one.choice[other] == value],
            axis,
            key,
        )
        for place, value in enumerate(others[other])
    ]


def _curve(name: str, place: int, own: Sequence[Setting], axis: str, key: str) -> Curve:
    own = sorted(own, key=lambda one: float(one.choice[axis]))
    return Curve(Series(name, place, tuple(_dot(one, key) for one in own)), tuple(one.choice[axis] for one in own))


def _dot(one: Setting, key: str) -> Dot:
    estimate = over_seeds(_last(one), itemgetter(key))
    shown = with_bars(estimate, len(one.points))
    told = f"{one.name}: {measured(estimate)}, {counted(len(one.points), 'run')}"
    return Dot(shown["value"], shown["low"], shown["high"], told)


def _last(one: Setting) -> list[Step]:
    return [point.steps[-1] for point in one.points]


def _averaged(sweep: SweepPage, found: Sequence[Setting], axis: str, key: str, name: str) -> Curve:
    own = sorted(found, key=lambda one: float(one.choice[axis]))
    dots, at = [], []
    for value, group in groupby(own, key=lambda one: one.choice[axis]):
        alike = list(group)
        if len(alike) == 1:
            dots.append(_dot(alike[0], key))
        else:
            means = [over_seeds(_last(one), itemgetter(key))["value"] for one in alike]
            whole = [one for one in means if one is not None]
            told = (
                f"{sweep.axes[axis]} {written(value)}: {number(mean(means)['value'])}, {counted(len(alike), 'setting')}"
            )
            dots.append(Dot(mean(means)["value"], min(whole, default=None), max(whole, default=None), told))
        at.append(value)
    return Curve(Series(name, 0, tuple(dots)), tuple(at))


def _reference(sweep: SweepPage, axis: str, key: str) -> list[Curve]:
    """The baseline, where there is one of all settings."""
    found, values = baselines(sweep), [float(value) for value in tried_axes(sweep)[axis]]
    if len(found) > 1:
        return []
    value = over_seeds(found[0].steps, itemgetter(key))["value"]
    dot = Dot(value, hover=f"baseline: {number(value)}")
    return [Curve(Series("baseline", REFERENCE, (dot, dot)), (min(values), max(values)), markers=False)]


def _scaled(spec: Spec, sweep: SweepPage, axis: str) -> Spec:
    values = [float(value) for value in tried_axes(sweep)[axis]]
    if min(values) > 0 and max(values) / min(values) >= WIDE:
        spec["layout"]["xaxis"] |= {"type": "log"}
    return spec


def _finding(sweep: SweepPage, found: Sequence[Setting], axis: str, others: dict[str, list[Any]]) -> str:
    title, gap = sweep.axes[axis], GAPS[sweep.gap]
    told = []
    for key, name, best in (("f1", "F1 is highest", max), (sweep.gap, f"{gap} is smallest", min)):
        means = [(over_seeds(_last(one), itemgetter(key))["value"], one) for one in found]
        whole = [(value, one) for value, one in means if value is not None and not one.constant]
        if whole:
            value, one = best(whole, key=lambda pair: pair[0])
            told.append(f"{name} at {title} {written(one.choice[axis])} ({number(value)}, {one.name})")
    means_of = "Each point is the mean over its seeds; bars are 95 % intervals, from three seeds on."
    if len(others) > 1:
        names = joined([sweep.axes[name] for name in others])
        means_of = f"Each point is the mean over all values of {names}; bars run from lowest to highest."
    if any(one.constant for one in found):
        means_of += " Models that say the same of every image are drawn, and not counted."
    return f"{joined(told)}. {means_of}" if told else f"No figure is estimable. {means_of}"


def _table(sweep: SweepPage, found: Sequence[Setting], axis: str) -> Table:
    rest = [name for name in tried_axes(sweep) if name != axis]
    rows = tuple(
        (written(one.choice[axis]), in_words(sweep, {name: one.choice[name] for name in rest}) or "–",
         str(len(one.points)), *(measured(over_seeds(_last(one), itemgetter(key))) for key in
                                 ("f1", sweep.gap)))
        for one in sorted(found, key=lambda one: float(one.choice[axis]))
    )  # fmt: skip
    return Table((sweep.axes[axis], "Others", "Runs", "Overall F1", GAPS[sweep.gap]), rows)

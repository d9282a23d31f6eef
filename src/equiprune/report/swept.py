"""The trade-off explorer of a sweep: every setting that was tried as a mark, all on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from equiprune.report.content import Page, SweepPage
from equiprune.report.draw import COLOURS
from equiprune.report.marks import Explorer, Mark, Stars, drawn, front_sentence, some
from equiprune.report.numbers import count, joined, known, measured, moved_by, number, share, signed
from equiprune.report.sweepwords import choice_sentence, tried_sentence
from equiprune.report.tables import GAPS as TITLES
from equiprune.report.tables import Table
from equiprune.report.tried import (
    GAPS,
    Baseline,
    Setting,
    Step,
    baselines,
    mean,
    mean_f1,
    of_group,
    of_seeds,
    over_seeds,
    settings,
    tried_axes,
    with_bars,
    worst_f1,
    written,
)

METRICS = {"f1": "overall F1", "mean_f1": "mean F1 of groups", "worst_f1": "F1 of the worst group"}
FIGURES: dict[str, Callable[[Step], object]] = {"f1": itemgetter("f1"), "mean_f1": mean_f1, "worst_f1": worst_f1}
MOST_BARS = 40
BLANK = "–"
CONSTANT = "constant"


def swept(page: Page, sweep: SweepPage) -> Explorer | None:
    """All settings and their baselines; None where no gap of any is estimable."""
    starts, found = baselines(sweep), settings(sweep)
    steps = [str(step["name"]) for step in found[0].points[0].steps]
    kinds = _kinds(sweep, found)
    marks = [_baseline(one, len(steps)) for one in starts]
    marks += [_mark(one, kind) for one, kind in zip(found, kinds, strict=True)]
    metrics, gaps = some(marks, METRICS, "metrics"), some(marks, _titles(sweep), "gaps")
    if not metrics or not gaps:
        return None
    taken = next((len(starts) + at for at, one in enumerate(found) if one.taken), None)
    stars = Stars(tuple(range(len(starts))), taken, len(starts) if taken is None else taken)
    spec, data = drawn(marks, metrics, gaps, stars, bars=len(marks) <= MOST_BARS)
    (metric, *_), (gap, *_) = metrics, gaps
    front = data["pairs"][f"{metric} {gap}"]["front"]
    unbeaten = _unbeaten(marks, front, len(starts), (metrics[metric], gaps[gap]))
    return Explorer(
        title="Trade-off of all that was tried, on validation",
        hint="On validation, not on test: each point is a setting; click one, or choose it above",
        note=_note(page, len(marks)),
        finding=f"{tried_sentence(sweep)} {unbeaten} {choice_sentence(sweep)}",
        advice=unbeaten if taken is None else f"The sweep's rule took {marks[taken].name}. {unbeaten}",
        spec=spec,
        metrics=metrics,
        gaps=gaps,
        names=tuple(mark.name for mark in marks),
        chosen=stars.chosen,
        data=data,
        heads=(
            ("Group, on validation", *(f"F1, {name}" for name in steps), "Change of F1"),
            ("Gap, on validation", *steps, "Change", "FATE"),
        ),
        table=_table(sweep, starts, found, [at - len(starts) for at in front]),
    )


def _titles(sweep: SweepPage) -> dict[str, str]:
    """The gap that the choice was by comes first."""
    return {gap: TITLES[gap] for gap in (sweep.gap, *(gap for gap in GAPS if gap != sweep.gap))}


def _kinds(sweep: SweepPage, found: Sequence[Setting]) -> list[str]:
    """What gives a setting its colour: the value of the first axis that has few; else all are of one kind."""
    kinds = _by_axis(sweep, found)
    return [CONSTANT if one.constant else kind for one, kind in zip(found, kinds, strict=True)]


def _by_axis(sweep: SweepPage, found: Sequence[Setting]) -> list[str]:
    few = [axis for axis, values in tried_axes(sweep).items() if 1 < len(values) <= COLOURS - 2]
    if not few:
        return [str(one.points[0].steps[-1]["method"]) for one in found]
    return [f"{sweep.axes[few[0]]} {written(one.choice[few[0]])}" for one in found]


def _baseline(one: Baseline, steps: int) -> Mark:
    blank = [BLANK] * (steps - 1)
    groups = [
        [group, measured(over_seeds(one.steps, of_group(group))), *blank, BLANK]
        for group in one.steps[0]["f1_by_group"]
    ]
    gaps = [[TITLES[gap], measured(over_seeds(one.steps, itemgetter(gap))), *blank, BLANK, BLANK]
            for gap in GAPS]  # fmt: skip
    told = "The baseline: what the settings begin with and are held against."
    details = {"settings": told, "groups": groups, "gaps": gaps}
    return _of_steps(one.name, str(one.steps[0]["method"]), one.steps, details)


def _of_steps(name: str, kind: str, steps: Sequence[Step], details: Mapping[str, Any], *, barred: bool = False) -> Mark:
    return Mark(
        name=name,
        kind=kind,
        metrics={key: with_bars(over_seeds(steps, figure), len(steps)) for key, figure in FIGURES.items()},
        gaps={gap: with_bars(over_seeds(steps, itemgetter(gap)), len(steps)) for gap in GAPS},
        details=details,
        barred=barred,
    )


def _mark(one: Setting, kind: str) -> Mark:
    last = [point.steps[-1] for point in one.points]
    details = {"settings": _told(one, last[0]), "groups": _groups(one), "gaps": _gaps(one)}
    return _of_steps(one.name, kind, last, details, barred=one.constant)


def _told(one: Setting, last: Step) -> str:
    zeros, parameters = last.get("zeros") or 0, last.get("parameters") or 0
    held = f"; {share(zeros, parameters)} of {count(parameters)} parameters held at zero" if zeros else ""
    size = held or (f"; {count(parameters)} parameters" if parameters else "")
    seconds = sum(step.get("seconds") or 0.0 for step in one.points[0].steps)
    told = f"On validation, {of_seeds(one)}{size}; {seconds:,.0f} s for all steps of the first."
    told += " This setting was taken." if one.taken else ""
    constant = " It says the same of every image: a gap of 0 is no fairness then, and it is never taken."
    return told + (constant if one.constant else "")


def _groups(one: Setting) -> list[list[str]]:
    return [_row(one, group, of_group(group))
            for group in one.points[0].steps[-1]["f1_by_group"]]  # fmt: skip


def _gaps(one: Setting) -> list[list[str]]:
    return [[*_row(one, TITLES[gap], itemgetter(gap)), signed(one.fates[gap], undefined="undefined")] for gap in GAPS]


def _row(one: Setting, name: str, figure: Callable[[Step], object]) -> list[str]:
    """A figure of every step, and its change from the first to the last, seed by seed."""
    every = [[known(figure(step)) for step in point.steps] for point in one.points]
    moves = [None if own[0] is None or own[-1] is None else own[-1] - own[0] for own in every]
    return [name, *(measured(mean(column, least=0.0)) for column in zip(*every, strict=True)), moved_by(mean(moves))]


def _note(page: Page, many: int) -> str:
    split = page.data["splits"].get("validation") or {}
    groups = joined([f"{group} {count(n)}" for group, n in (split.get("groups") or {}).items() if n])
    size = f" Validation has {count(split.get('images'))} images ({groups})." if split else ""
    bars = "Bars are 95 % intervals over seeds, from three seeds on" + (
        "." if many <= MOST_BARS else f"; of more than {MOST_BARS} settings only the chosen one has them."
    )
    return (
        "Up and to the left is better. Above the dashed line a setting has lost less F1 than unfairness, relatively, "
        f"against the baseline (FATE above 0). {bars}{size} No test against chance was made of these figures; where a "
        "setting is taken, it is audited on test."
    )


def _unbeaten(marks: Sequence[Mark], front: Sequence[int], starts: int, titles: tuple[str, str]) -> str:
    told = f"On validation, {front_sentence(marks, front, *titles, 'settings and baselines')}"
    if not front:
        return told
    return f"{told} The baseline is {'one of them' if any(at < starts for at in front) else 'not among them'}."


def _table(sweep: SweepPage, starts: Sequence[Baseline], found: Sequence[Setting], front: Sequence[int]) -> Table:
    axes = list(tried_axes(sweep))
    head = (*(sweep.axes[axis] for axis in axes), "Seeds", "Overall F1", *(TITLES[gap] for gap in GAPS),
            f"FATE ({TITLES[sweep.gap]})", "F1 lost", "On the front", "Remark")  # fmt: skip
    base = tuple(
        (*([one.name] + [BLANK] * (len(axes) - 1) if axes else []), count(len(one.steps)), *_figures(one.steps), BLANK,
         BLANK, "yes" if at - len(starts) in front else "no", "baseline")
        for at, one in enumerate(starts)
    )  # fmt: skip
    rows = tuple(
        (*(written(one.choice[axis]) for axis in axes), count(len(one.points)),
         *_figures([point.steps[-1] for point in one.points]),
         signed(one.fates[sweep.gap], undefined="undefined"), number(one.lost) if one.lost >= 0 else signed(one.lost),
         "yes" if at in front else "no", _remark(one))
        for at, one in enumerate(found)
    )  # fmt: skip
    return Table(head, (*base, *rows))


def _figures(steps: Sequence[Step]) -> list[str]:
    keys = ("f1", *GAPS)
    return [measured(over_seeds(steps, itemgetter(key))) for key in keys]


def _remark(one: Setting) -> str:
    return "taken" if one.taken else "says the same of every image" if one.constant else BLANK

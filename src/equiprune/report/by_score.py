"""Figures that rest on scores: ROC and calibration by group, of the first and the last model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.curve import Curve, curves
from equiprune.report.draw import Dot, Series
from equiprune.report.figures import Choice, Figure, Panel
from equiprune.report.numbers import counted, known, measured, number
from equiprune.report.tables import Table

MEAN = "mean over classes"


def ends(page: Page) -> list[tuple[str, StepPage]]:
    """The first and the last step whose predictions are at hand, each with a short id; one where they are the same."""
    found = [("first", page.first)] if page.first is page.last else [("first", page.first), ("last", page.last)]
    return [(name, step) for name, step in found if step.predicted is not None]


def roc(page: Page) -> Figure | None:
    """ROC curves of every group, averaged over classes, with a choice of one class; None without predictions."""
    shown = ends(page)
    names = _names(shown)
    if not names:
        return None
    panels = tuple(
        Panel(f"roc-{place}", step.name, curves(_roc(page, step, names[0]), "FPR", "TPR", unit=True))
        for place, step in shown
    )
    choice = Choice(
        "Class",
        names,
        tuple({f"roc-{place}": _heights(page, step, name) for place, step in shown} for name in names),
        first=1,  # the diagonal stays
    )
    rows = tuple(
        (step.name, group, measured(row.get("auroc") or {})) for _, step in shown for group, row in _groups(step)
    )
    return Figure(
        "roc", "ROC of each group", _roc_finding(page.last), panels, Table(("Step", "Group", "AUROC"), rows), choice
    )


def _groups(step: StepPage) -> list[tuple[str, Mapping[str, Any]]]:
    return list(step.audit["by_group"].items())


def _names(shown: Sequence[tuple[str, StepPage]]) -> tuple[str, ...]:
    """What can be drawn: the mean first, or of two classes the second; no class without a curve in any group."""
    told = [step.predicted["roc"] for _, step in shown if step.predicted is not None]
    if not told:
        return ()
    classes = [
        name for name, by_group in told[0]["classes"].items() if any(curve is not None for curve in by_group.values())
    ]
    means = [MEAN] if all(one["mean"] is not None for one in told) else []
    return (*means, *(classes if len(told[0]["classes"]) > 2 else classes[::-1]))


def _heights(page: Page, step: StepPage, name: str) -> list[list[float | None]]:
    """TPR of every group, from the corner that every curve starts in."""
    found = (step.predicted or {})["roc"]
    by_group = found["mean"] if name == MEAN and found["mean"] is not None else found["classes"][name]
    none: list[float | None] = [None] * (len(found["fpr"]) + 1)
    return [none if by_group.get(group) is None else [0.0, *by_group[group]] for group in page.groups]


def _roc(page: Page, step: StepPage, name: str) -> list[Curve]:
    at = (0.0, *(step.predicted or {})["roc"]["fpr"])
    return [
        Curve(Series(group, index, tuple(Dot(value) for value in heights)), at, markers=False)
        for index, (group, heights) in enumerate(zip(page.groups, _heights(page, step, name), strict=True))
    ]


def _roc_finding(step: StepPage) -> str:
    found = {group: known((row.get("auroc") or {}).get("value")) for group, row in _groups(step)}
    scores = {group: value for group, value in found.items() if value is not None}
    if len(scores) < 2:
        return f"In {step.name}, AUROC is not estimable for at least two groups."
    low, high = min(scores, key=lambda group: scores[group]), max(scores, key=lambda group: scores[group])
    return (
        f"In {step.name}, scores rank images of {low} worst, with an AUROC of {number(scores[low])}, and of {high} "
        f"best, with {number(scores[high])}. Whether by chance, the AUROC gap among the gaps says."
    )


def calibration(page: Page) -> Figure | None:
    """How often what was predicted with a confidence came true, in every group; None without predictions."""
    shown = ends(page)
    if not shown:
        return None
    panels = tuple(
        Panel(
            f"calibration-{place}",
            step.name,
            curves(_calibration(page, step), "mean confidence of the bin", "share that was right", unit=True),
        )
        for place, step in shown
    )
    rows = tuple(
        (step.name, group, f"{one['confidence']:.3f}", measured({**one, "value": one["observed"]}), f"{one['n']:,}")
        for _, step in shown
        for group in page.groups
        for one in _bins(step, group)
    )
    table = Table(("Step", "Group", "Mean confidence", "Right", "Cells"), rows)
    return Figure("calibration", "Calibration of each group", _calibration_finding(page.last), panels, table)


def _bins(step: StepPage, group: str) -> list[Mapping[str, Any]]:
    return list((step.predicted or {})["calibration"].get(group, ()))


def _calibration(page: Page, step: StepPage) -> list[Curve]:
    found = []
    for index, group in enumerate(page.groups):
        bins = _bins(step, group)
        dots = tuple(
            Dot(
                one["observed"],
                one["low"],
                one["high"],
                f"{group}: {measured({**one, 'value': one['observed']})} right at {one['confidence']:.2f}, "
                f"{counted(one['n'], 'cell')}",
            )
            for one in bins
        )
        found.append(Curve(Series(group, index, dots), tuple(one["confidence"] for one in bins)))
    return found


def _calibration_finding(step: StepPage) -> str:
    told = [f"{group} {number((row.get('ece') or {}).get('value'))}" for group, row in _groups(step)]
    return (
        f"ECE, the mean distance from the diagonal, in {step.name}: {', '.join(told)}. "
        "Below the diagonal a model is surer than it is right."
    )

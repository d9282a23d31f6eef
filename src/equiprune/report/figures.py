"""The figures of the page: what is drawn, the finding in one sentence, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.draw import REFERENCE, Dot, Series, Spec, dots, lines
from equiprune.report.numbers import (
    UNDEFINED,
    counted,
    interval,
    known,
    measured,
    number,
    overlap,
    p_value,
    share,
    signed,
)
from equiprune.report.tables import GAPS, PERFORMANCE, Table
from equiprune.report.verdict import distinguishable, ranked

DRAWN = ("f1", "accuracy", "recall", "precision", "auroc", "ece")
GAPS_DRAWN = ("eopp1", "eopp0", "eodd", "f1")
ITERATION_GAPS = ("eopp1", "eopp0", "eodd")
SHORT = 24


@dataclass(frozen=True)
class Panel:
    """One drawing: the id of its element, its title, and plotly's data and layout."""

    id: str
    title: str
    spec: Spec
    wide: bool = False


@dataclass(frozen=True)
class Choice:
    """What else the panels of a figure can show.

    Args:
        label: of the box to choose in.
        names: what can be chosen; the first is drawn.
        heights: for each name, by panel, the y of each of its traces from `first` on.
        first: the trace that the first of the heights belongs to.
    """

    label: str
    names: tuple[str, ...]
    heights: tuple[Mapping[str, Sequence[Sequence[float | None]]], ...]
    first: int = 0


@dataclass(frozen=True)
class Figure:
    """Panels with one finding, and the table that holds the same numbers."""

    id: str
    title: str
    finding: str
    panels: tuple[Panel, ...]
    table: Table
    choice: Choice | None = None


def per_group(page: Page) -> Figure:
    """Every group's performance with its interval, per step."""
    rows = [step.name for step in page.steps]
    panels = tuple(
        Panel(f"groups-{metric}", PERFORMANCE[metric], dots(rows, _group_series(page, metric), PERFORMANCE[metric]))
        for metric in DRAWN
    )
    table = Table(
        ("Step", "Group", "n", *(PERFORMANCE[metric] for metric in DRAWN)),
        tuple(
            (step.name, group, str(row["n"]), *(measured(row.get(metric) or {}) for metric in DRAWN))
            for step in page.steps
            for group, row in step.audit["by_group"].items()
        ),
    )
    return Figure("groups", "Each group, before and after", _group_finding(page.last), panels, table)


def _dot(found: Mapping[str, Any], who: str) -> Dot:
    hover = f"{who}: {measured(found)}"
    return Dot(known(found.get("value")), known(found.get("low")), known(found.get("high")), hover)


def _group_series(page: Page, metric: str) -> list[Series]:
    groups = [
        Series(_counted(page.last, group), index, tuple(_group_dot(step, group, metric) for step in page.steps))
        for index, group in enumerate(page.groups)
    ]
    overall = tuple(_dot(step.audit["overall"].get(metric) or {}, f"overall, {step.name}") for step in page.steps)
    return [*groups, Series("overall", REFERENCE, overall)]


def _counted(step: StepPage, group: str) -> str:
    row = step.audit["by_group"][group]
    return f"{label_of(group)} (n = {row['n']:,}{'' if row.get('supported', True) else ', too few'})"


def label_of(group: str) -> str:
    """A group's name, cut so that what stands behind it is still seen."""
    return group if len(group) <= SHORT else group[: SHORT - 1] + "…"


def _group_dot(step: StepPage, group: str, metric: str) -> Dot:
    row = step.audit["by_group"][group]
    return replace(_dot(row.get(metric) or {}, f"{group}, {step.name}"), faint=not row.get("supported", True))


def _group_finding(step: StepPage) -> str:
    order = ranked(step.audit)
    if len(order) < 2:
        return "F1 is not estimable for at least two groups."
    low, high = (step.audit["by_group"][group]["f1"] for group in (order[0], order[-1]))
    apart = "overlap" if overlap(low, high) else "do not overlap"
    return (
        f"In {step.name}, F1 is {number(low['value'])} for {order[0]} and {number(high['value'])} for {order[-1]}; "
        f"the intervals {apart}."
    )


def gaps(page: Page) -> Figure:
    """Every gap with its interval, beside the level that equal error rates would show."""
    rows = [step.name for step in page.steps]
    panels = tuple(
        Panel(f"gaps-{gap}", GAPS[gap], dots(rows, _gap_series(page, gap), GAPS[gap], scale="from zero"))
        for gap in GAPS_DRAWN
    )
    table = Table(
        ("Step", "Gap", "Value", "Interval", "Expected by chance", "Test"),
        tuple(
            (step.name, GAPS[gap], number(found.get("value")), interval(found) or UNDEFINED,
             number(found.get("floor")), p_value(found.get("p_value")))
            for step in page.steps
            for gap, found in ((gap, step.audit["gaps"].get(gap) or {}) for gap in GAPS)
        ),
    )  # fmt: skip
    return Figure("gaps", "Gaps beside what chance gives", _gap_finding(page), panels, table)


def _gap_series(page: Page, gap: str) -> list[Series]:
    found = [(step.name, step.audit["gaps"].get(gap) or {}) for step in page.steps]
    chance = tuple(
        Dot(known(one.get("floor")), hover=f"expected by chance, {name}: {number(one.get('floor'))}")
        for name, one in found
    )
    return [
        Series("gap", 0, tuple(_dot(one, name) for name, one in found)),
        Series("expected by chance", REFERENCE, chance),
    ]


def _gap_finding(page: Page) -> str:
    chance = [step.name for step in page.steps if distinguishable(step.audit["gaps"]["eopp1"])]
    if not chance:
        return "In no step is the gap in true-positive rate (Eopp1) distinguishable from chance."
    if len(chance) == len(page.steps):
        return "In every step the gap in true-positive rate (Eopp1) is distinguishable from chance."
    return f"The gap in true-positive rate (Eopp1) is distinguishable from chance only in: {', '.join(chance)}."


def iterations(step: StepPage, index: int) -> Figure | None:
    """F1 per group, gaps and FATE on validation over the share removed; None where nothing was pruned."""
    records = [record for record in step.log if "iteration" in record]
    if not records:
        return None
    what = "channels" if "channels" in records[0] else "weights"
    removed = [100 * float(record["removed"]) for record in records]
    kept = step.facts.get("kept_iteration")
    marked = next((at for at, record in zip(removed, records, strict=True) if record["iteration"] == kept), None)
    titles = {"f1": "F1 on validation", "gaps": "Gaps on validation", "fate": "FATE on validation"}
    drawn = {
        "f1": _f1_lines(step, records),
        "gaps": _gap_lines(records, None),
        "fate": _gap_lines(records, "fate") if any(record.get("fate") for record in records) else [],
    }
    panels = tuple(
        Panel(
            f"iterations-{index}-{name}",
            titles[name],
            lines(removed, series, f"{what} removed, %", marked=marked, mark="kept"),
        )
        for name, series in drawn.items()
        if series
    )
    title = f"{step.name}: the trade-off while pruning"
    finding = _iteration_finding(records, kept, what)
    return Figure(f"iterations-{index}", title, finding, panels, _iteration_table(step, records, kept))


def _f1_lines(step: StepPage, records: Sequence[Mapping[str, Any]]) -> list[Series]:
    groups = step.audit["attribute"]["groups"]
    series = [
        Series(
            group,
            index,
            tuple(_point(record, record["f1_by_group"].get(group), f"F1 of {group}") for record in records),
        )
        for index, group in enumerate(groups)
    ]
    return [
        *series,
        Series("overall", REFERENCE, tuple(_point(record, record["f1"], "overall F1") for record in records)),
    ]


def _gap_lines(records: Sequence[Mapping[str, Any]], inside: str | None) -> list[Series]:
    return [
        Series(
            GAPS[gap],
            index + 2,
            tuple(
                _point(record, (record if inside is None else record.get(inside) or {}).get(gap), GAPS[gap])
                for record in records
            ),
        )
        for index, gap in enumerate(ITERATION_GAPS)
    ]


def _point(record: Mapping[str, Any], value: object, what: str) -> Dot:
    return Dot(known(value), hover=f"{what}: {number(value)} at {share(record['removed'], 1)} removed")


def _iteration_finding(records: Sequence[Mapping[str, Any]], kept: object, what: str) -> str:
    first, last = records[0], next((record for record in records if record["iteration"] == kept), records[-1])
    kept_is = f"iteration {last['iteration']} was kept, with" if kept is not None else "pruning ended with"
    return (
        f"Of {counted(len(records) - 1, 'iteration')}, {kept_is} {share(last['removed'], 1)} of the {what} removed: "
        f"validation F1 went from {number(first['f1'])} to {number(last['f1'])}, "
        f"Eopp1 from {number(first['eopp1'])} to {number(last['eopp1'])}."
    )


def _iteration_table(step: StepPage, records: Sequence[Mapping[str, Any]], kept: object) -> Table:
    groups = step.audit["attribute"]["groups"]
    head = (
        "Iteration",
        "Removed",
        "F1",
        *(f"F1 {group}" for group in groups),
        *(GAPS[gap] for gap in ITERATION_GAPS),
        "FATE (Eopp1)",
    )
    rows = tuple(
        (
            f"{record['iteration']}{' (kept)' if record['iteration'] == kept else ''}",
            share(record["removed"], 1),
            number(record["f1"]),
            *(number(record["f1_by_group"].get(group)) for group in groups),
            *(number(record.get(gap)) for gap in ITERATION_GAPS),
            signed((record.get("fate") or {}).get("eopp1"), undefined="undefined"),
        )
        for record in records
    )
    return Table(head, rows)


def training(step: StepPage, index: int) -> Figure | None:
    """Training loss and validation figures over epochs; None for a step that was not trained."""
    records = [record for record in step.log if "epoch" in record]
    if not records:
        return None
    epochs = [float(record["epoch"]) for record in records]
    best = next((record for record in reversed(records) if record.get("best")), None)
    marked = None if best is None else float(best["epoch"])
    loss = [_epoch_series("training loss", 0, "loss", records)]
    validation = [_epoch_series("macro F1", 2, "f1", records), _epoch_series("accuracy", 3, "accuracy", records)]
    panels = (
        Panel(f"training-{index}-loss", "Loss in training", lines(epochs, loss, "epoch", marked=marked, mark="kept")),
        Panel(
            f"training-{index}-validation",
            "On validation",
            lines(epochs, validation, "epoch", marked=marked, mark="kept"),
        ),
    )
    table = Table(
        ("Epoch", "Loss", "Learning rate", "F1", "Accuracy", "Seconds", "Images a second"),
        tuple(
            (
                f"{record['epoch']}{' (kept)' if record is best else ''}",
                number(record["loss"]),
                f"{record['learning_rate']:.3g}",
                number(record["f1"]),
                number(record["accuracy"]),
                f"{record['seconds']:.1f}",
                f"{record['images_per_second']:.0f}",
            )
            for record in records
        ),
    )
    return Figure(f"training-{index}", f"{step.name}: training", _training_finding(records, best), panels, table)


def _epoch_series(name: str, index: int, key: str, records: Sequence[Mapping[str, Any]]) -> Series:
    found = tuple(
        Dot(known(record[key]), hover=f"{name}, epoch {record['epoch']}: {number(record[key])}") for record in records
    )
    return Series(name, index, found)


def _training_finding(records: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> str:
    loss = f"training loss went from {number(records[0]['loss'])} to {number(records[-1]['loss'])}"
    if best is None:
        return f"Over {counted(len(records), 'epoch')}, {loss}."
    return f"Epoch {best['epoch']} of {len(records)} was kept, with validation F1 {number(best['f1'])}; {loss}."

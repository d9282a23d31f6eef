"""The figures of the page: what is drawn, the finding in one sentence, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.draw import REFERENCE, Dot, Series, Spec, dots, label, lines, mirrored
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


@dataclass(frozen=True)
class Panel:
    """One drawing: the id of its element, its title, and plotly's data and layout."""

    id: str
    title: str
    spec: Spec
    wide: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels with one finding, and the table that holds the same numbers."""

    id: str
    title: str
    finding: str
    panels: tuple[Panel, ...]
    table: Table


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
        Series(group, index, tuple(_group_dot(step, group, metric) for step in page.steps))
        for index, group in enumerate(page.groups)
    ]
    overall = tuple(_dot(step.audit["overall"].get(metric) or {}, f"overall, {step.name}") for step in page.steps)
    return [*groups, Series("overall", REFERENCE, overall)]


def _group_dot(step: StepPage, group: str, metric: str) -> Dot:
    return _dot(step.audit["by_group"][group].get(metric) or {}, f"{group}, {step.name}")


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


def saliency(step: StepPage, index: int) -> Figure | None:
    """Saliency of two groups over the first layer's weights, and its spread in every layer (FairPrune, Figure 1)."""
    found = step.saliency
    pair = _pair(step)
    if found is None or pair is None:
        return None
    one, other = ([known(value) or 0.0 for value in found["values"][group]] for group in pair)
    order = sorted(range(len(one)), key=lambda at: (-one[at], at))
    bars = [
        Series(
            group,
            number_of,
            tuple(Dot(values[at], hover=f"{group}, weight {found['index'][at]}: {values[at]:.3g}") for at in order),
        )
        for group, values, number_of in ((pair[0], one, _index(step, pair[0])), (pair[1], other, _index(step, pair[1])))
    ]
    x_title = f"weights of the first layer, sorted by {label(pair[0])}"
    panels = [
        Panel(
            f"saliency-{index}-weights",
            f"{found['parameter']}, weight by weight",
            mirrored(bars[0], bars[1], x_title, "½ h θ²"),
            wide=True,
        )
    ]
    if found["layers"]:
        panels.append(
            Panel(
                f"saliency-{index}-layers", "Every layer: median and 5th to 95th percentile", _layers(step), wide=True
            )
        )
    table = Table(
        ("Weight", *(f"½ h θ², {group}" for group in pair)),
        tuple((str(found["index"][at]), f"{one[at]:.4g}", f"{other[at]:.4g}") for at in order),
    )
    return Figure(
        f"saliency-{index}",
        f"{step.name}: what the weights are worth to each group",
        _saliency_finding(pair, one, other),
        tuple(panels),
        table,
    )


def _pair(step: StepPage) -> tuple[str, str] | None:
    groups = list(step.saliency["groups"]) if step.saliency else []
    chosen = [step.facts.get("unprivileged"), step.facts.get("privileged")]
    if all(group in groups for group in chosen) and chosen[0] != chosen[1]:
        return str(chosen[0]), str(chosen[1])
    return (groups[0], groups[1]) if len(groups) > 1 else None


def _index(step: StepPage, group: str) -> int:
    groups = list(step.audit["attribute"]["groups"])
    return groups.index(group) if group in groups else len(groups)


def _layers(step: StepPage) -> Spec:
    found = step.saliency or {}
    rows = [layer["name"] for layer in found["layers"]]
    every = [
        value for layer in found["layers"] for values in layer["quantiles"].values() for value in values if known(value)
    ]
    least = min(every, default=1e-12)
    series = [
        Series(
            group,
            _index(step, group),
            tuple(_spread(layer["quantiles"][group], least, f"{group}, {layer['name']}") for layer in found["layers"]),
        )
        for group in found["groups"]
    ]
    return dots(rows, series, "½ h θ², before pruning", scale="log")


def _spread(quantiles: Sequence[object], least: float, who: str) -> Dot:
    # A logarithmic axis has no zero: a quantile of zero is drawn at the smallest value that is not.
    low, middle, high = (known(quantiles[at]) for at in (0, 2, 4))
    if low is None or middle is None or high is None:
        return Dot(None)
    hover = f"{who}: median {middle:.3g}, 5 % {low:.3g}, 95 % {high:.3g}"
    return Dot(max(middle, least), max(low, least), max(high, least), hover)


def _saliency_finding(pair: tuple[str, str], one: Sequence[float], other: Sequence[float]) -> str:
    more = sum(mine > theirs for mine, theirs in zip(one, other, strict=True))
    typical = median(other)
    ratio = f"; the median weight matters {median(one) / typical:.2g} times as much" if typical else ""
    return (
        f"{share(more, len(one))} of the first layer's weights shown matter more to {pair[0]} than to {pair[1]}{ratio}."
    )

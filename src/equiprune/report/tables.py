"""The tables of the page: cells are text already, so that the template only places them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equiprune.report.changes import LEVELLED, fate_of, group_moves, levelled_down
from equiprune.report.content import Page, StepPage
from equiprune.report.numbers import (
    UNDEFINED,
    count,
    interval,
    joined,
    known,
    measured,
    noun_of,
    number,
    overlap,
    p_value,
    share,
    signed,
)

PERFORMANCE = {
    "f1": "F1",
    "accuracy": "Accuracy",
    "recall": "Recall",
    "precision": "Precision",
    "auroc": "AUROC",
    "ece": "ECE",
}
GAPS = {
    "eopp1": "Eopp1",
    "eopp0": "Eopp0",
    "eodd": "Eodd",
    "f1": "F1 gap",
    "auroc": "AUROC gap",
}
FATE = {"eopp1": "Eopp1", "eopp0": "Eopp0", "eodd": "Eodd"}
KINDS = {"identical": "identical files", "near": "near-identical pictures"}
RATES = {"tpr": "TPR", "fpr": "FPR", "ppv": "PPV"}
MEANING = {
    "f1": "macro over classes; higher is better",
    "accuracy": "share of right answers; higher is better",
    "recall": "macro true-positive rate; higher is better",
    "precision": "macro positive predictive value; higher is better",
    "auroc": "macro one against the rest; higher is better",
    "ece": "expected calibration error; lower is better",
}


@dataclass(frozen=True)
class Cell:
    """A value with, in smaller type, its interval and a remark."""

    value: str
    interval: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Row:
    """A row: its heading, one cell a column, and whether it sums up the rows above."""

    head: str
    cells: tuple[Cell, ...]
    summary: bool = False


@dataclass(frozen=True)
class Block:
    """Rows that belong together, with a heading and what it means."""

    title: str
    meaning: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A plain table, such as the numbers behind a figure."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def estimate(found: Mapping[str, Any] | None, remark: str = "") -> Cell:
    """A cell of one estimate."""
    found = found or {}
    return Cell(number(found.get("value")), interval(found), remark)


def performance(page: Page) -> tuple[Block, ...]:
    """Performance overall and per group, then the mean over groups and the largest difference; a column a step."""
    return tuple(_performance(page, metric, title) for metric, title in PERFORMANCE.items())


def _performance(page: Page, metric: str, title: str) -> Block:
    audits = [step.audit for step in page.steps]
    rows = [Row("Overall", tuple(estimate(audit["overall"].get(metric)) for audit in audits))]
    rows += [
        Row(group, tuple(estimate(audit["by_group"].get(group, {}).get(metric)) for audit in audits))
        for group in page.groups
    ]
    scores = [[known((row.get(metric) or {}).get("value")) for row in audit["by_group"].values()] for audit in audits]
    rows.append(Row("Avg of groups", tuple(Cell(number(_mean(values))) for values in scores), summary=True))
    rows.append(Row("Diff", tuple(Cell(number(_spread(values))) for values in scores), summary=True))
    return Block(title, MEANING[metric], tuple(rows))


def _complete(values: list[float | None]) -> list[float]:
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else []


def _mean(values: list[float | None]) -> float | None:
    found = _complete(values)
    return sum(found) / len(found) if found else None


def _spread(values: list[float | None]) -> float | None:
    found = _complete(values)
    return max(found) - min(found) if found else None


def fairness(page: Page) -> tuple[Block, ...]:
    """Gaps with interval, chance level and p-value, and FATE against the first step; a column a step."""
    gaps = tuple(
        Row(title, tuple(_gap(step.audit["gaps"].get(name)) for step in page.steps)) for name, title in GAPS.items()
    )
    blocks = [Block("Gaps between groups", "lower is better; compare with the level expected by chance", gaps)]
    if len(page.steps) > 1:
        rows = tuple(Row(title, tuple(_fate(page, step, name) for step in page.steps)) for name, title in FATE.items())
        meaning = f"relative gain in fairness less relative loss in F1, against {page.first.name}; higher is better"
        blocks.append(Block("FATE", meaning, rows))
    return tuple(blocks)


def _gap(found: Mapping[str, Any] | None) -> Cell:
    if known((found or {}).get("value")) is None:
        return Cell(UNDEFINED)
    found = found or {}
    if known(found.get("floor")) is None:
        return estimate(found)
    return estimate(found, f"chance {number(found['floor'])}, {p_value(found.get('p_value'))}")


def _fate(page: Page, step: StepPage, gap: str) -> Cell:
    if step is page.first:
        return Cell("baseline")
    return Cell(signed(fate_of(step.audit, gap), undefined="undefined"))


def ends(page: Page) -> Table:
    """Each of several models that branches or runs end with, against the baseline; no rows for a single one."""
    head = ("Model", "Overall F1", "Eopp1", "Against the baseline's Eopp1", "F1 by group", "FATE (Eopp1)")
    return Table(head, tuple(_end(page.first, step) for step in page.ends) if len(page.ends) > 1 else ())


def _end(first: StepPage, step: StepPage) -> tuple[str, ...]:
    before, after = first.audit["gaps"]["eopp1"], step.audit["gaps"]["eopp1"]
    apart = {True: "intervals overlap", False: "intervals do not overlap", None: "no intervals"}
    old, new = known(before.get("value")), known(after.get("value"))
    moves = group_moves(first.audit, step.audit)
    level = f"; {LEVELLED}" if levelled_down(first.audit, step.audit) else ""
    return (
        step.name + (f", from {step.after}" if step.after not in ("", first.name) else ""),
        measured(step.audit["overall"]["f1"]),
        measured(after),
        UNDEFINED if old is None or new is None else f"{signed(new - old)}; {apart[overlap(before, after)]}",
        joined([f"{group} {signed(move)}" for group, move in moves.items()]) + level if moves else UNDEFINED,
        signed(fate_of(step.audit, "eopp1"), undefined="undefined"),
    )


def by_class(step: StepPage) -> Table:
    """Every class and group of one step: images, and rates with intervals."""
    rows = tuple(
        (
            str(row["class"]),
            str(row["group"]),
            count(row["n"]),
            *(_inline(row.get(rate)) for rate in RATES),
        )
        for row in step.audit["by_class"]
    )
    return Table(("Class", "Group", "n", *RATES.values()), rows)


def _inline(found: Mapping[str, Any] | None) -> str:
    cell = estimate(found)
    return f"{cell.value} {cell.interval}".strip()


def splits(page: Page) -> Table:
    """Images, units and groups of every split."""
    found = page.data["splits"]
    groups = list(dict.fromkeys(group for split in found.values() for group in split["groups"]))
    rows = tuple(
        (name, count(split["images"]), count(split["units"]), *(count(split["groups"].get(group)) for group in groups))
        for name, split in found.items()
    )
    unit = f"{noun_of(page.data['unit']).capitalize()}s" if page.data.get("unit") else "Units"
    return Table(("Split", "Images", unit, *groups), rows)


def leaks(page: Page) -> Table:
    """What stands in two splits at once: units, equal pictures, pictures saved again; no rows where nobody looked."""
    facts = page.facts or {}
    told = []
    apart = facts.get("units_in_several_splits")
    if apart is not None:
        told.append(("Units in several splits", count(apart)))
    for kind, name in KINDS.items():
        found = (facts.get("duplicates") or {}).get(kind)
        if found:
            told.append((f"Pairs of {name} in two splits", count(found.get("across_splits"))))
            told.append((f"Pairs of {name} with different labels", count(found.get("of_different_labels"))))
    return Table(("What may leak", "Found"), tuple(told))


def removed(page: Page) -> Table:
    """What every step left of the model, and what that cost."""
    rows = tuple(_removed(step) for step in page.steps)
    head = ("Step", "Method", "Prunable", "Held at zero", "Time", "Kept iteration", "Stopped because")
    return Table(head, rows)


def _removed(step: StepPage) -> tuple[str, ...]:
    facts = step.facts
    zeros, prunable = facts.get("zeros") or 0, facts.get("prunable") or 0
    seconds = known(facts.get("seconds"))
    return (
        step.name,
        step.method,
        count(facts.get("prunable")),
        f"{zeros:,} ({share(zeros, prunable)})" if zeros else "none",
        "–" if seconds is None else f"{seconds:,.0f} s",
        count(facts.get("kept_iteration")),
        str(facts.get("stopped") or "–"),
    )


def costs(page: Page) -> Table:
    """What every step's model takes to keep and to run, and how much less that is than the first's."""
    sizes = sorted({size for step in page.steps for size in _latency(step)}, key=int)
    head = ("Step", "Parameters", "File", "Operations an image", *(f"Time of a batch of {size}" for size in sizes))
    return Table(head, tuple(_costs(step, page.first, sizes) for step in page.steps))


def _costs(step: StepPage, first: StepPage, sizes: list[str]) -> tuple[str, ...]:
    def told(key: str, text: str, divisor: float = 1.0) -> str:
        now, before = known(step.facts.get(key)), known(first.facts.get(key))
        return "–" if now is None else text.format(now / divisor) + _less(now, before if step is not first else None)

    return (
        step.name,
        told("parameters", "{:,.0f}"),
        told("file_bytes", "{:.1f} MB", 1e6),
        told("flops", "{:,.3g} GFLOP", 1e9),
        *(
            "–"
            if (now := _latency(step).get(size)) is None
            else f"{now:.3g} ms" + _less(now, _latency(first).get(size) if step is not first else None)
            for size in sizes
        ),
    )


def _latency(step: StepPage) -> Mapping[str, float]:
    found: Mapping[str, float] = step.facts.get("latency_ms") or {}
    return found


def _less(now: float, before: float | None) -> str:
    return "" if not before or not now else f" ({before / now:.2f} times less)" if now < before else " (no less)"


def plain(values: Mapping[str, Any]) -> Table:
    """Settings or versions: a name and a value a row, nested names joined by a dot."""
    return Table(("Name", "Value"), tuple(_flat(values, "")))


def _flat(values: Mapping[str, Any], before: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{name}.")
        elif isinstance(value, list | tuple):
            rows.append((f"{before}{name}", ", ".join(str(item) for item in value)))
        else:
            rows.append((f"{before}{name}", "–" if value is None else str(value)))
    return rows

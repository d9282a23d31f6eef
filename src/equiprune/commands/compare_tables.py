"""A comparison as tables for a terminal: the main figures; `compare.json` has all."""

from __future__ import annotations

from math import inf

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from equiprune.comparefile import Change, Comparison, GapChange, ModelComparison
from equiprune.comparewords import direction
from equiprune.metrics.testing import LEVEL
from equiprune.metrics.tradeoff import CRITERIA

FIGURES = ("f1", "accuracy", "auroc", "ece")
OF_GROUPS = ("f1", "accuracy")
MOST_GROUPS = 8
NOTHING = "not estimable"


def comparison_tables(result: Comparison) -> None:
    """Prints what changed from the baseline to each model, FATE and the Pareto front, to standard output."""
    console = Console(highlight=False)
    units = "" if result.n_units is None else f" of {result.n_units:,} units"
    console.print(
        f"{len(result.models)} models on the same {result.n:,} images{units}; baseline {escape(result.baseline)}; "
        f"attribute {escape(result.attribute.name)}, privileged {escape(result.attribute.privileged)}"
    )
    for model, found in result.comparisons.items():
        console.print(_changes(model, found, result))
        console.print(f"performance: {escape(found.quality.text)}")
        console.print(f"fairness: {escape(found.fairness.text)}")
    console.print(_fates(result))
    console.print(_front(result))
    console.print(
        f"{len(result.models)} models were compared; front of a gap: no other model has as good a F1 and as small a gap"
    )
    console.print(
        "change: 95 % interval, of gaps and FATE with allowance for what noise lifts; p: for one figure alone"
    )
    console.print(f"*: p < {LEVEL}, adjusted over the models (Holm), not over the figures")
    for notice in result.notices:
        console.print(f"note: {escape(notice)}")


def _changes(model: str, found: ModelComparison, result: Comparison) -> Table:
    table = Table("figure", "baseline", "model", title=escape(model))
    table.add_column("change [interval]", no_wrap=True)
    table.add_column("p (Holm)" if len(result.comparisons) > 1 else "p", no_wrap=True)
    rows: list[tuple[str, Change | GapChange]] = [(name, found.overall[name]) for name in FIGURES]
    groups = [group for group in found.by_group if result.groups[group].n]
    named = [found.fairness.worst_group, found.fairness.better_group]
    shown = groups if len(groups) <= MOST_GROUPS else [group for group in groups if group in named]
    rows += [(f"{name} of {group}", found.by_group[group][name]) for group in shown for name in OF_GROUPS]
    rows += [(f"gap {name}", found.gaps[name]) for name in dict.fromkeys((*CRITERIA, result.criterion, "f1", "auroc"))]
    for label, change in rows:
        values = _number(change.baseline), _number(change.value), _moved(change), _p(change.p_holm)
        table.add_row(escape(label), *values)
    return table


def _fates(result: Comparison) -> Table:
    table = Table(Column("FATE", overflow="fold"), *CRITERIA)
    for model, found in result.comparisons.items():
        table.add_row(escape(model), *(_fate(found, name) for name in CRITERIA))
    return table


def _front(result: Comparison) -> Table:
    table = Table(Column("model", overflow="fold"), "mean F1", *CRITERIA, "on the front of")
    for point in result.pareto:
        values = (_number(value) for value in (point.f1, point.eopp0, point.eopp1, point.eodd))
        table.add_row(escape(point.model), *values, ", ".join(point.front) or "-")
    return table


def _fate(found: ModelComparison, name: str) -> str:
    one = found.fate[name]
    if one.value is None:
        return NOTHING
    low, high = -inf if one.low is None else one.low, inf if one.high is None else one.high
    return f"{one.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _moved(change: Change | GapChange) -> str:
    if change.change is None or change.low is None or change.high is None:
        return NOTHING
    mark = " *" if direction(change) else ""
    return f"{change.change:+.3f} [{change.low:+.3f}, {change.high:+.3f}]{mark}"


def _p(p: float | None) -> str:
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"

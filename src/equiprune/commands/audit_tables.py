"""An audit as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equiprune.audit import Audit

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "ece": "ECE",
    "brier": "Brier",
    "calibration_intercept": "calibration intercept",
    "calibration_slope": "calibration slope",
}
GAPS = {
    "eopp0": "Eopp0",
    "eopp1": "Eopp1",
    "eodd": "Eodd",
    "selection_rate": "demographic parity",
    "tpr": "TPR",
    "fpr": "FPR",
    "ppv": "PPV",
    "fnr": "FNR",
    **METRICS,
}
CLASSES = 5
COLUMNS = 3
ROWS = 20
NARROW = ("accuracy", "f1", "auroc", "ece")
WIDTH = 110
"""Where there is no terminal, so that a log has whole lines."""


def audit_table(audit: Audit) -> None:
    """Prints performance by group and the gaps, with intervals and noise floors, to standard output."""
    content = audit.to_dict()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    _performance(console, content)
    _gaps(console, content)
    _classes(console, content)
    if content.get("fate"):
        fate = content["fate"]
        told = ", ".join(f"{name} {_number(value)}" for name, value in fate.items() if name != "baseline")
        console.print(f"FATE against {escape(fate['baseline'])}: {told}")
    if content.get("thresholds"):
        _thresholds(console, content["thresholds"])
    for notice in content.get("notices") or ():
        console.print(f"note: {escape(notice)}")


def _performance(console: Console, content: Mapping[str, Any]) -> None:
    if len(content["by_group"]) > COLUMNS:
        _many_groups(console, content)
    else:
        _few_groups(console, content)
    unknown = content["attribute"]["unknown"]
    console.print("* privileged group" + (f"; {unknown:,} rows of unknown group count overall only" if unknown else ""))
    worst = content.get("worst_group") or {}
    named = [
        f"{METRICS[name]} {escape(worst[name]['group'])} ({worst[name]['value']:.3f})"
        for name in ("f1", "auroc")
        if name in worst
    ]
    if named:
        console.print(f"worst group: {', '.join(named)}")


def _many_groups(console: Console, content: Mapping[str, Any]) -> None:
    """A row a group, the lowest F1 first, where columns would not fit."""
    privileged, groups = content["attribute"]["privileged"], content["by_group"]
    order = sorted(groups, key=lambda name: (groups[name]["f1"]["value"] is None, groups[name]["f1"]["value"]))
    shown = order[:ROWS]
    table = Table(box=SIMPLE_HEAD, title="Performance [95 % interval], lowest F1 first", title_justify="left")
    table.add_column("", no_wrap=True)
    for head in ("n", *(METRICS[name] for name in NARROW)):
        table.add_column(head, justify="right", no_wrap=True)
    for name, figures in (("overall", content["overall"]), *((name, groups[name]) for name in shown)):
        many = content["n"] if figures is content["overall"] else figures["n"]
        cells = (_with_interval(figures[metric], 2) for metric in NARROW)
        table.add_row(escape(name) + (" *" if name == privileged else ""), f"{many:,}", *cells)
    console.print(table)
    if len(order) > len(shown):
        console.print(f"and {len(order) - len(shown)} more groups; --json has all")


def _few_groups(console: Console, content: Mapping[str, Any]) -> None:
    privileged = content["attribute"]["privileged"]
    rows = {"overall": content["overall"], **content["by_group"]}
    table = Table(box=SIMPLE_HEAD, title="Performance [95 % interval]", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in rows:
        table.add_column(escape(name) + (" *" if name == privileged else ""), justify="right")
    table.add_row("n", f"{content['n']:,}", *(f"{figures['n']:,}" for figures in content["by_group"].values()))
    for metric, title in METRICS.items():
        if metric in content["overall"]:
            table.add_row(title, *(_with_interval(figures[metric]) for figures in rows.values()))
    console.print(table)


def _gaps(console: Console, content: Mapping[str, Any]) -> None:
    several = len(content["attribute"]["groups"]) > 2
    table = Table(box=SIMPLE_HEAD, title="Gaps between groups, 0 is fair", title_justify="left")
    table.add_column("", no_wrap=True)
    for head in ("value [95 % interval]", "noise floor", "p", "detectable", "classes"):
        table.add_column(head, justify="right", no_wrap=True)
    if several:
        table.add_column("worst pair")
    for name, gap in content["gaps"].items():
        used, skipped = gap["classes_used"], gap["classes_skipped"]
        pair = [" / ".join(map(escape, gap["pair"])) if gap["pair"] else "-"] if several else []
        table.add_row(
            GAPS.get(name, name),
            _with_interval(gap),
            _number(gap["floor"]),
            _p(gap["p_value"]),
            _detectable(gap),
            f"{used} of {used + skipped}",
            *pair,
        )
    console.print(table)
    console.print(
        "noise floor: what equal error rates would show; p: how often they would show this much (if 0.05 or more the "
        "interval reaches 0, unless the case mix makes a gap); detectable: the true gap found in 4 of 5 such test sets"
    )


def _detectable(gap: Mapping[str, Any]) -> str:
    """The detectable gap, or why there is none: not even the largest, or no noise that would tell."""
    if gap["value"] is None:
        return "-"
    return _number(gap.get("detectable"), "not known" if gap["floor"] == 0 else "none")


def _classes(console: Console, content: Mapping[str, Any]) -> None:
    """The classes with the largest supported gaps of TPR."""
    rows = [row for row in content.get("gaps_by_class") or () if row["rate"] == "tpr" and row["value"] is not None]
    chosen = sorted((row for row in rows if row["supported"]), key=lambda row: -row["value"])[:CLASSES]
    if not chosen:
        return
    title = f"Largest TPR gaps of single classes ({len(rows)} compared)"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for head in ("value [95 % interval]", "p", "p (Holm)", "p (BH)"):
        table.add_column(head, justify="right")
    table.add_column("lower in")
    for row in chosen:
        table.add_row(
            escape(row["class"]),
            _with_interval(row),
            *(_p(row[key]) for key in ("p_value", "p_holm", "p_bh")),
            escape(_lower(row, content["by_class"])),
        )
    console.print(table)


def _lower(row: Mapping[str, Any], by_class: Sequence[Mapping[str, Any]]) -> str:
    """The group of the pair that the rate is lower in."""
    found = {one["group"]: one[row["rate"]]["value"] for one in by_class if one["class"] == row["class"]}
    return min(row["pair"], key=lambda group: found[group]) if row["value"] else ""


def _thresholds(console: Console, found: Mapping[str, Any]) -> None:
    chosen = "" if found["chosen_on"] is None else f", chosen on {found['chosen_on']:,} validation rows"
    values = ", ".join(f"{escape(name)} {value:.3g}" for name, value in found["values"].items())
    console.print(f"thresholds ({found['rule']}{chosen}): {values}")


def _with_interval(figure: Mapping[str, Any], digits: int = 3) -> str:
    if figure["value"] is None:
        return "not estimable"
    if figure["low"] is None or figure["high"] is None:
        return _number(figure["value"])
    value, low, high = (f"{figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return escape(f"{value} [{low}, {high}]")


def _number(value: float | None, none: str = "not estimable") -> str:
    return none if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value)

"""An audit as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equiprune.audit import Audit

METRICS = ("accuracy", "precision", "recall", "f1", "auroc", "ece", "brier")


def audit_table(audit: Audit) -> None:
    """Prints performance by group and the gaps, with intervals and noise floors, to standard output."""
    content = audit.to_dict()
    console = Console(highlight=False)
    privileged = content["attribute"]["privileged"]
    rows = {"overall": content["overall"], **content["by_group"]}
    table = Table("", *(escape(name) + (" *" if name == privileged else "") for name in rows))
    table.add_row("n", str(content["n"]), *(str(figures["n"]) for figures in content["by_group"].values()))
    for metric in METRICS:
        table.add_row(metric, *(_with_interval(figures[metric]) for figures in rows.values()))
    console.print(table)
    console.print(f"* privileged group; {content['attribute']['unknown']} images of unknown group count overall only")
    gaps = Table("gap", "value [interval]", "noise floor", "p", "classes used", "skipped")
    for name, gap in content["gaps"].items():
        gaps.add_row(
            name,
            _with_interval(gap),
            _number(gap["floor"]),
            "< 0.001" if gap["p_value"] is not None and gap["p_value"] < 0.001 else _number(gap["p_value"]),
            str(gap["classes_used"]),
            str(gap["classes_skipped"]),
        )
    console.print(gaps)
    console.print("noise floor: what equal error rates would show; an interval reaches 0 where p >= 0.05")
    if content.get("fate"):
        fate = content["fate"]
        told = ", ".join(f"{name} {_number(value)}" for name, value in fate.items() if name != "baseline")
        console.print(f"FATE against {escape(fate['baseline'])}: {told}")
    for notice in content.get("notices") or ():
        console.print(f"note: {escape(notice)}")


def _with_interval(figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return "not estimable"
    if figure["low"] is None or figure["high"] is None:
        return _number(figure["value"])
    return f"{figure['value']:.3f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def _number(value: float | None) -> str:
    return "not estimable" if value is None else f"{value:.3f}"

"""The figure of layer pruning: which layer carries the bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiprune.report.content import StepPage
from equiprune.report.draw import REFERENCE, Dot, Series, dots
from equiprune.report.figures import Figure, Panel
from equiprune.report.numbers import known, number, p_value, share
from equiprune.report.tables import GAPS, Table

RATES = ("tpr", "fpr", "ppv", "fnr")


def by_layer(step: StepPage, index: int) -> Figure | None:
    """Gap and F1 on validation of the model without a share of each layer; None where no layers were tried."""
    records = [record for record in step.log if "layer" in record]
    if not records:
        return None
    gap = str(step.settings.get("gap", "eopp1"))
    kept = step.facts.get("kept_iteration")
    rows = [_name(record, number == kept) for number, record in enumerate(records)]
    panels = (
        Panel(
            f"layers-{index}-gap",
            f"{GAPS[gap]} on validation",
            dots(rows, _gaps(records, gap), GAPS[gap], scale="from zero"),
        ),
        Panel(f"layers-{index}-f1", "F1 on validation", dots(rows, _f1(step, records), "F1")),
    )
    title = f"{step.name}: each layer without {share(float(step.settings.get('ratio', 0.5)), 1)} of it"
    finding = _finding(records, gap, kept)
    return Figure(f"layers-{index}", title, finding, panels, _table(step, records, rows, gap))


def _name(record: Mapping[str, Any], kept: bool) -> str:
    name = "unpruned" if record["layer"] is None else str(record["layer"])
    return f"{name} (kept)" if kept else name


def _gaps(records: Sequence[Mapping[str, Any]], gap: str) -> list[Series]:
    def dot(record: Mapping[str, Any], value: object, what: str) -> Dot:
        return Dot(known(value), hover=f"{what}, {_name(record, False)}: {number(value)}")

    return [
        Series("gap", 0, tuple(dot(record, record[gap], GAPS[gap]) for record in records)),
        Series("expected by chance", REFERENCE, tuple(dot(record, record["floor"], "by chance") for record in records)),
    ]


def _f1(step: StepPage, records: Sequence[Mapping[str, Any]]) -> list[Series]:
    def dot(record: Mapping[str, Any], value: object, who: str) -> Dot:
        return Dot(known(value), hover=f"F1 of {who}, {_name(record, False)}: {number(value)}")

    groups = [
        Series(group, place, tuple(dot(record, record["f1_by_group"].get(group), group) for record in records))
        for place, group in enumerate(step.audit["attribute"]["groups"])
    ]
    return [*groups, Series("overall", REFERENCE, tuple(dot(record, record["f1"], "all") for record in records))]


def _finding(records: Sequence[Mapping[str, Any]], gap: str, kept: object) -> str:
    pruned = [record for record in records[1:] if known(record[gap]) is not None]
    if not pruned:
        return f"{GAPS[gap]} is not estimable without any of the layers."
    least = min(pruned, key=lambda record: float(record[gap]))
    before = f"from {number(records[0][gap])} to {number(least[gap])}"
    what = "No layer's pruning was kept." if not kept else f"{records[int(str(kept))]['layer']} was kept pruned."
    return (
        f"{GAPS[gap]} on validation is smallest without {least['layer']}: {before}, the least of {len(pruned)}. {what}"
    )


def _table(step: StepPage, records: Sequence[Mapping[str, Any]], rows: Sequence[str], gap: str) -> Table:
    groups = step.audit["attribute"]["groups"]
    head = (
        "Layer",
        "Removed of all",
        "F1",
        *(f"F1 {group}" for group in groups),
        GAPS[gap],
        "Expected by chance",
        "Test",
        *(f"{rate.upper()} gap" for rate in RATES),
    )
    body = tuple(
        (
            row,
            share(record["removed"], 1),
            number(record["f1"]),
            *(number(record["f1_by_group"].get(group)) for group in groups),
            number(record[gap]),
            number(record["floor"]),
            p_value(record["p_value"]),
            *(number(record["rates"][rate]) for rate in RATES),
        )
        for row, record in zip(rows, records, strict=True)
    )
    return Table(head, body)

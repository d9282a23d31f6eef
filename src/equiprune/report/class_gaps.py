"""The map of gaps, class by class: where the difference between groups sits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.figures import Figure, Panel
from equiprune.report.heat import heat
from equiprune.report.numbers import interval, joined, known, number, p_value, signed
from equiprune.report.tables import Table

SHOWN = {"tpr": "TPR", "fpr": "FPR", "ppv": "PPV", "fnr": "FNR"}
MOST_ROWS = 40
LEVEL = 0.05

Found = dict[str, dict[str, Mapping[str, Any]]]


def class_gaps(page: Page) -> Figure | None:
    """Every class's gap in four rates in the last model, the largest first; None where no gap can be told."""
    step = page.last
    found: Found = {}
    for record in step.audit.get("gaps_by_class") or ():
        if record["rate"] in SHOWN:
            found.setdefault(str(record["class"]), {})[record["rate"]] = record
    # A gap of few images is often large and rarely true: such classes stand below.
    order = sorted(found, key=lambda name: (-_largest(_enough(found[name])), -_largest(found[name])))
    shown = [name for name in order if _largest(found[name]) >= 0][:MOST_ROWS]
    if not shown:
        return None
    signs = _signs(found)
    most = max(_largest(found[name]) for name in shown) or 1.0
    spec = heat(
        shown,
        tuple(SHOWN.values()),
        [[_value(found[name].get(rate)) for rate in SHOWN] for name in shown],
        [[_text(found[name].get(rate), signs) for rate in SHOWN] for name in shown],
        most=most,
        both=signs,
    )
    left = f", the {MOST_ROWS} classes with the largest" if len(found) > MOST_ROWS else ""
    panel = Panel("class-gaps-map", f"{step.name}: gap of each class in points of a hundred{left}", spec, wide=True)
    return Figure("class-gaps", "Where the gap sits", _finding(step, found, order), (panel,), _table(found, order))


def _signs(found: Found) -> bool:
    """Whether the gaps have a direction: of more than two groups each class may have another pair."""
    pairs = {tuple(record["pair"]) for row in found.values() for record in row.values() if record.get("pair")}
    return len(pairs) == 1


def _value(record: Mapping[str, Any] | None) -> float | None:
    record = record or {}
    value = known(record.get("signed"))
    return known(record.get("value")) if value is None else value


def _text(record: Mapping[str, Any] | None, signs: bool) -> str:
    record = record or {}
    value = _value(record)
    if value is None:
        return "–"
    points = 100 * value
    told = f"{points:{'+' if signs else ''}.{1 if abs(points) < 9.95 else 0}f}".replace("-", "−")
    sure = known(record.get("p_holm"))
    few = "" if record.get("supported", True) else "°"
    return f"{told}{'*' if sure is not None and sure < LEVEL else ''}{few}"


def _largest(row: Mapping[str, Mapping[str, Any]]) -> float:
    return max((abs(value) for record in row.values() if (value := _value(record)) is not None), default=-1.0)


def _enough(row: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    return {rate: record for rate, record in row.items() if record.get("supported", True)}


def _finding(step: StepPage, found: Found, order: list[str]) -> str:
    sure = [
        name
        for name in order
        if any((p := known(record.get("p_holm"))) is not None and p < LEVEL for record in found[name].values())
    ]
    enough = _largest(_enough(found[order[0]])) >= 0
    largest = f"The largest differences are in {order[0]}{'' if enough else ', on few images'}."
    privileged = step.audit["attribute"].get("privileged")
    way = f" Above zero, the rate of {privileged} is the higher one." if _signs(found) and privileged else ""
    scarce = any(not record.get("supported", True) for row in found.values() for record in row.values())
    few = " ° marks too few images." if scarce else ""
    if not sure:
        return f"In no class is a difference surely more than chance (Holm over classes). {largest}{way}{few}"
    more = f" and {len(sure) - 5} more" if len(sure) > 5 else ""
    return f"More than chance (*, Holm over classes of a rate) in {joined(sure[:5])}{more}. {largest}{way}{few}"


def _table(found: Found, order: list[str]) -> Table:
    rows = tuple(
        (
            name,
            title,
            number(record.get("value")),
            interval(record),
            signed(record.get("signed")),
            p_value(record.get("p_value")).removeprefix("p = ").removeprefix("p "),
            p_value(record.get("p_holm")).removeprefix("p = ").removeprefix("p "),
            "yes" if record.get("supported") else "too few",
            " / ".join(record.get("pair") or ()),
        )
        for name in order
        for rate, title in SHOWN.items()
        if (record := found[name].get(rate)) is not None
    )
    head = ("Class", "Rate", "Gap", "Interval", "Signed", "p", "p, Holm", "Enough rows", "Groups")
    return Table(head, rows)

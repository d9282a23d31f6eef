"""What is taken for what, in every group, and how that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.figures import Figure, Panel, label_of
from equiprune.report.heat import heat
from equiprune.report.numbers import share, signed
from equiprune.report.tables import Table
from equiprune.report.verdict import ranked

MOST_GROUPS = 4


def confusion(page: Page) -> Figure | None:
    """Matrices by group and their difference in the last model; None in multi-label or without predictions.

    Above 12 classes there are no matrices to read, so the most confused pairs stand in a table alone.
    """
    step = page.last
    found = (step.predicted or {}).get("confusion")
    if found is None:
        return None
    if found["pairs"] is not None:
        pairs = _pairs(page, found["pairs"])
        return Figure("confusion", "What is taken for what", _pair_finding(step, pairs), (), pairs)
    classes = step.audit["classes"]
    shares = {group: _shares(counts) for group, counts in found["counts"].items()}
    panels = [
        Panel(
            f"confusion-{place}",
            f"{label_of(group)}, share of each true class",
            heat(classes, classes, shares[group], _texts(shares[group]), most=1.0, both=False, x="called", y="truth"),
        )
        for place, group in enumerate(page.groups[:MOST_GROUPS])
    ]
    pair = _pair(step)
    if pair is not None:
        change = _difference(shares[pair[0]], shares[pair[1]])
        most = max((abs(value) for row in change for value in row if value is not None), default=0.0) or 1.0
        panels.append(
            Panel(
                "confusion-difference",
                f"{label_of(pair[0])} minus {label_of(pair[1])}, in points of a hundred",
                heat(classes, classes, change, _signed(change), most=most, both=True, x="called", y="truth"),
            )
        )
    finding = _finding(step, shares, pair)
    return Figure("confusion", "What is taken for what", finding, tuple(panels), _table(step, found["counts"]))


def _pair(step: StepPage) -> tuple[str, str] | None:
    """The best and the worst group by F1."""
    order = ranked(step.audit)
    return (order[-1], order[0]) if len(order) > 1 else None


def _shares(counts: Sequence[Sequence[int]]) -> list[list[float | None]]:
    return [[value / total if (total := sum(row)) else None for value in row] for row in counts]


def _difference(
    one: Sequence[Sequence[float | None]], other: Sequence[Sequence[float | None]]
) -> list[list[float | None]]:
    return [
        [None if a is None or b is None else a - b for a, b in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(one, other, strict=True)
    ]


def _texts(values: Sequence[Sequence[float | None]]) -> list[list[str]]:
    return [["–" if value is None else f"{100 * value:.0f} %" for value in row] for row in values]


def _signed(values: Sequence[Sequence[float | None]]) -> list[list[str]]:
    return [
        [
            "–" if value is None else f"{100 * value:+.0f}".replace("-", "−").replace("+0", "0").replace("−0", "0")
            for value in row
        ]
        for row in values
    ]


def _finding(step: StepPage, shares: Mapping[str, list[list[float | None]]], pair: tuple[str, str] | None) -> str:
    if pair is None:
        return f"In {step.name}, groups cannot be told apart by F1."
    classes = step.audit["classes"]
    change = _difference(shares[pair[1]], shares[pair[0]])
    wrong = [
        (value, row, column)
        for row, cells in enumerate(change)
        for column, value in enumerate(cells)
        if value is not None and row != column
    ]
    if not wrong or max(wrong)[0] <= 0:
        return f"In {step.name}, no error is more common in {pair[1]} than in {pair[0]}."
    value, row, column = max(wrong)
    return (
        f"In {step.name}, the error that {pair[1]} has most beyond {pair[0]} is {classes[row]} called "
        f"{classes[column]}, by {100 * value:.0f} points of a hundred. "
        "With few images of a class such differences are often chance."
    )


def _table(step: StepPage, counts: Mapping[str, Sequence[Sequence[int]]]) -> Table:
    classes = step.audit["classes"]
    rows = tuple(
        (group, classes[row], *(f"{value:,}" for value in cells))
        for group, matrix in counts.items()
        for row, cells in enumerate(matrix)
    )
    return Table(("Group", "Truth", *(f"Called {name}" for name in classes)), rows)


def _pairs(page: Page, pairs: Sequence[Mapping[str, Any]]) -> Table:
    def told(cell: Mapping[str, int]) -> str:
        return f"{cell['n']:,} of {cell['of']:,} ({share(cell['n'], cell['of'])})" if cell["of"] else "none"

    rows = tuple(
        (one["truth"], one["called"], *(told(one["groups"][group]) for group in page.groups), _apart(page, one))
        for one in pairs
    )
    return Table(("Truth", "Called", *page.groups, "Difference"), rows)


def _apart(page: Page, one: Mapping[str, Any]) -> str:
    rates = [cell["n"] / cell["of"] for group in page.groups if (cell := one["groups"][group])["of"]]
    return signed(rates[-1] - rates[0]) if len(rates) == 2 else "–" if not rates else f"{max(rates) - min(rates):.3f}"


def _pair_finding(step: StepPage, pairs: Table) -> str:
    if not pairs.rows:
        return f"In {step.name}, no image is called wrongly."
    return f"In {step.name}, the most common error is {pairs.rows[0][0]} called {pairs.rows[0][1]}."

"""What a check of a manifest found, for a terminal and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equiprune.data.association import Association
from equiprune.data.check import Checked
from equiprune.data.facts import Facts, Part
from equiprune.data.leakage import Leakage

COMMON, RARE = 5, 5
"""Classes that are shown where there are more: the most and the least frequent."""

GROUPS = 6
"""Groups that get a column each; of more, the rest share one."""

_WIDE = 120  # characters, where nobody watches: a file has no edge


def as_json(checked: Checked) -> dict[str, Any]:
    """Problems, notes and facts as plain values; facts are None where the table is not usable."""
    return {
        "problems": [str(problem) for problem in checked.problems],
        "notes": [str(notice) for notice in checked.notices],
        "facts": None if checked.examination is None else checked.examination.to_dict(),
    }


def examination_table(checked: Checked, manifest: str) -> None:
    """Prints the facts of a usable manifest and the notes on it to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    if checked.examination is not None:
        facts, leakage = checked.examination.facts, checked.examination.leakage
        console.print(counts_table(facts))
        for line in (*_associations(facts), *_duplicates(leakage)):
            console.print(escape(line), soft_wrap=True)
    for notice in checked.notices:
        print(f"note: {notice}")
    if checked.cohort is not None:
        cohort = checked.cohort
        print(f"{manifest}: {len(cohort)} images, {len(cohort.classes)} classes, groups {', '.join(cohort.groups)}")


def counts_table(facts: Facts) -> Table:
    """Images of each class by group, one block a split; of many classes the most and the least frequent."""
    groups = facts.groups[:GROUPS]
    more = len(facts.groups) - len(groups)
    columns = (*groups, *([f"{more} more"] if more > 0 else ()), f"{facts.attribute} unknown", "all")
    table = Table("split", "label", title=f"images by {escape(facts.attribute)}", title_justify="left", box=SIMPLE)
    for name in columns:
        table.add_column(escape(name), justify="right", min_width=5)
    shown, left = _shown(facts.parts[0])
    if left:
        table.caption = f"and {left:,} more labels, neither the most nor the least frequent"
    for part in facts.parts if len(facts.parts) == 1 else facts.parts[1:]:
        units = "" if part.units is None else f"{part.units:,} {facts.unit}"
        table.add_row(part.name, "all", *_cells(part.groups, len(groups)))
        for number, index in enumerate(shown):
            label = escape(facts.classes[index])
            table.add_row(escape(units) if number == 0 else "", label, *_cells(part.counts[:, index], len(groups)))
        table.add_section()
    return table


def _shown(part: Part) -> tuple[list[int], int]:
    """Which classes to show, in their order, and how many are left out."""
    total = part.counts.sum(axis=0)
    if len(total) <= COMMON + RARE:
        return list(range(len(total))), 0
    order = np.argsort(-total, kind="stable").tolist()
    return [*order[:COMMON], *order[-RARE:]], len(total) - COMMON - RARE


def _cells(counts: Any, groups: int) -> list[str]:  # noqa: ANN401 - an array of whole numbers
    known = counts[:-1]
    rest = [known[groups:].sum()] if len(known) > groups else []
    return [f"{int(value):,}" for value in (*known[:groups], *rest, counts[-1], counts.sum())]


def _associations(facts: Facts) -> list[str]:
    missing = f"{facts.attribute} missing and label" if facts.parts[0].missing else ""
    lines = [_association(missing, facts.missing)] if missing else []
    lines.append(_association(f"{facts.attribute} and label", facts.group))
    if facts.units_in_splits is not None:
        lines.append(f"{facts.unit} in more than one split: {facts.units_in_splits:,}")
    return lines


def _association(spoken: str, found: Sequence[Association]) -> str:
    known = sorted((one for one in found if one.cramers_v is not None), key=lambda one: -(one.cramers_v or 0))
    if not known:
        return f"{spoken}: no association can be measured"
    first = known[0]
    of = f", of {len(found)} findings most with {first.what!r}" if first.what else ""
    corrected = " after Holm's correction" if first.what else ""
    figures = f"Cramer's V {first.cramers_v:.3f} ({first.by_chance:.3f} by chance), p {first.p_holm:.4f}{corrected}"
    return f"{spoken}{of}: {figures}"


def _duplicates(leakage: Leakage | None) -> list[str]:
    if leakage is None:
        return ["duplicates: not looked for, since no image was read"]
    spoken = {"identical": "identical files", "near": "near-duplicates"}
    lines = []
    for kind in leakage.kinds:
        of = [f"{int(kind.relabelled.sum()):,} with different labels"]
        if kind.across is not None:
            of.insert(0, f"{int(kind.across.sum()):,} across splits, {int((~kind.across).sum()):,} within one")
        if kind.apart is not None:
            of.append(f"{int(kind.apart.sum()):,} of different units")
        lines.append(f"{spoken[kind.name]}: {len(kind.pairs):,} pairs ({', '.join(of)})")
    if len(leakage.kinds) == 1:
        lines.append("near-duplicates: not looked for, since images are smaller than 32 pixels")
    return lines

"""What a conversion wrote, for a terminal: images by label and group, what is missing, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equiprune.commands.facts_table import COMMON, GROUPS, RARE
from equiprune.data.sources import Converted

FINDINGS = 14
"""So many labels are all shown: a set of radiographs has them."""

_WIDE = 120  # characters, where nobody watches: a file has no edge


def conversion_tables(done: Converted) -> None:
    """Prints what was written to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    for attribute in done.source.attributes:
        console.print(counts_table(done, attribute))
    for line in _lines(done):
        print(line)


def counts_table(done: Converted, attribute: str) -> Table:
    """Images of each class, or with each finding, by group; of many classes the most and the least frequent."""
    groups = done.groups[attribute]
    known = [name for name in groups if name]
    named, rest = known[:GROUPS], known[GROUPS:]
    table = Table("label", title=f"images by {escape(attribute)}", title_justify="left", box=SIMPLE)
    for name in (*named, *([f"{len(rest)} more"] if rest else ()), f"{attribute} unknown", "all"):
        table.add_column(escape(name), justify="right", min_width=5)

    def cells(many: Mapping[str, int]) -> list[str]:
        more = [sum(many.get(name, 0) for name in rest)] if rest else []
        shown = (*(many.get(name, 0) for name in named), *more, many.get("", 0), sum(many.values()))
        return [f"{value:,}" for value in shown]

    table.add_row("all", *cells(groups))
    counts = done.counts[attribute]
    lines = {label: {name: counts[name][label] for name in groups} for label in done.labels}
    for label in _shown(lines):
        table.add_row(escape(label), *cells(lines[label]))
    if done.findings:
        table.caption = "a finding's row counts the images where it is positive"
    elif len(lines) > FINDINGS:
        table.caption = f"and {len(lines) - COMMON - RARE:,} more labels, neither the most nor the least frequent"
    return table


def _shown(lines: Mapping[str, Mapping[str, int]]) -> Sequence[str]:
    if len(lines) <= FINDINGS:
        return list(lines)
    order = sorted(lines, key=lambda label: -sum(lines[label].values()))
    return [*order[:COMMON], *order[-RARE:]]


def next_commands(done: Converted) -> list[str]:
    """The commands to type next; none where no image is there."""
    if done.missing.images >= done.rows:
        return []
    manifest, options = done.settings.manifest, done.options()
    return [
        shlex.join(["equiprune", "data", "check", manifest, *options]),
        shlex.join(["equiprune", "train", manifest, *options, "--out", "RUN"]),
    ]


def _lines(done: Converted) -> list[str]:
    missing = done.missing
    lines = [f"images missing: {missing.images:,}"]
    if missing.images:
        lines.append(f"missing by label: {_most(missing.by_label)}")
        lines += [f"missing by {name}: {_most(groups)}" for name, groups in missing.by_group.items()]
    if done.splits is not None:
        lines.append(f"splits: {_most(done.splits)}")
    lines += [f"note: {notice}" for notice in done.notices]
    others = done.source.attributes[1:]
    after = ". Next:" if next_commands(done) else ", none of whose images is there"
    lines.append(f"{done.settings.manifest}: {done.rows:,} rows of {done.source.title}{after}")
    lines += [f"  {command}" for command in next_commands(done)]
    return [*lines, *(f"  (or --attribute {name})" for name in others if next_commands(done))]


def _most(counts: Mapping[str, Any]) -> str:
    """The largest counts in a line."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    more = f" and {len(ranked) - 2 * COMMON} more" if len(ranked) > 2 * COMMON else ""
    return ", ".join(f"{name or 'unknown'}: {many:,}" for name, many in ranked[: 2 * COMMON]) + more

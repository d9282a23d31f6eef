"""Counts over the entries of a public data set: by class or finding, and by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from equiprune.data.sources.source import Entries, Source
from equiprune.reading.attribute import natural


def positives(source: Source, entries: Entries) -> list[str]:
    """The positive findings of each entry, with | between them."""
    names = labels_of(source, entries)
    rows = zip(*(entries.columns[name] for name in names), strict=True)
    return ["|".join(name for name, cell in zip(names, row, strict=True) if cell == "1") for row in rows]


def labels_of(source: Source, entries: Entries) -> tuple[str, ...]:
    """Classes in order; or all findings that are written, which are more than are suggested."""
    if source.label:
        return natural(entries.columns[source.label])
    # They stand before the first attribute.
    columns = list(entries.columns)
    return tuple(columns[: columns.index(source.attributes[0])])


def by_label(source: Source, entries: Entries) -> dict[str, int]:
    """Rows of each class; positive rows of each finding."""
    if source.label:
        many = Counter(entries.columns[source.label])
        return {name: many[name] for name in labels_of(source, entries)}
    return {name: entries.columns[name].count("1") for name in labels_of(source, entries)}


def by_group_and_label(source: Source, entries: Entries, attribute: str) -> dict[str, dict[str, int]]:
    """By group, the rows of each class or the positive rows of each finding."""
    groups = entries.columns[attribute]
    if source.label:
        cells = Counter(zip(groups, entries.columns[source.label], strict=True))
    else:
        cells = Counter(
            (group, name)
            for name in labels_of(source, entries)
            for group, value in zip(groups, entries.columns[name], strict=True)
            if value == "1"
        )
    labels = labels_of(source, entries)
    return {group: {name: cells[group, name] for name in labels} for group in by_group(groups)}


def by_group(cells: Sequence[str]) -> dict[str, int]:
    """Rows of each group, the unknown one, "", last.

    Example:
        >>> by_group(["male", "", "female", "male"])
        {'female': 1, 'male': 2, '': 1}
    """
    many = Counter(cells)
    names = (*natural(name for name in many if name), *([""] if "" in many else []))
    return {name: many[name] for name in names}


def by_value(cells: Sequence[str]) -> dict[str, int]:
    """Rows of each value of a finding.

    Example:
        >>> by_value(["1", "", "1"])
        {'positive': 2, 'negative': 0, 'uncertain': 0, 'blank': 1}
    """
    many = Counter(cells)
    return {"positive": many["1"], "negative": many["0"], "uncertain": many["-1"], "blank": many[""]}

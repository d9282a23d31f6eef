"""Tables of published works: what they print, cell by cell, and which cells cannot be right.

A file a table. A cell is text, as printed, so that its digits say how it was rounded; a cell that nobody here has read
in a source is absent, never guessed. `marks` name the cells that are known not to be consistent. Where the printed FATE
does not follow from the printed values, that is found here and not typed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from equiprune.errors import Problem, UsageError, nearest
from equiprune.metrics.tradeoff import CRITERIA, fate

HERE = Path(__file__).parent
TABLES = tuple(sorted(path.stem for path in HERE.glob("*.toml")))
"""Names that a recipe can give as `published`."""
ROW = "row"
"""A mark on a whole row."""
FATE_DIFFERS = "The printed FATE does not follow from the printed values, whatever they were rounded from."


class Row(BaseModel):
    """A method of a table.

    Args:
        name: as printed.
        made: the methods that make it in a recipe, in order; empty where that is not known.
        cells: what is printed, by measure, such as f1, eopp1 or fate_eopp1.
        marks: by measure, or for the whole row, why the cell is not to be compared with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    made: tuple[str, ...] = ()
    cells: Mapping[str, str] = Field(default_factory=dict)
    marks: Mapping[str, str] = Field(default_factory=dict)

    def value(self, measure: str) -> float | None:
        """The cell as a number, None where it is not at hand."""
        found = self.cells.get(measure)
        return None if found is None else float(found)


class Table(BaseModel):
    """A published table.

    Args:
        title: what it is of.
        source: authors, venue, year, and which table.
        data: the set, and the network.
        measures: its columns that a report has as well.
        notes: what holds for all of it.
        row: the methods; the first one is the baseline of FATE.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    source: str
    data: str
    measures: tuple[str, ...]
    notes: tuple[str, ...] = ()
    row: tuple[Row, ...] = Field(min_length=1)

    def marked(self) -> Iterator[tuple[Row, str, str]]:
        """Row, measure and reason of every mark: those that were typed, then those of FATE."""
        for row in self.row:
            yield from ((row, measure, why) for measure, why in row.marks.items())
            for gap in CRITERIA:
                if f"fate_{gap}" not in row.marks and not follows(row, self.row[0], gap):
                    yield row, f"fate_{gap}", FATE_DIFFERS


def table(name: str) -> Table:
    """A table by its name.

    Raises:
        UsageError: there is none of that name.

    Example:
        >>> found = table("scp-fitzpatrick17k")
        >>> found.row[0].name, found.row[0].cells["f1"]
        ('Vanilla', '0.510')
    """
    if name not in TABLES:
        raise UsageError(Problem(f"there is no published table {name!r}", hint=nearest(name, TABLES)))
    return Table.model_validate(tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8")))


def follows(row: Row, first: Row, gap: str) -> bool:
    """Whether a printed FATE can come from values that round to those printed; True where one of them is not at hand.

    Example:
        >>> first = Row(name="Vanilla", cells={"f1": "0.510", "eopp1": "0.361"})
        >>> row = Row(name="FairPrune", cells={"f1": "0.483", "eopp1": "0.330", "fate_eopp1": "0.0329"})
        >>> follows(row, first, "eopp1")
        True
        >>> follows(row.model_copy(update={"cells": {**row.cells, "fate_eopp1": "0.329"}}), first, "eopp1")
        False
    """
    printed = row.cells.get(f"fate_{gap}")
    parts = (row.cells.get("f1"), first.cells.get("f1"), row.cells.get(gap), first.cells.get(gap))
    if printed is None or None in parts:
        return True
    ends = [fate(*values) for values in product(*(_range(part) for part in parts if part is not None))]
    low, high = _range(printed)
    return min(ends) <= high and low <= max(ends)


def _range(printed: str) -> tuple[float, float]:
    """What may have been rounded to the text: half of its last digit to either side, and a hair."""
    half = 0.5 * 10.0 ** -len(printed.partition(".")[2]) * (1 + 1e-6)
    return float(printed) - half, float(printed) + half


__all__ = ["FATE_DIFFERS", "ROW", "TABLES", "Row", "Table", "follows", "table"]

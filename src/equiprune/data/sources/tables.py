"""Official tables: columns by our names, however a copy spells them, and cells by their meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from equiprune.errors import DataError, Problem, nearest
from equiprune.reading.table import Faults, read_table

Spellings = Mapping[str, tuple[str, ...]]
"""By our name of a column, the names it has in copies of the table."""

_LISTED = 12


@dataclass(frozen=True)
class Wanted:
    """A table and the columns of it that are used.

    Args:
        path: the file.
        shown: as the user is told of it.
        needed: columns it must have.
        optional: columns that only some copies have.
    """

    path: Path
    shown: str
    needed: Spellings
    optional: Spellings = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Official:
    """The columns of an official table.

    Args:
        file: as the user is told of it.
        cells: by our name of the column; white space around a cell is gone.
        spelled: the column's name in the file.
        row: the line of each entry.
        faults: what is wrong with it.
    """

    file: str
    cells: Mapping[str, list[str]]
    spelled: Mapping[str, str]
    row: list[int]
    faults: Faults

    def read(self, column: str, meaning: Callable[[str], str | None], expected: str) -> list[str]:
        """The meaning of every cell of a column; cells without any are noted as problems.

        Args:
            column: our name of it. A column that the table lacks is blank.
            meaning: None for a cell that means nothing.
            expected: what is allowed, as the hint says it.
        """
        if column not in self.cells:
            return [""] * len(self.row)
        cells = self.cells[column]
        known = {cell: meaning(cell) for cell in set(cells)}
        if None in known.values():
            for cell, row in zip(cells, self.row, strict=True):
                if known[cell] is None:
                    self.fault(column, row, f"{cell!r} is not possible here" if cell else "the cell is blank", expected)
        values = {cell: value or "" for cell, value in known.items()}
        return list(map(values.__getitem__, cells))

    def text(self, column: str) -> list[str]:
        """A column as it stands; blank where the table lacks it."""
        return self.cells.get(column) or [""] * len(self.row)

    def names(self, column: str) -> list[str]:
        """A column in which no cell may be blank."""
        return self.read(column, lambda cell: cell or None, "Expected a name: complete the row, or delete it")

    def once(self, column: str) -> dict[str, int]:
        """The place of each id of a column; ids that stand twice are noted, with both rows."""
        place: dict[str, int] = {}
        for index, name in enumerate(self.cells[column]):
            earlier = place.setdefault(name, index)
            if earlier != index:
                what = f"{name!r} is already in row {self.row[earlier]}"
                self.fault(column, self.row[index], what, "An id has one row: delete one")
        return place

    def fault(self, column: str, row: int, what: str, hint: str) -> None:
        """Notes one problem."""
        # One kind of fault a column: of each only some are listed.
        self.faults.add(hint, what, row=row, column=self.spelled[column], hint=hint)


def read_official(wanted: Sequence[Wanted]) -> list[Official]:
    """Reads tables of one set.

    Raises:
        DataError: a table is none, or lacks a column, with the problems of all.
    """
    tables: list[Official] = []
    problems: list[Problem] = []
    for one in wanted:
        faults = Faults(one.shown)
        every = {**one.needed, **one.optional}
        table = read_table(one.path, [name for names in every.values() for name in names], faults, official=True)
        if table is None:
            problems += faults.problems()
            continue
        spelled = {ours: name for ours, names in every.items() for name in reversed(names) if name in table.header}
        lacking = [names for ours, names in one.needed.items() if ours not in spelled]
        for names in lacking:
            what = f"there is no column {' or '.join(map(repr, names))}"
            faults.add(what, what, row=1, hint=_columns(names[0], table.header))
        if lacking:
            problems += faults.problems()
        cells = {ours: table.columns[name] for ours, name in spelled.items()}
        tables.append(Official(one.shown, cells, spelled, table.row, faults))
    if problems:
        raise DataError(problems)
    return tables


def refuse(*tables: Official) -> None:
    """Refuses tables with which something is wrong.

    Raises:
        DataError: with every problem of all of them.
    """
    problems = [problem for table in tables for problem in table.faults.problems()]
    if problems:
        raise DataError(problems)


def _columns(name: str, header: Sequence[str]) -> str:
    there = [column for column in header if column]
    if len(there) <= _LISTED or "mean" in nearest(name, there):
        return nearest(name, there)
    return f"It has {', '.join(map(repr, there[:_LISTED]))} and {len(there) - _LISTED} more"

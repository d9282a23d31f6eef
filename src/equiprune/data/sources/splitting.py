"""Which entry is in which split: by tables the user names; by a draw where no validation split is published."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from equiprune.data.cohort import SPLITS
from equiprune.data.sources.folder import stem
from equiprune.data.sources.source import Entries
from equiprune.data.sources.tables import Official, Wanted, read_official
from equiprune.errors import DataError, Problem, UsageError
from equiprune.reading.table import Faults

SHARE = 8
"""One unit in so many of the published training part becomes validation."""

IN_NO_SPLIT = "in no split"
_STARTS = {"train": "train", "val": "validation", "test": "test"}


def split_by_tables(entries: Entries, files: Sequence[Path], ids: tuple[str, ...]) -> Entries:
    """Entries with the splits that tables give.

    With all three splits given, an entry in none of them is left out; with two, it is in the third.

    Args:
        entries: of a set.
        files: tables whose names say train, val or test.
        ids: names of the column of images, the first that a table has.

    Raises:
        UsageError: the names of the files do not say two or three different splits.
        DataError: a table cannot be read, an image stands in two, or none of a table's images is in the set.
    """
    named = _named_splits(files)
    tables = read_official([Wanted(path, str(path), {"image": ids}) for path in named.values()])
    # Names that are paths are whole: in CheXpert every study has a view1_frontal.
    key_of = str.casefold if any("/" in name for name in entries.name[:1]) else stem
    known = {key_of(name) for name in entries.name}
    split_of: dict[str, str] = {}
    where: dict[str, tuple[Official, int]] = {}
    notices: list[str] = []
    for name, table in zip(named, tables, strict=True):
        keys = [key_of(cell) for cell in table.cells["image"]]
        _note_twice(table, keys, where)
        split_of.update(dict.fromkeys(keys, name))
        notices += _note_strangers(table, [key not in known for key in keys])
    problems = [problem for table in tables for problem in table.faults.problems()]
    if problems:
        raise DataError(problems)
    rest = next((name for name in SPLITS if name not in named), "")
    if rest:
        notices.append(f"no table gives the {rest} split: every image that is in no table is in it")
    split = [split_of.get(key_of(name), rest) for name in entries.name]
    found = replace(entries, split=split, notices=(*entries.notices, *notices))
    return found.without([bool(name) for name in split], IN_NO_SPLIT)


def _note_twice(table: Official, keys: Sequence[str], where: dict[str, tuple[Official, int]]) -> None:
    """Notes images that stood in a table before, and remembers where these stand."""
    for key, cell, row in zip(keys, table.cells["image"], table.row, strict=True):
        if key in where:
            earlier, line = where[key]
            place = f"row {line}" if earlier is table else f"{earlier.file}, row {line}"
            table.fault("image", row, f"{cell!r} is already in {place}", "An image is in one split: delete one")
        where.setdefault(key, (table, row))


def _note_strangers(table: Official, strange: Sequence[bool]) -> list[str]:
    """A notice on images that the set does not have; a problem where it has none of them."""
    many = sum(strange)
    if many and many == len(strange):
        what = f"none of its {many:,} images is in the official table (for example {table.cells['image'][0]!r})"
        table.faults.add("strange", what, column=table.spelled["image"], hint="Is it a split of another set?")
    return [f"{many:,} images of {table.file} are not in the official table"] if many else []


def _named_splits(files: Sequence[Path]) -> dict[str, Path]:
    """The table of each split, in the order train, validation, test."""
    named: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in files:
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.name)]
        said = sorted({split for start, split in _STARTS.items() if any(word.startswith(start) for word in words)})
        if len(said) != 1:
            what = f"the name says {' and '.join(said)}" if said else "the name says no split"
            problems.append(Problem(what, file=str(path), hint="Name each table after one of train, val and test"))
        elif said[0] in named:
            problems.append(Problem(f"{named[said[0]]} gives the {said[0]} split too", file=str(path), hint="Name one"))
        else:
            named[said[0]] = path
    if not problems and len(named) < 2:
        problems.append(
            Problem(f"one split alone, {next(iter(named))}, tells nothing of the others", file="--split-tables",
                    hint="Name the tables of two or of all three")
        )  # fmt: skip
    if problems:
        raise UsageError(problems)
    return {name: named[name] for name in SPLITS if name in named}


def draw_validation(units: Sequence[str], split: Sequence[str], seed: int) -> list[str]:
    """The splits with one in `SHARE` of the units in train moved to validation.

    Args:
        units: patients.
        split: of each row; only rows of train are moved.
        seed: of the draw, which the order of rows does not touch.

    Example:
        >>> draw_validation(["a", "a", "b", "c"], ["train", "train", "train", "test"], seed=0)
        ['validation', 'validation', 'train', 'test']
    """
    trained = sorted({unit for unit, name in zip(units, split, strict=True) if name == "train"})
    many = max(1, len(trained) // SHARE) if len(trained) > 1 else 0
    drawn = {trained[index] for index in np.random.default_rng(seed).permutation(len(trained))[:many].tolist()}
    return [
        "validation" if name == "train" and unit in drawn else name for unit, name in zip(units, split, strict=True)
    ]


def drawn_notice(seed: int) -> str:
    """What the user is told of `draw_validation`."""
    return f"no validation split is published: one patient in {SHARE} of train was drawn for it, seed {seed}"


def listed_names(path: Path, shown: str) -> set[str]:
    """The names in a list, one a line, by which images are looked up.

    Raises:
        DataError: the list cannot be read or is empty.
    """
    faults = Faults(shown)
    try:
        names = {stem(line) for line in path.read_text(encoding="utf-8-sig").split()}
    except (OSError, UnicodeDecodeError) as error:
        faults.add("file", f"cannot be read ({getattr(error, 'strerror', None) or 'it is not UTF-8'})")
    else:
        if not names:
            faults.add("file", "the list is empty", hint="Download it again")
    if faults.problems():
        raise DataError(faults.problems())
    return names

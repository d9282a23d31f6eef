"""The strict reader of a manifest: a CSV with one row an image becomes a `Cohort`, or every problem at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from equiprune.data.cohort import Cohort
from equiprune.data.inspection import inspect_cohort
from equiprune.data.paths import ImagePaths
from equiprune.data.settings import DataSettings
from equiprune.errors import DataError, Problem, UsageError, nearest
from equiprune.reading.attribute import coded, group_rows, grouped, natural, regrouping
from equiprune.reading.splits import SPLITS
from equiprune.reading.table import Faults, Table, read_table

_DEFAULT_SPLIT = "split"


def read_manifest(settings: DataSettings) -> Cohort:
    """Reads a manifest and checks it.

    White space around a cell is stripped. A label, split or path is never blank. The attribute is
    unknown where blank or listed in `settings.missing`, exactly as listed; nothing else is missing:
    "NA" and "None" are values like any other. A blank unit id makes the row its own unit.

    Args:
        settings: which file, which columns, and how they are read.

    Returns:
        The cohort, with facts that stop nothing in its `notices`.

    Raises:
        DataError: the manifest is not usable, with every problem found.
        UsageError: the settings contradict themselves.
    """
    cohort, problems = inspect_manifest(settings)
    if problems or cohort is None:
        raise DataError(problems)
    return cohort


def inspect_manifest(settings: DataSettings) -> tuple[Cohort | None, tuple[Problem, ...]]:
    """Reads as much of a manifest as can be read, with everything wrong with it.

    Args:
        settings: which file, which columns, and how they are read.

    Returns:
        The cohort of the rows whose label and split can be read (None where there is no such thing),
        and all problems; it is safe to use only where there are none.

    Raises:
        UsageError: the settings contradict themselves.
    """
    _refuse_contradictions(settings)
    faults = Faults(settings.manifest)
    path = Path(settings.manifest)
    roles = _roles(settings)
    table = read_table(path, [name for names in roles.values() for name in names], faults)
    if table is None:
        return None, tuple(faults.problems())
    complete = _has_columns(table, roles, faults)
    if settings.image in table.columns:
        _check_images(table, settings, faults)
    if not complete:
        _check_present(table, settings, faults)
        return None, tuple(faults.problems())
    cohort = _cohort(table, settings, faults)
    if cohort is None:
        return None, tuple(faults.problems())
    cohort, rare = _without_rare(cohort, settings, faults)
    broken = {problem.column for problem in faults.problems()}
    # What merely follows from a fault that is told already would mislead.
    sound = replace(cohort, split=None) if settings.split in broken else cohort
    problems, notices = inspect_cohort(sound, settings.manifest)
    if broken & set(settings.attribute):
        problems = [problem for problem in problems if problem.column != cohort.attribute]
    return replace(cohort, notices=(*rare, *notices)), (*faults.problems(), *problems)


def _refuse_contradictions(settings: DataSettings) -> None:
    wrong: list[Problem] = []
    for key, names in (("labels", settings.labels), ("attribute", settings.attribute)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            wrong.append(
                Problem(f"{', '.join(map(repr, twice))} is named twice", file=key, hint="Name each column once")
            )
    values: set[str] = set()
    try:
        values = {value for group_of in _regrouping(settings).values() for value in group_of}
    except UsageError as error:
        wrong += error.problems
    if both := sorted(values & _missing(settings)):
        what = f"{', '.join(map(repr, both))} is both in a group and missing"
        wrong.append(Problem(what, file="groups", hint="Choose one"))
    if wrong:
        raise UsageError(wrong)


def _missing(settings: DataSettings) -> set[str]:
    return {value.strip() for value in settings.missing}


def _regrouping(settings: DataSettings) -> dict[str, dict[str, str]]:
    return regrouping(settings.groups, settings.attribute)


def _roles(settings: DataSettings) -> dict[str, tuple[str, ...]]:
    return {
        "image": (settings.image,),
        "label": (settings.label,) if settings.label is not None else settings.labels,
        "attribute": settings.attribute,
        "unit": (settings.unit,) if settings.unit is not None else (),
        "split": (settings.split,) if settings.split is not None else (),
    }


def _has_columns(table: Table, roles: dict[str, tuple[str, ...]], faults: Faults) -> bool:
    complete = True
    for role, names in roles.items():
        for name in names:
            optional = role == "split" and name == _DEFAULT_SPLIT
            if name in table.header or optional:
                continue
            complete = False
            hint = nearest(name, [column for column in table.header if column])
            faults.add("column", f"no such column (named as {role})", row=1, column=name, hint=hint)
    return complete


def _check_images(table: Table, settings: DataSettings, faults: Faults) -> None:
    column = settings.image
    paths = ImagePaths(str(Path(settings.manifest).parent), settings.allow_outside)
    first: dict[str, int] = {}
    for image, row in zip(table.columns[column], table.row, strict=True):
        fault = paths.fault(image)
        if fault and not (fault.absent and settings.on_bad_image == "skip"):
            faults.add(fault.kind, fault.what, row=row, column=column, hint=fault.hint)
        if not image:
            continue
        earlier = first.setdefault(paths.plain(image), row)
        if earlier != row:
            what = f"{image!r} is already in row {earlier}"
            faults.add("duplicate", what, row=row, column=column, hint="An image has one row: delete one")


def _check_present(table: Table, settings: DataSettings, faults: Faults) -> None:
    """Checks the cells of the columns that are there, where others are not."""
    if settings.label in table.columns:
        _class_names(table, str(settings.label), faults)
    for name in settings.labels:
        if name in table.columns:
            _finding(table, name, settings, faults)
    for name in settings.attribute:
        if name in table.columns:
            group_of = _regrouping(settings)[name]
            group_rows(table.columns[name], table.row, name, group_of, _missing(settings), faults)
    _splits(table, settings, faults)


def _cohort(table: Table, settings: DataSettings, faults: Faults) -> Cohort | None:
    """The cohort of the rows that have a label and, where splits are given, a split."""
    label, classes, labelled = _labels(table, settings, faults)
    group, groups = _groups(table, settings, faults)
    split = _splits(table, settings, faults)
    units = table.columns[settings.unit] if settings.unit is not None else None
    usable = labelled if split is None else labelled & (split != "")
    if not usable.any():
        return None
    return Cohort(
        root=Path(settings.manifest).parent.absolute(),
        image=np.array(table.columns[settings.image], dtype=np.str_),
        label=label,
        classes=classes,
        group=group,
        groups=groups,
        attribute=" & ".join(settings.attribute),
        unit=None if units is None else np.array(own_units(units, table.row), dtype=np.str_),
        split=split,
        row=np.array(table.row, dtype=np.int64),
        sha256=table.sha256,
        unit_name=settings.unit,
    ).take(usable)


def _labels(
    table: Table, settings: DataSettings, faults: Faults
) -> tuple[NDArray[np.generic], tuple[str, ...], NDArray[np.bool_]]:
    """Labels, their names, and which rows have a label."""
    if settings.label is not None:
        names = _class_names(table, settings.label, faults)
        classes = natural(name for name in names if name)
        codes = coded(names, classes)
        return codes, classes, codes >= 0
    findings = np.stack([_finding(table, name, settings, faults) for name in settings.labels], axis=1)
    return findings, settings.labels, np.ones(len(findings), np.bool_)


def _without_rare(cohort: Cohort, settings: DataSettings, faults: Faults) -> tuple[Cohort, tuple[Problem, ...]]:
    """The cohort without findings that have too few positives, and which those are."""
    if cohort.task == "multiclass" or not settings.min_positives:
        return cohort, ()
    positives = cohort.positive.sum(axis=0)
    kept = positives >= settings.min_positives
    told = [f"{name} ({count})" for name, count in zip(cohort.classes, positives, strict=True)]
    if not kept.any():
        what = f"no finding has {settings.min_positives:,} positive rows: {', '.join(told)}"
        faults.add("rare", what, hint="Lower min_positives")
        return cohort, ()
    if kept.all():
        return cohort, ()
    rare = ", ".join(text for text, stays in zip(told, kept, strict=True) if not stays)
    what = f"findings with fewer than {settings.min_positives:,} positive rows are left out: {rare}"
    names = tuple(name for name, stays in zip(cohort.classes, kept, strict=True) if stays)
    return replace(cohort, label=cohort.label[:, kept], classes=names), (Problem(what, file=settings.manifest),)


def _class_names(table: Table, column: str, faults: Faults) -> list[str]:
    names = table.columns[column]
    for name, row in zip(names, table.row, strict=True):
        if not name:
            faults.add("blank", "the label is blank", row=row, column=column, hint="Fill it in or delete the row")
        elif "\n" in name or "\r" in name:
            what = f"the label {name!r} holds a line break"
            faults.add("break", what, row=row, column=column, hint="Is a closing quote missing?")
    return names


def _finding(table: Table, column: str, settings: DataSettings, faults: Faults) -> Float[np.ndarray, " row"]:
    unsure = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}[settings.uncertain]
    meaning = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "": np.nan, "-1": unsure, "-1.0": unsure}
    cells = table.columns[column]
    if strays := set(cells) - meaning.keys():
        hint = "Allowed: 0, 1, blank (not known) and -1 (uncertain)"
        for cell, row in zip(cells, table.row, strict=True):
            if cell in strays:
                faults.add("finding", f"{cell!r} is no finding", row=row, column=column, hint=hint)
    values = {cell: meaning.get(cell, np.nan) for cell in set(cells)}
    return np.fromiter(map(values.__getitem__, cells), np.float32, len(cells))


def _groups(table: Table, settings: DataSettings, faults: Faults) -> tuple[Int[np.ndarray, " row"], tuple[str, ...]]:
    columns = {name: table.columns[name] for name in settings.attribute}
    names, groups = grouped(columns, table.row, _regrouping(settings), _missing(settings), faults)
    return coded(names, groups), groups


def _splits(table: Table, settings: DataSettings, faults: Faults) -> NDArray[np.str_] | None:
    """The split of each row, "" where it cannot be read; None where none is given."""
    column = settings.split
    if column is None or column not in table.columns:
        return None
    hint = "Allowed: train, validation, test"
    found: list[str] = []
    for cell, row in zip(table.columns[column], table.row, strict=True):
        name = SPLITS.get(cell.casefold(), "")
        if not cell:
            faults.add("blank", "the split is blank", row=row, column=column, hint=hint)
        elif not name:
            faults.add("split", f"{cell!r} is no split", row=row, column=column, hint=nearest(cell, SPLITS))
        found.append(name)
    return np.array(found, dtype=np.str_)


def own_units(cells: Sequence[str], rows: Sequence[int]) -> list[str]:
    """Unit ids with every blank one replaced by an id of its own.

    Example:
        >>> own_units(["p1", "", "row 3"], [2, 3, 4])
        ['p1', '_row 3', 'row 3']
    """
    prefix = "row "
    while any(cell.startswith(prefix) for cell in cells):
        prefix = "_" + prefix
    return [cell or f"{prefix}{row}" for cell, row in zip(cells, rows, strict=True)]

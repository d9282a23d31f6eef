"""What must hold of a whole cohort, beyond its single rows: classes, groups, splits and units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from equiprune.data.cohort import SPLITS, Cohort
from equiprune.errors import Problem
from equiprune.reading.attribute import look_alikes, looks_missing
from equiprune.reading.table import ranges

_NAMED = 5
_MANY_GROUPS = 12


def inspect_cohort(cohort: Cohort, file: str) -> tuple[list[Problem], list[Problem]]:
    """Checks a cohort as a whole; also of use once splits are drawn.

    Args:
        cohort: the cohort.
        file: the manifest as the user named it.

    Returns:
        Problems that make training or an audit meaningless, and notices that stop nothing.
    """
    problems = [*_class_problems(cohort, file), *_group_problems(cohort, file), *_split_problems(cohort, file)]
    notices = [
        *_unknown_rows(cohort, file),
        *_empty_cells(cohort, file),
        *_look_alikes(cohort, file),
        *_unit_notices(cohort, file),
    ]
    return problems, notices


def _class_problems(cohort: Cohort, file: str) -> Iterator[Problem]:
    if cohort.task == "multiclass":
        if len(cohort.classes) < 2:
            what = f"every row has the one label {cohort.classes[0]!r}"
            yield Problem(what, file=file, hint="A classifier needs two classes or more")
        return
    for index, name in enumerate(cohort.classes):
        values = cohort.label[:, index]
        if np.isnan(values).all():
            hint = "Leave this finding out, or say with uncertain (--uncertain zeros, ones) what -1 means"
            yield Problem("every row is blank or uncertain", file=file, column=name, hint=hint)
            continue
        for value, spoken in ((1, "positive"), (0, "negative")):
            if not (values == value).any():
                what = f"no row is {spoken}, so there is nothing to tell apart"
                yield Problem(what, file=file, column=name, hint="Leave this finding out")


def _group_problems(cohort: Cohort, file: str) -> Iterator[Problem]:
    sizes = np.bincount(cohort.group[cohort.group >= 0], minlength=len(cohort.groups))
    if len(cohort.groups) < 2:
        found = f"one known group, {cohort.groups[0]!r}" if cohort.groups else "no known group"
        hint = "Fairness compares two groups or more: choose another attribute"
        yield Problem(f"the attribute has {found}", file=file, column=cohort.attribute, hint=hint)
    for name, size in zip(cohort.groups, sizes.tolist(), strict=True):
        if size == 0:
            what = f"no row is in group {name!r}"
            yield Problem(what, file=file, column=cohort.attribute, hint="Check the values listed for it")


def _split_problems(cohort: Cohort, file: str) -> Iterator[Problem]:
    if cohort.split is None:
        return
    present = [split for split in SPLITS if (cohort.split == split).any()]
    for split in SPLITS:
        if split not in present:
            hint = "Give all three splits, or leave the column out to have them drawn"
            yield Problem(f"no row is in the {split} split", file=file, hint=hint)
    for split in present:
        yield from _absent_groups(cohort, split, file)
    if "train" in present:
        yield from _unseen_classes(cohort, file)


def _absent_groups(cohort: Cohort, split: str, file: str) -> Iterator[Problem]:
    here = cohort.group[cohort.split == split]
    for index, name in enumerate(cohort.groups):
        if (cohort.group == index).any() and not (here == index).any():
            what = f"no row of group {name!r} is in the {split} split"
            hint = "Move some there, or have the splits drawn"
            yield Problem(what, file=file, column=cohort.attribute, hint=hint)


def _unseen_classes(cohort: Cohort, file: str) -> Iterator[Problem]:
    positive = cohort.positive
    learned = positive[cohort.split == "train"].any(axis=0)
    for split in SPLITS[1:]:
        inside = cohort.split == split
        for index in np.flatnonzero(positive[inside].any(axis=0) & ~learned):
            rows = cohort.row[inside & positive[:, index]].tolist()
            what = f"class {cohort.classes[index]!r} is in the {split} split but never in train (rows {ranges(rows)})"
            yield Problem(what, file=file, row=rows[0], hint="Move one to train, or leave the class out")


def _unknown_rows(cohort: Cohort, file: str) -> Iterator[Problem]:
    unknown = int((cohort.group < 0).sum())
    if unknown:
        what = f"{unknown:,} of {len(cohort):,} rows have no known {cohort.attribute}"
        hint = "They are trained on and count in overall figures, and are left out of group figures"
        yield Problem(what, file=file, column=cohort.attribute, hint=hint)


def _empty_cells(cohort: Cohort, file: str) -> Iterator[Problem]:
    counts = cohort.counts()
    used = counts.any(axis=0)
    for name, row in zip(cohort.groups, counts[:-1], strict=True):
        absent = [cohort.classes[index] for index in np.flatnonzero((row == 0) & used)]
        if absent and row.any():
            what = f"group {name!r} has no row of {_some(absent)}"
            yield Problem(what, file=file, column=cohort.attribute, hint="No gap can be measured for these classes")


def _look_alikes(cohort: Cohort, file: str) -> Iterator[Problem]:
    for kind, names in (("classes", cohort.classes), ("groups", cohort.groups)):
        for same in look_alikes(names):
            yield Problem(f"{kind} {_some(same)} differ only in case or spacing", file=file, hint="Are they one?")
    strange = [name for name in cohort.groups if looks_missing(name)]
    if strange:
        hint = "If it means unknown, list it under missing"
        yield Problem(f"{_some(strange)} counts as a group", file=file, column=cohort.attribute, hint=hint)
    if len(cohort.groups) > _MANY_GROUPS:
        what = f"the attribute has {len(cohort.groups)} groups"
        yield Problem(what, file=file, column=cohort.attribute, hint="Regroup it for figures that can be trusted")


def _unit_notices(cohort: Cohort, file: str) -> Iterator[Problem]:
    if cohort.unit is None:
        return
    names, unit = np.unique(cohort.unit, return_inverse=True)
    if cohort.split is not None:
        codes = np.array([SPLITS.index(split) for split in cohort.split.tolist()])
        leaked = names[_spread(unit, codes)].tolist()
        if leaked:
            what = f"{len(leaked):,} of {len(names):,} units are in more than one split ({_some(leaked)})"
            hint = "Test figures are too good where images of one unit are in train; leave the split out to redraw"
            yield Problem(what, file=file, column=cohort.unit_name, hint=hint)
    known = cohort.group >= 0
    mixed = names[_spread(unit[known], cohort.group[known], len(names))].tolist()
    if mixed:
        what = f"{len(mixed):,} of {len(names):,} units are in more than one group of {cohort.attribute}"
        yield Problem(f"{what} ({_some(mixed)})", file=file, column=cohort.unit_name, hint="Is the attribute right?")


def _spread(unit: np.ndarray, code: np.ndarray, units: int | None = None) -> Bool[np.ndarray, " unit"]:
    """True for units whose rows have more than one code."""
    pairs = np.unique(np.stack([unit, code]), axis=1)[0]
    return np.bincount(pairs, minlength=units or int(unit.max()) + 1) > 1


def _some(names: Sequence[str] | Iterable[str]) -> str:
    """A few of the names, quoted, and how many more."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED:,} more" if len(listed) > _NAMED else ""
    return ", ".join(map(repr, listed[:_NAMED])) + more

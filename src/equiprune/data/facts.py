"""What a cohort holds: images by group, label and split, and what goes with the label that should not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from equiprune.data.association import Association, associate
from equiprune.data.cohort import SPLITS, Cohort
from equiprune.errors import Problem
from equiprune.metrics.testing import holm

ALL = "all"
TOLD_P = 0.05
TOLD_V = 0.05
"""An association is told as a notice where its corrected p-value is at most `TOLD_P` and Cramer's V at least this."""


@dataclass(frozen=True, eq=False)
class Part:
    """One split, or the whole cohort.

    Args:
        name: "train", "validation", "test" or "all".
        images: rows.
        units: distinct patients or lesions, None where rows are independent.
        groups: rows of each group; the last is the unknown group.
        counts: rows of each class (positive rows of each finding) in each group, the last line unknown.
    """

    name: str
    images: int
    units: int | None
    groups: Int[np.ndarray, " group_and_unknown"]
    counts: Int[np.ndarray, "group_and_unknown class"]

    @property
    def missing(self) -> int:
        """Rows whose attribute is not known."""
        return int(self.groups[-1])


@dataclass(frozen=True, eq=False)
class Facts:
    """What a cohort holds.

    Args:
        task: "multiclass" or "multilabel".
        attribute: the attribute's name.
        groups: names of its groups.
        classes: names of classes or findings.
        unit: the manifest's name for the unit, None where rows are independent.
        parts: the whole cohort, then each split where there are splits.
        units_in_splits: units with rows in more than one split; None without units or without splits.
        missing: whether rows without the attribute go with the label: one for all classes, or one a finding.
        group: whether the group goes with the label, among rows whose group is known; as above.
    """

    task: str
    attribute: str
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    unit: str | None
    parts: tuple[Part, ...]
    units_in_splits: int | None
    missing: tuple[Association, ...]
    group: tuple[Association, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `facts.json`."""
        return {
            "task": self.task,
            "attribute": self.attribute,
            "unit": self.unit,
            "parts": {part.name: self._part(part) for part in self.parts},
            "units_in_several_splits": self.units_in_splits,
            "missing_goes_with_label": [asdict(found) for found in self.missing],
            "group_goes_with_label": [asdict(found) for found in self.group],
        }

    def notices(self, file: str) -> list[Problem]:
        """Sentences on what may bias training or an audit.

        Args:
            file: the manifest as the user named it.
        """
        told = [*_missing_notices(self), *_group_notices(self)]
        return [replace(problem, file=file, column=self.attribute) for problem in told]

    def _part(self, part: Part) -> dict[str, Any]:
        def line(index: int) -> dict[str, Any]:
            classes = dict(zip(self.classes, part.counts[index].tolist(), strict=True))
            return {"images": int(part.groups[index]), "classes": classes}

        groups = {name: line(index) for index, name in enumerate(self.groups)}
        return {"images": part.images, "units": part.units, "groups": groups, "unknown": line(-1)}


def gather(cohort: Cohort, *, seed: int = 0) -> Facts:
    """The facts of a cohort.

    Whether the attribute is missing for some labels more than for others, and whether groups differ in their
    labels, is tested by permutation: of units where the cohort has them, else of rows (see `associate`).
    Multi-label: each finding is tested among the rows where it is known, and p-values are corrected by Holm
    over the findings.

    Args:
        cohort: with or without splits.
        seed: of the permutations.

    Example:
        >>> cohort = Cohort(None, np.array(["a.png", "b.png"]), np.array([0, 1]), ("nevus", "melanoma"),
        ...                 np.array([1, -1]), ("dark", "light"), "skin", None, None, np.array([2, 3]), "")
        >>> gather(cohort).parts[0].counts.tolist()
        [[0, 0], [1, 0], [0, 1]]
    """
    unit = None if cohort.unit is None else np.unique(cohort.unit, return_inverse=True)[1].ravel()
    parts = [_part(ALL, cohort)]
    if cohort.split is not None:
        parts += [_part(split, cohort.subset(split)) for split in SPLITS]
    known = cohort.group >= 0
    everyone = np.ones(len(cohort), bool)
    return Facts(
        task=cohort.task,
        attribute=cohort.attribute,
        groups=cohort.groups,
        classes=cohort.classes,
        unit=None if cohort.unit is None else (cohort.unit_name or "unit"),
        parts=tuple(parts),
        units_in_splits=_units_in_splits(unit, cohort),
        missing=_with_label(cohort, (~known).astype(np.int64), everyone, unit, seed),
        group=_with_label(cohort, cohort.group, known, unit, seed),
    )


def _part(name: str, cohort: Cohort) -> Part:
    groups = np.array([(cohort.group == index).sum() for index in (*range(len(cohort.groups)), -1)])
    units = None if cohort.unit is None else len(np.unique(cohort.unit))
    return Part(name, len(cohort), units, groups, cohort.counts())


def _units_in_splits(unit: Int[np.ndarray, " row"] | None, cohort: Cohort) -> int | None:
    if unit is None or cohort.split is None:
        return None
    member = np.zeros((int(unit.max(initial=-1)) + 1, len(SPLITS)), bool)
    for index, split in enumerate(SPLITS):
        member[unit[cohort.split == split], index] = True
    return int((member.sum(axis=1) > 1).sum())


def _with_label(
    cohort: Cohort,
    code: Int[np.ndarray, " row"],
    rows: np.ndarray,
    unit: Int[np.ndarray, " row"] | None,
    seed: int,
) -> tuple[Association, ...]:
    """Whether a code of the rows goes with the label: one test, or one a finding."""
    if cohort.task == "multiclass":
        return (_association(np.asarray(cohort.label), code, rows, unit, (seed, "")),)
    found = []
    for index, name in enumerate(cohort.classes):
        values = cohort.label[:, index]
        used = rows & ~np.isnan(values)
        label = np.where(used, values, 0).astype(np.int64)
        found.append(_association(label, code, used, unit, (seed, name)))
    corrected = holm(np.array([np.nan if one.p_value is None else one.p_value for one in found]))
    known = [None if np.isnan(p) else p for p in corrected.tolist()]
    return tuple(replace(one, p_holm=p) for one, p in zip(found, known, strict=True))


def _association(
    label: Int[np.ndarray, " row"],
    code: Int[np.ndarray, " row"],
    rows: np.ndarray,
    unit: Int[np.ndarray, " row"] | None,
    named: tuple[int, str],
) -> Association:
    seed, what = named
    kept = None if unit is None else unit[rows]
    return associate(label[rows], code[rows], kept, seed=seed, what=what)


def _told(found: Association) -> bool:
    return found.p_holm is not None and found.p_holm <= TOLD_P and (found.cramers_v or 0) >= TOLD_V


def _strongest(found: tuple[Association, ...]) -> tuple[Association | None, str]:
    """The strongest association worth telling, and how many there are in words."""
    told = sorted(filter(_told, found), key=lambda one: -(one.cramers_v or 0))
    if not told:
        return None, ""
    return told[0], "the label" if len(found) == 1 and not told[0].what else f"{len(told)} of {len(found)} findings"


def _missing_notices(facts: Facts) -> Iterator[Problem]:
    found, spoken = _strongest(facts.missing)
    if found is None:
        return
    whole = facts.parts[0]
    classes = whole.counts.sum(axis=0)
    excess = _residuals(np.stack([classes - whole.counts[-1], whole.counts[-1]]))[1]
    index = facts.classes.index(found.what) if found.what else int(excess.argmax())
    share, overall = _ratio(whole.counts[-1, index], classes[index]), _ratio(whole.missing, whole.images)
    than = "more" if share >= overall else "less"
    what = (
        f"the attribute is missing {than} often for {facts.classes[index]!r} ({share:.1%}) than overall "
        f"({overall:.1%}); missingness goes with {spoken} ({_figures(found, facts.unit)})"
    )
    yield Problem(what, hint="Group figures leave these rows out, so they do not speak for all of them")


def _group_notices(facts: Facts) -> Iterator[Problem]:
    found, spoken = _strongest(facts.group)
    if found is None:
        return
    whole = facts.parts[0]
    counts = whole.counts[:-1]
    index = facts.classes.index(found.what) if found.what else int(abs(_residuals(counts)).max(axis=0).argmax())
    used = np.flatnonzero(whole.groups[:-1])
    shares = counts[used, index] / whole.groups[used]
    most, least = used[shares.argmax()], used[shares.argmin()]
    what = (
        f"the group goes with {spoken}: {facts.classes[index]!r} is {shares.max():.1%} of {facts.groups[most]!r} "
        f"and {shares.min():.1%} of {facts.groups[least]!r} ({_figures(found, facts.unit)})"
    )
    yield Problem(what, hint="A model can learn to tell the group instead of the disease")


def _figures(found: Association, unit: str | None) -> str:
    p = found.p_holm or 0.0
    corrected = " after Holm's correction" if found.what else ""
    of = "rows" if unit is None else unit
    return f"Cramer's V {found.cramers_v:.2f}, {found.by_chance:.2f} by chance, p {p:.4f}{corrected}, permuting {of}"


def _residuals(table: Int[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """(observed - expected) / root of expected; 0 where nothing is expected."""
    total = max(1, int(table.sum()))
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    return np.asarray((table - expected) / np.sqrt(np.where(expected > 0, expected, 1)))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

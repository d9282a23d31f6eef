"""A manifest read and checked: image paths, labels, groups, units and splits; no pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from equiprune.errors import Problem

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Cohort:
    """Rows of a manifest, as arrays of the same length n.

    Args:
        root: the folder that image paths are relative to.
        image: the paths as written in the manifest.
        label: multi-class: index into `classes`; multi-label: 0, 1 or nan (not known) per finding.
        classes: names of classes or findings. A subset of rows keeps all of them.
        group: index into `groups`; -1 where the attribute is not known.
        groups: names of the groups of the attribute.
        attribute: the attribute's name, "sex" or "sex & skin_type".
        unit: ids of patients or lesions, or None where rows are independent.
        split: "train", "validation" or "test", or None where none was given.
        row: the line in the manifest; the header is line 1.
        sha256: of the manifest's bytes.
        notices: facts worth telling that stop nothing.
        unit_name: the manifest's name for the unit.

    Raises:
        ValueError: the arrays differ in length.

    Example:
        >>> cohort = Cohort(Path("."), np.array(["a.png", "b.png"]), np.array([0, 1]), ("nevus", "melanoma"),
        ...                 np.array([1, -1]), ("dark", "light"), "skin", None, None, np.array([2, 3]), "")
        >>> len(cohort), cohort.task, cohort.take(cohort.group >= 0).image.tolist()
        (2, 'multiclass', ['a.png'])
    """

    root: Path
    image: NDArray[np.str_]
    label: Int[np.ndarray, " row"] | Float[np.ndarray, "row class"]
    classes: tuple[str, ...]
    group: Int[np.ndarray, " row"]
    groups: tuple[str, ...]
    attribute: str
    unit: NDArray[np.str_] | None
    split: NDArray[np.str_] | None
    row: Int[np.ndarray, " row"]
    sha256: str
    notices: tuple[Problem, ...] = ()
    unit_name: str | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self._arrays().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the arrays of a cohort must have one length, got {lengths}")

    def __len__(self) -> int:
        return len(self.image)

    @property
    def task(self) -> Literal["multiclass", "multilabel"]:
        """Whether a row has one class or several findings."""
        return "multiclass" if self.label.ndim == 1 else "multilabel"

    @property
    def positive(self) -> Bool[np.ndarray, "row class"]:
        """True where the row is of the class; an unknown finding is not."""
        if self.task == "multiclass":
            member: Bool[np.ndarray, "row class"] = self.label[:, None] == np.arange(len(self.classes))
            return member
        return np.asarray(self.label == 1)

    def take(self, rows: Int[np.ndarray, " part"] | Bool[np.ndarray, " row"]) -> Cohort:
        """The cohort of some rows, by index (in that order) or by mask; names of classes and groups stay."""
        return replace(self, **{name: array[rows] for name, array in self._arrays().items()})

    def subset(self, split: str) -> Cohort:
        """The rows of one split.

        Raises:
            ValueError: there is no such split, or none was given or drawn.
        """
        if split not in SPLITS:
            raise ValueError(f"no split is called {split!r}; there are {', '.join(SPLITS)}")
        if self.split is None:
            raise ValueError("this cohort is not split; use with_split(draw_splits(cohort, ...))")
        return self.take(self.split == split)

    def with_split(self, split: NDArray[np.str_]) -> Cohort:
        """The same rows with these splits.

        Raises:
            ValueError: a value is none of train, validation and test.
        """
        if wrong := sorted(set(split.tolist()) - set(SPLITS)):
            raise ValueError(f"splits are {', '.join(SPLITS)}, got {wrong}")
        return replace(self, split=split)

    def counts(self) -> Int[np.ndarray, "group_and_unknown class"]:
        """Rows of each class (positive rows of each finding) in each group; the last line is the unknown group."""
        positive = self.positive
        return np.stack([positive[self.group == group].sum(axis=0) for group in (*range(len(self.groups)), -1)])

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        """The fields that have one entry a row."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

"""What duplicates do to splits and labels: test images that were seen in training, one picture with two labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from equiprune.data.cohort import SPLITS, Cohort
from equiprune.data.duplicates import SAME, Duplicates
from equiprune.errors import Problem
from equiprune.reading.table import ranges

LISTED = 1000
"""Pairs and rows that are written out; counts are of all."""

CROSSINGS = (("test", "train"), ("validation", "train"), ("test", "validation"))

_SPOKEN = {
    "identical": "identical files",
    "near": "the same picture saved again: re-encoded, resized, other brightness or colours",
}


@dataclass(frozen=True, eq=False)
class Kind:
    """Duplicates of one kind.

    Args:
        name: "identical" or "near".
        pairs: rows of the cohort, the earlier first. Of files with the same bytes, each is paired with the first.
        across: whether the rows of a pair are in different splits; None without splits.
        relabelled: whether they have different labels (in multi-label: on a finding known of both).
        apart: whether they are of different units; None without units.
        crossing: for each of `CROSSINGS`, the rows of the first split that also show in the second.
    """

    name: str
    pairs: Int[np.ndarray, "pair 2"]
    across: Bool[np.ndarray, " pair"] | None
    relabelled: Bool[np.ndarray, " pair"]
    apart: Bool[np.ndarray, " pair"] | None
    crossing: tuple[Int[np.ndarray, " crossed"], ...]


@dataclass(frozen=True, eq=False)
class Leakage:
    """Duplicates of a cohort, by what they do.

    Args:
        cohort: whose rows they are.
        kinds: identical files, and near-duplicates where pictures were large enough to compare.
        complete: False where the search ended early because there were too many.
    """

    cohort: Cohort
    kinds: tuple[Kind, ...]
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `facts.json`; rows are those of the manifest."""
        kinds = {kind.name: self._kind(kind) for kind in self.kinds}
        return {"identical": None, "near": None, **kinds, "likeness": SAME, "complete": self.complete}

    def notices(self, file: str) -> list[Problem]:
        """Sentences on what leaks, or would, and on contradictory labels.

        Args:
            file: the manifest as the user named it.
        """
        found: list[Problem] = []
        for kind in self.kinds:
            told = self._crossings(kind) if self.cohort.split is not None else self._unsplit(kind)
            found += [*told, *self._relabelled(kind)]
        if not self.complete:
            found.append(Problem("there are more duplicates than were searched for; the counts are too low"))
        return [replace(problem, file=file) for problem in found]

    def _kind(self, kind: Kind) -> dict[str, Any]:
        rows = self.cohort.row
        crossing = [
            {"split": split, "also_in": other, "images": len(crossed), "rows": rows[crossed[:LISTED]].tolist()}
            for (split, other), crossed in zip(CROSSINGS, kind.crossing, strict=bool(kind.crossing))
        ]
        return {
            "images": len(np.unique(kind.pairs)),
            "pairs": len(kind.pairs),
            "across_splits": _total(kind.across),
            "within_a_split": None if kind.across is None else _total(~kind.across),
            "of_different_labels": _total(kind.relabelled),
            "of_different_units": _total(kind.apart),
            "crossing": crossing,
            "rows": rows[kind.pairs[:LISTED]].tolist(),
        }

    def _crossings(self, kind: Kind) -> Iterator[Problem]:
        for (split, other), crossed in zip(CROSSINGS, kind.crossing, strict=True):
            if len(crossed):
                are = "image is" if len(crossed) == 1 else "images are"
                what = f"{len(crossed):,} {split} {are} also in {other} ({_SPOKEN[kind.name]}): {self._rows(crossed)}"
                hint = f"Figures on {split} are too good where the model has seen the image; delete one of each pair"
                yield Problem(what, hint=hint)

    def _unsplit(self, kind: Kind) -> Iterator[Problem]:
        apart = np.ones(len(kind.pairs), bool) if kind.apart is None else kind.apart
        if not apart.any():
            return
        copies = np.unique(kind.pairs[apart, 1])
        are = "image is" if len(copies) == 1 else "images are"
        of = "" if kind.apart is None else f" under another {self.cohort.unit_name or 'unit'}"
        what = f"{len(copies):,} {are} in the manifest twice{of} ({_SPOKEN[kind.name]}): {self._rows(copies)}"
        hint = "give a --unit that both share" if kind.apart is None else "give both the same id"
        yield Problem(what, hint=f"They would leak if split apart; delete one of each pair, or {hint}")

    def _relabelled(self, kind: Kind) -> Iterator[Problem]:
        pairs = self.cohort.row[kind.pairs[kind.relabelled]]
        if len(pairs):
            spoken = ", ".join(f"{one} and {other}" for one, other in pairs[:3].tolist())
            more = f", and {len(pairs) - 3:,} more" if len(pairs) > 3 else ""
            many = "1 picture is" if len(pairs) == 1 else f"{len(pairs):,} pairs of one picture are"
            what = f"{many} listed with different labels ({_SPOKEN[kind.name]}): rows {spoken}{more}"
            yield Problem(what, hint="At most one of the labels is right")

    def _rows(self, index: Int[np.ndarray, " some"]) -> str:
        return f"{'row' if len(index) == 1 else 'rows'} {ranges(np.sort(self.cohort.row[index]).tolist())}"


def find_leakage(cohort: Cohort, duplicates: Duplicates) -> Leakage:
    """What the duplicates of a cohort do.

    Args:
        cohort: with or without splits, labels and units.
        duplicates: of its rows, in its order.
    """
    _, first = np.unique(duplicates.content, return_index=True)
    copies = np.flatnonzero(first[duplicates.content] != np.arange(len(cohort)))
    identical = np.stack([first[duplicates.content[copies]], copies], axis=1)
    member = _member(cohort, duplicates.content)
    kinds = [_kind("identical", identical, cohort, duplicates.content, member)]
    if duplicates.near is not None:
        beside = np.zeros_like(member)
        one, other = duplicates.content[duplicates.near].T
        np.logical_or.at(beside, one, member[other])
        np.logical_or.at(beside, other, member[one])
        kinds.append(_kind("near", duplicates.near, cohort, duplicates.content, beside))
    return Leakage(cohort, tuple(kinds), duplicates.complete)


def _member(cohort: Cohort, content: Int[np.ndarray, " row"]) -> Bool[np.ndarray, "content split"]:
    """In which splits each content is."""
    member = np.zeros((int(content.max(initial=-1)) + 1, len(SPLITS)), bool)
    if cohort.split is not None:
        for index, split in enumerate(SPLITS):
            member[content[cohort.split == split], index] = True
    return member


def _kind(
    name: str,
    pairs: Int[np.ndarray, "pair 2"],
    cohort: Cohort,
    content: Int[np.ndarray, " row"],
    seen: Bool[np.ndarray, "content split"],
) -> Kind:
    one, other = pairs.T
    split, unit = cohort.split, cohort.unit
    crossing = () if split is None else tuple(
        np.flatnonzero((split == here) & seen[content, SPLITS.index(there)]) for here, there in CROSSINGS
    )  # fmt: skip
    return Kind(
        name,
        pairs,
        None if split is None else split[one] != split[other],
        _differs(cohort, one, other),
        None if unit is None else unit[one] != unit[other],
        crossing,
    )


def _differs(
    cohort: Cohort, one: Int[np.ndarray, " pair"], other: Int[np.ndarray, " pair"]
) -> Bool[np.ndarray, " pair"]:
    first, second = cohort.label[one], cohort.label[other]
    if cohort.task == "multiclass":
        return np.asarray(first != second)
    return np.asarray(((first != second) & ~np.isnan(first) & ~np.isnan(second)).any(axis=1))


def _total(flags: Bool[np.ndarray, " pair"] | None) -> int | None:
    return None if flags is None else int(flags.sum())

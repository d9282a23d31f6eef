"""The rows of two models put side by side: by image id where both have ids, else by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from equiprune.errors import DataError, Problem, nearest
from equiprune.predictions import Predictions

NAMED = 3
LISTED = 10
NEAR = 2000
"""Image names up to which the nearest spelling is looked for."""

Names = Shaped[np.ndarray, " row"]
Scores = Float[np.ndarray, "*axes"]


def paired(baseline: Predictions, others: Mapping[str, Predictions], name: str) -> dict[str, Predictions]:
    """All models on the baseline's rows, in its order, with its classes, groups and units.

    Units that only some models have hold for all.

    Args:
        baseline: of the first model.
        others: of the others, by name.
        name: of the baseline.

    Returns:
        Every model by name, the baseline first.

    Raises:
        DataError: images, classes, labels, groups or units do not agree; everything at once.

    Example:
        >>> first = Predictions([0, 1], [[1, 0], [0, 1]], [0, 1], ["a", "b"], ["f", "m"], image=["x", "y"])
        >>> second = Predictions([1, 0], [[0, 1], [1, 0]], [1, 0], ["a", "b"], ["f", "m"], image=["y", "x"])
        >>> paired(first, {"new": second}, "old")["new"].score.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    problems = list(_repeated(baseline, name))
    scores: dict[str, tuple[Scores, Scores | None]] = {}
    first, broken = baseline, bool(problems)
    for model, other in others.items():
        pair = _Pair(first, other, name, model)
        faults = list(_repeated(other, model)) + list(pair.kind())
        if faults or broken:
            problems += faults
            continue
        mine, its = pair.rows()
        problems += [*pair.missing(), *pair.disagreements(mine, its)]
        if len(mine) == len(baseline) == len(other):
            scores[model] = _reordered(pair, its)
            if first.unit is None and other.unit is not None:
                first = replace(first, unit=other.unit[its])
    if problems:
        raise DataError(problems)
    said = {model: replace(first, score=score, threshold=threshold) for model, (score, threshold) in scores.items()}
    return {name: first, **said}


def by_image(baseline: Predictions, other: Predictions) -> bool:
    """Whether rows are paired by image id."""
    return baseline.image is not None and other.image is not None


def same(first: Predictions, second: Predictions) -> bool:
    """Whether two models said exactly the same of the same images, in any order.

    Example:
        >>> p = Predictions([0, 1], [[1, 0], [0, 1]], [0, 1], ["a", "b"], ["f", "m"], image=["x", "y"])
        >>> same(p, p.take(np.array([1, 0])))
        True
    """
    if first.score.shape != second.score.shape or first.classes != second.classes:
        return False
    one, two = np.arange(len(first)), np.arange(len(second))
    if first.image is not None and second.image is not None:
        one, two = np.argsort(first.image, kind="stable"), np.argsort(second.image, kind="stable")
        if not np.array_equal(first.image[one], second.image[two]):
            return False
    return np.array_equal(first.score[one], second.score[two])


def _repeated(p: Predictions, name: str) -> Iterator[Problem]:
    """Image ids that stand in more than one row."""
    if p.image is None:
        return
    found, many = np.unique(p.image, return_counts=True)
    often = [
        f"{image!r} in {times} rows" for image, times in zip(found.tolist(), many.tolist(), strict=True) if times > 1
    ]
    if often:
        hint = "Rows are paired by image id, so each may stand once; without the column, rows are paired by position"
        yield Problem(f"image ids are repeated: {_some(often)}", file=name, column="image", hint=hint)


def _some(parts: Iterable[str]) -> str:
    parts = list(parts)
    rest = f" and {len(parts) - NAMED:,} more" if len(parts) > NAMED else ""
    return ", ".join(parts[:NAMED]) + rest


@dataclass(frozen=True, eq=False)
class _Pair:
    baseline: Predictions
    other: Predictions
    name: str
    model: str

    def kind(self) -> Iterator[Problem]:
        """Differences that leave no row to compare."""
        if self.baseline.task != self.other.task:
            yield self._problem(f"is {self.other.task}, {self.name} is {self.baseline.task}")
            return
        if self.baseline.attribute != self.other.attribute:
            what = f"its attribute is {self.other.attribute!r}, that of {self.name} is {self.baseline.attribute!r}"
            yield self._problem(what)
        for klass in sorted(set(self.baseline.classes) - set(self.other.classes)):
            extra = [one for one in self.other.classes if one not in self.baseline.classes]
            hint = nearest(klass, extra) if extra else None
            yield self._problem(f"has no scores for the class {klass!r} of {self.name}", hint)
        for klass in sorted(set(self.other.classes) - set(self.baseline.classes)):
            yield self._problem(f"has the class {klass!r}, which {self.name} has not")
        if not by_image(self.baseline, self.other) and len(self.baseline) != len(self.other):
            what = f"has {len(self.other):,} rows, {self.name} has {len(self.baseline):,}"
            yield self._problem(what, "Without image ids in both, rows are paired by position: all must be there")

    def rows(self) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
        """Which row of the baseline, and which of the other model, are of one image; in the baseline's order."""
        first, second = self.baseline.image, self.other.image
        if first is None or second is None:
            every = np.arange(len(self.baseline))
            return every, every
        _, mine, its = np.intersect1d(first, second, assume_unique=True, return_indices=True)
        order = np.argsort(mine)
        return mine[order], its[order]

    def missing(self) -> Iterator[Problem]:
        """Images that only one model has."""
        first, second = self.baseline.image, self.other.image
        if first is None or second is None:
            return
        lacks, extra = np.setdiff1d(first, second).tolist(), np.setdiff1d(second, first).tolist()
        for absent, whole, here, there in (
            (lacks, len(first), self.model, self.name),
            (extra, len(second), self.name, self.model),
        ):
            if absent:
                what = f"{len(absent):,} of {whole:,} images of {there} are missing: {_some(map(repr, absent))}"
                hint = _near(absent[0], extra) if here == self.model else None
                yield Problem(what, file=here, column="image", hint=hint)

    def disagreements(self, mine: Int[np.ndarray, " row"], its: Int[np.ndarray, " row"]) -> Iterator[Problem]:
        """Labels, groups and units that differ between rows of one image."""
        for column, first, second in self._truths():
            yield from self._differing(column, first[mine], second[its], mine, its)

    def _truths(self) -> Iterator[tuple[str, Names, Names]]:
        one, two = self.baseline, self.other
        if one.task == "multiclass":
            yield "label", np.array(one.classes)[one.label], np.array(two.classes)[two.label]
        else:
            for k, klass in enumerate(one.classes):
                yield f"label_{klass}", _told(one.label[:, k]), _told(two.label[:, two.classes.index(klass)])
        yield one.attribute, np.array([*one.groups, ""])[one.group], np.array([*two.groups, ""])[two.group]
        if one.unit is not None and two.unit is not None:
            yield "unit", one.unit, two.unit

    def _differing(
        self, column: str, first: Names, second: Names, mine: Int[np.ndarray, " row"], its: Int[np.ndarray, " row"]
    ) -> Iterator[Problem]:
        where = np.flatnonzero(first != second)
        allowed = [*self.baseline.classes, *self.baseline.groups]
        for place in where[:LISTED]:
            image = self._image(int(mine[place]))
            what = f"{image}is {str(second[place])!r}, but {str(first[place])!r} in row {mine[place]} of {self.name}"
            value = str(second[place])
            hint = None if value in ("", *allowed) or column == "unit" else nearest(value, allowed)
            yield Problem(what, file=self.model, row=int(its[place]), column=column, hint=hint)
        if len(where) > LISTED:
            what = f"the same in {len(where) - LISTED:,} more of {len(first):,} rows"
            hint = None if by_image(self.baseline, self.other) else "Are both tables in the same order?"
            yield Problem(what, file=self.model, column=column, hint=hint)

    def _image(self, row: int) -> str:
        return "" if self.baseline.image is None else f"of image {str(self.baseline.image[row])!r} it "

    def _problem(self, what: str, hint: str | None = None) -> Problem:
        return Problem(what, file=self.model, hint=hint)


def _near(image: str, extra: list[str]) -> str | None:
    """The nearest name among the images that only the other model has."""
    hint = nearest(image, extra) if 0 < len(extra) <= NEAR else None
    return hint if hint and hint.startswith("Did") else None


def _told(label: Shaped[np.ndarray, " row"]) -> Names:
    return np.where(np.isnan(label), "", np.where(label == 1, "1", "0"))


def _reordered(pair: _Pair, rows: Int[np.ndarray, " row"]) -> tuple[Scores, Scores | None]:
    """Scores and thresholds of the other model, on the baseline's rows and classes."""
    other = pair.other
    columns = np.array([other.classes.index(klass) for klass in pair.baseline.classes])
    return other.score[rows][:, columns], None if other.threshold is None else other.threshold[columns]


def decisions_changed(first: Predictions, second: Predictions) -> Bool[np.ndarray, " row"]:
    """The rows where two models decide otherwise (multi-label: on any finding)."""
    differ = first.predicted != second.predicted
    return np.asarray(differ if differ.ndim == 1 else differ.any(axis=1))

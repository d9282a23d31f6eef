"""What a model said of a set of images: all that an audit needs. No torch, so that any framework can write it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray

from equiprune.errors import DataError, Problem, UsageError
from equiprune.files import replacing
from equiprune.reading.attribute import INTERSECTION
from equiprune.reading.scores import (
    LABEL,
    PARQUET,
    SCORE,
    THRESHOLD,
    UNIT,
    Asked,
    Frame,
    ScoreTable,
    frame_scores,
    read_scores,
)
from equiprune.reading.values import LISTED, Values, codes_of, each_row, ids_of, labels, names_in, numbers

SUM_TOLERANCE = 1e-3 + 1e-6  # scores that are written with three decimals may be off by 0.001 and a rounding


@dataclass(frozen=True, eq=False, init=False)
class Predictions:
    """True labels, predicted probabilities and the sensitive attribute of n samples.

    Names may be given instead of indices: class names in `label`, group names in `group`. A whole
    number is always an index. A message about arrays counts rows from 0, one about a file counts
    lines from 1.

    Args:
        label: multi-class: index into `classes`, or the name; multi-label: 0, 1 or nan (not known,
            masked out of every figure) per finding.
        score: probabilities; multi-class rows sum to 1 within 1e-3 (they are used as they are).
        group: index into `groups`, or the name; -1, None or a blank where the attribute is unknown.
        classes: names of classes or findings, in the order of the columns of `score`.
        groups: names of the groups; None takes the names found in `group`, sorted.
        attribute: the attribute's name.
        unit: ids of patients or lesions; a blank id is a unit of its own. None: rows are independent.
        image: ids of the images.
        threshold: probability from which a finding, or each of two classes, is called; by default 0.5 for a
            finding, and the most probable class.

    Raises:
        DataError: lengths differ, scores are no probabilities, a label or group is not among the
            names, there are fewer than two classes. All that is wrong is listed at once.

    Example:
        >>> p = Predictions(["mel", "nev"], [[0.7, 0.3], [0.6, 0.4]], ["f", "m"], classes=["mel", "nev"])
        >>> p.task, p.label.tolist(), p.predicted.tolist(), p.groups
        ('multiclass', [0, 1], [0, 0], ('f', 'm'))
    """

    label: Int[np.ndarray, " sample"] | Float[np.ndarray, "sample class"]
    score: Float[np.ndarray, "sample class"]
    group: Int[np.ndarray, " sample"]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    attribute: str
    unit: Shaped[np.ndarray, " sample"] | None
    image: Shaped[np.ndarray, " sample"] | None
    threshold: Float[np.ndarray, " class"] | None

    def __init__(
        self,
        label: Values,
        score: Values,
        group: Values,
        classes: Sequence[str],
        groups: Sequence[str] | None = None,
        attribute: str = "group",
        unit: Values | None = None,
        image: Values | None = None,
        threshold: Values | None = None,
    ) -> None:
        problems: list[Problem] = []
        scores = numbers(score, "score", problems)
        cut = None if threshold is None else numbers(threshold, "threshold", problems)
        readable = not problems
        names = tuple(str(name) for name in classes)
        kinds = names_in(group) if groups is None else tuple(str(name) for name in groups)
        values = {
            "classes": names,
            "groups": kinds,
            "attribute": attribute,
            "score": scores,
            "label": labels(label, names, problems),
            "group": codes_of(group, kinds, attribute, problems, blank=True),
            "unit": None if unit is None else ids_of(unit),
            "image": None if image is None else ids_of(image),
            "threshold": cut,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        shapes = _wrong_shapes(self)
        problems += _wrong_names(names, "class") + _wrong_names(kinds, "group") + shapes
        if readable and not shapes:
            problems += list(_wrong_values(self))
        if problems:
            raise DataError(problems)

    def __len__(self) -> int:
        return len(self.score)

    @property
    def task(self) -> Literal["multiclass", "multilabel"]:
        """Whether a sample has one class or several findings."""
        return "multiclass" if self.label.ndim == 1 else "multilabel"

    @cached_property
    def predicted(self) -> Int[np.ndarray, " sample"] | Bool[np.ndarray, "sample class"]:
        """Multi-class: the most probable class (the first of equals), or the second of two from its threshold on.

        Multi-label: score >= threshold.
        """
        if self.task == "multilabel":
            return np.asarray(self.score >= (0.5 if self.threshold is None else self.threshold))
        if self.threshold is not None:
            return np.asarray(self.score[:, 1] >= self.threshold[1], dtype=np.int64)
        return np.asarray(self.score.argmax(axis=1), dtype=np.int64)

    @cached_property
    def unit_code(self) -> Int[np.ndarray, " sample"]:
        """A number from 0 for the unit of each row; a blank id, or no ids at all, is a unit of its own."""
        if self.unit is None:
            return np.arange(len(self))
        names, code = np.unique(self.unit, return_inverse=True)
        blank = self.unit == ""
        code = np.where(blank, len(names) + np.cumsum(blank), code.ravel())
        return np.unique(code, return_inverse=True)[1].ravel().astype(np.int64)

    def called_at(self, threshold: float | Values) -> Predictions:
        """The same scores, called at other thresholds: one for each finding or class.

        A single number holds for every finding; of two classes it is the second's, and the first has the rest.
        """
        values = np.asarray(threshold, dtype=np.float64)
        if values.ndim == 0:
            several = self.task == "multilabel" or len(self.classes) != 2
            values = np.full(len(self.classes), values) if several else np.array([1 - values, values])
        return replace(self, threshold=values)

    def take(self, rows: Int[np.ndarray, " some"] | Bool[np.ndarray, " sample"]) -> Predictions:
        """Only some rows, by index or mask; classes and groups stay."""
        return replace(
            self,
            label=self.label[rows],
            score=self.score[rows],
            group=self.group[rows],
            unit=None if self.unit is None else self.unit[rows],
            image=None if self.image is None else self.image[rows],
        )

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        attribute: str | Sequence[str],
        split: str | None = None,
        unit: str | None = None,
        label: str = "label",
        missing: str | Sequence[str] = (),
        groups: str | None = None,
    ) -> Predictions:
        """Reads a table: `label` (or `label_<finding>`s), the attribute, and a `score_<class>` per class.

        Nothing is guessed: cells are text, and only a blank or a value listed in `missing` is missing.
        A finding may also be -1 (uncertain), which is masked like a blank. Classes are in the order of
        the score columns, groups by number or name. `image` (or `id`) and `threshold_<class>` are
        read where the table has them.

        Args:
            path: `.parquet` or `.pq`, or else a comma-separated UTF-8 file.
            attribute: column of the sensitive attribute; several make intersections ("female & light").
            split: keep only the rows whose column `split` says so.
            unit: column of patient or lesion ids; None takes the column `unit` where there is one.
            label: column of class names (multi-class).
            missing: further values of the attribute that mean unknown; in one string separated by commas.
            groups: regroups the attribute: "light=1,2,3;dark=4,5,6", "young=0-39;old=40-120".

        Raises:
            DataError: the table cannot be used; every problem with its line and column.
            UsageError: the regrouping is none.
        """
        asked = Asked(_names(attribute), split, unit, label, _listed(missing), groups)
        return cls._of(read_scores(Path(path), asked), str(path), asked)

    @classmethod
    def from_frame(
        cls,
        frame: Frame,
        *,
        attribute: str | Sequence[str],
        split: str | None = None,
        unit: str | None = None,
        label: str = "label",
        missing: str | Sequence[str] = (),
        groups: str | None = None,
    ) -> Predictions:
        """The same from a data frame with these columns, pandas' or any whose columns numpy takes.

        A message about a frame counts rows from 0.

        Raises:
            DataError: the frame cannot be used.
            UsageError: the regrouping is none.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"label": ["mel", "nev"], "age": [31, 64],
            ...                       "score_mel": [0.7, 0.2], "score_nev": [0.3, 0.8]})
            >>> p = Predictions.from_frame(frame, attribute="age", groups="young=0-39;old=40-120")
            >>> p.groups, p.group.tolist(), p.label.tolist()
            (('young', 'old'), [0, 1], [0, 1])
        """
        asked = Asked(_names(attribute), split, unit, label, _listed(missing), groups)
        return cls._of(frame_scores(frame, asked), "the data frame", asked)

    @classmethod
    def _of(cls, table: ScoreTable, source: str, asked: Asked) -> Predictions:
        try:
            return cls(
                label=table.label,
                score=table.score,
                group=table.group,
                classes=table.classes,
                groups=table.groups,
                attribute=INTERSECTION.join(asked.attribute),
                unit=table.unit,
                image=table.image,
                threshold=table.threshold,
            )
        except DataError as error:
            raise DataError(_located(problem, source, table) for problem in error.problems) from error

    def write(self, path: str | Path) -> None:
        """Writes the table that `read` takes, Parquet or CSV by the suffix, whole or not at all.

        Numbers are written in full, so that reading gives the same values.

        Raises:
            UsageError: another suffix, or the folder cannot be written to.
            DataError: the disk is full.
        """
        path = Path(path)
        if path.suffix not in (*PARQUET, ".csv"):
            raise UsageError(Problem("predictions are written as .parquet or .csv", file=str(path)))
        columns = _columns(self)
        with replacing(path) as part:
            if path.suffix in PARQUET:
                import pyarrow as pa  # heavy, and not needed for CSV
                import pyarrow.parquet as pq

                pq.write_table(pa.table(columns), part)
                return
            with part.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))


def _names(attribute: str | Sequence[str]) -> tuple[str, ...]:
    return (attribute,) if isinstance(attribute, str) else tuple(attribute)


def _listed(missing: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(part.strip() for part in missing.split(",")) if isinstance(missing, str) else tuple(missing)


def _located(problem: Problem, file: str, table: ScoreTable) -> Problem:
    """A problem with an array, as one with the file that the array came from."""
    if problem.row is None:
        return replace(problem, file=file)
    what = table.unread.get((problem.row, problem.column or ""), problem.what)
    return replace(problem, what=what, file=file, row=int(table.row[problem.row]))


def _wrong_names(names: tuple[str, ...], what: str) -> list[Problem]:
    found = [Problem(f"{what} {name!r} is named twice") for name in sorted({n for n in names if names.count(n) > 1})]
    return found + ([Problem(f"a {what} has a blank name")] if any(not name.strip() for name in names) else [])


def _wrong_shapes(p: Predictions) -> list[Problem]:
    n, many = len(p.label), len(p.classes)
    if p.label.ndim not in (1, 2) or n == 0:
        return [Problem("there are no rows" if n == 0 else "label must have one or two axes")]
    shapes: dict[str, tuple[NDArray[Any] | None, tuple[int, ...]]] = {
        "score": (p.score, (n, many)),
        "group": (p.group, (n,)),
        "unit": (p.unit, (n,)),
        "image": (p.image, (n,)),
        "threshold": (p.threshold, (many,)),
        "label": (p.label, (n, many)[: p.label.ndim]),
    }
    found = [
        Problem(f"{name} has the shape {array.shape}, expected {shape}")
        for name, (array, shape) in shapes.items()
        if array is not None and array.shape != shape
    ]
    if p.label.ndim == 1 and many > 2 and p.threshold is not None:
        found.append(Problem(f"thresholds are for findings or for two classes, not for {many}"))
    if p.label.ndim == 1 and many < 2:
        hint = "Of two classes, give the other one's scores too, 1 - score; or call the truth label_CLASS, as a finding"
        found.append(Problem(f"there is {many} class; at least two are needed", hint=hint))
    return found


def _wrong_values(p: Predictions) -> Iterator[Problem]:
    names = [SCORE + name for name in p.classes]
    bad = ~((p.score >= 0) & (p.score <= 1 + SUM_TOLERANCE))
    wrong_rows = int((bad & np.isfinite(p.score)).any(axis=1).sum())
    if wrong_rows > LISTED and 2 * wrong_rows > len(p):
        finite = p.score[np.isfinite(p.score)]
        function = "softmax" if p.task == "multiclass" else "sigmoid"
        what = f"the scores run from {finite.min():.4g} to {finite.max():.4g}: these are no probabilities"
        hint = f"Are they logits? Then give their {function}"
        if finite.min() >= 0 and 10 < finite.max() <= 100:
            hint = "Are they per cent? Then divide by 100"
        yield Problem(what, column=SCORE + "*", hint=hint)
        return
    for k in np.flatnonzero(bad.any(axis=0)):
        told = [f"{value} is no probability between 0 and 1" for value in p.score[:, k].tolist()]
        yield from each_row(np.flatnonzero(bad[:, k]), names[k], told.__getitem__)
    if p.threshold is not None and not ((p.threshold >= 0) & (p.threshold <= 1)).all():
        yield Problem("thresholds must be numbers from 0 to 1", column=THRESHOLD + "*")
    if p.task == "multiclass":
        total = p.score.sum(axis=1)
        off = ~bad.any(axis=1) & (np.abs(total - 1) > SUM_TOLERANCE)
        yield from each_row(
            np.flatnonzero(off),
            SCORE + "*",
            lambda i: f"the scores sum to {total[i]:.6g}, not 1",
            "Give probabilities (softmax of the logits); if they were rounded, with more decimals",
        )
        return
    wrong = ~(np.isnan(p.label) | (p.label == 0) | (p.label == 1))
    for k in np.flatnonzero(wrong.any(axis=0)):
        told = [f"{value} is not 0, 1 or missing" for value in p.label[:, k].tolist()]
        yield from each_row(np.flatnonzero(wrong[:, k]), LABEL + p.classes[k], told.__getitem__)


def _columns(p: Predictions) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    if p.image is not None:
        columns["image"] = p.image.tolist()
    if p.task == "multiclass":
        columns["label"] = [p.classes[code] for code in p.label]
    else:
        for k, name in enumerate(p.classes):
            columns[LABEL + name] = [None if np.isnan(value) else int(value) for value in p.label[:, k]]
    columns[p.attribute] = [p.groups[code] if code >= 0 else "" for code in p.group]
    if p.unit is not None:
        columns[UNIT] = p.unit.tolist()
    for k, name in enumerate(p.classes):
        columns[SCORE + name] = p.score[:, k].tolist()
        if p.threshold is not None:
            columns[THRESHOLD + name] = [float(p.threshold[k])] * len(p)
    return columns

"""A table of predictions as columns: CSV or Parquet, read strictly, before it becomes `Predictions`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray

from equiprune.errors import DataError, Problem, UsageError, nearest
from equiprune.reading.attribute import INTERSECTION, grouped, regrouping
from equiprune.reading.splits import SPLITS
from equiprune.reading.table import Faults, read_table
from equiprune.reading.values import LISTED

SCORE, LABEL, THRESHOLD = "score_", "label_", "threshold_"
UNIT = "unit"
PARQUET = (".parquet", ".pq")
_UNCERTAIN = re.compile(r"-1(\.0*)?")
_SUM = 1e-6

Column = list[str] | NDArray[Any]


@runtime_checkable
class Frame(Protocol):
    """What is used of a data frame, pandas' or another library's."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names."""
        ...

    def __len__(self) -> int:
        """Rows."""
        ...

    def __getitem__(self, name: str, /) -> Any:  # noqa: ANN401 - a column, of whatever type
        """A column."""
        ...


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """The columns that `Predictions` are made of, after the split was chosen.

    Args:
        row: the line of the file (Parquet: the row, from 1) that each value came from.
        classes: from the names of the score columns.
        label: class names, or 0/1/nan per finding.
        score: as they stand in the file, not yet checked.
        group: names, "" where the attribute is unknown.
        groups: all names of the whole file, sorted.
        unread: what is wrong with a cell that is no number, by (index of the row, column); the value is then inf.
    """

    row: Int[np.ndarray, " sample"]
    classes: tuple[str, ...]
    label: NDArray[Any]
    score: Float[np.ndarray, "sample class"]
    group: Shaped[np.ndarray, " sample"]
    groups: tuple[str, ...]
    unit: Shaped[np.ndarray, " sample"] | None
    image: Shaped[np.ndarray, " sample"] | None
    threshold: Float[np.ndarray, " class"] | None
    unread: dict[tuple[int, str], str]


@dataclass(frozen=True)
class Asked:
    """Which columns and rows of a table are wanted; the fields are the arguments of `Predictions.read`."""

    attribute: tuple[str, ...]
    split: str | None = None
    unit: str | None = None
    label: str = "label"
    missing: tuple[str, ...] = ()
    groups: str | None = None

    def group_of(self) -> dict[str, dict[str, str]]:
        """The regrouping of every attribute, by value.

        Raises:
            UsageError: it is no regrouping of them.
        """
        return regrouping(self.groups, self.attribute)


@dataclass(frozen=True)
class _Wanted:
    attribute: tuple[str, ...]
    split: str | None
    unit: str | None
    image: str | None
    label: tuple[str, ...]
    classes: tuple[str, ...]
    threshold: tuple[str, ...]
    multilabel: bool

    @property
    def columns(self) -> tuple[str, ...]:
        single = [name for name in ("split" if self.split else None, self.unit, self.image) if name]
        return (*self.attribute, *single, *self.label, *(SCORE + name for name in self.classes), *self.threshold)


def read_scores(path: Path, asked: Asked) -> ScoreTable:
    """Reads a CSV or Parquet file.

    Raises:
        UsageError: the regrouping is none.
        DataError: the file, a column or a cell cannot be read; all problems at once.
    """
    asked.group_of()
    faults = Faults(str(path))
    wanted = _wanted(_header(path, faults), asked, faults)
    row, columns = _load(path, wanted, faults)
    return _assembled(row, columns, wanted, asked, faults)


def has_splits(path: Path) -> bool:
    """Whether a table that can be read has a column `split`."""
    return "split" in _header(path, Faults(str(path)))


def frame_scores(frame: Frame, asked: Asked) -> ScoreTable:
    """Takes the columns of a data frame; rows are counted from 0 in messages.

    Raises:
        UsageError: the regrouping is none, or this is no data frame.
        DataError: a column or a cell cannot be used; all problems at once.
    """
    asked.group_of()
    if not isinstance(frame, Frame) or not all(isinstance(name, str | int) for name in frame.columns):
        what = f"a data frame is needed, such as pandas'; this is a {type(frame).__name__}"
        raise UsageError(Problem(what, hint="pandas.DataFrame(...) makes one"))
    faults = Faults("the data frame")
    wanted = _wanted(tuple(str(name) for name in frame.columns), asked, faults)
    if faults.problems():
        raise DataError(faults.problems())
    columns = {name: _values(np.asarray(frame[name])) for name in dict.fromkeys(wanted.columns)}
    return _assembled(np.arange(len(frame)), columns, wanted, asked, faults)


def _values(array: NDArray[Any]) -> Column:
    """Numbers stay numbers; anything else is text, blank where it is missing."""
    if array.dtype.kind in "iufb":
        return np.asarray(array, dtype=np.float64)
    return ["" if _is_missing(value) else str(value).strip() for value in array.tolist()]


def _is_missing(value: object) -> bool:
    return not isinstance(value, str) and str(value) in ("None", "nan", "NaT", "<NA>")


def _assembled(
    row: Int[np.ndarray, " row"], columns: dict[str, Column], wanted: _Wanted, asked: Asked, faults: Faults
) -> ScoreTable:
    if faults.problems():
        raise DataError(faults.problems())
    kept = _kept(columns, row, asked.split, faults)
    unread: dict[tuple[int, str], str] = {}
    group, groups = _groups({name: _text(columns[name]) for name in wanted.attribute}, row, asked, faults)
    table = ScoreTable(
        row=row[kept],
        classes=wanted.classes,
        label=_label(columns, wanted, kept, unread),
        score=np.stack([_floats(columns[SCORE + k], kept, SCORE + k, unread) for k in wanted.classes], axis=1),
        group=group[kept],
        groups=groups,
        unit=_ids(columns, wanted.unit, kept),
        image=_ids(columns, wanted.image, kept),
        threshold=_threshold(columns, wanted, kept, unread, faults),
        unread=unread,
    )
    if faults.problems():
        raise DataError(faults.problems())
    return table


def _header(path: Path, faults: Faults) -> tuple[str, ...]:
    """The column names, or none where the file is no table (what is wrong is then noted)."""
    if path.suffix in PARQUET and not path.is_dir():
        return _parquet_names(path, faults)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            names = tuple(name.strip() for name in next(csv.reader(stream), []))
    except (OSError, ValueError, csv.Error):
        names = ()
    if len(names) < 2:  # no table: the strict reader says why
        read_table(path, (), faults)
        if not faults.problems():
            faults.add("header", "the header has fewer than two columns")
        raise DataError(faults.problems())
    return names


def _parquet_names(path: Path, faults: Faults) -> tuple[str, ...]:
    import pyarrow as pa  # heavy, and not needed for CSV
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_schema(path).names)
    except FileNotFoundError:
        faults.add("file", "no such file", hint="A relative path counts from the folder you are in")
    except (OSError, pa.ArrowException) as error:
        faults.add("file", f"is no readable Parquet file ({str(error).splitlines()[0]})")
    raise DataError(faults.problems())


def _wanted(header: tuple[str, ...], asked: Asked, faults: Faults) -> _Wanted:
    attribute, split, unit, label = asked.attribute, asked.split, asked.unit, asked.label
    joint = INTERSECTION.join(attribute)
    single = label in header
    classes = tuple(name.removeprefix(SCORE) for name in header if name.startswith(SCORE))
    findings = () if single else tuple(name.removeprefix(LABEL) for name in header if name.startswith(LABEL))
    wanted = _Wanted(
        attribute=(joint,) if joint in header else attribute,
        split=split,
        unit=UNIT if unit is None and UNIT in header else unit,
        image=next((name for name in ("image", "id") if name in header), None),
        label=tuple(LABEL + name for name in classes) if findings else (label,),
        classes=classes,
        threshold=tuple(THRESHOLD + name for name in classes if THRESHOLD + name in header),
        multilabel=bool(findings),
    )
    if len(attribute) > 1 and joint in header and asked.groups is not None:
        faults.add("groups", "is an intersection already: its attributes cannot be regrouped", column=joint)
    for name in sorted({name for name in attribute if attribute.count(name) > 1}):
        faults.add(name, "is named twice as an attribute", column=name)
    if label in attribute:
        faults.add("label", "is the label, and cannot be the attribute too", column=label)
    if not classes:
        hint = "Write one column score_<class> of probabilities per class"
        faults.add("column", "there is no column of scores", column=SCORE + "*", hint=hint)
    needed = (*wanted.columns, *(SCORE + name for name in findings))
    for name in dict.fromkeys(column for column in needed if column not in header):
        hint = nearest(name, header)
        if name.removeprefix(LABEL) in classes or name.removeprefix(SCORE) in findings:
            hint = f"Without a column {label!r} every label_* is a finding; --label names the column of the true class"
        faults.add("column", "there is no such column", column=name, hint=hint)
    return wanted


def _load(path: Path, wanted: _Wanted, faults: Faults) -> tuple[Int[np.ndarray, " row"], dict[str, Column]]:
    if path.suffix in PARQUET:
        if faults.problems():
            raise DataError(faults.problems())
        import pyarrow.parquet as pq

        table = pq.read_table(path, columns=list(dict.fromkeys(wanted.columns)))
        columns: dict[str, Column] = {name: _arrow(table.column(name)) for name in table.column_names}
        return np.arange(1, table.num_rows + 1), columns
    text = read_table(path, wanted.columns, faults)
    if text is None:
        raise DataError(faults.problems())
    return np.array(text.row, dtype=np.int64), dict(text.columns)


def _arrow(column: Any) -> Column:  # noqa: ANN401 - pyarrow has no types
    """Numbers stay numbers (null is nan); anything else is text (null is blank)."""
    from pyarrow import types

    if any(kind(column.type) for kind in (types.is_integer, types.is_floating, types.is_boolean)):
        return np.array(column.to_numpy(), dtype=np.float64)
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]


def _text(column: Column) -> list[str]:
    """A column of numbers as text: nan is blank, a whole number has no point."""
    if isinstance(column, list):
        return column
    return ["" if np.isnan(x) else str(int(x)) if x.is_integer() else repr(x) for x in column.tolist()]


def _kept(
    columns: dict[str, Column], row: Int[np.ndarray, " row"], split: str | None, faults: Faults
) -> Int[np.ndarray, " n"]:
    """The rows of the split that is asked for."""
    if split is None:
        kept = np.arange(len(row))
    else:
        cells = _text(columns["split"])
        kept = np.flatnonzero(np.array([SPLITS.get(cell.casefold(), cell) for cell in cells]) == split)
        if not len(kept) and len(row):
            seen = ", ".join(map(repr, sorted(set(cells))[:LISTED]))
            faults.add("split", f"no row of the split {split!r}; the column holds {seen}", column="split")
    if not len(row):
        faults.add("split", "the file has no rows")
    return kept


def _floats(
    column: Column, kept: Int[np.ndarray, " n"], name: str, unread: dict[tuple[int, str], str]
) -> Float[np.ndarray, " n"]:
    if not isinstance(column, list):
        return np.asarray(column[kept])
    cells = [column[i] for i in kept.tolist()]
    try:
        return np.array(list(map(_number, cells)))
    except ValueError:
        return np.array([_float(cell, i, name, unread) for i, cell in enumerate(cells)])


def _number(cell: str) -> float:
    """A number as tables write it: 0.1_5 is a number to Python only."""
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return float(cell)


def _float(cell: str, index: int, name: str, unread: dict[tuple[int, str], str]) -> float:
    try:
        return _number(cell)
    except ValueError:
        unread[index, name] = f"{cell!r} is no number" if cell else "is blank"
        return np.inf


def _label(
    columns: dict[str, Column], wanted: _Wanted, kept: Int[np.ndarray, " n"], unread: dict[tuple[int, str], str]
) -> NDArray[Any]:
    if not wanted.multilabel:
        names = _text(columns[wanted.label[0]])
        return np.array([names[i] for i in kept.tolist()])
    known = {
        name: ["nan" if not cell or _UNCERTAIN.fullmatch(cell) else cell for cell in _text(columns[name])]
        for name in wanted.label
    }
    return np.stack([_floats(cells, kept, name, unread) for name, cells in known.items()], axis=1)


def _groups(
    parts: dict[str, list[str]], row: Int[np.ndarray, " row"], asked: Asked, faults: Faults
) -> tuple[Shaped[np.ndarray, " sample"], tuple[str, ...]]:
    """Every row's group ("" where unknown), and all groups of the whole table."""
    names, groups = grouped(parts, row.tolist(), asked.group_of(), set(asked.missing), faults)
    return np.array(names, dtype=np.str_), groups


def _ids(
    columns: dict[str, Column], name: str | None, kept: Int[np.ndarray, " n"]
) -> Shaped[np.ndarray, " sample"] | None:
    return None if name is None else np.array(_text(columns[name]), dtype=np.str_)[kept]


def _threshold(
    columns: dict[str, Column],
    wanted: _Wanted,
    kept: Int[np.ndarray, " n"],
    unread: dict[tuple[int, str], str],
    faults: Faults,
) -> Float[np.ndarray, " class"] | None:
    if not wanted.threshold:
        return None
    if not wanted.multilabel and len(wanted.classes) != 2:
        what = f"thresholds are for findings or for two classes, not for {len(wanted.classes)}"
        faults.add("threshold", what, column=wanted.threshold[0])
        return None
    found = [_floats(columns[name], kept, name, unread) for name in wanted.threshold]
    for name, values in zip(wanted.threshold, found, strict=True):
        if len(set(values.tolist())) > 1:
            faults.add("threshold", "the threshold of a finding must be one number", column=name)
    values = np.array([cells[0] if len(cells) else 0.5 for cells in found])
    if not wanted.multilabel:
        return _of_two(values, wanted, faults)
    if len(found) < len(wanted.classes):
        faults.add("threshold", "give a threshold for every finding or for none", column=wanted.threshold[0])
    return values


def _of_two(values: Float[np.ndarray, " given"], wanted: _Wanted, faults: Faults) -> Float[np.ndarray, 2]:
    """The thresholds of two classes: where one is called from t on, the other is from 1 - t on."""
    if len(values) == 1:
        first = wanted.threshold[0] == THRESHOLD + wanted.classes[0]
        return np.array([values[0], 1 - values[0]] if first else [1 - values[0], values[0]])
    if abs(values.sum() - 1) > _SUM:
        what = f"the thresholds of two classes must sum to 1; these are {values[0]:g} and {values[1]:g}"
        faults.add("threshold", what, column=wanted.threshold[0], hint="Give that of one class only")
    return values

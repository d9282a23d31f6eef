"""What a user gives as arrays, taken as numbers, names or indices; every fault is a problem with its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike, NDArray

from equiprune.errors import Problem, nearest

Values = ArrayLike | Sequence[object]
"""Anything numpy makes an array of; None and names may be among numbers."""

LISTED = 5
_REPORTED = np.iinfo(np.int64).min  # the code of a name that was not found, and has its own message


def names_in(values: Values) -> tuple[str, ...]:
    """The names of groups: those that are there, sorted, or as many numbers as there are codes."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        array = array[~np.isnan(array)]
    if array.dtype.kind in "iubf":
        return tuple(str(code) for code in range(int(array.max(initial=-1)) + 1))
    return tuple(sorted(set(ids_of(array).tolist()) - {""}))


def ids_of(values: Values) -> Shaped[np.ndarray, " sample"]:
    """Values as text; None and nan are blank."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.array(["" if v is None or v != v else str(v) for v in array.tolist()])
    return array.astype(np.str_)


def numbers(values: Values, name: str, problems: list[Problem]) -> NDArray[np.floating[Any]]:
    """Values as numbers, in single precision where they came so (scores of a million rows are large)."""
    try:
        array = np.asarray(values)
        return array if array.dtype == np.float32 else np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        problems.append(Problem("must be an array of numbers", column=name))
        return np.full(np.shape(np.asarray(values, dtype=object)), np.nan)


def labels(
    label: Values, classes: tuple[str, ...], problems: list[Problem]
) -> Int[np.ndarray, " sample"] | Float[np.ndarray, "sample class"]:
    """Labels of one class a row (indices or names), or of findings (0, 1, nan)."""
    array = np.asarray(label)
    if array.ndim == 2:
        return numbers(array, "label", problems)
    return codes_of(array, classes, "label", problems, blank=False)


def codes_of(
    values: Values, names: tuple[str, ...], column: str, problems: list[Problem], *, blank: bool
) -> Int[np.ndarray, " sample"]:
    """Index of each value among the names; -1 where blank is allowed and the value is blank."""
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, int) for value in array.ravel() if value is not None):
        array = array.astype(np.float64)
    if array.dtype.kind == "f":
        whole = np.where(np.isnan(array), -1, array)
        array = np.where(whole == np.round(whole), whole, len(names)).astype(np.int64)
    if array.dtype.kind not in "iub":
        array = _looked_up(ids_of(array), names, column, problems)
    codes = array.astype(np.int64)
    wrong = (codes >= len(names)) | (codes < (-1 if blank else 0))
    where = np.flatnonzero(wrong & (codes != _REPORTED))
    problems += each_row(where, column, lambda i: _no_code(np.asarray(values)[i], len(names)))
    return codes


def _no_code(value: object, many: int) -> str:
    return "is missing" if str(value) in ("", "None", "nan") else f"{value} is no index into {many} names"


def _looked_up(
    ids: Shaped[np.ndarray, " sample"], names: tuple[str, ...], column: str, problems: list[Problem]
) -> Int[np.ndarray, " sample"]:
    place = {name: index for index, name in enumerate(names)} | {"": -1}
    found, inverse = np.unique(ids, return_inverse=True)
    codes = np.array([place.get(name, _REPORTED) for name in found.tolist()], dtype=np.int64)[inverse.ravel()]
    for index, name in enumerate(found.tolist()):
        if name in place:
            continue
        rows = np.flatnonzero(inverse.ravel() == index)
        hint = nearest(name, names) if len(names) < 30 else None
        several = f" ({len(rows):,} rows, this is the first)" if len(rows) > 1 else ""
        what = f"{name!r} is unknown: no score column or name stands for it{several}"
        problems.append(Problem(what, row=int(rows[0]), column=column, hint=hint))
    return codes


def each_row(
    rows: Int[np.ndarray, " n"], column: str, what: Callable[[int], str], hint: str | None = None
) -> list[Problem]:
    """One problem a row, up to a number; the rest share one line."""
    found = [Problem(what(row), row=int(row), column=column, hint=hint) for row in rows[:LISTED]]
    if len(rows) > LISTED:
        found.append(Problem(f"the same in {len(rows) - LISTED:,} more rows", column=column))
    return found

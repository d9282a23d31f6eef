"""Test images that show a change: what the last model gets wrong that the first got right, and the other way round.

Pictures of patients go into the page, so this is done only where the user asks for it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from equiprune.predictions import Predictions
from equiprune.report.content import Example
from equiprune.report.numbers import counted

EACH = 3
"""Images of a group and kind."""

SIDE = 160
QUALITY = 80
LOST, WON, WRONG = "wrong now", "right now", "wrong"


@dataclass(frozen=True)
class Folder:
    """Where the images are.

    Args:
        path: that image names are relative to.
        outside: whether names may lead out of it, as the recipe says.
    """

    path: Path
    outside: bool


@dataclass(frozen=True, eq=False)
class _Cells:
    """Every judged answer: a row's true class, or in multi-label a known finding of a row."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    truth: NDArray[np.bool_]


def examples(first: Predictions, last: Predictions, folder: Folder) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Up to three images of each group and kind, those whose score changed most, and notices of what is missing.

    Args:
        first: of the baseline.
        last: of the model that the page is about, on the same rows; the same object where there is one model.
        folder: where the images are.
    """
    if last.image is None:
        return (), ("the predictions do not name their images, so no examples are shown",)
    found, missing = [], 0
    for row, example in _chosen(first, last):
        picture = _picture(folder, str(last.image[row]))
        if picture is None:
            missing += 1
        else:
            found.append(Example(example["file"], example["group"], example["kind"], example["what"], picture))
    told = (f"{counted(missing, 'example image')} cannot be read from {folder.path}",) if missing else ()
    return tuple(found), told


def _chosen(first: Predictions, last: Predictions) -> Iterator[tuple[int, dict[str, str]]]:
    cells = _cells(last)
    before, after = _right(first, cells), _right(last, cells)
    change = np.abs(last.score[cells.row, cells.column] - first.score[cells.row, cells.column])
    kinds = {LOST: before & ~after, WON: ~before & after}
    if first is last:
        change = np.abs(last.score[cells.row, cells.column] - cells.truth)
        kinds = {WRONG: ~after}
    for code, group in enumerate(last.groups):
        for kind, hit in kinds.items():
            own = np.flatnonzero(hit & (last.group[cells.row] == code))
            for at in own[np.argsort(-change[own], kind="stable")][:EACH]:
                row, column = int(cells.row[at]), int(cells.column[at])
                what = _what(first, last, row, column)
                name = "" if last.image is None else str(last.image[row])
                yield row, {"file": name, "group": group, "kind": kind, "what": what}


def _cells(p: Predictions) -> _Cells:
    if p.task == "multiclass":
        return _Cells(np.arange(len(p)), np.asarray(p.label, dtype=np.int64), np.ones(len(p), dtype=bool))
    row, column = np.nonzero(~np.isnan(p.label))
    return _Cells(row, column, p.label[row, column] == 1)


def _right(p: Predictions, cells: _Cells) -> NDArray[np.bool_]:
    called = p.predicted
    if p.task == "multiclass":
        return np.asarray(called[cells.row] == cells.column)
    return np.asarray(called[cells.row, cells.column] == cells.truth)


def _what(first: Predictions, last: Predictions, row: int, column: int) -> str:
    if last.task == "multilabel":
        truth = "present" if last.label[row, column] == 1 else "absent"
        told = [f"{p.score[row, column]:.2f}" for p in (first, last)]
        scores = told[1] if first is last else " → ".join(told)
        return f"{last.classes[column]} is {truth}; score {scores}"
    told = [f"{p.classes[p.predicted[row]]} ({p.score[row, p.predicted[row]]:.2f})" for p in (first, last)]
    return f"{last.classes[column]}; called {told[1] if first is last else ' → '.join(told)}"


def _picture(folder: Folder, name: str) -> str | None:
    """The image, small, as an address that holds it; None where it cannot be read."""
    path = folder.path / name
    if not folder.outside and not path.resolve().is_relative_to(folder.path.resolve()):
        return None
    try:
        with Image.open(path) as image:
            small: Any = ImageOps.exif_transpose(_eight_bit(image))
            small.thumbnail((SIDE, SIDE))
            content = io.BytesIO()
            small.convert("RGB").save(content, "JPEG", quality=QUALITY)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _eight_bit(image: Image.Image) -> Image.Image:
    """Radiographs have more than eight bits: their whole range, which Pillow would cut off at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, dtype=np.float64)
    span = values.max() - values.min() or 1.0
    return Image.fromarray(np.uint8(255 * (values - values.min()) / span))

"""`equiprune data check`: everything that is wrong with a manifest and its images, at once, and what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int8
from numpy.typing import NDArray

from equiprune.data.cohort import Cohort
from equiprune.data.duplicates import find_duplicates, fingerprints
from equiprune.data.facts import Facts, gather
from equiprune.data.images import ImageError, prepare, read
from equiprune.data.leakage import Leakage, find_leakage
from equiprune.data.manifest import inspect_manifest
from equiprune.data.paths import ImagePaths
from equiprune.data.settings import DataSettings
from equiprune.data.shades import FAINT, faint_notice
from equiprune.errors import Problem
from equiprune.reading.table import Faults

SCHEMA = "equiprune-facts/1"


@dataclass(frozen=True)
class Examination:
    """What a usable cohort holds.

    Args:
        facts: counts, and what goes with the label.
        leakage: duplicates; None where no image was looked at.
    """

    facts: Facts
    leakage: Leakage | None

    def notices(self, file: str) -> list[Problem]:
        """Everything worth telling, with the manifest as the user named it."""
        return [*(self.leakage.notices(file) if self.leakage else ()), *self.facts.notices(file)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `facts.json`."""
        duplicates = None if self.leakage is None else self.leakage.to_dict()
        return {"schema": SCHEMA, **self.facts.to_dict(), "duplicates": duplicates}


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Args:
        cohort: None where the table is not usable.
        problems: what has to be mended.
        examination: what the cohort holds; None where the table has problems.
        notices: facts that stop nothing.
    """

    cohort: Cohort | None
    problems: tuple[Problem, ...]
    examination: Examination | None
    notices: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class _Seen:
    """The images that could be read: their rows in the cohort, the SHA-256 of their bytes, their fingerprints."""

    rows: list[int]
    sha256: list[str]
    prints: list[Int8[np.ndarray, "1 1024"]]
    unreadable: list[Problem]
    faint: int = 0


def examine(cohort: Cohort, sha256: NDArray[np.str_], prints: Int8[np.ndarray, "row 1024"] | None) -> Examination:
    """The facts of a cohort and its duplicates.

    Args:
        cohort: with splits or without.
        sha256: of the bytes of each row's image file.
        prints: its `fingerprints`; None for images too small to have any.
    """
    return Examination(gather(cohort), find_leakage(cohort, find_duplicates(sha256, prints)))


def check_manifest(settings: DataSettings, *, images: bool, progress: Callable[[int, int], None]) -> Checked:
    """Reads a manifest and, if asked, decodes every image of it.

    Args:
        settings: which columns, and how images become pixels.
        images: whether to decode; duplicates are looked for among the images that can be.
        progress: told how many images are decoded, and how many there are.
    """
    cohort, problems = inspect_manifest(settings)
    if cohort is None:
        return Checked(None, problems, None, ())
    seen = _seen(cohort, settings, progress) if images else _Seen([], [], [], [])
    examination = None if problems else _examined(cohort, seen, images=images)
    told = faint_notice(seen.faint, settings.manifest)
    told += [] if examination is None else examination.notices(settings.manifest)
    if settings.on_bad_image == "skip":
        return Checked(cohort, problems, examination, (*cohort.notices, *seen.unreadable, *told))
    return Checked(cohort, (*problems, *seen.unreadable), examination, (*cohort.notices, *told))


def _examined(cohort: Cohort, seen: _Seen, *, images: bool) -> Examination:
    if not images:
        return Examination(gather(cohort), None)
    prints = np.concatenate(seen.prints) if seen.prints else None
    duplicates = find_duplicates(np.array(seen.sha256, dtype=str), prints)
    return Examination(gather(cohort), find_leakage(cohort.take(np.array(seen.rows, dtype=int)), duplicates))


def _seen(cohort: Cohort, settings: DataSettings, progress: Callable[[int, int], None]) -> _Seen:
    paths = ImagePaths(str(cohort.root), settings.allow_outside)
    faults = Faults(settings.manifest)
    rows: list[int] = []
    for row, image in enumerate(cohort.image):
        fault = paths.fault(str(image))
        if fault is None:
            rows.append(row)
        elif settings.on_bad_image == "skip":  # otherwise the table's own check has told of it
            faults.add(fault.kind, fault.what, row=int(cohort.row[row]), column=settings.image, hint=fault.hint)

    def look(row: int) -> tuple[str, Int8[np.ndarray, "1 1024"] | None, bool] | str:
        try:
            data = read(cohort.root / cohort.image[row])
            pixels = prepare(
                data, size=settings.image_size, channels=settings.channels, fit=settings.fit, decode=settings.decode
            )
        except ImageError as error:
            return str(error)
        return hashlib.sha256(data).hexdigest(), fingerprints(pixels[None]), bool(pixels.max() <= FAINT)

    seen, faint = _Seen([], [], [], []), 0
    with ThreadPoolExecutor() as threads:
        for done, (row, found) in enumerate(zip(rows, threads.map(look, rows), strict=True), start=1):
            progress(done, len(rows))
            if isinstance(found, str):
                what = f"{str(cohort.image[row])!r} cannot be used: {found}"
                faults.add("image", what, row=int(cohort.row[row]), column=settings.image)
                continue
            seen.rows.append(row)
            seen.sha256.append(found[0])
            seen.prints.extend([] if found[1] is None else [found[1]])
            faint += found[2]
    return replace(seen, unreadable=faults.problems(), faint=faint)

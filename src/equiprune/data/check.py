"""`equiprune data check`: everything that is wrong with a manifest and its images, at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from equiprune.data.cohort import Cohort
from equiprune.data.images import ImageError, prepare
from equiprune.data.manifest import inspect_manifest
from equiprune.data.paths import ImagePaths
from equiprune.data.settings import DataSettings
from equiprune.errors import Problem
from equiprune.table import Faults


def check_manifest(
    settings: DataSettings, *, images: bool, progress: Callable[[int, int], None]
) -> tuple[Cohort | None, tuple[Problem, ...]]:
    """Reads a manifest and, if asked, decodes every image of it.

    Args:
        settings: which columns, and how images become pixels.
        images: whether to decode.
        progress: told how many images are decoded, and how many there are.

    Returns:
        The cohort, where the table itself is usable, and every problem.
    """
    cohort, problems = inspect_manifest(settings)
    if cohort is None or not images:
        return cohort, problems
    unreadable = _unreadable(cohort, settings, progress)
    if settings.on_bad_image == "skip":
        return replace(cohort, notices=(*cohort.notices, *unreadable)), problems
    return cohort, (*problems, *unreadable)


def _unreadable(cohort: Cohort, settings: DataSettings, progress: Callable[[int, int], None]) -> list[Problem]:
    paths = ImagePaths(str(cohort.root), settings.allow_outside)
    faults = Faults(settings.manifest)
    rows: list[int] = []
    for row, image in enumerate(cohort.image):
        fault = paths.fault(str(image))
        if fault is None:
            rows.append(row)
        elif settings.on_bad_image == "skip":  # otherwise the table's own check has told of it
            faults.add(fault.kind, fault.what, row=int(cohort.row[row]), column=settings.image, hint=fault.hint)

    def reason(row: int) -> str | None:
        try:
            prepare(
                cohort.root / cohort.image[row],
                size=settings.image_size,
                channels=settings.channels,
                fit=settings.fit,
                decode=settings.decode,
            )
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as threads:
        for done, (row, found) in enumerate(zip(rows, threads.map(reason, rows), strict=True), start=1):
            progress(done, len(rows))
            if found is not None:
                what = f"{str(cohort.image[row])!r} cannot be used: {found}"
                faults.add("image", what, row=int(cohort.row[row]), column=settings.image)
    return faults.problems()

"""`equiprune data check`: everything that is wrong with a manifest and its images, at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    return cohort, (*problems, *_unreadable(cohort, settings, progress))


def _unreadable(cohort: Cohort, settings: DataSettings, progress: Callable[[int, int], None]) -> list[Problem]:
    paths = ImagePaths(str(cohort.root), settings.allow_outside)
    # The table's own check has told of the others, and a path that leaves the folder is not opened.
    rows = [row for row, image in enumerate(cohort.image) if paths.fault(str(image)) is None]
    faults = Faults(settings.manifest)

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
        for done, (row, fault) in enumerate(zip(rows, threads.map(reason, rows), strict=True), start=1):
            progress(done, len(rows))
            if fault is not None:
                what = f"{str(cohort.image[row])!r} cannot be used: {fault}"
                faults.add("image", what, row=int(cohort.row[row]), column=settings.image)
    return faults.problems()

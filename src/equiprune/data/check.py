"""`equiprune data check`: everything that is wrong with a manifest and its images, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from equiprune.data.cohort import Cohort
from equiprune.data.images import ImageError, prepare
from equiprune.data.manifest import inspect_manifest
from equiprune.data.settings import DataSettings
from equiprune.errors import Problem


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


def _unreadable(cohort: Cohort, settings: DataSettings, progress: Callable[[int, int], None]) -> Iterator[Problem]:
    def reason(image: str) -> str | None:
        try:
            prepare(
                cohort.root / image,
                size=settings.image_size,
                channels=settings.channels,
                fit=settings.fit,
                decode=settings.decode,
            )
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as threads:
        faults = threads.map(reason, cohort.image)
        for done, (row, image, fault) in enumerate(zip(cohort.row, cohort.image, faults, strict=True), start=1):
            progress(done, len(cohort))
            if fault is not None:
                what = f"{str(image)!r} cannot be used: {fault}"
                yield Problem(what, file=settings.manifest, row=int(row), column=settings.image)

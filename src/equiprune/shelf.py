"""Steps that several runs have in common, carried out once: each run has links to their files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from equiprune.files import PART
from equiprune.rundir import StepFolder


class Shelf:
    """A folder of finished and unfinished steps, by what they depend on.

    A step is carried out in its place on the shelf, by one process at a time. Who is killed leaves its checkpoint
    there, and the next one carries on.

    Args:
        path: the folder, the same for all processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def step(self, key: str, folder: StepFolder, work: Callable[[StepFolder], Any]) -> None:
        """Has a step carried out, unless it is done, and gives a run its files.

        Args:
            key: a name for everything the step depends on.
            folder: of the run, where the step's files are to be.
            work: carries the step out in the folder it is given.
        """
        place = StepFolder(self.path / key)
        place.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / f"{key}.lock"):
            if not place.complete:
                work(place)
        _given(place, folder)


def _given(place: StepFolder, folder: StepFolder) -> None:
    """Links the files, the record that makes the step complete last."""
    folder.path.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in place.path.iterdir() if path.is_file() and not path.match(PART))
    for name in [name for name in names if name != place.record.name] + [place.record.name]:
        target = folder.path / name
        target.unlink(missing_ok=True)
        try:
            os.link(place.path / name, target)
        except OSError:  # a file system without links, or another one
            shutil.copyfile(place.path / name, target)

"""A sweep's directory: which file of a point is where, and when it is settled. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from equiprune.rundir import RunFolder, read_object

CHOICE = ".choice.json"


@dataclass(frozen=True)
class PointFolder:
    """`points/KEY/`: a run's directory, with `point.json` once its steps are done, or `error.json`.

    Args:
        path: the folder, which need not be there yet.
    """

    path: Path

    @property
    def name(self) -> str:
        """`0007-1a2b3c4d`."""
        return self.path.name

    @property
    def run(self) -> RunFolder:
        """The same as a run; it is complete where test figures were computed."""
        return RunFolder(self.path)

    @property
    def chosen(self) -> Path:
        """The file with the value of every axis; with it the point is one of the sweep."""
        return self.path.with_name(self.path.name + CHOICE)

    @property
    def choice(self) -> dict[str, Any]:
        """The value of every axis."""
        return read_object(self.chosen)

    @property
    def result(self) -> Path:
        """Validation figures, and the mark that the point is done."""
        return self.path / "point.json"

    @property
    def steps(self) -> list[dict[str, Any]] | None:
        """Figures of every step on validation; None where the point is not done."""
        return read_object(self.result)["steps"] if self.result.is_file() else None

    @property
    def error(self) -> Path:
        """Why the point could not be carried out."""
        return self.path / "error.json"

    @property
    def problems(self) -> tuple[str, ...] | None:
        """Why it could not be carried out; None where it could, or may."""
        failed = self.error.is_file() and not self.result.is_file()
        return tuple(read_object(self.error)["problems"]) if failed else None

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.result.is_file() or self.error.is_file()

    @property
    def lock(self) -> FileLock:
        """Held by the worker that has it in hand."""
        return FileLock(self.path.with_name(self.path.name + ".lock"))


@dataclass(frozen=True)
class SweepFolder:
    """The directory of a sweep, finished or not."""

    path: Path

    @property
    def record(self) -> Path:
        """What the sweep is; its presence makes the folder one."""
        return self.path / "sweep.json"

    def read(self) -> dict[str, Any]:
        """The content of `sweep.json`."""
        return read_object(self.record)

    def point(self, name: str) -> PointFolder:
        """The folder of a point."""
        return PointFolder(self.path / "points" / name)

    def points(self) -> list[PointFolder]:
        """All that are known, in their order."""
        found = sorted((self.path / "points").glob(f"*{CHOICE}"))
        return [self.point(path.name.removesuffix(CHOICE)) for path in found]

    def outcomes(self) -> dict[str, Any] | None:
        """What was chosen; None as long as nothing was."""
        path = self.path / "outcomes.json"
        return read_object(path) if path.is_file() else None

"""A sweep's directory, for those who only read it: which file of a point is where. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.rundir import RunFolder, read_object

CHOICE = ".choice.json"


@dataclass(frozen=True)
class PointRecord:
    """What is known of a point.

    Args:
        run: its directory, which need not be there yet.
        choice: the value of every axis.
        steps: figures of every step on validation; None where the point is not done.
        problems: why it could not be carried out; None where it could, or may.
    """

    run: RunFolder
    choice: dict[str, Any]
    steps: list[dict[str, Any]] | None
    problems: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """`0007-1a2b3c4d`."""
        return self.run.path.name


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

    def points(self) -> list[PointRecord]:
        """All that are known, in their order."""
        found = sorted((self.path / "points").glob(f"*{CHOICE}"))
        return [_point(path.with_name(path.name.removesuffix(CHOICE)), read_object(path)) for path in found]

    def outcomes(self) -> dict[str, Any] | None:
        """What was chosen; None as long as nothing was."""
        path = self.path / "outcomes.json"
        return read_object(path) if path.is_file() else None


def _point(path: Path, choice: dict[str, Any]) -> PointRecord:
    result, error = path / "point.json", path / "error.json"
    return PointRecord(
        run=RunFolder(path),
        choice=choice,
        steps=read_object(result)["steps"] if result.is_file() else None,
        problems=tuple(read_object(error)["problems"]) if error.is_file() and not result.is_file() else None,
    )

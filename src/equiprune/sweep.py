"""A sweep: every point of a recipe with lists carried out in one directory, by any number of workers.

A point is claimed by a lock that the system frees when its holder dies. So a worker that is killed loses nothing but
the step at hand, whose checkpoint the next one carries on from; and a point that is done is never done again. With
trials, points are added one setting at a time, as Optuna's search proposes them; all workers follow one list.
"""

from __future__ import annotations

import math
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout

from equiprune import study
from equiprune.audit import Point, point
from equiprune.choosing import SEED, outcomes
from equiprune.errors import DataError, EquipruneError, Interrupted, Problem, UsageError
from equiprune.files import DiskFull, explained, sha256, write_json
from equiprune.grid import Grid, digest
from equiprune.metrics.notices import constant
from equiprune.progress import say
from equiprune.pruning.watching import GAPS
from equiprune.run import Place, carry_out
from equiprune.rundir import RunFolder, read_object
from equiprune.search import Tried, proposed, size
from equiprune.sweepdir import PointFolder, SweepFolder

SCHEMA = "equiprune-sweep/1"
PAUSE = 0.5  # seconds before the second look at points that others have in hand; each further one waits longer
LONGEST = 15.0


@dataclass(frozen=True)
class Sweep:
    """The directory of a sweep.

    Args:
        path: the directory.
        storage: of Optuna's study; None is a file of SQLite in the directory.
    """

    path: Path
    storage: str | None = None

    def begin(self, grid: Grid, data: Mapping[str, Any], trials: int | None = None, gap: str = "eopp1") -> None:
        """Writes what the sweep is, or checks that it is the one that was begun here.

        Args:
            grid: of the recipe.
            data: what stands instead of the recipe's data section, for those who join.
            trials: how many settings are searched for, where not the whole grid is carried out; may grow later.
            gap: that is to be small.

        Raises:
            UsageError: the directory holds another sweep, or something else.
            DataError: the manifest has changed, or does not exist.
        """
        first = grid.recipe({axis.name: axis.values[0] for axis in grid.axes})
        manifest = Path(first.data.manifest)
        if not manifest.is_file():
            raise DataError(Problem("no such file", file=str(manifest)))
        own = {
            "schema": SCHEMA,
            "recipe": dict(grid.raw),
            "where": grid.where,
            "folder": str(grid.folder.absolute()),
            "data": dict(data),
            "recipe_sha256": grid.sha256(),
            "manifest_sha256": sha256(manifest),
            "version": version("equiprune"),
            "study": f"{self.path.name}-{uuid.uuid4().hex[:8]}",
            "trials": None if trials is None else min(trials, size(grid)),
            "gap": gap,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".begin.lock"):  # many may be started at once by the same command
            self._begin(own)
        if trials is None:
            for number, choice in enumerate(grid.points()):
                self._add(choice, number)

    def _begin(self, own: Mapping[str, Any]) -> None:
        if not self.folder.record.is_file():
            others = [path.name for path in self.path.iterdir() if not path.name.startswith(".")]
            if others:
                what = f"holds other files ({others[0]} ...)"
                raise UsageError(Problem(what, file=str(self.path), hint="Choose another --out"))
            write_json(self.folder.record, own)
        self._check(own)
        if (found := self.folder.read())["trials"] != own["trials"]:
            write_json(self.folder.record, {**found, "trials": own["trials"]})

    def joined(self) -> Grid:
        """The grid of the sweep in this directory.

        Raises:
            UsageError: there is none, or it was begun by another version.
            DataError: its manifest has changed.
        """
        if not self.folder.record.is_file():
            raise UsageError(Problem("this folder is no sweep: it has no sweep.json", file=str(self.path)))
        found = self.folder.read()
        grid = Grid.of(found["recipe"], found["where"], Path(found["folder"]))
        manifest = Path(grid.recipe({axis.name: axis.values[0] for axis in grid.axes}).data.manifest)
        there = sha256(manifest) if manifest.is_file() else "none: there is no such file"
        self._check({**found, "manifest_sha256": there, "version": version("equiprune")})
        return grid

    def _check(self, own: Mapping[str, Any]) -> None:
        found = self.folder.read()
        names = {"recipe_sha256": "recipe", "manifest_sha256": "manifest", "version": "version of equiprune"}
        problems = [
            Problem(f"this sweep was begun with another {name}: {found[key][:12]}, not {own[key][:12]}",
                    file=str(self.path), hint="Choose another --out")
            for key, name in names.items()
            if found[key] != own[key]
        ]  # fmt: skip
        if (found["trials"] is None) != (own["trials"] is None):
            kind = "of the whole grid" if found["trials"] is None else "with --trials"
            problems.append(
                Problem(
                    f"this sweep was begun {kind}", file=str(self.path), hint="Carry it on so, or choose another --out"
                )
            )
        if problems:
            raise UsageError(problems)

    @property
    def folder(self) -> SweepFolder:
        """Which file is where."""
        return SweepFolder(self.path)

    def points(self) -> list[PointFolder]:
        """All that are known, in their order."""
        return self.folder.points()

    def _add(self, choice: Mapping[str, Any], number: int) -> None:
        point = self.folder.point(f"{number:04d}-{digest(choice)[:8]}")
        if not point.chosen.is_file():
            write_json(point.chosen, choice)

    def forgive(self) -> None:
        """Points that failed are to be tried once more."""
        for folder in self.points():
            folder.error.unlink(missing_ok=True)

    def results(self) -> dict[str, dict[str, Any]]:
        """The content of `point.json` of every point that is done, by its name."""
        return {folder.name: read_object(folder.result) for folder in self.points() if folder.result.is_file()}

    def study(self) -> optuna.Study:
        """Optuna's study, made where there is none.

        Raises:
            UsageError: the storage cannot be reached.
        """
        return study.opened(self.path, self.folder.read()["study"], self.storage)

    def work(self, grid: Grid, place: Place) -> int:
        """Carries out points until none is left that nobody has in hand; returns how many this worker did.

        Args:
            grid: of the sweep.
            place: device, cache and command; the directory is each point's own.

        Raises:
            Interrupted: the worker was asked to stop.
            DiskFull: no space is left.
            UsageError: the storage cannot be reached at the end.
        """
        done, pause = 0, PAUSE
        while True:
            left = [folder for folder in self.points() if not folder.settled]
            if any(self._taken(folder, grid, place) for folder in left):
                done, pause = done + 1, PAUSE
                try:
                    self._record(grid)
                except UsageError as error:  # no reason to stop: it is written anew with the next point
                    say(f"note: {error}")
            elif self._more(grid):
                pause = PAUSE
            elif left:
                time.sleep(pause)
                pause = min(1.5 * pause, LONGEST)
            else:
                self._record(grid)
                return done

    def _more(self, grid: Grid) -> bool:
        """Adds a setting that a search proposes, with all seeds; False where no more are asked for."""
        with FileLock(self.path / ".search.lock"):
            found = self.folder.read()
            if found["trials"] is None:
                return False
            tried = self._tried(found["gap"])
            seeds = next((axis.values for axis in grid.axes if axis.name == SEED), ())
            wanted = [one.choice for one in tried]
            if len(tried) < found["trials"]:
                proposal = proposed(grid, tried, 0 if seeds else int(grid.raw.get(SEED, 0)))
                wanted += [] if proposal is None else [proposal]
            # Of all, not of the last alone: who was killed here may have left a setting without some of its seeds.
            whole = [{SEED: seed, **choice} for choice in wanted for seed in seeds] if seeds else wanted
            known = [digest(folder.choice) for folder in self.points()]
            new = [choice for choice in whole if digest(dict(choice)) not in known]
            for number, choice in enumerate(new, start=len(known)):
                self._add(choice, number)
            return bool(new)

    def _tried(self, gap: str) -> list[Tried]:
        """Every setting that has points, in the order they were proposed."""
        folders = self.points()
        done = {digest(dict(one.choice)): one for one in outcomes(self.results(), gap)}
        open_ = {digest(_without_seed(folder.choice)) for folder in folders if not folder.settled}
        tried: dict[str, Tried] = {}
        for folder in folders:
            choice = _without_seed(folder.choice)
            key = digest(choice)
            if key in open_ or key not in done:
                tried[key] = Tried(choice, running=key in open_)
            else:
                tried[key] = Tried(choice, done[key].f1, done[key].gap, constant=done[key].constant)
        return list(tried.values())

    def _taken(self, folder: PointFolder, grid: Grid, place: Place) -> bool:
        """Carries a point out, unless another worker has it."""
        lock = folder.lock
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        try:
            if not folder.settled:
                self._carried_out(folder, grid, place)
                return True
            return False
        finally:
            lock.release()

    def _carried_out(self, folder: PointFolder, grid: Grid, place: Place) -> None:
        choice = folder.choice
        say(f"{folder.name}: {_told(choice)}")
        own = Place(
            out=folder.path, device=place.device, cache=place.cache or self.path / "cache", command=place.command,
            shelf=self.path / "steps", audited=False, sinks=place.sinks,
        )  # fmt: skip
        try:
            run = carry_out(grid.recipe(choice), own)
            found = list(_figures(run))
        except (Interrupted, DiskFull):
            raise
        except EquipruneError as error:
            self._failed(folder, error, [str(problem) for problem in error.problems])
        except Exception as error:  # such as no memory left on a device: of this point, not of the sweep
            if isinstance(error, OSError) and isinstance(told := explained(error, folder.path), DiskFull):
                raise told from error
            self._failed(folder, error, [str(error), traceback.format_exc()])
        else:
            write_json(folder.result, {"choice": choice, "steps": found})

    def _failed(self, folder: PointFolder, error: Exception, problems: list[str]) -> None:
        say(f"{folder.name} failed: {type(error).__name__}: {problems[0]}")
        write_json(folder.error, {"choice": folder.choice, "kind": type(error).__name__, "problems": problems})

    def _record(self, grid: Grid) -> None:
        """Adds what is done to the study, each point once, whoever did it."""
        with FileLock(self.path / ".study.lock"):
            study.record(self.study(), grid, self.points(), self.folder.read()["gap"])


def _figures(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Of every step on validation; the test split has no part in a sweep."""
    for step in run.steps():
        predictions = run.predictions(step, "validation")
        found: Point = point(predictions)
        record = step.read()
        yield {
            "name": step.name, "method": record["method"], "start": record.get("start"), "f1": found.f1,
            "f1_by_group": {group: _known(value) for group, value in found.f1_by_group.items()},
            **{gap: _known(getattr(found, gap)) for gap in GAPS},
            "constant": any(True for _ in constant(predictions)),
            "parameters": record["facts"]["parameters"], "zeros": record["facts"]["zeros"],
            "seconds": record["facts"]["seconds"],
        }  # fmt: skip


def _without_seed(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: value for axis, value in choice.items() if axis != SEED}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in choice.items()) or "the only point"

"""A sweep: every point of a recipe with lists carried out in one directory, by any number of workers.

A point is claimed by a lock that the system frees when its holder dies. So a worker that is killed loses nothing but
the step at hand, whose checkpoint the next one carries on from; and a point that is done is never done again. Optuna's
study beside them holds what came out, for its dashboard and for other programs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout

from equiprune.audit import Point, point
from equiprune.errors import DataError, EquipruneError, Interrupted, Problem, UsageError
from equiprune.files import sha256, write_json
from equiprune.grid import Grid, digest
from equiprune.metrics.notices import constant
from equiprune.progress import say
from equiprune.pruning.watching import GAPS
from equiprune.run import Place, carry_out
from equiprune.rundir import RunFolder

SCHEMA = "equiprune-sweep/1"
STUDY = "sweep"
PAUSE = 0.5  # seconds between looks at points that others have in hand
LOCKED = 60  # seconds that a busy database is waited for


@dataclass(frozen=True)
class PointFolder:
    """`points/KEY/`: a run's directory, with `point.json` once its steps are done, or `error.json`.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def choice(self) -> dict[str, Any]:
        """The value of every axis."""
        return _read(self.path.with_suffix(".choice.json"))

    @property
    def result(self) -> Path:
        """Validation figures, and the mark that the point is done."""
        return self.path / "point.json"

    @property
    def error(self) -> Path:
        """Why the point could not be carried out."""
        return self.path / "error.json"

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.result.is_file() or self.error.is_file()

    @property
    def lock(self) -> FileLock:
        """Held by the worker that has it in hand."""
        return FileLock(self.path.with_suffix(".lock"))


@dataclass(frozen=True)
class Sweep:
    """The directory of a sweep.

    Args:
        path: the directory.
        storage: of Optuna's study; None is a file of SQLite in the directory.
    """

    path: Path
    storage: str | None = None

    def begin(self, grid: Grid, data: Mapping[str, Any]) -> None:
        """Writes what the sweep is, or checks that it is the one that was begun here.

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
        }
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.record.is_file():
            others = [path.name for path in self.path.iterdir() if not path.name.startswith(".")]
            if others:
                what = f"holds other files ({others[0]} ...)"
                raise UsageError(Problem(what, file=str(self.path), hint="Choose another --out"))
            write_json(self.record, own)
        self._check(own)
        for number, choice in enumerate(grid.points()):
            folder = self.point(choice, number)
            if not folder.path.with_suffix(".choice.json").is_file():
                write_json(folder.path.with_suffix(".choice.json"), choice)

    def joined(self) -> Grid:
        """The grid of the sweep in this directory.

        Raises:
            UsageError: there is none, or it was begun by another version.
            DataError: its manifest has changed.
        """
        if not self.record.is_file():
            raise UsageError(Problem("this folder is no sweep: it has no sweep.json", file=str(self.path)))
        found = _read(self.record)
        grid = Grid.of(found["recipe"], found["where"], Path(found["folder"]))
        manifest = Path(grid.recipe({axis.name: axis.values[0] for axis in grid.axes}).data.manifest)
        there = sha256(manifest) if manifest.is_file() else "none: there is no such file"
        self._check({**found, "manifest_sha256": there, "version": version("equiprune")})
        return grid

    def _check(self, own: Mapping[str, Any]) -> None:
        found = _read(self.record)
        names = {"recipe_sha256": "recipe", "manifest_sha256": "manifest", "version": "version of equiprune"}
        problems = [
            Problem(f"this sweep was begun with another {name}: {found[key][:12]}, not {own[key][:12]}",
                    file=str(self.path), hint="Choose another --out")
            for key, name in names.items()
            if found[key] != own[key]
        ]  # fmt: skip
        if problems:
            raise UsageError(problems)

    @property
    def record(self) -> Path:
        """What the sweep is."""
        return self.path / "sweep.json"

    def point(self, choice: Mapping[str, Any], number: int) -> PointFolder:
        """The folder of a point, by its number and its values."""
        return PointFolder(self.path / "points" / f"{number:04d}-{digest(choice)[:8]}")

    def points(self) -> list[PointFolder]:
        """All that are known, in their order."""
        found = sorted((self.path / "points").glob("*.choice.json"))
        return [PointFolder(path.with_name(path.name.removesuffix(".choice.json"))) for path in found]

    def study(self) -> optuna.Study:
        """Optuna's study, made where there is none.

        Raises:
            UsageError: the storage cannot be reached.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url = self.storage or f"sqlite:///{self.path.absolute()}/study.db"
        try:
            wait = {"connect_args": {"timeout": LOCKED}} if url.startswith("sqlite") else {}
            with FileLock(self.path / ".storage.lock"):  # two that make its tables at once get in each other's way
                storage = optuna.storages.RDBStorage(url, engine_kwargs=wait)
                return optuna.create_study(
                    storage=storage, study_name=STUDY, directions=["maximize", "minimize"], load_if_exists=True
                )
        except Exception as error:  # whatever the database's own library raises
            what = f"the storage cannot be reached ({type(error).__name__}: {str(error).splitlines()[0]})"
            raise UsageError(Problem(what, file=url.split("@")[-1])) from None

    def work(self, grid: Grid, place: Place) -> int:
        """Carries out points until none is left that nobody has in hand; returns how many this worker did.

        Args:
            grid: of the sweep.
            place: device, cache and command; the directory is each point's own.

        Raises:
            Interrupted: the worker was asked to stop.
        """
        done = 0
        while True:
            left = [folder for folder in self.points() if not folder.settled]
            if not left:
                self._record_all(grid)
                return done
            if not any(self._taken(folder, grid, place) for folder in left):
                time.sleep(PAUSE)
                continue
            done += 1

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
        say(f"{folder.path.name}: {_told(choice)}")
        own = Place(
            out=folder.path, device=place.device, cache=place.cache or self.path / "cache", command=place.command,
            shelf=self.path / "steps", audited=False,
        )  # fmt: skip
        try:
            run = carry_out(grid.recipe(choice), own)
        except Interrupted:
            raise
        except EquipruneError as error:
            say(f"{folder.path.name} failed: {error}")
            problems = [str(problem) for problem in error.problems]
            write_json(folder.error, {"choice": choice, "kind": type(error).__name__, "problems": problems})
            return
        write_json(folder.result, {"choice": choice, "steps": list(_figures(run))})

    def _record_all(self, grid: Grid) -> None:
        """Adds what is done to the study, each point once, whoever did it."""
        study = self.study()
        with FileLock(self.path / ".study.lock"):
            known = {trial.user_attrs.get("point") for trial in study.get_trials(deepcopy=False)}
            for folder in self.points():
                if folder.result.is_file() and folder.path.name not in known:
                    self._recorded(study, folder, grid)

    def _recorded(self, study: optuna.Study, folder: PointFolder, grid: Grid) -> None:
        last = _read(folder.result)["steps"][-1]
        choice = {axis: json.dumps(value) for axis, value in folder.choice.items()}
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            axis.name: optuna.distributions.CategoricalDistribution([json.dumps(value) for value in axis.values])
            for axis in grid.axes
        }
        gap = last["eopp1"]
        study.add_trial(
            optuna.trial.create_trial(
                params=choice,
                distributions=distributions,
                values=None if gap is None else [last["f1"], gap],
                state=optuna.trial.TrialState.FAIL if gap is None else optuna.trial.TrialState.COMPLETE,
                user_attrs={"point": folder.path.name, **{key: last[key] for key in GAPS}},
            )
        )


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


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in choice.items()) or "the only point"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found

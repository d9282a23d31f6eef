"""A run's directory: which file is where, and when a run or a step is complete. No torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.errors import DataError, Problem, UsageError
from equiprune.files import read_json_lines, write_text
from equiprune.predictions import Predictions


@dataclass(frozen=True)
class StepFolder:
    """`steps/NN-method/` of a run. `step.json` is written last: with it the step is complete."""

    path: Path

    @property
    def name(self) -> str:
        """`01-vanilla`."""
        return self.path.name

    @property
    def number(self) -> int:
        """1 for `01-vanilla`."""
        return int(self.name.partition("-")[0])

    @property
    def record(self) -> Path:
        """What was done, and the completion marker."""
        return self.path / "step.json"

    @property
    def complete(self) -> bool:
        """Whether everything in it is there."""
        return self.record.is_file()

    def predictions(self, split: str) -> Path:
        """The predictions on one split."""
        return self.path / f"predictions-{split}.parquet"

    def read(self) -> dict[str, Any]:
        """The content of `step.json`."""
        return read_object(self.record)

    def log(self) -> list[dict[str, Any]]:
        """Records of epochs or pruning iterations, without the closing one."""
        return [record for record in read_json_lines(self.path / "log.jsonl") if "kept_iteration" not in record]

    def ending(self) -> dict[str, Any]:
        """How pruning ended: the kept iteration and why it stopped; empty after training."""
        records = read_json_lines(self.path / "log.jsonl")
        return records[-1] if records and "kept_iteration" in records[-1] else {}

    def saliency(self) -> dict[str, Any] | None:
        """What the report draws of the saliency, where the method has one."""
        path = self.path / "saliency.json"
        return read_object(path) if path.is_file() else None


@dataclass(frozen=True)
class RunFolder:
    """The directory of a run. `audit.json` is written last: with it the run is complete."""

    path: Path

    @property
    def record(self) -> Path:
        """Recipe, manifest hash, seed, versions, threads, device."""
        return self.path / "run.json"

    @property
    def split(self) -> Path:
        """Which image is in which split."""
        return self.path / "split.csv"

    @property
    def facts(self) -> Path:
        """What the data hold: counts, what goes with the label, duplicates."""
        return self.path / "facts.json"

    @property
    def costs(self) -> Path:
        """What each step's model takes to run, measured in turns."""
        return self.path / "costs.json"

    @property
    def audit(self) -> Path:
        """The audit of the last step on test."""
        return self.path / "audit.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def complete(self) -> bool:
        """Whether everything in it is there."""
        return self.audit.is_file()

    def step(self, number: int, name: str) -> StepFolder:
        """The folder of a step, counted from 1; 0 is a model that was given."""
        return StepFolder(self.path / "steps" / f"{number:02d}-{name}")

    def steps(self) -> list[StepFolder]:
        """The complete steps, in order.

        Raises:
            UsageError: there is none, or the folder is not a run.
        """
        self.read()
        found = [StepFolder(path) for path in sorted((self.path / "steps").glob("[0-9][0-9]-*"))]
        complete = [step for step in found if step.complete]
        if not complete:
            raise UsageError(Problem("no step of this run is complete", file=str(self.path)))
        return complete

    def read(self) -> dict[str, Any]:
        """The content of `run.json`.

        Raises:
            UsageError: the folder is not a run.
        """
        if not self.record.is_file():
            raise UsageError(Problem("this folder is not a run: it has no run.json", file=str(self.path)))
        return read_object(self.record)

    def read_facts(self) -> dict[str, Any] | None:
        """The content of `facts.json`, where it is written already."""
        return read_object(self.facts) if self.facts.is_file() else None

    def read_costs(self) -> dict[str, Any]:
        """By step: flops, latency_ms by batch size; empty for a run made before they were measured."""
        return read_object(self.costs) if self.costs.is_file() else {}

    def predictions(self, step: StepFolder, split: str) -> Predictions:
        """A step's predictions on one split."""
        return Predictions.read(step.predictions(split), attribute=self.read()["data"]["attribute"])

    def write_split(self, image: Iterable[str], split: Iterable[str]) -> None:
        """Writes which image is in which split."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("image", "split"))
        writer.writerows(zip(image, split, strict=True))
        write_text(self.split, text.getvalue())

    def read_split(self) -> Mapping[str, str]:
        """Image to split."""
        with self.split.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream)
            next(rows)
            return {image: split for image, split in rows}  # noqa: C416 - checks that every row has two cells


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(Problem(f"cannot be read: {error}", file=str(path))) from None
    if not isinstance(value, dict):
        raise DataError(Problem("expected a JSON object", file=str(path)))
    return value

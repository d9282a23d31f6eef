"""Where else a run sends what it logs, as it comes: TensorBoard and MLflow, each an extra of its own.

A run's directory stays the record; a sink is a copy. How much was sent stands in the run's `sinks.json`, so that a run
that carries on goes on in the same place and sends nothing twice.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from equiprune.errors import Interrupted, Problem, UsageError
from equiprune.files import write_json
from equiprune.progress import say
from equiprune.rundir import RunFolder, StepFolder
from equiprune.training.log import followed

SENT = "sinks.json"
STEPS = ("epoch", "iteration")
EXPERIMENT = "equiprune"
UNKNOWN = re.compile(r"[^\w\-. :/]", re.ASCII)  # signs that MLflow takes in no name
LONGEST = 500  # characters of a parameter that every MLflow server takes


class Sink(Protocol):
    """Something that keeps figures over steps."""

    def settings(self, values: Mapping[str, str]) -> None:
        """What the run is, once."""

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Figures of an epoch or iteration, by name."""

    def close(self, files: Sequence[Path]) -> None:
        """The run is at its end, or stops; `files` are there where it is complete."""


class TensorBoard:
    """Event files in `tensorboard/` of the run: `tensorboard --logdir RUN`.

    Args:
        run: the run.
    """

    def __init__(self, run: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.path / "tensorboard"))

    def settings(self, values: Mapping[str, str]) -> None:
        """As a text."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in values.items())
        self._writer.add_text("recipe", f"| setting | value |\n|---|---|\n{rows}")

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """As scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, files: Sequence[Path]) -> None:  # noqa: ARG002 - event files hold no pages
        """Ends the file."""
        self._writer.close()


class MLflow:
    """A run of MLflow, at the server or database that MLFLOW_TRACKING_URI names, else in its own default.

    Args:
        run: the run.
    """

    def __init__(self, run: RunFolder) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        marker = run.path / "mlflow.json"
        if not marker.is_file():
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            known = self._client.get_experiment_by_name(name)
            experiment = self._client.create_experiment(name) if known is None else known.experiment_id
            made = self._client.create_run(experiment, run_name=run.path.name)
            write_json(marker, {"run_id": made.info.run_id})
        self._id = json.loads(marker.read_text(encoding="utf-8"))["run_id"]

    def settings(self, values: Mapping[str, str]) -> None:
        """As parameters."""
        for name, value in values.items():
            self._client.log_param(self._id, UNKNOWN.sub("_", name), value[:LONGEST])

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """As metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[Metric(UNKNOWN.sub("_", name), value, now, step) for name, value in values.items()]
        )

    def close(self, files: Sequence[Path]) -> None:
        """The report as an artifact; a run that stops stays open."""
        for file in files:
            self._client.log_artifact(self._id, str(file))
        if files:
            self._client.set_terminated(self._id)


SINKS: Mapping[str, tuple[str, Callable[[RunFolder], Sink]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "mlflow": ("mlflow", MLflow),
}


def check(names: Sequence[str]) -> None:
    """Refuses sinks whose package is not installed.

    Raises:
        UsageError: names all of them.
    """
    problems = [
        Problem(f"--log-to {name} needs the package {SINKS[name][0]}", hint=f"pip install 'equiprune[{name}]'")
        for name in names
        if importlib.util.find_spec(SINKS[name][0]) is None
    ]
    if problems:
        raise UsageError(problems)


@contextmanager
def sending(names: Sequence[str], run: RunFolder, settings: Mapping[str, Any]) -> Iterator[None]:
    """As long as the context lasts, what the run logs is sent; at its end also the test figures and the report.

    Args:
        names: of `SINKS`; see `check`.
        run: whose record is written already.
        settings: what the run is, nested.

    """
    opened = {name: sink for name in names if (sink := _opened(name, run)) is not None}
    with followed(lambda: _send(run, opened, settings)):
        try:
            yield
        finally:
            if opened:
                _send(run, opened, settings)
            for name, sink in opened.items():
                try:
                    sink.close([run.report] if run.complete else [])
                except Interrupted:
                    raise
                except Exception as error:  # as above
                    say(f"note: {name} could not be closed ({type(error).__name__}: {error})")


def _opened(name: str, run: RunFolder) -> Sink | None:
    try:
        return SINKS[name][1](run)
    except Interrupted:
        raise
    except Exception as error:  # whatever a server far away gives: the run goes on
        say(f"note: {name} cannot be reached ({type(error).__name__}: {error}); the run goes on without it")
        return None


def _send(run: RunFolder, sinks: Mapping[str, Sink], settings: Mapping[str, Any]) -> None:
    """Sends what each sink does not have yet."""
    path = run.path / SENT
    sent = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    folders = sorted((run.path / "steps").glob("[0-9][0-9]-*"))
    logs = {folder.name: StepFolder(folder).log() for folder in folders}
    for name, sink in sinks.items():
        known = sent.setdefault(name, {"settings": False, "steps": {}, "test": False})
        try:
            _send_to(sink, known, run, logs, settings)
        except Interrupted:
            raise
        except Exception as error:  # whatever a server far away gives: the run goes on
            say(f"note: nothing could be sent to {name} ({type(error).__name__}: {error}); it is tried again")
    write_json(path, sent)


def _send_to(
    sink: Sink, known: dict[str, Any], run: RunFolder, logs: Mapping[str, Sequence[Any]], settings: Mapping[str, Any]
) -> None:
    """Sends what is not known to be sent, and keeps account of it."""
    if not known["settings"]:
        sink.settings({key: str(value) for key, value in _flat(settings)})
        known["settings"] = True
    for step, records in logs.items():
        for place, record in enumerate(records[known["steps"].get(step, 0) :], start=known["steps"].get(step, 0) + 1):
            number = next((int(record[key]) for key in STEPS if key in record), place)
            sink.figures({f"{step}/{key}": value for key, value in _numbers(record)}, number)
            known["steps"][step] = place
    if run.complete and not known["test"]:
        sink.figures(dict(_tested(run)), len(logs))
        known["test"] = True


def _tested(run: RunFolder) -> Iterator[tuple[str, float]]:
    """The figures of the last step on test, as its audit has them, each gap with what chance gives."""
    audit = json.loads(run.audit.read_text(encoding="utf-8"))
    for section, prefix in (("overall", "test"), ("gaps", "test/gaps")):
        for name, found in audit[section].items():
            values = {"": found["value"], "_floor": found.get("floor")}
            yield from ((f"{prefix}/{name}{key}", value) for key, value in values.items() if value is not None)


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in _flat(record):
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in STEPS:
            yield key, float(value)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by names with slashes.

    Example:
        >>> list(_flat({"a": 1, "b": {"c": 2, "d": [{"e": 3}]}}))
        [('a', 1), ('b/c', 2), ('b/d/1/e', 3)]
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}/")
        elif isinstance(value, Sequence) and value and all(isinstance(one, Mapping) for one in value):
            yield from _flat({str(place): one for place, one in enumerate(value, start=1)}, f"{before}{key}/")
        else:
            yield f"{before}{key}", value

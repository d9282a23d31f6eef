"""Sinks: what TensorBoard and MLflow are sent, read back with their own readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equiprune import sinks
from equiprune.audit import Audit
from equiprune.errors import Interrupted, UsageError
from equiprune.grid import Grid
from equiprune.recipe import Recipe
from equiprune.run import Place, carry_out
from equiprune.rundir import RunFolder
from equiprune.sweep import Sweep
from equiprune.training import log

RECIPE = """
[data]
manifest = "{manifest}"
label = "label"
attribute = "skin_tone"
image_size = 32
[model]
backbone = "simple_cnn"
[[step]]
method = "vanilla"
epochs = 3
batch_size = 64
augment = "none"
[[step]]
method = "fairprune"
ratio = 0.2
step = 0.1
samples = 8
keep = "last"
budget = {budget}
"""


def written(folder: Path, manifest: Path, budget: str = "1.0") -> Path:
    path = folder / "r.toml"
    path.write_text(RECIPE.format(manifest=manifest, budget=budget))
    return path


def scalars(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own imports
def test_tensorboard_has_every_record_once_however_often_the_run_is_stopped(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = log.Log.add, []

    def add(self: log.Log, record: dict[str, object]) -> None:
        real(self, record)
        calls.append(record)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt

    recipe = Recipe.read(written(tmp_path, lesions))
    place = Place(tmp_path / "run", replicates=20, sinks=("tensorboard",))
    with monkeypatch.context() as patched:
        patched.setattr(log.Log, "add", add)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                carry_out(recipe, place)
    run = carry_out(recipe, place)
    found = scalars(run)
    for step in run.steps():
        records = step.log()
        assert [place for place, _ in found[f"{step.name}/f1"]] == [
            record.get("epoch", record.get("iteration")) for record in records
        ]
        assert [value for _, value in found[f"{step.name}/f1"]] == pytest.approx([record["f1"] for record in records])
    audit = Audit.read(run.audit)
    for tag, value in (("test/f1", audit.overall["f1"].value), ("test/gaps/f1", audit.gaps["f1"].value)):
        ((place_, sent),) = found[tag]
        assert place_ == 2
        assert sent == pytest.approx(value)
    assert carry_out(recipe, place) == run
    assert scalars(run) == found


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_mlflow_has_settings_figures_and_the_report_of_every_point(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "skin")
    sweep, grid = Sweep(tmp_path / "sweep"), Grid.read(written(tmp_path, lesions, "[1.0, 0.9]"), {})
    sweep.begin(grid, {})
    assert sweep.work(grid, Place(sweep.path, sinks=("mlflow",))) == 2
    taken = sweep.points()[0]
    place = Place(taken.path, shelf=sweep.path / "steps", replicates=20, sinks=("mlflow",))
    run = carry_out(grid.recipe(taken.choice), place)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("skin")
    assert experiment is not None
    found = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert sorted(found) == [folder.name for folder in sweep.points()]
    own = found[taken.name]
    assert own.data.params["step/2/method/budget"] == "1.0"
    assert own.data.params["step/2/name"] == "fairprune"
    history = client.get_metric_history(own.info.run_id, "01-vanilla/f1")
    assert [(one.step, one.value) for one in history] == [
        (record["epoch"], record["f1"]) for record in run.steps()[0].log()
    ]
    assert own.data.metrics["test/gaps/eopp0"] == Audit.read(run.audit).gaps["eopp0"].value
    assert [file.path for file in client.list_artifacts(own.info.run_id)] == ["report.html"]
    assert {name: one.info.status for name, one in found.items()} == {
        folder.name: "FINISHED" if folder == taken else "RUNNING" for folder in sweep.points()
    }
    assert "test/gaps/eopp0" not in found[sweep.points()[1].name].data.metrics


class Broken:
    """A sink whose server is away."""

    def __init__(self, run: RunFolder) -> None:
        del run

    def settings(self, values: dict[str, str]) -> None:
        raise ConnectionError(f"nobody there for {len(values) > 3}")

    figures = settings

    def close(self, files: list[Path]) -> None:
        raise ConnectionError(f"nobody there for {len(files)}")


def test_a_sink_that_cannot_be_reached_stops_nothing(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sinks, "SINKS", {"broken": ("json", Broken)})
    recipe = Recipe.read(written(tmp_path, lesions))
    run = carry_out(recipe, Place(tmp_path / "run", replicates=20, sinks=("broken",)))
    assert run.complete
    told = capsys.readouterr().err
    assert "note: nothing could be sent to broken (ConnectionError: nobody there for True); it is tried again" in told
    assert "note: broken could not be closed" in told
    assert json.loads((run.path / "sinks.json").read_text())["broken"]["steps"] == {}


def away(run: RunFolder) -> sinks.Sink:
    raise ConnectionError(f"nobody there for {run.path.name}")


def test_a_sink_that_is_away_from_the_start_stops_nothing(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sinks, "SINKS", {"away": ("json", away)})
    run = carry_out(Recipe.read(written(tmp_path, lesions)), Place(tmp_path / "run", replicates=20, sinks=("away",)))
    assert run.complete
    assert "note: away cannot be reached (ConnectionError: nobody there for run)" in capsys.readouterr().err


def stopping(run: RunFolder) -> sinks.Sink:
    raise Interrupted(f"{run.path.name} is to stop")


def test_a_request_to_stop_is_no_fault_of_a_sink(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "SINKS", {"stopping": ("json", stopping)})
    with pytest.raises(Interrupted, match="is to stop"):
        carry_out(Recipe.read(written(tmp_path, lesions)), Place(tmp_path / "run", sinks=("stopping",)))


def test_a_package_that_is_not_installed_is_told_before_anything_is_done(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "SINKS", {"tensorboard": ("no_such_package", sinks.TensorBoard)})
    place = Place(tmp_path / "run", sinks=("tensorboard",))
    with pytest.raises(UsageError, match=r"needs the package no_such_package.*pip install 'equiprune\[tensorboard\]'"):
        carry_out(Recipe.read(written(tmp_path, lesions)), place)
    assert not place.out.exists()

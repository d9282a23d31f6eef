"""Sweeps that try a number of settings instead of all, and those who join by a storage's URL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equiprune.cli import main
from equiprune.grid import Grid
from equiprune.run import Place
from equiprune.sweep import Sweep

RECIPE = """
seed = [0, 1]
[data]
manifest = "{manifest}"
label = "label"
attribute = "skin_tone"
unit = "patient_id"
image_size = 32
[model]
backbone = "simple_cnn"
[training]
epochs = 4
batch_size = 32
augment = "none"
[[step]]
method = "vanilla"
learning_rate = [1.8e-3, 1.9e-3, 2e-3, 2.1e-3, 2.2e-3, 2.3e-3]
weight_decay = [0.0, 1e-4]
"""


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


def written(folder: Path, manifest: Path) -> Path:
    path = folder / "search.toml"
    path.write_text(RECIPE.format(manifest=manifest))
    return path


def settings_of(sweep: Sweep) -> list[tuple[float, float]]:
    """Of every point but for the seed, in the order they were proposed."""
    choices = [folder.choice for folder in sweep.points()]
    return [(choice["1.learning_rate"], choice["1.weight_decay"]) for choice in choices]


@pytest.fixture(scope="module")
def searched(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("searched")
    assert _run("sweep", written(folder, lesions), "--out", folder / "sweep", "--trials", "3", "--budget", "1") == 0
    return Sweep(folder / "sweep")


def test_each_setting_is_tried_with_all_seeds_and_one_is_taken(searched: Sweep) -> None:
    assert [folder.choice["seed"] for folder in searched.points()] == [0, 1] * 3
    assert settings_of(searched)[::2] == settings_of(searched)[1::2]
    assert len(set(settings_of(searched))) == 3
    found = json.loads((searched.path / "outcomes.json").read_text())
    assert len(found["outcomes"]) == 3
    (taken,) = [row for row in found["outcomes"] if row["taken"]]
    assert [folder.name for folder in searched.points() if folder.run.complete] == taken["points"].split()
    names = [trial.user_attrs["point"] for trial in searched.study().get_trials()]
    assert sorted(names) == [folder.name for folder in searched.points()]


def test_more_trials_carry_a_search_on(searched: Sweep, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = settings_of(searched)
    path = written(searched.path.parent, lesions)
    assert _run("sweep", path, "--out", searched.path, "--trials", "4", "--budget", "1", "--json") == 0
    assert settings_of(searched)[:6] == before
    assert len(set(settings_of(searched))) == 4
    told = json.loads(capsys.readouterr().out)
    assert [Path(report).is_file() for report in told["reports"]] == [True, True]
    assert _run("sweep", path, "--out", searched.path) == 2
    assert "was begun with --trials" in capsys.readouterr().err
    assert _run("sweep", path, "--out", searched.path, "--trials", "0") == 2
    assert "--trials must be at least 1" in capsys.readouterr().err
    assert _run("sweep", path, "--out", searched.path, "--trials", "5", "--dry-run") == 0
    assert "of 12 settings, each with all seeds, 5 are searched for" in capsys.readouterr().out


def test_taking_another_point_later_is_told(searched: Sweep, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its test figures are seen too; whoever compares them chooses on test."""
    found = json.loads((searched.path / "outcomes.json").read_text())["outcomes"]
    (taken,) = [row for row in found if row["taken"]]
    other = next(row for row in found if not row["taken"])
    for name in other["points"].split():
        result = searched.path / "points" / name / "point.json"
        content = json.loads(result.read_text())
        content["steps"][-1] |= {"eopp1": 0.0, "constant": False}
        result.write_text(json.dumps(content))
    path = written(searched.path.parent, lesions)
    trials = str(len(found))
    assert _run("sweep", path, "--out", searched.path, "--trials", trials, "--budget", "1") == 0
    assert "note: test figures of 2 other points were computed before" in capsys.readouterr().err
    seen = json.loads((searched.path / "outcomes.json").read_text())["seen_on_test"]
    assert seen == taken["points"].split()


@pytest.mark.timeout(400)
def test_a_worker_of_a_search_may_die(lesions: Path, tmp_path: Path) -> None:
    """Killed in the midst of it: the number of settings is as asked, each point is done once."""
    sweep = Sweep(tmp_path / "sweep", f"sqlite:///{tmp_path}/elsewhere.db")
    grid = Grid.read(written(tmp_path, lesions), {})
    sweep.begin(grid, {}, 3)
    sweep.study()
    command = [sys.executable, "-m", "equiprune", "sweep", "--join", f"sqlite:///{tmp_path}/elsewhere.db"]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not sweep.results():
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = sweep.results()
    assert 1 <= len(before) < 6
    if len(sweep.points()) == 6:  # as if it had died while it wrote down the seeds of the last setting
        sweep.points()[-1].chosen.unlink()
    assert sweep.work(grid, Place(out=sweep.path)) == 6 - len(before)
    assert len(set(settings_of(sweep))) == 3
    assert {name: sweep.results()[name] for name in before} == before
    names = [trial.user_attrs["point"] for trial in sweep.study().get_trials()]
    assert sorted(names) == [folder.name for folder in sweep.points()]
    assert not (sweep.path / "study.db").exists()

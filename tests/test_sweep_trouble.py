"""What goes wrong while a sweep is at work, and with those who join by the storage alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equiprune import run
from equiprune import sweep as module
from equiprune.errors import DataError, UsageError
from equiprune.files import DiskFull
from equiprune.grid import Grid
from equiprune.recipe import Recipe
from equiprune.run import Place
from equiprune.rundir import RunFolder
from equiprune.sweep import Sweep
from tests.test_full_disk import small_disk
from tests.test_sweep_trials import _run, written

__all__ = ["small_disk"]  # the fixture


@pytest.fixture
def begun(lesions: Path, tmp_path: Path) -> tuple[Sweep, Grid]:
    sweep, grid = Sweep(tmp_path / "sweep"), Grid.read(written(tmp_path, lesions), {})
    sweep.begin(grid, {}, 1)
    return sweep, grid


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """The first points end so; further ones as they would."""
    left, real = list(errors), run.carry_out

    def carry_out(recipe: Recipe, place: Place) -> RunFolder:
        if left:
            raise left.pop(0)
        return real(recipe, place)

    monkeypatch.setattr(module, "carry_out", carry_out)


def test_an_unforeseen_error_is_of_its_point_alone_and_may_be_tried_again(
    begun: tuple[Sweep, Grid], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, grid = begun
    failing(monkeypatch, RuntimeError("no memory left"))
    assert sweep.work(grid, Place(out=sweep.path)) == 2
    first, second = sweep.points()
    told = json.loads(first.error.read_text())
    assert (told["kind"], told["problems"][0]) == ("RuntimeError", "no memory left")
    assert "Traceback" in told["problems"][1]
    assert "failed: RuntimeError: no memory left" in capsys.readouterr().err
    assert second.result.is_file()
    assert sweep.work(grid, Place(out=sweep.path)) == 0
    recipe = sweep.path.parent / "search.toml"
    assert _run("sweep", recipe, "--out", sweep.path, "--trials", "1", "--retry", "--budget", "1") == 0
    assert first.result.is_file()
    assert not first.error.exists()


@pytest.mark.parametrize("error", [DiskFull([]), OSError(28, "No space left on device")])
def test_a_full_disk_stops_the_sweep_and_fails_no_point(
    begun: tuple[Sweep, Grid], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sweep, grid = begun
    failing(monkeypatch, error)
    with pytest.raises(DataError):
        sweep.work(grid, Place(out=sweep.path))
    assert [folder.settled for folder in sweep.points()] == [False, False]
    assert sweep.work(grid, Place(out=sweep.path)) == 2


def test_a_disk_that_is_really_full(
    lesions: Path, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, recipe = small_disk / "sweep", written(tmp_path, lesions)
    assert _run("sweep", recipe, "--out", out, "--trials", "1", "--cache", tmp_path / "cache") == 3
    assert "the disk is full" in capsys.readouterr().err
    assert not list(out.rglob("error.json"))


def test_a_storage_that_is_lost_holds_up_nobody_until_the_end(
    begun: tuple[Sweep, Grid], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, grid = begun
    lost = Sweep(sweep.path, "postgresql+psycopg2://nobody@127.0.0.1:1/none")
    with pytest.raises(UsageError, match="the storage cannot be reached"):
        lost.work(grid, Place(out=sweep.path))
    assert all(folder.result.is_file() for folder in sweep.points())
    assert capsys.readouterr().err.count("note: 127.0.0.1:1/none: the storage cannot be reached") == 2
    assert sweep.work(grid, Place(out=sweep.path)) == 0
    assert len(sweep.study().get_trials()) == 2


def test_ctrl_c_stops_all_workers_and_the_command_says_so(lesions: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "long.toml"
    recipe.write_text(written(tmp_path, lesions).read_text().replace("epochs = 4", "epochs = 500"))
    out = tmp_path / "s"
    command = [sys.executable, "-m", "equiprune", "sweep", str(recipe), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not list((out / "steps").glob("*/log.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)  # ends only when no worker has it open any more
    assert process.returncode == 6, told
    assert "the same command carries on" in told
    assert "Traceback" not in told

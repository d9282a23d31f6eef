from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.repeating import unchecked

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
PROCESSES = ("two_processes",)  # those that start processes, which import the example


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a script, with warnings as errors (as in every test); in this process, which has imported torch already."""
    if path.stem in PROCESSES:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    with torch.random.fork_rng(devices=[]), unchecked():  # shapes are checked in the tests, not for a user
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out

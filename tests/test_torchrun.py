"""A recipe carried out by two processes that torchrun starts ends where one process ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from equiprune.recipe import Recipe
from equiprune.run import Place, carry_out

RECIPE = """
[data]
manifest = "{manifest}"
label = "label"
attribute = "skin_tone"
unit = "patient_id"
image_size = 32
[model]
backbone = "simple_cnn"
[training]
epochs = 2
batch_size = 33
learning_rate = 1e-3
optimizer = "sgd"
augment = "flips"
[[step]]
method = "vanilla"
[[step]]
method = "fairprune"
samples = 40
ratio = 0.1
step = 0.05
keep = "last"
budget = 1.0
[[step]]
from = 1
method = "scp"
step = 0.1
iterations = 1
tune = 1
samples = 40
batch = 32
keep = "last"
budget = 1.0
[[step]]
from = 1
method = "adversary_guided"
step = 0.1
iterations = 1
tune = 1
samples = 40
keep = "last"
[[step]]
from = 1
method = "layer_pruning"
layers = "conv1, conv3"
keep = "pruned"
budget = 1.0
"""
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def started(folder: Path, *launcher: str, recipe: Path) -> subprocess.CompletedProcess[str]:
    command = [*launcher, "-m", "equiprune", "run", str(recipe), "--out", str(folder / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)


@pytest.mark.timeout(600)
def test_two_processes_end_where_one_does(lesions: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(manifest=lesions))
    carry_out(Recipe.read(recipe), Place(tmp_path / "one" / "run"))
    two = started(tmp_path / "two", *TORCHRUN, recipe=recipe)
    assert two.returncode == 0, two.stderr
    # One process talks, and one result is printed.
    assert two.stderr.count("step 1 of 5: vanilla") == 1
    assert two.stdout.count("report: ") == 1
    left, right = (tmp_path / name / "run" for name in ("one", "two"))
    assert sorted(path.name for path in left.iterdir()) == sorted(path.name for path in right.iterdir())
    for step in sorted((left / "steps").iterdir()):
        other = right / "steps" / step.name
        assert sorted(path.name for path in step.iterdir()) == sorted(path.name for path in other.iterdir())
        mine, theirs = (load_file(place / "model.safetensors") for place in (step, other))
        for name, tensor in mine.items():
            assert np.allclose(tensor.numpy(), theirs[name].numpy(), rtol=1e-5, atol=1e-6), (step.name, name)
        tables = [pd.read_parquet(place / "predictions-test.parquet") for place in (step, other)]
        scores = [name for name in tables[0] if str(name).startswith("score_")]
        assert np.allclose(tables[0][scores], tables[1][scores], atol=1e-6)
    gaps = [json.loads((run / "audit.json").read_text())["gaps"]["eopp1"]["value"] for run in (left, right)]
    assert gaps[0] == pytest.approx(gaps[1])
    again = started(tmp_path / "two", *TORCHRUN, recipe=recipe)
    assert again.returncode == 0, again.stderr
    assert "is complete already" in again.stderr


@pytest.mark.timeout(300)
def test_what_is_wrong_is_told_once_and_all_processes_end(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(manifest=tmp_path / "nowhere.csv"))
    done = started(tmp_path / "two", *TORCHRUN, recipe=recipe)
    assert done.returncode != 0
    assert done.stderr.count("no such file") == 1
    assert "This is a bug" not in done.stderr

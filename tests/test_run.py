from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equiprune.audit import Audit
from equiprune.errors import DataError, ModelError, UsageError
from equiprune.files import sha256
from equiprune.models.classifier import Classifier
from equiprune.recipe import Recipe
from equiprune.run import Place, carry_out
from equiprune.rundir import RunFolder

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
epochs = {epochs}
batch_size = 32
learning_rate = 2e-3
augment = "flips"
[[step]]
method = "vanilla"
[[step]]
method = "fairprune"
samples = 30
ratio = 0.3
step = 0.1
keep = "last"
budget = 1.0
"""


def _recipe(folder: Path, lesions: Path, epochs: int = 2) -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(manifest=lesions, epochs=epochs))
    return path


@pytest.fixture(scope="module")
def finished(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("runs")
    return carry_out(Recipe.read(_recipe(folder, lesions)), Place(folder / "run", replicates=100))


def test_a_run_holds_what_the_contract_says(finished: RunFolder) -> None:
    names = {str(path.relative_to(finished.path)) for path in finished.path.rglob("*") if path.is_file()}
    for step in ("01-vanilla", "02-fairprune"):
        for file in ("model.safetensors", "model.json", "log.jsonl", "predictions-validation.parquet",
                     "predictions-test.parquet"):  # fmt: skip
            assert f"steps/{step}/{file}" in names
    assert {"run.json", "split.csv", "audit.json", "report.html", "report.json"} <= names
    assert not [name for name in names if name.endswith(".part") or "checkpoint" in name or "best." in name]
    record = finished.read()
    assert record["environment"]["threads"] >= 1
    assert record["manifest_sha256"] == sha256(Path(record["recipe"]["data"]["manifest"]))
    assert Audit.read(finished.audit).to_dict()["fate"]["baseline"] == "01-vanilla"
    assert finished.report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    document = json.loads((finished.path / "report.json").read_text(encoding="utf-8"))
    assert document["steps"][-1]["audit"]["gaps"] == Audit.read(finished.audit).to_dict()["gaps"]


def test_no_patient_is_in_two_splits(finished: RunFolder, lesions: Path) -> None:
    import csv

    split = finished.read_split()
    seen: dict[str, set[str]] = {}
    with lesions.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            seen.setdefault(row["patient_id"], set()).add(split[row["image"]])
    assert all(len(splits) == 1 for splits in seen.values())


def test_the_pruned_model_has_the_zeros_and_predicts_as_recorded(finished: RunFolder) -> None:
    steps = finished.steps()
    facts = steps[1].read()["facts"]
    assert facts["zeros"] == round(0.3 * facts["prunable"])
    assert Classifier.load(steps[1].path).facts().zeros == facts["zeros"]
    assert facts["privileged"] in {"light", "dark"}


def test_a_complete_run_is_left_as_it_is(finished: RunFolder, lesions: Path) -> None:
    before = finished.audit.stat().st_mtime_ns
    carry_out(Recipe.read(_recipe(finished.path.parent, lesions)), Place(finished.path))
    assert finished.audit.stat().st_mtime_ns == before


def test_another_recipe_is_refused_and_told_apart(finished: RunFolder, lesions: Path) -> None:
    recipe = Recipe.read(_recipe(finished.path.parent, lesions, epochs=3))
    with pytest.raises(UsageError, match=r"epochs.*was 2 .* now 3"):
        carry_out(recipe, Place(finished.path))


def test_a_folder_with_other_files_is_refused(lesions: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        carry_out(Recipe.read(_recipe(tmp_path, lesions)), Place(tmp_path / "out"))


def test_a_changed_manifest_is_noticed(lesions: Path, tmp_path: Path) -> None:
    copy = lesions.parent / "copy.csv"
    copy.write_bytes(lesions.read_bytes())
    recipe = Recipe.read(_recipe(tmp_path, copy))
    run = carry_out(recipe, Place(tmp_path / "out", replicates=50))
    run.audit.unlink()
    copy.write_text(copy.read_text().replace("female", "male"))
    with pytest.raises(DataError, match="has changed"):
        carry_out(recipe, Place(tmp_path / "out", replicates=50))
    copy.unlink()


def test_pruning_a_run_takes_its_split_and_does_not_train(finished: RunFolder, lesions: Path, tmp_path: Path) -> None:
    raw = {
        "data": {**finished.read()["recipe"]["data"], "manifest": str(lesions)},
        "model": {"weights": str(finished.path), "trained": True},
        "step": [{"method": "obd", "samples": 20, "ratio": 0.1, "step": 0.1, "keep": "last", "budget": 1.0}],
    }
    run = carry_out(Recipe.parse(raw, "test"), Place(tmp_path / "pruned", replicates=50))
    assert run.read_split() == finished.read_split()
    assert [step.name for step in run.steps()] == ["00-given", "01-obd"]
    given, source = run.steps()[0], finished.steps()[-1]
    assert (given.path / "model.safetensors").read_bytes() == (source.path / "model.safetensors").read_bytes()


def test_a_model_of_other_classes_is_refused(finished: RunFolder, lesions: Path, tmp_path: Path) -> None:
    raw = {
        "data": {**finished.read()["recipe"]["data"], "manifest": str(lesions), "label": "sex", "image_size": 48},
        "model": {"weights": str(finished.path), "trained": True},
        "step": [{"method": "obd"}],
    }
    with pytest.raises(ModelError) as caught:
        carry_out(Recipe.parse(raw, "test"), Place(tmp_path / "pruned"))
    assert {"classes", "image_size"} <= {str(p.what).split()[3] for p in caught.value.problems}


def _start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "equiprune", "run", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ})


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.is_file() else 0


def test_killed_again_and_again_it_ends_in_the_same_bits(lesions: Path, tmp_path: Path) -> None:
    """kill -9 in training, in pruning and at whatever comes first: the same command carries on."""
    recipe = _recipe(tmp_path, lesions, epochs=4)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    carry_out(Recipe.read(recipe), Place(whole))
    for step, lines in (("01-vanilla", 1), ("01-vanilla", 3), ("02-fairprune", 2)):
        process = _start(recipe, broken)
        log, deadline = broken / "steps" / step / "log.jsonl", time.monotonic() + 100
        while _lines(log) < lines and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (broken / "audit.json").exists()
    last = _start(recipe, broken)
    _, text = last.communicate(timeout=120)
    assert last.returncode == 0, text.decode()
    for step in ("01-vanilla", "02-fairprune"):
        for file in ("model.safetensors", "predictions-test.parquet"):
            assert sha256(whole / "steps" / step / file) == sha256(broken / "steps" / step / file), (step, file)
    audits = [json.loads((folder / "audit.json").read_text()) for folder in (whole, broken)]
    costs = [audit.pop("cost") for audit in audits]
    assert [cost["after"]["flops"] for cost in costs] == [costs[0]["before"]["flops"]] * 2  # times differ, of course
    assert audits[0] == audits[1]

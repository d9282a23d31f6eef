"""Channels cut and exported by the commands a user would type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from equiprune.cli import main
from equiprune.files import read_json_lines
from equiprune.models.classifier import Classifier

COLUMNS = ("--label", "label", "--attribute", "skin_tone", "--unit", "patient_id", "--image-size", "32")
CUT = ("--set", "layer=all", "--set", "step=0.25", "--set", "iterations=2", "--set", "tune=1", "--set", "keep=last",
       "--set", "budget=1", "--set", "gain=-1", "--set", "samples=40")  # fmt: skip


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def runs(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, and one whose channels were cut."""
    folder = tmp_path_factory.mktemp("runs")
    settings = ("--set", "epochs=3", "--set", "batch_size=32", "--set", "learning_rate=2e-3", "--set", "augment=none")
    assert _run("train", lesions, *COLUMNS, "--backbone", "simple_cnn", *settings, "--out", folder / "vanilla") == 0
    pruning = ("--model", folder / "vanilla", "--method", "scp", *CUT, "--out", folder / "scp")
    assert _run("prune", lesions, *pruning) == 0
    return folder


def test_the_run_records_what_was_cut_and_what_that_saves(runs: Path) -> None:
    audit = json.loads((runs / "scp" / "audit.json").read_text())
    before, after = audit["cost"]["before"], audit["cost"]["after"]
    assert after["parameters"] < 0.6 * before["parameters"]
    assert after["flops"] < 0.5 * before["flops"]
    assert after["file_bytes"] < 0.6 * before["file_bytes"]
    assert set(after["latency_ms"]) == {"1", "32"}
    assert all(value > 0 for value in after["latency_ms"].values())
    step = runs / "scp" / "steps" / "01-scp"
    assert not (step / "iterations").exists()
    records = read_json_lines(step / "log.jsonl")
    assert [record.get("channels", {}).get("conv3") for record in records] == [128, 96, 64, None]
    assert len(json.loads((step / "model.json").read_text())["cuts"]) == 6
    page = (runs / "scp" / "report.html").read_text()
    assert "Channels were cut for good" in page
    assert "What each model costs" in page


def test_training_on_is_as_the_run_was_trained_and_the_audit_of_a_run_tells_its_cost(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, pruned = (
        json.loads((runs / name / "run.json").read_text())["recipe"]["step"][0]["training"]
        for name in ("vanilla", "scp")
    )
    assert pruned == trained
    assert (pruned["batch_size"], pruned["augment"], pruned["learning_rate"]) == (32, "none", 2e-3)
    capsys.readouterr()
    assert _run("audit", runs / "scp", "--replicates", "20", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cost"] == json.loads((runs / "scp" / "audit.json").read_text())["cost"]
    assert told["cost"]["after"]["parameters"] < told["cost"]["before"]["parameters"]


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "X"),
        ("compare", "X", "Y"),
        ("report", "X"),
        ("export", "X", "--out", "m.onnx"),
        ("prune", "m.csv", "--model", "X", "--out", "new"),
    ],
)
def test_a_run_that_does_not_exist_is_told_as_such(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(*command) == 3
    assert "X: there is no such" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_cut_run_is_pruned_further_and_reported_beside_its_control(lesions: Path, runs: Path, tmp_path: Path) -> None:
    settings = (
        "--set",
        "ratio=0.1",
        "--set",
        "step=0.1",
        "--set",
        "samples=20",
        "--set",
        "keep=last",
        "--set",
        "budget=1",
    )
    again = ("--model", runs / "scp", "--method", "fairprune", *settings)
    assert _run("prune", lesions, *again, "--out", tmp_path / "more") == 0
    model = Classifier.load(tmp_path / "more" / "steps" / "01-fairprune")
    assert model.cuts
    assert model.facts().zeros > 0
    at = CUT.index("samples=40")
    random = CUT[: at - 1] + CUT[at + 1 :]
    control: tuple[str | Path, ...] = ("--model", runs / "vanilla", "--method", "random_channels", *random)
    assert _run("prune", lesions, *control, "--out", tmp_path / "random") == 0
    assert _run("report", runs / "vanilla", runs / "scp", tmp_path / "random", "--out", tmp_path / "all.html") == 0
    assert "Control: scp/01-scp moved Eopp1" in (tmp_path / "all.html").read_text()


def test_every_format_is_exported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    model = Classifier.load(runs / "scp" / "steps" / "01-scp").eval()
    image = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected = model(image)
    for kind, name in (("onnx", "m.onnx"), ("safetensors", "m.safetensors"), ("torch", "m.pt")):
        assert _run("export", runs / "scp", "--format", kind, "--out", tmp_path / "out" / name, "--json") == 0
        files = json.loads(capsys.readouterr().out)["files"]
        assert files[0] == str(tmp_path / "out" / name)
        assert all(Path(file).is_file() for file in files)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "m.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
    again = Classifier.load(tmp_path / "out" / "m.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(again(image), expected)
    first = ("export", runs / "scp", "--step", "00-given", "--out", tmp_path / "first.onnx")
    assert _run(*first) == 0
    assert (tmp_path / "first.onnx").stat().st_size > 1.6 * (tmp_path / "out" / "m.onnx").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("RUN", "--out", "m.bin"), 2, "a file of onnx ends in .onnx"),
        (("RUN", "--format", "onx", "--out", "m.onnx"), 2, "--format"),
        (("RUN", "--step", "01-spc", "--out", "m.onnx"), 2, "no step '01-spc'. Did you mean '01-scp'"),
        (("NOWHERE", "--out", "m.onnx"), 3, "no such run or folder of a model"),
        (("STEP", "--step", "x", "--out", "m.onnx"), 2, "--step is for runs"),
    ],
)
def test_export_tells_what_is_wrong(
    runs: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(runs / "scp"), "STEP": str(runs / "scp" / "steps" / "01-scp")}
    named = [places.get(part, part) for part in arguments]
    assert _run("export", *named) == code
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        (("layer=conv33",), 2, "no layer 'conv33'. Did you mean 'conv3'"),
        (("step=0.5", "iterations=2"), 2, "would leave layer 'conv3' of 128 channels without any"),
        (("temperature=0",), 2, "temperature"),
        (("score=publshed",), 2, "score"),
        (("tap=relu",), 2, "tap"),
    ],
)
def test_scp_tells_what_is_wrong(
    lesions: Path, runs: Path, tmp_path: Path, settings: tuple[str, ...], code: int, told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [part for setting in settings for part in ("--set", setting)]
    out = ("--out", tmp_path / "run")
    assert _run("prune", lesions, "--model", runs / "vanilla", "--method", "scp", *given, *out) == code
    assert told in capsys.readouterr().err
    # Nothing of a run stands there, so the corrected command may take the same folder.
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("method", ["fairprune", "fairprune_channels"])
def test_a_privileged_group_that_does_not_exist_is_told_before_the_run_begins(
    lesions: Path, runs: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    setting = ("--set", "privileged=drak")
    assert _run("prune", lesions, "--model", runs / "vanilla", "--method", method, *setting, "--out", out) == 2
    assert "no group 'drak'. Did you mean 'dark'" in capsys.readouterr().err
    assert not (out / "run.json").exists()


def test_a_run_that_is_not_complete_is_neither_exported_nor_pruned(
    lesions: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "scp", tmp_path / "half")
    (tmp_path / "half" / "audit.json").unlink()
    assert _run("export", tmp_path / "half", "--out", tmp_path / "m.onnx") == 2
    assert "this run is not complete" in capsys.readouterr().err
    out = ("--out", tmp_path / "new")
    assert _run("prune", lesions, "--model", tmp_path / "half", "--method", "scp", *out) == 2
    assert "this run is not complete" in capsys.readouterr().err
    step = ("--step", "01-scp", "--format", "safetensors")
    assert _run("export", tmp_path / "half", *step, "--out", tmp_path / "m.safetensors") == 0


def test_another_backbone_than_the_runs_and_missing_columns_are_told(
    lesions: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "new")
    assert _run("prune", lesions, "--model", runs / "scp", "--backbone", "resnet18", *out) == 2
    assert "the run's model is a simple_cnn" in capsys.readouterr().err
    assert _run("prune", lesions, "--model", runs / "scp" / "steps" / "01-scp", *out) == 2
    assert "--label (or --labels) and --attribute" in capsys.readouterr().err

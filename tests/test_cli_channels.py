"""Channels cut and exported by the commands a user would type."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from equiprune.cli import main
from equiprune.files import read_json_lines
from equiprune.models.classifier import Classifier

COLUMNS = ("--label", "label", "--attribute", "skin_tone", "--unit", "patient_id", "--image-size", "32")
CUT = ("--set", "layer=all", "--set", "step=0.25", "--set", "iterations=2", "--set", "tune=1", "--set", "keep=last",
       "--set", "budget=1", "--set", "gain=-1", "--set", "samples=40", "--set", "batch_size=32")  # fmt: skip


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
        (("NOWHERE", "--out", "m.onnx"), 4, "no such file"),
        (("NOWHERE", "--step", "x", "--out", "m.onnx"), 2, "--step is for runs"),
    ],
)
def test_export_tells_what_is_wrong(
    runs: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    named = [str(runs / "scp") if part == "RUN" else part for part in arguments]
    assert _run("export", *named) == code
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        (("layer=conv33",), 4, "no layer 'conv33'. Did you mean 'conv3'"),
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

"""Objectives by the commands a user would type: recipe, report, audit.json, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from equiprune.cli import main
from equiprune.files import read_json_lines
from equiprune.models.classifier import Classifier
from tests.objectives.conftest import NETWORK

COLUMNS = ("--label", "label", "--attribute", "skin_tone", "--unit", "patient_id", "--image-size", "32")
TRAINING = ("--set", "epochs=2", "--set", "batch_size=48", "--set", "learning_rate=2e-3", "--set", "augment=none")


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def run(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FairAdaBN, multi-exit on it, then thresholds by group and SCP: a recipe carried out."""
    folder = tmp_path_factory.mktemp("objectives")
    (folder / "net.py").write_text(NETWORK)
    (folder / "recipe.toml").write_text(f"""
[data]
manifest = "{lesions}"
label = "label"
attribute = "skin_tone"
unit = "patient_id"
image_size = 32
[model]
backbone = "net.py:small"
[training]
epochs = 2
batch_size = 48
learning_rate = 2e-3
augment = "none"
[[step]]
method = "fairadabn"
[[step]]
method = "multi_exit"
confidence = 0.5
[[step]]
method = "group_thresholds"
least = 2
budget = 1.0
[[step]]
method = "scp"
layer = "all"
step = 0.2
iterations = 1
tune = 1
samples = 20
keep = "last"
budget = 1.0
gain = -1.0
""")
    assert _run("run", folder / "recipe.toml", "--out", folder / "run") == 0
    return folder / "run"


def test_a_model_that_needs_the_attribute_says_so_everywhere(run: Path) -> None:
    audit = json.loads((run / "audit.json").read_text())
    assert audit["needs_attribute"] is True
    assert json.loads((run / "steps" / "04-scp" / "model.json").read_text())["needs_group"] is True
    page = (run / "report.html").read_text()
    assert "04-scp must be told the skin_tone of every image at use, and decides by it" in page


def test_such_a_model_is_exported_for_one_group_and_agrees(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, factory = run.parent / "m.onnx", f"{run.parent / 'net.py'}:small"
    assert _run("export", run, "--backbone", factory, "--out", out) == 2
    assert "Add --group with one of dark, light" in capsys.readouterr().err
    assert _run("export", run, "--backbone", factory, "--group", "drak", "--out", out) == 2
    assert "no group 'drak'. Did you mean 'dark'" in capsys.readouterr().err
    model = Classifier.load(run / "steps" / "04-scp", factory=factory).eval()
    image = torch.rand(5, 3, 32, 32)
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    for index, group in enumerate(("dark", "light")):
        assert _run("export", run, "--backbone", factory, "--group", group, "--out", out) == 0
        session = runtime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, model(image, torch.full((5,), index)).numpy(), rtol=1e-4, atol=1e-5)
    torch_format = ("--format", "torch", "--out", run.parent / "m.pt")
    assert _run("export", run, "--backbone", factory, "--group", "dark", *torch_format) == 2
    assert "cannot hold early exits" in capsys.readouterr().err
    step = ("--step", "01-fairadabn")
    assert _run("export", run, *step, "--backbone", factory, "--group", "dark", *torch_format) == 0


@pytest.mark.parametrize(
    ("objective", "settings", "code", "told"),
    [
        ("hisc", (), 2, "Did you mean 'hsic'"),
        ("mfd", (), 2, "mfd needs a trained model"),
        ("fairadabn", (), 4, "this network has none"),
        ("multi_exit", ("exits=['conv9']",), 2, "no layer 'conv9' for an exit. Did you mean 'conv"),
        ("hsic", ("lamda=1",), 2, "unknown key"),
        ("group_dro", ("over=groups",), 2, "Did you mean 'group'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    lesions: Path, tmp_path: Path, objective: str, settings: tuple[str, ...], code: int, told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [part for setting in settings for part in ("--set", setting)]
    net = ("--backbone", "simple_cnn", "--objective", objective, "--out", tmp_path / "run")
    assert _run("train", lesions, *COLUMNS, *net, *TRAINING, *given) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_is_trained_from_the_command_line_and_tuned_by_its_objective(lesions: Path, tmp_path: Path) -> None:
    net = ("--backbone", "simple_cnn", "--objective", "hsic", "--set", "weight=2.0")
    assert _run("train", lesions, *COLUMNS, *net, *TRAINING, "--out", tmp_path / "hsic") == 0
    log = [
        json.loads(line) for line in (tmp_path / "hsic" / "steps" / "01-hsic" / "log.jsonl").read_text().splitlines()
    ]
    assert all("penalty" in record for record in log)
    cut = ("--set", "step=0.1", "--set", "iterations=1", "--set", "tune=1", "--set", "keep=last", "--set", "samples=20")
    wide = ("--set", "budget=1", "--set", "gain=-1")
    made = ("--model", tmp_path / "hsic", "--method", "scp", *cut, *wide, "--out", tmp_path / "scp")
    assert _run("prune", lesions, *made) == 0
    tuned = read_json_lines(tmp_path / "scp" / "steps" / "01-scp" / "log.jsonl")[1]["tuning"]
    assert "penalty" in tuned[0]
    model = json.loads((tmp_path / "scp" / "steps" / "01-scp" / "model.json").read_text())
    assert model["trained"] == {"method": "hsic", "settings": {"weight": 2.0, "together": 8}}


def test_a_diverged_first_step_leaves_the_folder_to_a_corrected_command(
    lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--backbone", "simple_cnn", "--objective", "group_dro", "--out", tmp_path / "run")
    assert _run("train", lesions, *COLUMNS, *given, *TRAINING, "--set", "rate=1e9") == 4
    assert "the loss is nan in epoch 1" in capsys.readouterr().err
    assert _run("train", lesions, *COLUMNS, *given, *TRAINING) == 0


def test_a_distilled_model_starts_from_a_run_and_other_groups_are_refused(
    lesions: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = f"{run.parent / 'net.py'}:small"
    with_net = ("--backbone", net, *TRAINING)
    assert _run("train", lesions, *COLUMNS, *with_net, "--out", tmp_path / "vanilla") == 0
    mfd = ("--objective", "mfd", "--weights", tmp_path / "vanilla", "--out", tmp_path / "mfd")
    assert _run("train", lesions, *COLUMNS, *with_net, *mfd) == 0
    assert [path.name for path in sorted((tmp_path / "mfd" / "steps").iterdir())] == ["00-given", "01-mfd"]
    capsys.readouterr()
    regrouped = ("--groups", "some=dark;others=light", "--method", "fairprune", "--backbone", net)
    assert _run("prune", lesions, "--model", run, *regrouped, "--out", tmp_path / "other") == 4
    assert "the model has groups 'dark', 'light', the data 'some', 'others'" in capsys.readouterr().err
    assert not (tmp_path / "other" / "run.json").exists()


@pytest.mark.parametrize("steps", [("multi_exit", "multi_exit"), ("vanilla", "multi_exit")])
def test_what_a_later_step_cannot_do_is_told_before_the_first_is_trained(
    run: Path, tmp_path: Path, steps: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run.parent / "recipe.toml").read_text().split("[[step]]")[0].replace("net.py", str(run.parent / "net.py"))
    wrong = "" if steps[0] == steps[1] else 'exits = ["nope"]\n'
    (tmp_path / "r.toml").write_text(text + "".join(f'[[step]]\nmethod = "{name}"\n' for name in steps) + wrong)
    assert _run("run", tmp_path / "r.toml", "--out", tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert ("has early exits already" if not wrong else "no layer 'nope'") in told
    assert not (tmp_path / "run" / "run.json").exists()


def test_where_images_leave_is_recorded(lesions: Path, tmp_path: Path) -> None:
    columns = ["--label", "label", "--attribute", "skin_tone", "--image-size", "32"]
    quick = ["--set", "epochs=1", "--set", "augment=none", "--set", "confidence=0.4"]
    out = tmp_path / "run"
    assert _run("train", str(lesions), *columns, "--objective", "multi_exit", *quick, "--out", str(out)) == 0
    facts = json.loads((out / "steps" / "01-multi_exit" / "step.json").read_text())["facts"]
    assert facts["exits"]["confidence"] == 0.4
    assert list(facts["exits"]["left"])[-1] == "the last"
    assert sum(facts["exits"]["left"].values()) == pytest.approx(1)
    assert set(facts["loss"]) == {"validation", "test"}

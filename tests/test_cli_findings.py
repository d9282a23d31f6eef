"""Several findings from the command line: four models of one recipe, each called at its own thresholds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from equiprune.audit import audit
from equiprune.cli import main
from equiprune.commands.changed import changed
from equiprune.metrics.operating import operating_point
from equiprune.predictions import Predictions
from equiprune.report.from_run import page_of_runs
from equiprune.report.layers import by_layer
from equiprune.report.page import render
from equiprune.rundir import RunFolder

RECIPE = """
[data]
manifest = "nowhere.csv"
labels = ["nevus", "melanoma", "vascular"]
min_positives = 20
attribute = "skin_tone"
unit = "patient_id"
image_size = 32
[model]
backbone = "simple_cnn"
[training]
epochs = 4
batch_size = 32
learning_rate = 1e-3
augment = "none"
[[step]]
method = "vanilla"
[[step]]
method = "layer_pruning"
keep = "pruned"
budget = 1.0
[[step]]
from = 0
method = "gradient_reversal"
[[step]]
method = "layer_pruning"
keep = "pruned"
budget = 1.0
"""


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def findings(lesions: Path) -> tuple[Path, tuple[str, ...]]:
    """The synthetic set with a column a class, and one finding that is never there."""
    with lesions.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = tuple(sorted({row["label"] for row in rows}))
    path = lesions.parent / "findings.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", *names, "absent", "skin_tone", "patient_id"))
        for number, row in enumerate(rows):
            cells = ["-1" if number % 11 == 0 else str(int(row["label"] == name)) for name in names]
            writer.writerow((row["image"], *cells, "0", row["skin_tone"], row["patient_id"]))
    return path, names


@pytest.fixture(scope="module")
def run(findings: tuple[Path, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("findings")
    recipe = folder / "four.toml"
    recipe.write_text(RECIPE)
    path, names = findings
    columns = ("--labels", ",".join((*names, "absent")))
    assert _run("run", recipe, "--manifest", path, *columns, "--out", folder / "run") == 0
    return RunFolder(folder / "run")


def test_all_four_models_are_there_and_start_where_they_should(run: RunFolder) -> None:
    steps = run.steps()
    assert [step.name for step in steps] == [
        "01-vanilla", "02-layer_pruning", "03-gradient_reversal", "04-layer_pruning",
    ]  # fmt: skip
    assert [step.read()["start"] for step in steps] == [0, 1, 0, 3]
    from equiprune.models.classifier import Classifier

    models = [Classifier.load(step.path) for step in steps]
    for before, after in ((0, 1), (2, 3)):
        mask = next(iter(models[after].masks.items()))
        weight, own = models[before].get_parameter(mask[0]), models[after].get_parameter(mask[0])
        assert (weight[mask[1]] == own[mask[1]]).all()
        assert (own[~mask[1]] == 0).all()
    assert "absent (0)" in "".join(run.read()["notices"])


def test_each_model_is_held_against_the_first(run: RunFolder) -> None:
    *lines, ending = changed(run)
    names = [step.name for step in run.steps()]
    assert [line.split(": ")[0] for line in lines] == [f"test, {names[0]} to {name}" for name in names[1:]]
    assert "equiprune compare" in ending


def test_each_is_called_at_thresholds_of_its_own_validation_split(
    run: RunFolder, findings: tuple[Path, tuple[str, ...]]
) -> None:
    for step in run.steps():
        validation, test = run.predictions(step, "validation"), run.predictions(step, "test")
        assert validation.classes == findings[1]
        point = operating_point("youden", validation, validation.classes, "multilabel")
        assert test.threshold == pytest.approx(point.threshold)
        facts = step.read()["facts"]
        assert facts["thresholds"]["rule"] == "youden"
        assert list(facts["thresholds"]["values"].values()) == pytest.approx(point.threshold.tolist())
        known = np.isfinite(test.label)
        score = test.score.astype(np.float64)
        loss = -np.where(test.label == 1, np.log(score), np.log1p(-score))[known].mean()
        assert facts["loss"]["test"] == pytest.approx(loss, rel=1e-5)
    kept = json.loads(run.audit.read_text())
    assert kept["thresholds"] == run.steps()[-1].read()["facts"]["thresholds"]
    assert kept["overall"]["recall"]["value"] == pytest.approx(audit(test, replicates=20).overall["recall"].value)


def test_the_command_audits_at_the_runs_thresholds_or_at_others(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert _run("audit", run.path, "--json", "--replicates", "20") == 0
    own = json.loads(capsys.readouterr().out)
    assert own["thresholds"]["rule"] == "youden"
    assert _run("audit", run.path, "--json", "--replicates", "20", "--threshold", "0.5") == 0
    half = json.loads(capsys.readouterr().out)
    assert set(half["thresholds"]["values"].values()) == {0.5}
    assert half["overall"]["recall"] != own["overall"]["recall"]


def test_the_report_shows_which_layer_carries_the_bias(run: RunFolder) -> None:
    page = page_of_runs([run])
    figure = by_layer(page.steps[1], 1)
    assert figure is not None
    assert by_layer(page.steps[0], 0) is None
    assert [row[0].removesuffix(" (kept)") for row in figure.table.rows] == ["unpruned", "conv1", "conv2", "conv3"]
    kept = page.steps[1].facts["kept_iteration"]
    assert figure.table.rows[kept][0].endswith("(kept)")
    assert "on validation is smallest without conv" in figure.finding
    html = render(page)
    assert 'id="layers-1-gap"' in html
    assert "thresholds.values.nevus" in html


def test_a_rule_that_does_not_fit_is_refused_before_anything_is_written(
    lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    text = RECIPE.replace('labels = ["nevus", "melanoma", "vascular"]', 'label = "label"').replace(
        "min_positives = 20", ""
    )
    for rule, told in (("youden", "with 3 classes the most probable one is called"), ("yuden", "3 classes")):
        recipe.write_text(text + f'[audit]\nthreshold = "{rule}"\n')
        assert _run("run", recipe, "--manifest", lesions, "--out", tmp_path / "run") == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_finding_without_positives_in_validation_is_called_from_a_half_on() -> None:
    from equiprune.metrics.operating import of_run

    p = Predictions([[1.0, 0.0], [0.0, 0.0]], [[0.3, 0.2], [0.1, 0.1]], [0, 1], ["mass", "hernia"], ["f", "m"])
    point = of_run(p)
    assert point is not None
    assert point.threshold.tolist() == pytest.approx([0.2, 0.5])


def test_grey_images_of_a_network_for_three_channels_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    with (tmp_path / "m.csv").open("w") as stream:
        stream.write("image,mass,sex\n")
        for number in range(40):
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / f"{number}.png")
            stream.write(f"{number}.png,{number // 2 % 2},{'fm'[number % 2]}\n")
    columns = ("--labels", "mass", "--attribute", "sex", "--image-size", "16", "--backbone", "simple_cnn")
    quick = ("--set", "epochs=1", "--set", "augment=none")
    assert _run("train", tmp_path / "m.csv", *columns, *quick, "--out", tmp_path / "run") == 0
    told = "the images are grey, and the network reads three channels: their one is repeated. channels = 1"
    assert told in capsys.readouterr().err
    assert told in "".join(RunFolder(tmp_path / "run").read()["notices"])
    assert _run("train", tmp_path / "m.csv", *columns, "--channels", "1", *quick, "--out", tmp_path / "one") == 0
    assert "grey" not in capsys.readouterr().err


def test_a_finding_that_is_uncertain_throughout_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    (tmp_path / "m.csv").write_text("image,mass,edema,sex\na.png,-1,1,f\nb.png,,0,m\n")
    columns = ("--labels", "mass,edema", "--attribute", "sex", "--no-images")
    assert _run("data", "check", tmp_path / "m.csv", *columns) == 3
    told = capsys.readouterr().err
    assert "column 'mass': every row is blank or uncertain. Leave this finding out, or say with uncertain" in told
    assert "edema" not in told


def test_all_that_steps_cannot_do_is_told_at_once_and_where(
    findings: tuple[Path, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    text = RECIPE.replace('keep = "pruned"', 'keep = "pruned"\nlayers = "conv9"', 1)
    recipe.write_text(text + '[[step]]\nmethod = "fairprune"\nprivileged = "pale"\n[audit]\nthreshold = "yuden"\n')
    columns = ("--labels", ",".join(findings[1]))
    assert _run("run", recipe, "--manifest", findings[0], *columns, "--out", tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert "[[step]] 2 (layer_pruning): there is no convolution 'conv9'" in told
    assert "[[step]] 5 (fairprune): there is no group 'pale'" in told
    assert "[audit]: there is no threshold 'yuden'" in told


def test_a_setting_of_the_data_among_those_of_a_step_is_told_where_it_stands(
    findings: tuple[Path, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ("--labels", ",".join(findings[1]), "--attribute", "skin_tone", "--set", "min_positives=3")
    assert _run("train", findings[0], *columns, "--out", tmp_path / "run") == 2
    assert "It stands under [data]; on the command line it is --min-positives" in capsys.readouterr().err


def test_a_threshold_may_be_named_on_the_command_line(
    findings: tuple[Path, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ("--labels", ",".join(findings[1]), "--attribute", "skin_tone", "--image-size", "32")
    quick = ("--backbone", "simple_cnn", "--set", "epochs=1", "--set", "augment=none")
    out = ("--out", tmp_path / "run")
    assert _run("train", findings[0], *columns, *quick, "--threshold", "sensitivity=2", *out) == 2
    assert "a sensitivity is above 0 and at most 1, not 2" in capsys.readouterr().err
    assert _run("train", findings[0], *columns, *quick, "--threshold", "sensitivity=0.8", *out) == 0
    audited = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert audited["thresholds"]["rule"] == "sensitivity=0.8"


def test_images_that_use_a_sixteenth_of_their_range_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    with (tmp_path / "m.csv").open("w") as stream:
        stream.write("image,mass,sex\n")
        for number in range(8):
            scale = 4080 if number < 5 else 65535
            Image.fromarray(rng.integers(0, scale, (16, 16)).astype(np.uint16)).save(tmp_path / f"{number}.png")
            stream.write(f"{number}.png,{number // 2 % 2},{'fm'[number % 2]}\n")
    columns = ("--labels", "mass", "--attribute", "sex", "--image-size", "16")
    assert _run("data", "check", tmp_path / "m.csv", *columns) == 0
    assert "5 images use at most a sixteenth of the range. 12 bits stored as 16, perhaps" in capsys.readouterr().out

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equiprune.cli import main


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def _predictions(path: Path, rows: int = 60) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "label", "sex", "score_a", "score_b"))
        for row in range(rows):
            wrong = row % 3 == 0 and row % 2 == 0
            high = 0.8 if (row % 4 < 2) != wrong else 0.3
            writer.writerow((f"{row}.png", "a" if row % 4 < 2 else "b", ("f", "m")[row % 2], high, 1 - high))
    return path


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("demo",),
        ("data", "check"),
        ("data", "synthesize"),
        ("train",),
        ("prune",),
        ("run",),
        ("audit",),
        ("report",),
        ("export",),
    ],
)
def test_every_command_has_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_help_and_audit_need_no_torch(tmp_path: Path) -> None:
    table = _predictions(tmp_path / "p.csv")
    for arguments in (["--help"], ["audit", str(table), "--attribute", "sex"]):
        script = (
            "import sys; from equiprune.cli import _exit_code; code = _exit_code(sys.argv[1:]);"
            "assert 'torch' not in sys.modules; sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_audit_prints_json_and_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = _predictions(tmp_path / "p.csv")
    assert _run("audit", table, "--attribute", "sex", "--json", "--out", tmp_path / "out") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "audit.json").read_text())
    assert printed["attribute"]["groups"] == ["f", "m"]


def test_fail_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = _predictions(tmp_path / "p.csv")
    assert _run("audit", table, "--attribute", "sex", "--fail-on", "eopp1>0.99") == 0
    assert _run("audit", table, "--attribute", "sex", "--fail-on", "eopp1>0.01") == 5
    assert "eopp1 > 0.01" in capsys.readouterr().err
    assert _run("audit", table, "--attribute", "sex", "--fail-on", "eopp1>>1") == 2
    assert _run("audit", table, "--attribute", "sex", "--fail-on", "eop1>1") == 2
    assert "Did you mean 'eopp1'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("trian",), 2, "train"),
        (("train",), 2, "requires an argument"),
        (("run", "absent.toml"), 2, "no such file"),
        (("train", "absent.csv", "--label", "x", "--attribute", "y", "--out", "OUT"), 3, "absent.csv"),
        (("train", "m.csv", "--label", "x", "--attribute", "y", "--out", "OUT", "--objective", "vanila"), 2, "vanilla"),
        (("train", "m.csv", "--label", "x", "--attribute", "y", "--out", "OUT", "--set", "epoch=3"), 2, "'epochs'"),
        (("train", "m.csv", "--attribute", "y", "--out", "OUT"), 2, "label"),
        (("audit", "absent.csv", "--attribute", "sex"), 3, "absent.csv"),
        (("audit", "absent.csv"), 3, "absent.csv: there is no such file or run"),
        (("report", "absent"), 3, "absent"),
        (("data", "check", "absent.csv", "--label", "x", "--attribute", "y"), 3, "absent.csv"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(
    arguments: tuple[str, ...], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    assert _run(*given) == code
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists() or not any(path.name != ".lock" for path in (tmp_path / "out").iterdir()), (
        "something half-written was left behind"
    )


def test_data_check_tells_everything_at_once(lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "check", lesions, "--label", "label", "--attribute", "skin_tone") == 0
    assert "240 images, 3 classes" in capsys.readouterr().out
    (tmp_path / "broken.jpg").write_bytes((lesions.parent / "images").joinpath(
        sorted(path.name for path in (lesions.parent / "images").iterdir())[0]).read_bytes()[:400])  # fmt: skip
    (tmp_path / "text.png").write_text("no image")
    rows = ["image,label,sex", "broken.jpg,a,f", "text.png,b,m", "absent.png,a,f", "text.png,,m"]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    assert _run("data", "check", tmp_path / "m.csv", "--label", "label", "--attribute", "sex") == 3
    error = capsys.readouterr().err
    for part in ("row 4", "row 5", "absent.png", "blank"):
        assert part in error


def test_data_check_decodes_the_images(tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = sorted((lesions.parent / "images").iterdir())
    for number, path in enumerate(source[:6]):
        (tmp_path / f"{number}.jpg").write_bytes(path.read_bytes() if number else path.read_bytes()[:400])
    rows = ["image,label,sex", *(f"{n}.jpg,{'ab'[n % 2]},{'fm'[n // 2 % 2]}" for n in range(6))]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    command = ("data", "check", tmp_path / "m.csv", "--label", "label", "--attribute", "sex")
    assert _run(*command) == 3
    assert "row 2" in capsys.readouterr().err
    assert _run(*command, "--no-images") == 0


def test_synthesize_train_prune_audit_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user types, one command after the other."""
    assert _run("data", "synthesize", "--out", tmp_path / "set", "--images", "160", "--size", "32") == 0
    manifest = tmp_path / "set" / "manifest.csv"
    columns = ("--label", "label", "--attribute", "skin_tone", "--unit", "patient_id", "--image-size", "32")
    small = ("--backbone", "simple_cnn", "--set", "epochs=1", "--set", "batch_size=32")
    assert _run("train", manifest, *columns, *small, "--out", tmp_path / "vanilla", "--seed", "1") == 0
    prune = ("--method", "fairprune", "--set", "samples=20", "--set", "ratio=0.2", "--set", "step=0.1")
    capsys.readouterr()
    assert _run("prune", manifest, "--model", tmp_path / "vanilla", *prune, "--out", tmp_path / "fair", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert Path(printed["report"]).is_file()
    assert _run("audit", tmp_path / "fair", "--split", "validation") == 0
    assert _run("report", tmp_path / "vanilla", tmp_path / "fair", "--out", tmp_path / "both.html") == 0
    assert _run("report", tmp_path / "fair", "--out", manifest) == 2  # a page never takes the place of a table
    assert manifest.read_text().startswith("image,")
    assert _run("audit", tmp_path / "fair", "--attribute", "sex") == 2
    assert "--attribute cannot be given" in capsys.readouterr().err
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "vanilla/01-vanilla" in page
    assert "fair/01-fairprune" in page


def test_findings_and_two_attributes(tmp_path: Path, lesions: Path) -> None:
    """Multi-label columns with unknown values, and the intersections of two attributes."""
    with lesions.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    manifest = lesions.parent / "findings.csv"
    with manifest.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "dark_spot", "raised", "sex", "skin_tone", "patient_id"))
        for number, row in enumerate(rows):
            found = ("1" if row["label"] == "melanoma" else "0", "" if number % 7 == 0 else str(number % 2))
            writer.writerow((row["image"], *found, row["sex"], row["skin_tone"], row["patient_id"]))
    columns = ("--labels", "dark_spot,raised", "--attribute", "sex", "--attribute", "skin_tone", "--image-size", "32")
    small = ("--backbone", "simple_cnn", "--set", "epochs=1", "--set", "batch_size=32")
    assert _run("train", manifest, *columns, *small, "--out", tmp_path / "run", "--unit", "patient_id", "--json") == 0
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert audit["task"] == "multilabel"
    assert audit["classes"] == ["dark_spot", "raised"]
    assert "female & light" in audit["attribute"]["groups"]
    settings = ("--set", "samples=5", "--set", "ratio=0.1", "--set", "step=0.1")
    assert _run("prune", manifest, "--model", tmp_path / "run", *settings, "--out", tmp_path / "fair") == 0
    manifest.unlink()


def test_weights_of_the_users_own(tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state dict saved by torch on a named backbone: pruned without a run, the split drawn anew."""
    import torch

    from equiprune.models.backbones import build
    from equiprune.models.design import Design

    classes = ("keratosis", "melanoma", "nevus")
    torch.save(build(Design(backbone="simple_cnn", classes=classes, image_size=32)).state_dict(), tmp_path / "w.pt")
    common = ("--label", "label", "--attribute", "skin_tone", "--image-size", "32", "--backbone", "simple_cnn")
    settings = ("--set", "samples=10", "--set", "ratio=0.1", "--set", "step=0.1")
    out = tmp_path / "out"
    assert _run("prune", lesions, "--model", tmp_path / "w.pt", *common, *settings, "--out", out) == 0
    assert "split is drawn anew" in capsys.readouterr().err
    assert (out / "steps" / "00-given" / "model.safetensors").is_file()


def test_what_is_refused_does_not_block_the_corrected_command(
    tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ("--label", "label", "--attribute", "skin_tone", "--image-size", "32", "--out", tmp_path / "run")
    short = ("--set", "epochs=1", "--set", "batch_size=64")
    assert _run("train", lesions, *columns, *short, "--backbone", "simple_cn") == 4
    assert "simple_cnn" in capsys.readouterr().err
    assert _run("train", lesions, *columns, *short, "--backbone", "simple_cnn") == 0


def test_images_to_be_skipped_are_notes_of_data_check(
    tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sorted((lesions.parent / "images").iterdir())
    for number, path in enumerate(source[:8]):
        (tmp_path / f"{number}.jpg").write_bytes(path.read_bytes() if number else path.read_bytes()[:400])
    rows = ["image,label,sex", *(f"{n}.jpg,{'ab'[n % 2]},{'fm'[n // 2 % 2]}" for n in range(9))]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    command = ("data", "check", tmp_path / "m.csv", "--label", "label", "--attribute", "sex", "--on-bad-image", "skip")
    assert _run(*command) == 0
    told = capsys.readouterr().out
    assert "row 2" in told
    assert "row 10" in told


def test_sigterm_ends_with_a_resumable_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "equiprune", "demo", "--out", str(tmp_path / "demo")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "demo" / "data" / "images").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 6
    assert b"carries on" in error

"""`data convert`: what it prints, what to type next, and its exit codes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equiprune.cli import main
from equiprune.data.sources import SOURCES


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """DDI with 24 images, of which one is not there."""
    lines = ["DDI_file,skin_tone,malignant,disease"]
    rng = np.random.default_rng(0)
    for number in range(24):
        lines.append(f"{number}.png,{(12, 34, 56)[number % 3]},{number % 2 == 0},nevus")
        stream = BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(stream, "PNG")
        (tmp_path / f"{number}.png").write_bytes(stream.getvalue())
    (tmp_path / "ddi_metadata.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "7.png").unlink()
    return tmp_path


def test_what_is_printed_and_that_the_next_command_works(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "convert", "ddi", raw, "--out", raw / "m.csv") == 0
    told = capsys.readouterr().out
    for part in (
        "images by skin_tone",
        "images missing: 1",
        "missing by label: benign: 1",
        "missing by skin_tone: 34: 1",
        "note: 1 images are not there; their rows are left out",
        "23 rows of Diverse Dermatology Images. Next:",
    ):
        assert part in told
    check, train = (line.strip() for line in told.splitlines()[-2:])
    assert train.endswith("--label label --attribute skin_tone --out RUN")
    assert _run(*shlex.split(check)[1:]) == 0
    assert "23 images, 2 classes, groups 12, 34, 56" in capsys.readouterr().out


def test_as_json(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "convert", "ddi", raw, "--out", raw / "m.csv", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["rows"], told["missing"]["images"]) == ("equiprune-conversion/1", 23, 1)
    assert told["counts"]["skin_tone"]["12"] == {"benign": 4, "malignant": 4}
    assert told["missing"]["by_group"] == {"skin_tone": {"34": 1}}
    assert told["findings"] is None
    assert told["next"][0].startswith("equiprune data check")


def test_splits_and_many_labels_and_groups(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["md5hash,fitzpatrick_scale,label"]
    lines += [f"{number},{number % 7 or -1},condition {number % 20}" for number in range(24)]
    (raw / "fitzpatrick17k.csv").write_text("\n".join(lines) + "\n")
    for part, numbers in (("train", range(12)), ("val", range(12, 18)), ("test", range(18, 24))):
        (raw / f"{part}.csv").write_text("\n".join(["md5hash", *map(str, numbers)]) + "\n")
    files = [raw / f"{part}.csv" for part in ("train", "val", "test")]
    assert _run("data", "convert", "fitzpatrick17k", raw, "--out", raw / "m.csv", "--split-tables", *files) == 0
    told = capsys.readouterr().out
    assert "splits: train: 11, validation: 6, test: 6" in told
    assert "and 9 more labels, neither the most nor the least frequent" in told
    assert "--groups 'light=1-3;dark=4-6'" in told


def test_findings_and_a_second_attribute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender"
    (tmp_path / "Data_Entry_2017.csv").write_text(f"{header}\na.png,Mass,1,4,M\nb.png,No Finding,2,4,F\n")
    assert _run("data", "convert", "nih-cxr14", tmp_path, "--out", tmp_path / "m.csv", "--keep-missing") == 0
    told = capsys.readouterr().out
    assert "none of whose images is there" in told
    assert "equiprune data check" not in told
    (tmp_path / "a.png").write_bytes(b"there")
    assert _run("data", "convert", "nih-cxr14", tmp_path, "--out", tmp_path / "m.csv", "--keep-missing") == 0
    told = capsys.readouterr().out
    assert "a finding's row counts the images where it is positive" in told
    assert "--labels Mass --attribute sex --unit patient_id --channels 1 --on-bad-image skip" in told
    assert "finding 'Hernia' is not both positive and negative in some row (2 negative)" in told
    header = "patient_id,lesion_id,age,gender,fitspatrick,diagnostic,img_id"
    (tmp_path / "metadata.csv").write_text(f"{header}\n1,1,5,MALE,1.0,BCC,a.png\n2,2,5,FEMALE,2.0,NEV,b.png\n")
    assert _run("data", "convert", "pad-ufes-20", tmp_path, "--out", tmp_path / "m.csv", "--keep-missing") == 0
    told = capsys.readouterr().out
    assert "images by skin_type" in told
    assert "(or --attribute skin_type)" in told


def test_exit_codes(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "convert", "dddi", raw, "--out", raw / "m.csv") == 2
    assert "there is no source 'dddi'. Did you mean 'ddi'?" in capsys.readouterr().err
    assert _run("data", "convert", "ham10000", raw, "--out", raw / "m.csv") == 3
    assert "this is not HAM10000 as it is published" in capsys.readouterr().err
    assert _run("data", "convert", "ddi", raw) == 2
    assert "See equiprune data convert --help" in capsys.readouterr().err


def test_help_names_every_source_and_is_light(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "convert", "--help") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in SOURCES)
    script = (
        "import sys, equiprune.cli; heavy = {'torch', 'pandas', 'sklearn', 'equiprune.data.sources'}; "
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    script = "import sys, equiprune.commands.convert_tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

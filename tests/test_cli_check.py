"""`data check`: facts and duplicates, and what a run records of them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from equiprune.cli import main


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


COLUMNS = ("--label", "label", "--attribute", "skin_tone", "--image-size", "32")


@pytest.fixture
def leaking(lesions: Path, tmp_path: Path) -> Path:
    """150 lesions with splits, one test image copied from train, and another of it saved again with another label."""
    with lesions.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[:150]
    (tmp_path / "images").mkdir()
    for number, row in enumerate(rows):
        data = (lesions.parent / row["image"]).read_bytes()
        (tmp_path / row["image"]).write_bytes(data)
        row["split"] = "train" if number % 5 < 3 else ("validation", "test")[number % 5 - 3]
    source = rows[0]
    (tmp_path / "images" / "copy.png").write_bytes((tmp_path / source["image"]).read_bytes())
    picture = Image.open(tmp_path / source["image"]).convert("RGB")
    ImageEnhance.Brightness(picture).enhance(0.95).save(tmp_path / "images" / "again.png")
    other = next(row["label"] for row in rows if row["label"] != source["label"])
    rows.append({**source, "image": "images/copy.png", "split": "test"})
    rows.append({**source, "image": "images/again.png", "split": "test", "label": other})
    manifest = tmp_path / "m.csv"
    with manifest.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def test_duplicates_and_facts_are_printed(leaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "check", leaking, *COLUMNS) == 0
    told = capsys.readouterr().out
    assert "1 test image is also in train (identical files): row 152" in told
    assert "1 test image is also in train (the same picture saved again" in told
    assert "different labels" in told
    for part in ("validation", "skin_tone unknown", "Cramer's V", "identical files: 1 pairs (1 across splits"):
        assert part in told


def test_as_json(leaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "check", leaking, *COLUMNS, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["problems"] == []
    assert any("row 152" in note for note in printed["notes"])
    duplicates = printed["facts"]["duplicates"]
    assert duplicates["identical"]["rows"] == [[2, 152]]
    assert duplicates["near"]["rows"] == [[2, 153]]
    assert printed["facts"]["parts"]["test"]["images"] == 32


def test_without_splits_and_without_images(leaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = leaking.read_text().replace("split", "fold", 1)
    leaking.write_text(text)
    assert _run("data", "check", leaking, *COLUMNS) == 0
    assert "would leak if split apart" in capsys.readouterr().out
    assert _run("data", "check", leaking, *COLUMNS, "--no-images") == 0
    assert "duplicates: not looked for, since no image was read" in capsys.readouterr().out
    assert _run("data", "check", leaking, *COLUMNS[:-1], "24") == 0
    assert "smaller than 32 pixels" in capsys.readouterr().out


def test_problems_are_printed_as_json_too(leaking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (leaking.parent / "images" / "copy.png").write_bytes(b"no image")
    assert _run("data", "check", leaking, *COLUMNS, "--json") == 3
    printed = json.loads(capsys.readouterr().out)
    assert "row 152" in printed["problems"][0]
    assert printed["facts"]["duplicates"]["near"]["rows"] == [[2, 153]]
    leaking.write_text(leaking.read_text().replace("images/again.png", ""))
    assert _run("data", "check", leaking, *COLUMNS, "--json") == 3
    assert json.loads(capsys.readouterr().out)["facts"] is None


def test_many_classes_and_groups_are_shown_in_part(lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lesions.open(encoding="utf-8", newline="") as stream:
        images = [row["image"] for row in csv.DictReader(stream)]
    manifest = lesions.parent / "many.csv"
    lines = [f"{image},class {row % 114},group {row % 11}" for row, image in enumerate(images)]
    manifest.write_text("\n".join(["image,dx,site", *lines]) + "\n")
    assert _run("data", "check", manifest, "--label", "dx", "--attribute", "site", "--no-images") == 0
    told = capsys.readouterr().out
    assert "and 104 more labels" in told
    assert "5 more" in told
    assert told.partition("note:")[0].count("class ") == 10
    manifest.unlink()


def test_a_run_records_what_leaks_and_resumes_with_it(leaking: Path, tmp_path: Path) -> None:
    short = ("--backbone", "simple_cnn", "--set", "epochs=1", "--set", "batch_size=64")
    out = tmp_path / "run"
    assert _run("train", leaking, *COLUMNS, *short, "--out", out) == 0
    facts = json.loads((out / "facts.json").read_text())
    assert facts["duplicates"]["identical"]["crossing"][0]["images"] == 1
    assert facts["duplicates"]["near"]["rows"] == [[2, 153]]
    notices = json.loads((out / "run.json").read_text())["notices"]
    assert set(facts["notices"]) <= set(notices)
    assert any("also in train" in notice for notice in notices)
    before = (out / "facts.json").read_bytes()
    stamp = (out / "facts.json").stat().st_mtime_ns
    (out / "audit.json").unlink()
    assert _run("train", leaking, *COLUMNS, *short, "--out", out) == 0
    assert (out / "facts.json").stat().st_mtime_ns == stamp, "computed again though it was there"
    for file in ("facts.json", "audit.json"):
        (out / file).unlink()
    assert _run("train", leaking, *COLUMNS, *short, "--out", out) == 0
    assert (out / "facts.json").read_bytes() == before


def test_the_check_itself_needs_no_torch() -> None:
    script = "import sys, equiprune.data.check, equiprune.commands.facts_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

"""`equiprune report` from the command line, on runs that are laid out as a run lays them out, without training."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from equiprune.audit import audit
from equiprune.cli import main
from equiprune.predictions import Predictions
from equiprune.report.from_run import MOST_STEPS, page_of_runs
from equiprune.report.from_sweep import page_of_sweep
from equiprune.rundir import RunFolder
from equiprune.sweepdir import SweepFolder


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def predictions(skill: float) -> Predictions:
    random = np.random.default_rng(0)
    group, label = random.integers(0, 2, 120), random.integers(0, 3, 120)
    logits = random.normal(size=(120, 3)) + (skill + group[:, None]) * np.eye(3)[label]
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    image = [f"{row}.png" for row in range(120)]
    return Predictions(label, score, group, ["mel", "nev", "bcc"], ["f", "m"], attribute="sex", image=image)


def laid_out(path: Path, skills: Sequence[float] = (0.5, 1.0), *, complete: bool = True, sha: str = "0" * 64) -> Path:
    split = {"images": 120, "units": None, "groups": {"f": 60, "m": 60}}
    record = {
        "recipe": {"data": {"manifest": "m.csv", "image_size": 32}},
        "manifest_sha256": sha,
        "seed": 0,
        "environment": {"command": "equiprune run r.toml", "torch": "2.15"},
        "notices": [],
        "data": {"images": 120, "units": None, "unit": None, "attribute": "sex", "task": "multiclass", "skipped": {},
                 "classes": ["mel", "nev", "bcc"], "splits": {"train": split, "test": split}},
    }  # fmt: skip
    for number, skill in enumerate(skills, 1):
        step = path / "steps" / f"{number:02d}-{'vanilla' if number == 1 else 'fairprune'}"
        step.mkdir(parents=True)
        for part in ("validation", "test"):
            predictions(skill).write(step / f"predictions-{part}.parquet")
        method = step.name.partition("-")[2]
        facts = {"parameters": 1000, "prunable": 900, "zeros": 0, "file_bytes": 4000, "seconds": 1.0}
        (step / "step.json").write_text(json.dumps({"method": method, "settings": {}, "facts": facts}))
    (path / "run.json").write_text(json.dumps(record))
    (path / "split.csv").write_text("image,split\n0.png,test\n")
    if complete:
        audit(predictions(skills[-1]), privileged="m", replicates=40).write(path / "audit.json")
    return path


def test_page_data_and_tables_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = laid_out(tmp_path / "run")
    card = tmp_path / "card.toml"
    card.write_text('intended_use = "Teaching <only>."\n')
    out, tables = tmp_path / "out" / "r.html", tmp_path / "tables"
    assert _run("report", run, "--out", out, "--card", card, "--tables", tables, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(out)
    assert [Path(file).name for file in printed["files"]] == [
        "r.html",
        "r.json",
        "methods.csv",
        "methods.tex",
        "methods.md",
    ]
    assert all(Path(file).is_file() for file in printed["files"])
    html = out.read_text()
    assert "Teaching &lt;only&gt;." in html
    assert "NOT PROVIDED" in html
    data = json.loads(out.with_suffix(".json").read_text())
    assert data["card"] == {"intended_use": "Teaching <only>."}
    assert data["steps"][1]["predicted"]["confusion"]["counts"]["f"]
    with (tables / "methods.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["f1"]) == data["steps"][0]["audit"]["by_group"]["f"]["f1"]["value"]
    before = out.read_bytes()
    assert _run("report", run, "--out", out, "--card", card) == 0
    assert out.read_bytes() == before
    assert "report: " in capsys.readouterr().err


def test_pictures_are_only_there_where_they_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    run = laid_out(tmp_path / "run")
    for row in range(120):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{row}.png")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "r.html"
    assert _run("report", run, "--out", out) == 0
    assert "<img" not in out.read_text()
    assert _run("report", run, "--out", out, "--embed-images") == 0
    assert "<img" in out.read_text()
    alone = laid_out(tmp_path / "alone", (0.5,))
    assert _run("report", alone, "--out", out, "--embed-images") == 0
    assert "Images with a wrong answer" in out.read_text()
    assert "f, wrong</strong>" in out.read_text()


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    run = laid_out(tmp_path / "run")
    script = (
        "import sys; from equiprune.cli import _exit_code; code = _exit_code(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "report", str(run), "--out", str(tmp_path / "r.html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_runs_share_the_first_ones_baseline(tmp_path: Path) -> None:
    runs = [RunFolder(laid_out(tmp_path / "a")), RunFolder(laid_out(tmp_path / "b", (0.8, 1.5)))]
    page = page_of_runs(runs)
    assert [step.name for step in page.steps] == ["a/01-vanilla", "a/02-fairprune", "b/01-vanilla", "b/02-fairprune"]
    assert page.first.audit["fate"] is None
    assert {step.audit["fate"]["baseline"] for step in page.steps[1:]} == {"a/01-vanilla"}
    own = page_of_runs(runs[1:])
    assert own.steps[1].audit["fate"]["baseline"] == "01-vanilla"
    assert own.steps[1].audit["fate"]["eopp1"] != page.steps[3].audit["fate"]["eopp1"]


def test_incomplete_runs_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = laid_out(tmp_path / "whole")
    broken = laid_out(tmp_path / "broken", complete=False)
    out = tmp_path / "r.html"
    assert _run("report", broken, whole, "--out", out) == 0
    assert f"left out: {broken}: this run is not complete" in capsys.readouterr().err
    assert f"{broken}: this run is not complete" in out.read_text()
    assert _run("report", broken, "--out", out) == 2
    assert "this run is not complete" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert _run("report", whole, tmp_path / "empty", "--out", out) == 2
    assert "this folder is not a run" in capsys.readouterr().err


def test_other_data_is_refused_with_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = laid_out(tmp_path / "one"), laid_out(tmp_path / "other", sha="1" * 64)
    assert _run("report", one, other, "--out", tmp_path / "r.html") == 2
    assert f"{other}: its manifest differs from that of {one}" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_of_many_steps_the_ends_are_shown_and_all_are_explored(tmp_path: Path) -> None:
    runs = [RunFolder(laid_out(tmp_path / f"run{at:02d}", (0.5, 0.6 + at / 10))) for at in range(13)]
    page = page_of_runs(runs)
    assert len(page.steps) == MOST_STEPS
    assert [step.name for step in page.steps[:3]] == ["run00/01-vanilla", "run00/02-fairprune", "run01/02-fairprune"]
    assert len(page.models) == 26
    assert "14 more models" in page.notices[-1]
    assert page.title.endswith("run05 and 7 more")


def test_no_run_and_an_older_audit_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from equiprune.errors import UsageError

    with pytest.raises(UsageError, match="name at least one run"):
        page_of_runs([])
    run = laid_out(tmp_path / "run")
    content = json.loads((run / "audit.json").read_text())
    del content["conventions"]
    (run / "audit.json").write_text(json.dumps(content))
    assert _run("report", run, "--out", tmp_path / "r.html") == 3
    assert "audit.json, column 'conventions': is no equiprune-audit/1" in capsys.readouterr().err


def test_what_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = laid_out(tmp_path / "run")
    (tmp_path / "compare.json").write_text("{}")
    assert _run("report", run, "--out", tmp_path / "compare.html") == 2
    assert "in the place of another file" in capsys.readouterr().err
    assert _run("report", run, "--out", tmp_path / "r.txt") == 2
    assert "ends in .html" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    assert _run("report", run, "--out", tmp_path / "r.html", "--figures", tmp_path / "figures") == 2
    assert "figures are drawn by a Chromium" in capsys.readouterr().err
    card = tmp_path / "card.toml"
    card.write_text('limitation = "x"')
    assert _run("report", run, "--out", tmp_path / "r.html", "--card", card) == 2
    assert "Did you mean 'limitations'?" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_figures_are_written_where_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from equiprune.report import pictures

    monkeypatch.setattr(pictures, "browser", lambda: "chromium")
    monkeypatch.setattr(pictures, "write_figures", lambda _page, folder: [folder / "a.svg", folder / "a.png"])
    run = laid_out(tmp_path / "run")
    assert _run("report", run, "--out", tmp_path / "r.html", "--figures", tmp_path / "f") == 0
    assert f"2 files in {tmp_path / 'f'}" in capsys.readouterr().err


def swept(path: Path, *, audited: bool = True, seeds: Sequence[int] = (0, 1)) -> Path:
    """A sweep of two settings, of which the second is taken; one more point failed, and one is left."""
    steps = [{"method": "vanilla"}, {"method": "fairprune", "beta": [0.1, 0.2]}]
    (path / "points").mkdir(parents=True)
    (path / "sweep.json").write_text(json.dumps({"recipe": {"seed": list(seeds), "step": steps}}))
    for at, (seed, beta) in enumerate([(seed, beta) for seed in seeds for beta in (0.1, 0.2)]):
        folder = laid_out(path / "points" / f"000{at}-aa", complete=audited and beta == 0.2)
        _choose(folder, seed, beta)
        figures = [
            {"name": f"0{number}-{method}", "method": method, "f1": f1, "f1_by_group": {"f": f1, "m": f1 + 0.1},
             "eopp0": gap, "eopp1": gap, "eodd": gap, "constant": False, "parameters": 9, "zeros": 0, "seconds": 1.0}
            for number, method, f1, gap in ((1, "vanilla", 0.5, 0.2), (2, "fairprune", 0.5 - beta / 10, 0.2 - beta / 2))
        ]  # fmt: skip
        (folder / "point.json").write_text(json.dumps({"steps": figures}))
    for at, name in ((7, "error.json"), (8, "unfinished.part")):
        folder = path / "points" / f"000{at}-aa"
        folder.mkdir()
        _choose(folder, 5, 0.1)
        (folder / name).write_text(json.dumps({"problems": ["the loss is no number"]}))
    return path


def _choose(folder: Path, seed: int, beta: float) -> None:
    folder.with_suffix(".choice.json").write_text(json.dumps({"seed": seed, "2.beta": beta}))


def _took(path: Path, points: str) -> None:
    rows = [{"taken": False, "points": "0000-aa"}, {"taken": True, "points": points}]
    content = {"gap": "eopp0", "budget": 0.01, "points": 4, "outcomes": rows if points else rows[:1]}
    (path / "outcomes.json").write_text(json.dumps(content))


def test_a_sweep_shows_the_taken_run_on_test_and_all_on_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = swept(tmp_path / "sweep")
    _took(path, "0001-aa 0003-aa")
    out = tmp_path / "r.html"
    assert _run("report", path, "--out", out) == 0
    assert "1 run of the sweep (0007-aa): the loss is no number" in capsys.readouterr().err
    page = page_of_sweep(SweepFolder(path))
    assert (page.title, page.split) == ("sweep", "test")
    assert [step.name for step in page.steps] == ["01-vanilla", "02-fairprune"]
    assert page.sweep is not None
    assert [point.name for point in page.sweep.points] == ["0000-aa", "0001-aa", "0002-aa", "0003-aa"]
    assert (page.sweep.gap, page.sweep.budget, page.sweep.left, page.sweep.among) == ("eopp0", 0.01, 1, 4)
    assert page.sweep.taken == {"2.beta": 0.2}
    assert [one.seed for one in page.sweep.seen] == [0, 1]
    assert page.sweep.looked == 0
    html = out.read_text()
    assert "Trade-off of all that was tried, on validation" in html
    assert "The taken setting on test, seed by seed" in html
    assert "Eopp0 over beta, on validation" in html
    before = out.read_bytes()
    assert _run("report", path, "--out", out) == 0
    assert out.read_bytes() == before


def test_a_sweep_without_a_choice_shows_its_baseline_on_validation(tmp_path: Path) -> None:
    path = swept(tmp_path / "sweep", audited=False)
    page = page_of_sweep(SweepFolder(path))
    assert page.split == "validation"
    assert [step.name for step in page.steps] == ["01-vanilla"]
    assert page.sweep is not None
    assert page.sweep.budget is None
    _took(path, "")
    assert page_of_sweep(SweepFolder(path)).sweep is not None
    _took(path, "0001-aa 0003-aa")
    unaudited = page_of_sweep(SweepFolder(path))
    assert unaudited.split == "validation"
    assert unaudited.sweep is not None
    assert (unaudited.sweep.taken, unaudited.sweep.seen) == ({"2.beta": 0.2}, ())


@pytest.mark.parametrize(("seeds", "left"), [((0, 1), 7), ((0,), 3)])
def test_what_a_search_has_not_proposed_yet_is_left_for_every_seed(
    tmp_path: Path, seeds: tuple[int, ...], left: int
) -> None:
    path = swept(tmp_path / "sweep", audited=False, seeds=seeds)
    record = json.loads((path / "sweep.json").read_text())
    (path / "sweep.json").write_text(json.dumps({**record, "trials": 6}))
    sweep = page_of_sweep(SweepFolder(path)).sweep
    assert sweep is not None
    assert sweep.left == left


def test_test_figures_of_an_earlier_choice_are_counted(tmp_path: Path) -> None:
    path = swept(tmp_path / "sweep")
    _took(path, "0000-aa")
    page = page_of_sweep(SweepFolder(path))
    assert page.sweep is not None
    assert page.sweep.looked == 2


def test_many_reasons_to_fail_are_cut_short(tmp_path: Path) -> None:
    path = swept(tmp_path / "sweep", seeds=(0,))
    for at in range(20, 32):
        folder = path / "points" / f"00{at}-aa"
        folder.mkdir()
        _choose(folder, at, 0.1)
        (folder / "error.json").write_text(json.dumps({"problems": [f"reason {at // 11 if at == 31 else at}"]}))
    left = page_of_sweep(SweepFolder(path)).left_out
    assert len(left) == 11
    assert left[-1] == "runs of the sweep for 3 more reasons: see their error.json"


def test_what_is_no_sweep_to_report_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run, out = swept(tmp_path / "sweep"), laid_out(tmp_path / "run"), tmp_path / "r.html"
    assert _run("report", run, path, "--out", out) == 2
    assert "a sweep has a page of its own. Name nothing beside it" in capsys.readouterr().err
    (path / "outcomes.json").write_text("[]")
    assert _run("report", path, "--out", out) == 3
    assert "outcomes.json: expected a JSON object" in capsys.readouterr().err
    (path / "outcomes.json").unlink()
    shutil.rmtree(path / "points")
    assert _run("report", path, "--out", out) == 2
    assert "no point of this sweep is done yet" in capsys.readouterr().err
    assert not out.exists()


def test_branches_are_known_by_the_steps_they_began_with(tmp_path: Path) -> None:
    run = laid_out(tmp_path / "run", (0.5, 0.8, 1.0, 1.2))
    for step, start in zip(sorted((run / "steps").iterdir()), (0, 1, 0, 3), strict=True):
        record = json.loads((step / "step.json").read_text())
        (step / "step.json").write_text(json.dumps({**record, "start": start}))
    page = page_of_runs([RunFolder(run)])
    assert [step.leads_on for step in page.steps] == [True, False, True, False]
    assert [step.after for step in page.steps] == ["", "01-vanilla", "", "03-fairprune"]
    assert [step.name for step in page.ends] == ["02-fairprune", "04-fairprune"]
    both = page_of_runs([RunFolder(run), RunFolder(laid_out(tmp_path / "other"))])
    assert [step.name for step in both.ends] == ["run/02-fairprune", "run/04-fairprune", "other/02-fairprune"]
    assert both.steps[3].after == "run/03-fairprune"

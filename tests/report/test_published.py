"""Runs beside a published table, laid out without training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from equiprune.audit import audit
from equiprune.metrics.tradeoff import fate
from equiprune.predictions import Predictions
from equiprune.report.from_run import page_of_runs
from equiprune.report.page import render
from equiprune.report.published import Beside, as_csv, as_latex, as_markdown, with_published
from equiprune.rundir import RunFolder

STEPS = (("vanilla", 0, 0.5), ("advconf", 0, 0.7), ("fairprune", 1, 0.9), ("scp", 3, 1.1))


def predictions(skill: float, seed: int) -> Predictions:
    random = np.random.default_rng(0)
    group, label = random.integers(0, 2, 120), random.integers(0, 3, 120)
    noise = np.random.default_rng(seed + 1).normal(size=(120, 3))
    logits = noise + (skill + group[:, None]) * np.eye(3)[label]
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    image = [f"{row}.png" for row in range(120)]
    return Predictions(label, score, group, ["mel", "nev", "bcc"], ["f", "m"], attribute="sex", image=image)


def laid_out(
    path: Path, seed: int = 0, table: str | None = "scp-fitzpatrick17k", *, beta: float = 0.3, smoke: bool = False
) -> RunFolder:
    split = {"images": 120, "units": None, "groups": {"f": 60, "m": 60}}
    recipe = {"seed": seed, "data": {"manifest": "m.csv", "image_size": 32}, "published": table, "smoke": smoke or None}
    record = {
        "recipe": {**recipe, "step": [{"beta": beta}]},
        "manifest_sha256": "0" * 64,
        "seed": seed,
        "environment": {"command": "equiprune run r.toml", "torch": "2.15"},
        "notices": [],
        "data": {"images": 120, "units": None, "unit": None, "attribute": "sex", "task": "multiclass", "skipped": {},
                 "classes": ["mel", "nev", "bcc"], "splits": {"train": split, "test": split}},
    }  # fmt: skip
    for number, (method, start, skill) in enumerate(STEPS, 1):
        step = path / "steps" / f"{number:02d}-{method}"
        step.mkdir(parents=True)
        predictions(skill, seed).write(step / "predictions-test.parquet")
        facts = {"parameters": 1000, "prunable": 900, "zeros": 0, "file_bytes": 4000, "seconds": 1.0}
        text = json.dumps({"method": method, "start": start, "settings": {}, "facts": facts})
        (step / "step.json").write_text(text)
    (path / "run.json").write_text(json.dumps(record))
    (path / "split.csv").write_text("image,split\n0.png,test\n")
    audit(predictions(STEPS[-1][2], seed), privileged="m", replicates=40).write(path / "audit.json")
    return RunFolder(path)


def beside(*runs: RunFolder) -> Beside:
    found = with_published(page_of_runs(runs), runs).published
    assert found is not None
    return found


def test_one_run_stands_beside_what_is_printed(tmp_path: Path) -> None:
    found = beside(laid_out(tmp_path / "run"))
    lines = {line.name: {cell.measure: cell for cell in line.cells} for line in found.lines}
    first, pruned = (
        audit(predictions(skill, 0), privileged="m", replicates=40) for skill in (STEPS[0][2], STEPS[2][2])
    )
    f1 = [float(np.mean([figures.f1.value or np.nan for figures in one.by_group.values()])) for one in (pruned, first)]
    gaps = [one.gaps["eopp1"].value or np.nan for one in (pruned, first)]
    fairprune = lines["FairPrune"]
    assert fairprune["f1"].values == pytest.approx((f1[0],))
    assert fairprune["eopp1"].values == pytest.approx((gaps[0],))
    assert fairprune["fate_eopp1"].values == pytest.approx((fate(*f1, *gaps),))
    assert fairprune["eopp1"].theirs == "0.330"
    assert "[" in fairprune["eopp1"].ours
    assert "±" not in fairprune["eopp1"].ours
    assert lines["AdvConf"]["fate_eopp1"].theirs == "−0.0253"
    assert lines["HSIC"]["f1"].theirs == "not at hand"
    assert lines["HSIC"]["f1"].ours == "not run"
    assert lines["Vanilla"]["fate_eopp1"].ours == lines["Vanilla"]["fate_eopp1"].theirs == "–"
    assert "not run" not in {cell.ours for cell in lines["SCP-FairPrune"].values()}
    assert found.floors[0] == ""
    assert found.chance[2] == first.gaps["eopp1"].floor


def test_marks_are_footnotes_and_the_same_reason_has_one_sign(tmp_path: Path) -> None:
    found = beside(laid_out(tmp_path / "run"))
    signs = dict(found.footnotes)
    lines = {line.name: line for line in found.lines}
    assert len(set(signs.values())) == len(signs)
    assert "copy of AdvRev" in signs[lines["MFD"].signs]
    assert lines["DomainIndep"].signs == lines["HSIC"].signs == lines["FairAdaBN"].signs
    hsic = {cell.measure: cell for cell in lines["HSIC"].cells}
    assert hsic["fate_eopp1"].theirs == f"not at hand{hsic['fate_eodd'].signs}"
    assert "inconsistent" in signs[hsic["fate_eopp1"].signs]


def test_several_seeds_are_a_mean_with_half_of_its_interval(tmp_path: Path) -> None:
    runs = [laid_out(tmp_path / f"r{seed}", seed) for seed in range(4)]
    found = beside(*runs)
    alone = [beside(run) for run in runs]
    assert found.runs == 4
    cell = found.lines[0].cells[2]
    singles = [one.lines[0].cells[2].values or () for one in alone]
    assert cell.values == pytest.approx([value for values in singles for value in values])
    assert cell.ours.startswith(f"{cell.mean:.3f} ± {cell.half:.3f}")
    assert any("mean of 4 runs" in sentence for sentence in found.sentences)
    # FATE of each run is against the baseline of its own seed, not of the first.
    second = alone[1].lines[-1].cells[5].values
    assert second is not None
    assert (found.lines[-1].cells[5].values or ())[1] == pytest.approx(second[0])


def test_runs_of_other_settings_are_not_averaged_with_the_first(tmp_path: Path) -> None:
    runs = [laid_out(tmp_path / "a", 0), laid_out(tmp_path / "b", 1, beta=0.7)]
    found = beside(*runs)
    assert found.runs == 1
    assert "1 of the runs have other settings than the first and are not in this table." in found.sentences
    assert "[" in found.lines[0].cells[2].ours


def test_a_smoke_run_says_first_that_it_means_nothing(tmp_path: Path) -> None:
    assert beside(laid_out(tmp_path / "run", smoke=True)).sentences[0].startswith("This is a smoke run")


def test_without_a_named_table_the_page_has_no_such_section(tmp_path: Path) -> None:
    run = laid_out(tmp_path / "run", table=None)
    page = page_of_runs([run])
    assert with_published(page, [run]) is page
    assert 'id="published"' not in render(page)


def test_a_table_of_signed_gaps_takes_them_with_their_sign(tmp_path: Path) -> None:
    found = beside(laid_out(tmp_path / "run", table="cxr-chexpert"))
    first = audit(predictions(STEPS[0][2], 0), privileged="m", replicates=40).gaps["tpr"].signed
    assert found.head == ("ΔTPR", "ΔFPR", "ΔPPV")
    assert found.lines[0].cells[0].values == pytest.approx((first,))
    assert found.floors == ("", "", "")
    assert "Chance" not in as_markdown(found)
    assert found.lines[-1].cells[0].ours == "not run"


def test_a_figure_that_one_run_lacks_is_not_estimable(tmp_path: Path) -> None:
    cell = beside(laid_out(tmp_path / "run")).lines[0].cells[0]
    assert type(cell)(cell.measure, None, "", (0.5, float("nan"))).ours == "not estimable"


def test_the_section_and_its_three_files(tmp_path: Path) -> None:
    run = laid_out(tmp_path / "run")
    page = with_published(page_of_runs([run]), [run])
    html = render(page)
    assert '<a href="#published">Published</a>' in html
    assert "Kong et al." in html
    assert html.count('<td colspan="7">not at hand</td>') == 2  # AdvRev and FairAdaBN; HSIC has marked cells
    found = page.published
    assert found is not None
    rows = list(csv.DictReader(as_csv(found).splitlines()))
    assert len(rows) == 11 * 7
    row = next(row for row in rows if row["method"] == "FairPrune" and row["measure"] == "eopp1")
    assert (row["printed"], row["runs"], row["half_interval"]) == ("0.330", "1", "")
    assert float(row["ours"]) > 0
    assert next(row for row in rows if row["measure"] == "fate_eopp1")["ours"] == ""
    markdown, latex = as_markdown(found), as_latex(found)
    assert "| FairPrune | printed | 0.483 | 0.0008 | 0.330 | 0.165 | 0.3317 | 0.0329 | 0.0405 |" in markdown
    assert "FairPrune & printed & 0.483" in latex
    assert latex.partition(r"\end{tabular}")[0].isascii()

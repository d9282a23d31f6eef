"""What the page is besides HTML: tables for a paper, data for programs, the appendix, pictures."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from equiprune.errors import DataError, UsageError
from equiprune.report import pictures
from equiprune.report.document import as_text, place
from equiprune.report.modelcard import ModelCard
from equiprune.report.page import Page, render
from equiprune.report.papertable import as_csv, as_latex, as_markdown, parts
from equiprune.report.plates import plates
from equiprune.report.standards import ASKED, MISSING, standards, unanswered

Make = Callable[..., Page]


def test_the_table_has_groups_mean_difference_and_fate(page: Page) -> None:
    first, last = parts(page.models)
    assert [line.group or line.summary for line in last.lines] == ["female", "male", "Avg", "Diff"]
    assert last.lines[0].values == pytest.approx((0.54, 0.56, 0.58))
    assert last.lines[2].values == pytest.approx((0.57, 0.59, 0.61))
    assert last.lines[3].values == pytest.approx((0.06, 0.06, 0.06))
    assert last.gaps == pytest.approx((0.0132, 0.08, 0.08))
    assert last.fates == (None, 0.21, -0.03)
    assert first.fates == (None, None, None)


def test_a_group_without_a_figure_has_no_mean(page: Page) -> None:
    rows = dict(page.last.audit["by_group"])
    rows["female"] = {**rows["female"], "f1": {"value": None, "low": None, "high": None}}
    model = dataclasses.replace(page.models[1], audit={**page.last.audit, "by_group": rows})
    (part,) = parts([model])
    assert [line.values[2] for line in part.lines] == [None, pytest.approx(0.64), None, None]
    assert part.lines[2].values[0] is not None


def test_csv_holds_every_number_in_full(page: Page) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(parts(page.models)))))
    assert len(rows) == 8
    assert [row["row"] for row in rows[:4]] == ["group", "group", "avg", "diff"]
    assert float(rows[4]["precision"]) == page.last.audit["by_group"]["female"]["precision"]["value"]
    assert rows[4]["fate_eopp0"] == ""
    assert rows[4]["fate_eopp1"] == "0.21"


def test_names_do_not_break_the_tables(hostile_page: Page, page: Page) -> None:
    wild, tame = parts(hostile_page.models), parts(page.models)
    rows = list(csv.reader(io.StringIO(as_csv(wild))))
    assert {len(row) for row in rows} == {12}
    lines = as_markdown(wild).splitlines()
    cells = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}
    assert cells == {9}
    assert not any("<" in line for line in lines)
    latex = as_latex(wild)
    assert latex.count("\\\\\n") == 1 + 2 * 12
    text = re.sub(r"\\[{}$&#%_]|\\text\w+\{\}", "", latex)
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"(?<!\\)&", latex)) == 7 * (1 + 2 * 12)
    assert as_latex(tame).count("&") == 7 * (1 + 2 * 4)


def test_latex_as_in_the_papers(page: Page) -> None:
    lines = as_latex(parts(page.models)).splitlines()
    assert lines[2:4] == ["\\toprule", lines[3]]
    assert "Eopp1 $\\downarrow$ / FATE $\\uparrow$" in lines[3]
    assert lines[10].startswith(
        "\\multirow{4}{*}{02-fairprune} & female & 0.540 & 0.560 & 0.580 & \\multirow{4}{*}{0.013 / --}"
    )
    assert "\\multirow{4}{*}{0.080 / $-$0.030}" in lines[10]


def test_the_document_is_the_page_as_data(page: Page) -> None:
    text = as_text(page)
    assert text == as_text(page)
    found = json.loads(text)
    assert found["schema"] == "equiprune-report/1"
    assert found["steps"][1]["audit"]["gaps"]["eopp1"]["value"] == pytest.approx(0.08)
    assert found["verdict"]["cards"][0]["question"] == "Test images"
    assert found["standards"][0]["answer"] == "as we know it"


def test_the_document_holds_any_name_and_no_number_that_json_lacks(hostile_page: Page) -> None:
    log = [{"epoch": 1, "loss": float("nan")}]
    steps = (dataclasses.replace(hostile_page.first, log=log), hostile_page.last)
    found = json.loads(as_text(dataclasses.replace(hostile_page, steps=steps)).encode("utf-8"))
    assert found["steps"][0]["log"] == [{"epoch": 1, "loss": None}]
    assert found["title"] == hostile_page.title


def test_the_document_takes_no_other_files_place(page: Page, tmp_path: Path) -> None:
    assert place(tmp_path / "a.html") == tmp_path / "a.json"
    (tmp_path / "a.json").write_text(as_text(page))
    assert place(tmp_path / "a.html") == tmp_path / "a.json"
    for other in ('{"schema": "equiprune-comparison/1"}', "[]", "no json"):
        (tmp_path / "a.json").write_text(other)
        with pytest.raises(UsageError, match="in the place of another file"):
            place(tmp_path / "a.html")


def test_every_field_of_a_card_is_asked_for_and_shown(page: Page) -> None:
    assert {field for _, field, _, _ in ASKED} == set(ModelCard.model_fields)
    items = standards(page)
    assert [item.question for item in items if item.answer == MISSING] == ["Who paid?"]
    assert unanswered(items).startswith("1 of ")
    assert "All" in unanswered(tuple(item for item in items if item.answer != MISSING))
    bare = dataclasses.replace(page, card={})
    assert sum(item.answer == MISSING for item in standards(bare)) == len(ASKED)
    assert render(bare).count(f'<td class="missing">{MISSING}</td>') == len(ASKED)


def test_the_appendix_tells_what_the_tool_knows(page: Page) -> None:
    told = {item.question: item.answer for item in standards(page)}
    assert told["How many images and patients?"] == "5,660 images of 4,000 patients."
    assert told["How were they split?"].endswith("No patient is in two splits.")
    assert told["Were images left out for being unreadable?"] == "2."
    assert told["Must it be told the attribute at use?"] == "No."
    assert "torch 2.15; seed 0" in told["With which software and seed?"]
    facts = {**page.last.facts, "needs_group": True}
    gap = {**page.last.audit["gaps"]["eopp1"], "detectable": 0.1}
    audit = {**page.last.audit, "gaps": {**page.last.audit["gaps"], "eopp1": gap}}
    other = dataclasses.replace(
        page,
        steps=(page.first, dataclasses.replace(page.last, facts=facts, audit=audit)),
        data={**page.data, "unit": None, "units": None, "skipped": None},
        environment={"seed": 1},
    )
    told = {item.question: item.answer for item in standards(other)}
    assert told["How many images and patients?"] == "5,660 images, without ids of patients."
    assert told["Were images left out for being unreadable?"] == "None."
    assert told["Must it be told the attribute at use?"] == "The last model must be."
    assert told["With which software and seed?"] == "versions not recorded; seed 1."
    assert "A gap of 0.100 would be found" in told["How large is the gap, and could it be chance?"]
    assert "What is unknown: a true gap of 0.100" in render(other)


def test_every_field_of_a_card_is_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` | {field.description} |" in text for name, field in ModelCard.model_fields.items())


def test_a_card_is_read(tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    file.write_text('intended_use = "  Teaching.  "\nlimitations = """\nMany.\n"""\nfunding = ""\n')
    assert ModelCard.read(file).given() == {"intended_use": "Teaching.", "limitations": "Many."}


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ('intended_us = "x"\nmonitor = "y"', UsageError, "'intended_us': unknown key. Did you mean 'intended_use'?"),
        ('intended_us = "x"\nmonitor = "y"', UsageError, "'monitor': unknown key. Did you mean 'monitoring'?"),
        ("harms = 3", UsageError, "'harms': input should be a valid string, not 3"),
        ("intended_use: Teaching", DataError, "cannot be read"),
    ],
)
def test_a_wrong_card_is_refused(tmp_path: Path, text: str, error: type[Exception], told: str) -> None:
    file = tmp_path / "card.toml"
    file.write_text(text)
    with pytest.raises(error, match=re.escape(told)):
        ModelCard.read(file)


@pytest.mark.parametrize("name", ["card.yaml", "card.yml"])
def test_a_card_in_yaml_says_the_same(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("# ours\nintended_use: Teaching.\nlimitations: |\n  Many.\nfunding:\n")
    assert ModelCard.read(file).given() == {"intended_use": "Teaching.", "limitations": "Many."}
    file.write_text("")
    assert ModelCard.read(file).given() == {}


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("intended_us: x\nmonitor: y", UsageError, "'intended_us': unknown key. Did you mean 'intended_use'?"),
        ("harms: yes", UsageError, "'harms': input should be a valid string, not True"),
        ("harms: none\nowner: x\nharms: many", UsageError, "card.yaml, row 3, column 'harms': stands twice"),
        ("owner:\n- a\nharms: {b: c}", UsageError, "card.yaml, row 3, column 'harms': expected a text"),
        ("harms: none\nowner: x: y", DataError, "cannot be read: mapping values are not allowed here, line 2"),
        ("updating: 2026-13-01", DataError, "cannot be read: month must be in 1..12"),
        ("owner: " + "[" * 5000, DataError, "cannot be read"),
        ("- harms", UsageError, "expected a table"),
        ("3: x", UsageError, "'3'"),
    ],
)
def test_a_wrong_card_in_yaml_is_refused(tmp_path: Path, text: str, error: type[Exception], told: str) -> None:
    file = tmp_path / "card.yaml"
    file.write_text(text)
    with pytest.raises(error, match=re.escape(told)):
        ModelCard.read(file)


def test_a_card_in_another_form_is_told_which_there_are(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    file.write_text('{"intended_use": "Teaching"}')
    with pytest.raises(DataError, match="A card is a TOML file, or YAML"):
        ModelCard.read(file)
    with pytest.raises(DataError, match="cannot be read"):
        ModelCard.read(tmp_path / "absent.toml")


def test_runs_that_were_left_out_are_named(page: Page) -> None:
    assert "runs/broken: this run is not complete" in render(page)
    assert "Left out" not in render(dataclasses.replace(page, left_out=()))


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program that is called as a browser is."""
    program = folder / "chromium"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_figures_need_a_browser(monkeypatch: pytest.MonkeyPatch, page: Page, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="the PATH has none of chromium"):
        pictures.write_figures(page, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "drawing the figures failed"),
        ("echo '<html></html>'", "did not draw explorer.svg, explorer.png"),
        ('echo \'<i data-name="explorer" data-kind="png">data:image/png;base64,!</i>\'', "drawing the figures failed"),
    ],
)
def test_a_browser_that_draws_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, page: Page, tmp_path: Path, script: str, told: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(DataError, match=told):
        pictures.write_figures(page, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


@pytest.mark.skipif(not any(map(shutil.which, pictures.BROWSERS)), reason="no chromium on this machine")
def test_figures_become_svg_and_png(
    page: Page, hostile_page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {name: plates(page).specs()[name] for name in ("explorer", "groups-f1", "class-gaps-map")}
    drawn["hostile"] = plates(hostile_page).specs()["groups-f1"]
    monkeypatch.setattr(pictures, "plates", lambda _page: SimpleNamespace(specs=lambda: drawn))
    names = pictures.write_figures(page, tmp_path / "a")
    assert {path.name for path in names} == {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    svg, png = tmp_path / "a" / "groups-f1.svg", tmp_path / "a" / "groups-f1.png"
    assert "female (n = 400)" in svg.read_text()
    assert "rgb(0, 114, 178)" in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not any("<script" in path.read_text() for path in names if path.suffix == ".svg")
    pictures.write_figures(page, tmp_path / "b")
    assert all((tmp_path / "b" / path.name).read_bytes() == path.read_bytes() for path in names)

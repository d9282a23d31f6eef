"""`equiprune audit` as a user calls it: groups, thresholds, conventions, limits."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import equiprune
from equiprune.cli import main


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def table(path: Path, *, findings: bool = False, rows: int = 400) -> Path:
    """Two classes or two findings, skin types 1 to 6, and a column of splits."""
    rng = np.random.default_rng(0)
    label = (rng.random((rows, 2)) < 0.4).astype(int)
    score = np.clip(0.35 * label + 0.6 * rng.random((rows, 2)), 0, 1).round(3)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        head = ["image", "skin_type", "split"]
        names = (
            ["label_edema", "label_mass", "score_edema", "score_mass"]
            if findings
            else ["label", "score_no", "score_yes"]
        )
        writer.writerow(head + names)
        for i in range(rows):
            known = [f"{i}.png", 1 + i % 6, ("test", "validation")[i % 3 == 0]]
            one = score[i, 0]
            cells = [*label[i], *score[i]] if findings else [("no", "yes")[label[i, 0]], f"{1 - one:.3f}", f"{one:.3f}"]
            writer.writerow([*known, *cells])
    return path


def audited(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert _run("audit", *arguments, "--json", "--replicates", "50") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


GROUPED = ("--attribute", "skin_type", "--groups", "light=1-3;dark=4,5,6")


def test_groups_of_a_table_are_regrouped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(capsys, table(tmp_path / "p.csv"), *GROUPED)
    assert found["attribute"]["groups"] == ["light", "dark"]
    assert any("--split test" in notice for notice in found["notices"])
    one = audited(capsys, tmp_path / "p.csv", *GROUPED, "--split", "test")
    assert one["n"] == 266
    assert not any("--split test" in notice for notice in one["notices"])


def test_several_groups_show_their_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(capsys, table(tmp_path / "p.csv"), "--attribute", "skin_type")
    assert len([pair for pair in found["pairs"] if pair["gap"] == "eopp1"]) == 15
    assert _run("audit", tmp_path / "p.csv", "--attribute", "skin_type", "--replicates", "50") == 0
    assert "worst pair" in capsys.readouterr().out


@pytest.mark.parametrize("rule", ["youden", "sensitivity=0.9"])
def test_thresholds_are_chosen_on_the_validation_rows(
    rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "p.csv", findings=True)
    found = audited(capsys, path, *GROUPED, "--split", "test", "--threshold", rule)
    chosen = found["thresholds"]
    assert (chosen["rule"], chosen["chosen_on"]) == (rule, 134)
    assert set(chosen["values"]) == {"edema", "mass"}
    # The same from a table of its own.
    rows = path.read_text().splitlines()
    (tmp_path / "v.csv").write_text("\n".join([rows[0], *(row for row in rows if ",validation," in row)]))
    again = audited(capsys, path, *GROUPED, "--split", "test", "--threshold", rule, "--validation", tmp_path / "v.csv")
    assert again["thresholds"] == chosen
    assert again["gaps"] == found["gaps"]
    plain = audited(capsys, path, *GROUPED, "--split", "test")
    assert plain["by_class"] != found["by_class"]
    assert plain["by_class"][0]["auroc"]["value"] == found["by_class"][0]["auroc"]["value"]


def test_two_classes_and_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(capsys, table(tmp_path / "p.csv"), *GROUPED, "--threshold", "0.3")
    assert found["thresholds"] == {"rule": "0.3", "chosen_on": None, "values": {"no": 0.7, "yes": 0.3}}
    assert _run("audit", tmp_path / "p.csv", *GROUPED, "--threshold", "0.3", "--replicates", "20") == 0
    assert "thresholds (0.3): no 0.7, yes 0.3" in capsys.readouterr().out


def test_conventions_are_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--eodd", "sum", "--zero-support", "as_zero", "--min-support", "3")
    found = audited(capsys, table(tmp_path / "p.csv"), *GROUPED, *options)["conventions"]
    assert (found["eodd"], found["zero_support"], found["min_support"]) == ("sum", "as_zero", 3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--threshold", "youden"), "is chosen on validation predictions, and there are none"),
        (("--threshold", "yuden"), "Did you mean 'youden'"),
        (("--validation", "v.csv"), "--validation is for choosing thresholds"),
        (("--groups", "light=1"), "fewer than two groups"),
        (("--fail-on", "f1<0.6"), "Write overall.f1 for the figure, or gaps.f1 for its gap"),
        (("--fail-on", "tpr<0.5"), "tpr alone means the gap between groups, and 0 is fair. Write gaps.tpr"),
        (("--fail-on", "overall.eopp1>0.6"), "there is no figure 'eopp1'"),
        (("--fail-on", "overall.f1.floor>0.6"), "has no 'floor'"),
        (("--min-support", "0"), "min_support must be at least 1"),
    ],
)
def test_wrong_use_is_told(
    arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "p.csv")
    options = arguments if "--groups" in arguments else (*GROUPED[2:], *arguments)
    assert _run("audit", path, "--attribute", "skin_type", "--replicates", "20", *options) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("overall.f1<0.99", 5),
        ("accuracy<0.99", 5),
        ("gaps.accuracy>0.99", 0),
        ("worst_group.f1<0.99", 5),
        ("eopp1.detectable>0.001", 5),
        ("gaps.f1<0.99", 5),
        ("selection_rate>0.99", 0),
    ],
)
def test_limits_name_a_section_or_go_by_the_contract(limit: str, code: int, tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv")
    assert _run("audit", path, *GROUPED, "--replicates", "20", "--fail-on", limit) == code


def test_a_limit_on_what_is_not_estimable_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{i}.png,{'ab'[i % 2]},{'fm'[i // 2 % 2]},{1 - i % 2},{i % 2}" for i in range(40)]
    path.write_text("\n".join(["image,label,sex,score_a,score_b", *rows]))
    limit = ("--fail-on", "overall.calibration_slope<0.5")
    assert _run("audit", path, "--attribute", "sex", "--replicates", "20", *limit) == 0
    assert "not estimable, and the limit counts as kept" in capsys.readouterr().err
    assert _run("audit", path, "--attribute", "sex", "--replicates", "20", *limit, "--fail-on-missing") == 5


def test_a_limit_that_rests_on_fewer_classes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{i}.png,{'a' if i % 2 or i >= 40 else 'b'},{'fm'[i >= 40]},0.9,0.1" for i in range(80)]
    path.write_text("\n".join(["image,label,sex,score_a,score_b", *rows]))
    limit = ("--fail-on", "eopp1>0.9")
    assert _run("audit", path, "--attribute", "sex", "--replicates", "20", *limit) == 0
    assert "eopp1 > 0.9: 1 class is left out" in capsys.readouterr().err
    assert _run("audit", path, "--attribute", "sex", "--replicates", "20", *limit, "--fail-on-missing") == 5


def test_thresholds_are_not_chosen_on_the_rows_they_are_judged_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "p.csv", findings=True)
    options = (*GROUPED, "--threshold", "youden", "--validation", path)
    assert audited(capsys, path, *options, "--split", "test")["thresholds"]["chosen_on"] == 134  # its validation rows
    notices = audited(capsys, path, *options)["notices"]
    assert any(notice.startswith("134 images are among those that thresholds were chosen on") for notice in notices)


@pytest.mark.parametrize("groups", [5, 40])
def test_many_groups_are_rows(groups: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{i}.png,{'ab'[i % 2]},h{i % groups},{0.6 - i % 3 / 10},{0.4 + i % 3 / 10}" for i in range(20 * groups)]
    path.write_text("\n".join(["image,label,site,score_a,score_b", *rows]))
    assert _run("audit", path, "--attribute", "site", "--replicates", "20") == 0
    out = capsys.readouterr().out
    assert "lowest F1 first" in out
    assert ("and 20 more groups" in out) == (groups == 40)
    assert all(len(line) <= 110 for line in out.splitlines())


def test_an_audit_says_where_it_came_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "p.csv")
    found = audited(capsys, path, *GROUPED, "--split", "test", "--missing", "7")
    assert found["source"] == {
        "version": equiprune.__version__,
        "file": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "split": "test",
        "unit": None,
        "groups": "light=1-3;dark=4,5,6",
        "missing": "7",
    }
    assert any("with only 50 replicates" in notice for notice in found["notices"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--seed", "-1"), "seed must be at least 0, not -1"),
        (("--fail-on-missing",), "--fail-on-missing says what limits mean"),
        (("--out", "/proc/equiprune"), "cannot be written"),
    ],
)
def test_what_cannot_be_asked_for(
    arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("audit", table(tmp_path / "p.csv"), *GROUPED, "--replicates", "20", *arguments) == 2
    assert told in " ".join(capsys.readouterr().err.split())

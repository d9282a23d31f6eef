from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equiprune.audit import audit
from equiprune.cli import main
from equiprune.comparefile import Comparison
from equiprune.predictions import Predictions


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def model(skill: float, seed: int = 1, n: int = 120) -> Predictions:
    """Predictions on always the same images; the dark group is served the worse the lower the skill."""
    label = np.arange(n) // 2 % 2
    group = np.arange(n) % 2
    right = np.random.default_rng(seed).random(n) < np.where(group == 1, skill, 0.9)
    score = np.where(right == (label == 1), 0.8, 0.3)
    image = [f"{i}.png" for i in range(n)]
    return Predictions(
        label, np.column_stack([1 - score, score]), group, ["nev", "mel"], ["light", "dark"], "tone", image=image
    )


def run_of(path: Path, *steps: tuple[str, Predictions], complete: bool = True) -> Path:
    """A run's directory with what `compare` reads of it."""
    for name, predictions in steps:
        folder = path / "steps" / name
        folder.mkdir(parents=True)
        (folder / "step.json").write_text("{}")
        predictions.write(folder / "predictions-test.parquet")
        predictions.take(np.arange(60)).write(folder / "predictions-validation.parquet")
    (path / "run.json").write_text(json.dumps({"data": {"attribute": "tone"}}))
    if complete:
        audit(steps[-1][1], replicates=10, privileged="dark").write(path / "audit.json")
    return path


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.csv", tmp_path / "new.parquet"
    model(0.55).write(old)
    model(0.9, 2).take(np.arange(120)[::-1]).write(new)
    return old, new


def test_two_tables(tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "compare.json"
    assert _run("compare", *tables, "--attribute", "tone", "--replicates", "200", "--json", "--out", out) == 0
    told = capsys.readouterr()
    content = json.loads(told.out)
    assert content == Comparison.read(out).to_dict()
    assert "compare.json" in told.err
    assert content["models"] == ["old", "new"]
    assert content["attribute"]["privileged"] == "light"  # the baseline's higher F1
    assert content["conventions"]["paired_by"] == "image"
    assert content["comparisons"]["new"]["fairness"]["code"] == "fairer"
    assert content["comparisons"]["new"]["quality"]["code"] == "better"


def test_what_is_printed(tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("compare", *tables, "--attribute", "tone", "--replicates", "100", "--privileged", "dark") == 0
    printed = capsys.readouterr().out
    for text in ("gap eopp1", "f1 of dark", "FATE", "on the front of", "not adjusted", "privileged dark"):
        assert text in printed, text
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.count("\n") < 60


def test_the_steps_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", ("01-vanilla", model(0.6)), ("02-fairprune", model(0.8, 2)))
    assert _run("compare", run, "--replicates", "50", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["models"] == ["01-vanilla", "02-fairprune"]
    assert content["attribute"]["privileged"] == "dark"  # as the run's audit has it
    assert content["n"] == 120
    assert _run("compare", run, "--replicates", "50", "--json", "--split", "validation") == 0
    assert json.loads(capsys.readouterr().out)["n"] == 60


def test_a_model_that_was_given_to_a_later_run_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, given = model(0.6), model(0.6).take(np.arange(120)[::-1])
    one = run_of(tmp_path / "one", ("01-vanilla", first), complete=False)
    two = run_of(tmp_path / "two", ("00-given", given), ("01-obd", model(0.7, 3)))
    three = run_of(tmp_path / "three", ("00-given", model(0.7, 4)), ("01-obd", first))
    assert _run("compare", one, two, three, "--replicates", "20", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["models"] == ["one/01-vanilla", "two/01-obd", "three/00-given", "three/01-obd"]
    assert "two/00-given is the same model as one/01-vanilla, and left out" in content["notices"]
    assert content["comparisons"]["three/01-obd"]["fairness"]["code"] == "identical"
    assert content["attribute"]["privileged"] == "light"  # on the baseline's validation predictions


def test_runs_and_tables_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        model(0.7, 5).write(tmp_path / folder / "p.csv")
    run = run_of(tmp_path / "run", ("01-vanilla", model(0.6)))
    paths = [run, tmp_path / "a" / "p.csv", tmp_path / "b" / "p.csv"]
    assert _run("compare", *paths, "--attribute", "tone", "--replicates", "20", "--json") == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert models == ["run/01-vanilla", "p", str(tmp_path / "b" / "p.csv")]


def test_wrong_use(tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", ("01-vanilla", model(0.6)))
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other.csv"
    model(0.6, n=100).write(other)
    wrong: list[tuple[tuple[str | Path, ...], int, str]] = [
        (("compare",), 2, "RUNS"),
        ((*tables,), 2, "--attribute"),
        ((tables[0], "--attribute", "tone"), 2, "two models are needed; there is old"),
        ((run,), 2, "two models are needed; there is 01-vanilla"),
        ((tables[0], tables[0], "--attribute", "tone"), 2, "named twice"),
        ((tmp_path / "empty", run), 2, "this folder is not a run"),
        ((run, "--attribute", "tone"), 2, "--attribute cannot be given"),
        ((*tables, "--attribute", "tone", "--gap", "eop1"), 2, "Did you mean 'eopp1'"),
        ((*tables, "--attribute", "tone", "--privileged", "lite"), 2, "Did you mean 'light'"),
        ((*tables, "--attribute", "tone", "--out", tmp_path / "c.csv"), 2, "ends in .json"),
        ((tables[0], tmp_path / "absent.csv", "--attribute", "tone"), 3, "absent.csv"),
        ((tables[0], other, "--attribute", "tone"), 3, "20 of 120 images of old are missing: '100.png'"),
    ]
    for arguments, code, told in wrong:
        given = arguments if arguments[0] == "compare" else ("compare", *arguments)
        assert _run(*given) == code, arguments
        error = capsys.readouterr().err
        assert told in error, error
        assert "Traceback" not in error
    assert not (tmp_path / "c.csv").exists()


def test_it_needs_no_torch(tables: tuple[Path, Path]) -> None:
    script = (
        "import sys; from equiprune.cli import _exit_code; code = _exit_code(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    arguments = ["compare", *map(str, tables), "--attribute", "tone", "--replicates", "20"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("compare", "--help") == 0
    told = capsys.readouterr().out
    for option in ("--out", "--json", "--attribute", "--unit", "--split", "--label", "--replicates", "--seed", "--gap"):
        assert option in told, option

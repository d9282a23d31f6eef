"""Sweeps: points, what they share, workers that are killed, and what is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from equiprune.choosing import Outcome, chosen, outcomes
from equiprune.cli import main
from equiprune.errors import UsageError
from equiprune.files import sha256
from equiprune.grid import Grid
from equiprune.recipe import Recipe
from equiprune.run import Place, carry_out
from equiprune.sweep import Sweep

RECIPE = """
seed = {seed}
[data]
manifest = "{manifest}"
label = "label"
attribute = "skin_tone"
unit = "patient_id"
image_size = 32
[model]
backbone = "simple_cnn"
[training]
epochs = 3
batch_size = 32
learning_rate = 2e-3
augment = "none"
[[step]]
method = "vanilla"
[[step]]
method = "fairprune"
beta = {beta}
ratio = {ratio}
step = 0.05
samples = 20
keep = "last"
budget = 1.0
"""
KILLS = int(os.environ.get("EQUIPRUNE_KILLS", "2"))


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


def recipe(
    folder: Path, manifest: Path, *, seed: object = 0, beta: object = "[0.1, 0.33]", ratio: object = "[0.1, 0.2]"
) -> Path:
    path = folder / "sweep.toml"
    path.write_text(RECIPE.format(seed=seed, manifest=manifest, beta=beta, ratio=ratio))
    return path


def models(sweep: Sweep) -> dict[str, str]:
    """The hash of every point's last model."""
    return {
        json.dumps(folder.choice): sha256(folder.path / "steps" / "02-fairprune" / "model.safetensors")
        for folder in sweep.points()
    }


@pytest.fixture(scope="module")
def swept(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("swept")
    out = folder / "sweep"
    assert _run("sweep", recipe(folder, lesions, seed="[0, 1]"), "--out", out, "--budget", "1") == 0
    return Sweep(out)


def test_every_point_ends_as_its_own_run_would(swept: Sweep, lesions: Path, tmp_path: Path) -> None:
    assert len(swept.points()) == 8
    for seed, beta, ratio in ((1, 0.33, 0.1), (0, 0.1, 0.2)):
        path = recipe(tmp_path, lesions, seed=seed, beta=beta, ratio=ratio)
        alone = carry_out(Recipe.read(path), Place(tmp_path / f"{seed}{beta}{ratio}", replicates=20))
        choice = json.dumps({"seed": seed, "2.beta": beta, "2.ratio": ratio})
        assert sha256(alone.steps()[-1].path / "model.safetensors") == models(swept)[choice]


def test_what_points_share_is_done_once(swept: Sweep) -> None:
    kept = [json.loads((path / "step.json").read_text())["method"] for path in (swept.path / "steps").glob("*/")
            if (path / "step.json").is_file()]  # fmt: skip
    assert sorted(kept) == ["fairprune"] * 8 + ["vanilla"] * 2
    shared = swept.path / "steps" / "shared"
    assert len(list(shared.glob("*.safetensors"))) == 2  # the second derivative of each seed's model
    assert len(list(shared.glob("*/log.jsonl"))) == 4  # ratios share the way: two seeds, two values of beta


def test_the_study_has_every_point_once(swept: Sweep) -> None:
    trials = swept.study().get_trials()
    assert sorted(trial.user_attrs["point"] for trial in trials) == [folder.name for folder in swept.points()]
    assert all(set(trial.params) == {"seed", "2.beta", "2.ratio"} for trial in trials)


def test_one_outcome_is_taken_and_only_its_points_are_audited(swept: Sweep) -> None:
    found = json.loads((swept.path / "outcomes.json").read_text())
    rows = found["outcomes"]
    assert [(row["2.beta"], row["2.ratio"]) for row in rows] == [(0.1, 0.1), (0.1, 0.2), (0.33, 0.1), (0.33, 0.2)]
    (taken,) = [row for row in rows if row["taken"]]
    assert taken["gap"] == min(row["gap"] for row in rows if row["gap"] is not None)
    audited = {folder.name for folder in swept.points() if (folder.path / "audit.json").is_file()}
    assert audited == set(taken["points"].split())
    assert len(audited) == 2
    assert (swept.path / "outcomes.csv").read_text().splitlines()[0].startswith("2.beta,2.ratio,f1,gap,lost,fate,")


def test_the_sweep_has_a_page_with_all_of_it(swept: Sweep) -> None:
    assert "Trade-off of all that was tried, on validation" in (swept.path / "report.html").read_text(encoding="utf-8")
    found = json.loads((swept.path / "report.json").read_text(encoding="utf-8"))
    assert [point["name"] for point in found["sweep"]["points"]] == [folder.name for folder in swept.points()]
    assert found["split"] == "test"


def test_it_carries_on_and_does_nothing_twice(swept: Sweep, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = models(swept)
    path = recipe(swept.path.parent, lesions, seed="[0, 1]")
    assert _run("sweep", path, "--out", swept.path, "--budget", "1") == 0
    assert "step 1 of 2" not in capsys.readouterr().err
    assert models(swept) == before


def test_a_dry_run_tells_what_would_be_done(swept: Sweep, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(swept.path.parent, lesions, seed="[0, 1]")
    assert _run("sweep", path, "--out", swept.path, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "8 points; 10 steps to carry out, where each point alone would take 16" in told
    assert "8 points are done; by what their steps took" in told


def at_war(war: Sweep) -> None:
    """Two workers; a random one is killed, and another one begun, after a few seconds."""
    command = [sys.executable, "-m", "equiprune", "sweep", "--join", str(war.path)]
    draw = random.Random(0)

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})

    workers = [started(), started()]
    for _ in range(KILLS):
        time.sleep(draw.uniform(0.2, 8))
        number = draw.randrange(2)
        workers[number].send_signal(signal.SIGKILL)
        workers[number].wait()
        workers[number] = started()
    assert [worker.wait(timeout=400) for worker in workers] == [0, 0]


@pytest.mark.timeout(900)
def test_workers_that_are_killed_lose_nothing(lesions: Path, tmp_path: Path) -> None:
    """Two workers, one of which is killed again and again; every point is done once and as in peace.

    With EQUIPRUNE_KILLS=20 it is 30 points.
    """
    many = KILLS >= 20
    beta = "[0.05, 0.1, 0.2, 0.33, 0.5, 0.7]" if many else "[0.1, 0.33]"
    path = recipe(tmp_path, lesions, beta=beta, ratio=f"[0.05, 0.1, 0.15{', 0.2, 0.25' if many else ''}]")
    peace, war = Sweep(tmp_path / "peace"), Sweep(tmp_path / "war")
    grid = Grid.read(path, {})
    for sweep in (peace, war):
        sweep.begin(grid, {})
    assert peace.work(grid, Place(out=peace.path)) == (30 if many else 6)
    at_war(war)
    assert models(war) == models(peace)
    names = [trial.user_attrs["point"] for trial in war.study().get_trials()]
    assert sorted(names) == [folder.name for folder in war.points()]
    results = [[json.loads(folder.result.read_text()) for folder in sweep.points()] for sweep in (peace, war)]
    for before, after in zip(*results, strict=True):
        for one, other in zip(before["steps"], after["steps"], strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_point_that_fails_is_recorded_and_the_sweep_goes_on(lesions: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, lesions, beta=0.1, ratio="[0.02, 0.1]")  # the step of 5 % is larger than the first
    out = tmp_path / "sweep"
    assert _run("sweep", path, "--out", out) == 0
    first, second = Sweep(out).points()
    told = json.loads(first.error.read_text())
    assert told["kind"] == "UsageError"
    assert "step (0.05) must not be larger than ratio (0.02)" in told["problems"][0]
    assert second.result.is_file()


def bad(tmp_path: Path, text: str) -> str:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Grid.read(path, {})
    return str(caught.value)


def test_every_wrong_value_of_an_axis_is_told(tmp_path: Path) -> None:
    text = RECIPE.format(seed="[0, -1]", manifest="m.csv", beta='[0.1, "much"]', ratio="[0.1, 2, 3]")
    told = bad(tmp_path, text)
    for part in ("'seed'", "'beta'", "much", "'ratio'", "not 2", "not 3"):
        assert part in told
    assert "a value stands twice" in bad(tmp_path, RECIPE.format(seed=0, manifest="m", beta="[1, 1]", ratio=0.1))
    assert "a list without a value" in bad(tmp_path, RECIPE.format(seed=0, manifest="m", beta="[]", ratio=0.1))
    with pytest.raises(UsageError, match="no such file"):
        Grid.read(tmp_path / "nowhere.toml", {})
    assert "not a readable TOML" in bad(tmp_path, "= 1")


def test_all_who_work_on_a_sweep_name_its_files_alike(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun by a recipe with relative paths, and joined from elsewhere."""
    monkeypatch.chdir(lesions.parent)
    Path("own.toml").write_text(recipe(tmp_path, Path("manifest.csv")).read_text())
    sweep, grid = Sweep(tmp_path / "sweep"), Grid.read(Path("own.toml"), {})
    sweep.begin(grid, {})
    monkeypatch.chdir(tmp_path)
    choice = next(grid.points())
    assert grid.recipe(choice) == sweep.joined().recipe(choice)


def test_a_list_of_methods_is_refused(tmp_path: Path) -> None:
    text = RECIPE.format(seed=0, manifest="m.csv", beta=0.1, ratio=0.1)
    assert "there is no method" in bad(tmp_path, text.replace('"vanilla"', '["vanilla", "obd"]'))


def test_settings_that_are_lists_themselves_are_axes_as_lists_of_lists(tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "data": {"manifest": "m.csv", "label": "dx", "attribute": ["sex", "age"]},
        "training": {"milestones": [0.5, 0.8]},
        "step": [{"method": "vanilla", "milestones": [[0.5], [0.5, 0.8]]}, {"method": "multi_exit"}],
        "model": {"backbone": ["resnet18", "vgg11_bn"]},
    }
    grid = Grid.of(raw, "r.toml", tmp_path)
    assert [axis.name for axis in grid.axes] == ["model.backbone", "1.milestones"]
    assert [grid.recipe(point).step[0].training.milestones for point in grid.points()] == [(0.5,), (0.5, 0.8)] * 2


def test_what_does_not_fit_is_refused(
    swept: Sweep, lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = recipe(tmp_path, lesions, beta="[0.5]")
    assert _run("sweep", other, "--out", swept.path) == 2
    assert "this sweep was begun with another recipe" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert _run("sweep", other, "--out", tmp_path / "full") == 2
    assert "holds other files" in capsys.readouterr().err
    assert _run("sweep", "--join", tmp_path) == 2
    assert "no sweep.json" in capsys.readouterr().err
    assert _run("sweep") == 2
    assert "name a recipe to begin or carry on, or --join" in capsys.readouterr().err
    assert _run("sweep", other, "--budget", "nan") == 2
    assert "--budget must be at least 0, not nan" in capsys.readouterr().err
    assert _run("sweep", other, "--workers", "0") == 2
    assert "--workers must be at least 1" in capsys.readouterr().err
    nowhere = tmp_path / "nowhere"
    assert _run("sweep", other, "--out", nowhere, "--storage", "postgresql://nobody@127.0.0.1:1/none") == 2
    told = capsys.readouterr().err
    assert "the storage cannot be reached" in told
    assert _run("sweep", recipe(tmp_path, tmp_path / "gone.csv"), "--out", tmp_path / "gone") == 3
    assert "gone.csv: no such file" in capsys.readouterr().err


def test_another_manifest_or_version_is_refused_when_joining(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(lesions.read_text())
    sweep, grid = Sweep(tmp_path / "sweep"), Grid.read(recipe(tmp_path, manifest), {})
    sweep.begin(grid, {})
    assert [axis.name for axis in sweep.joined().axes] == ["2.beta", "2.ratio"]
    manifest.write_text(lesions.read_text() + "\n")
    with pytest.raises(UsageError, match="another manifest"):
        sweep.joined()
    manifest.write_text(lesions.read_text())
    from equiprune import sweep as module

    monkeypatch.setattr(module, "version", lambda _name: "9.9.9")
    with pytest.raises(UsageError, match=r"another version of equiprune: 0\.1\.0, not 9\.9\.9"):
        sweep.joined()


def _point(choice: dict[str, Any], f1: float, gap: float | None, first: float = 0.8) -> dict[str, Any]:
    def step(f1: float, gap: float | None) -> dict[str, Any]:
        return {"f1": f1, "f1_by_group": {"a": f1, "b": f1}, "eopp1": gap}

    return {"choice": choice, "steps": [step(first, 0.2), step(f1, gap)]}


def test_outcomes_are_means_over_seeds_and_the_choice_is_within_the_budget() -> None:
    points = {
        "a": _point({"seed": 0, "beta": 0.1}, 0.78, 0.1), "b": _point({"seed": 1, "beta": 0.1}, 0.80, 0.2),
        "c": _point({"seed": 0, "beta": 0.2}, 0.70, 0.0), "d": _point({"seed": 1, "beta": 0.2}, 0.70, 0.1),
        "e": _point({"seed": 0, "beta": 0.3}, 0.79, None),
    }  # fmt: skip
    found = outcomes(points, "eopp1")
    assert [dict(one.choice) for one in found] == [{"beta": 0.1}, {"beta": 0.2}, {"beta": 0.3}]
    assert found[0].points == ("a", "b")
    assert (found[0].f1, found[0].gap, found[0].lost) == pytest.approx((0.79, 0.15, 0.01))
    assert found[0].fate == pytest.approx((-0.02 / 0.8 + 0.5 + 0.0) / 2)
    assert found[0].half["f1"] == pytest.approx(12.706 * 0.01, rel=1e-3)
    assert [one.front for one in found] == [True, True, False]
    taken: Outcome | None = chosen(found, 0.02)
    assert taken is found[0]
    assert chosen(found, 0.2) is found[1]
    assert chosen(found, -1.0) is None
    points["c"]["steps"][-1]["constant"] = True
    assert chosen(outcomes(points, "eopp1"), 0.2) == outcomes(points, "eopp1")[0]
    assert not outcomes(points, "eopp1")[1].front

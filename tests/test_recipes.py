"""The recipes of published tables: each is read, and each is carried out small."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from equiprune import smoke
from equiprune.cli import main
from equiprune.errors import UsageError
from equiprune.grid import Grid
from equiprune.published import table
from equiprune.recipe import SMOKE, Recipe
from equiprune.rundir import RunFolder
from equiprune.smoke import SET, shrunk
from equiprune.sweep import Sweep

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
JOINT = "scp_fitzpatrick17k"  # its seeds are put on one page
RECIPES = sorted(FOLDER.glob("*.toml"))


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all smoke runs stand, so that they share one set of images."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_and_says_what_it_is_and_how_it_is_run(path: Path) -> None:
    grid = Grid.read(path, {})
    assert list(grid.points())
    head = path.read_text().partition("\n\n")[0]
    verb = "sweep" if grid.axes else "run"
    assert f"equiprune {verb} recipes/{path.name} --manifest RAW/manifest.csv" in head
    assert "equiprune data convert" in head
    if "published" in grid.raw:
        rows = {row.made for row in table(grid.raw["published"]).row}
        assert len(rows & _made(grid.recipe({axis.name: axis.values[0] for axis in grid.axes}))) >= 4
    if [axis.name for axis in grid.axes] == ["seed"]:
        assert grid.raw["data"]["split_seed"] == 0  # or a report could not set the seeds beside one another


def _made(recipe: Recipe) -> set[tuple[str, ...]]:
    """The methods that make the model of each step."""
    chains: list[tuple[str, ...]] = [()]
    for step in recipe.step:
        chains.append((*chains[step.start], step.name))
    return set(chains)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_carried_out_small(
    path: Path, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.stem != JOINT:
        monkeypatch.setattr(smoke, "SEEDS", 1)  # a second seed does the same work again
    grid, out = Grid.read(path, {}), place / path.stem
    assert _run("sweep" if grid.axes else "run", path, "--smoke", "--out", out, "--device", "cpu") == 0
    assert SMOKE in capsys.readouterr().err
    runs = [RunFolder(out)]
    if grid.axes:
        points = Sweep(out).points()
        assert all(point.result.is_file() for point in points)
        runs = [RunFolder(point.path) for point in points if RunFolder(point.path).complete]
        small = Grid.of(shrunk(grid.raw, place), str(path), FOLDER)
        assert [axis.values for axis in small.axes if axis.name != "seed"] == [
            axis.values for axis in grid.axes if axis.name != "seed"
        ]
        assert len(points) == len(list(small.points()))
        if [axis.name for axis in grid.axes] == ["seed"]:
            assert len(runs) == len(points)  # nothing is chosen among seeds, so all have test figures
    steps = [step["method"] for step in grid.raw["step"]]
    for run in runs:
        assert [step.read()["method"] for step in run.steps()] == steps
        assert SMOKE in run.read()["notices"]
        assert SMOKE[1:] in run.report.read_text()
    if path.stem == JOINT:
        _beside(runs, place / f"{path.stem}-tables")


def _beside(runs: list[RunFolder], folder: Path) -> None:
    """All runs of a table on one page, with the printed figures beside them."""
    page = folder / "all.html"
    assert _run("report", *(run.path for run in runs), "--out", page, "--tables", folder) == 0
    found = json.loads(page.with_suffix(".json").read_text())["published"]
    assert found["runs"] == len(runs)
    made = [line for line in found["lines"] if line["cells"][0]["values"] is not None]
    assert len(made) >= 4
    assert all(len(cell["values"]) == len(runs) for line in made for cell in line["cells"])
    assert "This is a smoke run" in page.read_text()
    assert {path.name for path in folder.glob("published.*")} == {"published.csv", "published.md", "published.tex"}


def test_a_smoke_run_keeps_steps_axes_and_layers_and_shrinks_the_rest(tmp_path: Path) -> None:
    raw: dict[str, Any] = tomllib.loads(
        """
        seed = [3, 4, 5]
        [data]
        manifest = "m.csv"
        label = "dx"
        attribute = "sex"
        split_seed = 7
        [model]
        backbone = ["vgg11", "simple_cnn"]
        weights = "w.safetensors"
        [training]
        epochs = 200
        [[step]]
        method = "vanilla"
        epochs = [1, 90]
        [[step]]
        method = "fairprune"
        privileged = "female"
        beta = [0.1, 0.2]
        ratio = [0.05, 0.4]
        [[step]]
        method = "scp"
        layer = "features.18"
        step = [0.01, 0.3]
        tune = 50
        """
    )
    found = shrunk(raw, tmp_path)
    assert found["smoke"] is True
    assert found["seed"] == [3, 4]
    assert found["data"]["attribute"] == "sex"
    assert found["data"]["split_seed"] == 7
    assert found["model"]["backbone"][0].endswith("narrow.py:vgg11")
    assert found["model"]["backbone"][1] == "simple_cnn"
    assert "weights" not in found["model"]
    assert found["training"]["epochs"] == 2
    vanilla, fairprune, scp = found["step"]
    assert vanilla["epochs"] == [1, 90]
    assert (fairprune["beta"], fairprune["ratio"], fairprune["step"]) == ([0.1, 0.2], [0.05, 0.4], 0.05)
    assert "privileged" not in fairprune
    assert (scp["layer"], scp["step"], scp["tune"], scp["samples"]) == ("features.18", [0.01, 0.3], 1, 12)
    assert shrunk({**raw, "seed": 9}, tmp_path)["seed"] == 9
    one = shrunk({key: value for key, value in raw.items() if key != "model"}, tmp_path)
    assert "model" not in one
    assert len(list((tmp_path / "smoke-set" / "images").iterdir())) == SET.images


def test_a_smoke_run_takes_no_data_and_no_folder_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, name in (("run", "cxr"), ("sweep", "scp_ratio")):
        given = ("--manifest", tmp_path / "m.csv", "--label", "dx")
        assert _run(verb, FOLDER / f"{name}.toml", "--smoke", *given, "--out", tmp_path / "out") == 2
        assert "--smoke has its own images" in capsys.readouterr().err
    (tmp_path / "smoke-set").mkdir()
    (tmp_path / "smoke-set" / "mine.txt").touch()
    with pytest.raises(UsageError, match="holds other files"):
        shrunk(Grid.read(FOLDER / "cxr.toml", {}).raw, tmp_path)


def test_a_recipe_with_seeds_is_no_single_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("run", FOLDER / "scp_isic2019.toml", "--out", tmp_path / "out") == 2
    assert "equiprune sweep" in capsys.readouterr().err

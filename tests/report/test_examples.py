from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equiprune.predictions import Predictions
from equiprune.report.document import as_text
from equiprune.report.examples import Folder, examples
from equiprune.report.page import Page, render

NAMES = [f"{row}.png" for row in range(6)]


def multiclass(first: list[float], image: list[str] | None = NAMES) -> Predictions:
    """Six images of class a, three of each group, with these scores of it."""
    score = [[value, 1 - value] for value in first]
    return Predictions([0] * 6, score, [0, 0, 0, 1, 1, 1], ["a", "b"], ["f", "m"], image=image)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for at, name in enumerate(NAMES):
        Image.new("RGB", (300, 200), (40 * at, 0, 0)).save(tmp_path / name)
    return Folder(tmp_path, outside=False)


BEFORE = multiclass([0.9, 0.9, 0.9, 0.1, 0.9, 0.2])
AFTER = multiclass([0.4, 0.1, 0.9, 0.8, 0.9, 0.1])


def test_the_answers_that_changed_are_shown_by_group_the_largest_first(folder: Folder) -> None:
    found, notices = examples(BEFORE, AFTER, folder)
    assert [(one.file, one.group, one.kind) for one in found] == [
        ("1.png", "f", "wrong now"),
        ("0.png", "f", "wrong now"),
        ("3.png", "m", "right now"),
    ]
    assert found[0].what == "a; called a (0.90) → b (0.90)"
    assert notices == ()
    picture = Image.open(io.BytesIO(base64.b64decode(found[0].picture.partition(",")[2])))
    assert picture.size == (160, 107)
    assert examples(BEFORE, AFTER, folder)[0] == found


def test_of_one_model_the_surest_errors_are_shown(folder: Folder) -> None:
    found, _ = examples(AFTER, AFTER, folder)
    assert [(one.file, one.kind) for one in found] == [("1.png", "wrong"), ("0.png", "wrong"), ("5.png", "wrong")]
    assert found[0].what == "a; called b (0.90)"


def test_findings_are_shown_one_by_one(folder: Folder) -> None:
    def read(score: list[list[float]]) -> Predictions:
        label = [[1, 0], [np.nan, 0]]
        return Predictions(label, score, [0, 0], ["mass", "edema"], ["f", "m"], image=NAMES[:2])

    first, last = read([[0.9, 0.2], [0.1, 0.8]]), read([[0.3, 0.2], [0.9, 0.1]])
    found, _ = examples(first, last, folder)
    assert [one.what for one in found] == ["mass is present; score 0.90 → 0.30", "edema is absent; score 0.80 → 0.10"]
    alone, _ = examples(last, last, folder)
    assert [one.what for one in alone] == ["mass is present; score 0.30"]


def test_what_cannot_be_shown_is_told(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("no picture")
    (tmp_path / "3.png").unlink()
    found, notices = examples(BEFORE, AFTER, folder)
    assert [one.file for one in found] == ["0.png"]
    assert notices == (f"2 example images cannot be read from {tmp_path}",)
    nameless = [multiclass([0.9] * 6, None), multiclass([0.1] * 6, None)]
    found, notices = examples(nameless[0], nameless[1], folder)
    assert found == ()
    assert "do not name their images" in notices[0]


def test_names_lead_out_of_the_folder_only_where_the_recipe_allows_it(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    first, last = (multiclass([value] * 6, ["../secret.png"] * 6) for value in (0.9, 0.1))
    assert examples(first, last, Folder(tmp_path / "inner", outside=False))[0] == ()
    assert examples(first, last, Folder(tmp_path / "inner", outside=True))[0] != ()


def test_all_of_the_range_of_a_radiograph_is_seen(tmp_path: Path) -> None:
    values = np.linspace(1000, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)
    for name in NAMES:
        Image.fromarray(values).save(tmp_path / name)
    found, _ = examples(BEFORE, AFTER, Folder(tmp_path, outside=False))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0].picture.partition(",")[2]))))
    assert pixels.min() < 10
    assert pixels.max() > 245


def test_the_page_shows_them_and_the_data_names_them(page: Page, folder: Folder) -> None:
    found, _ = examples(BEFORE, AFTER, folder)
    shown = dataclasses.replace(page, examples=found)
    assert render(shown).count('<img src="data:image/jpeg;base64,') == 3
    assert "<img" not in render(page)
    assert '"file":"1.png"' in as_text(shown)
    assert "base64" not in as_text(shown)

"""Which offsets are kept: none that lower one group alone, and every one that was tried is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from equiprune.data.cohort import Cohort
from equiprune.files import read_json_lines
from equiprune.methods import GroupThresholds
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.training.loop import Training

# One logit of the image's mean, the other 0: a classifier whose score is the brightness.
NETWORK = """
import torch
from torch import nn


def bright(num_classes):
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, num_classes))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[0.0], [1.0]]))
        net[2].bias.zero_()
    return net
"""


def shown(folder: Path, level: np.ndarray, label: np.ndarray, group: np.ndarray) -> tuple[Classifier, Cohort, Any]:
    """Images of even brightness, 0 to 255; class 1 is called above the middle."""
    (folder / "net.py").write_text(NETWORK)
    n = len(label)
    rows = np.arange(n)
    split = np.where(rows % 2 == 0, "validation", "train")
    cohort = Cohort(folder, rows.astype(str), label, ("no", "yes"), group, ("f", "m"), "sex", None, split, rows, "sha")
    array = np.broadcast_to(level.astype(np.uint8)[:, None, None, None], (n, 4, 4, 1)).copy()
    pixels = SimpleNamespace(array=array, rows=lambda image: image.astype(int))
    design = Design(backbone=f"{folder}/net.py:bright", classes=cohort.classes, image_size=4, channels=1)
    return Classifier.build(design), cohort, pixels


def test_where_a_group_can_gain_it_does_and_the_search_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    label, group = rng.integers(2, size=800), rng.integers(2, size=800)
    # Men's brightness is lower throughout: one threshold misses half of their positives.
    level = 90 + 80 * label - 40 * group + rng.integers(-15, 16, 800)
    model, cohort, pixels = shown(tmp_path, level, label, group)
    made = GroupThresholds()(model, cohort, Training(pixels, folder=tmp_path))
    assert made.design.form.offsets
    records = read_json_lines(tmp_path / "log.jsonl")
    assert records[0]["offsets"] == {"f": {"no": 0, "yes": 0}, "m": {"no": 0, "yes": 0}}
    kept = max(records[1:], key=lambda record: record["fate"])
    assert kept["f1_by_group"]["m"] > records[0]["f1_by_group"]["m"]
    assert kept["offsets"]["m"]["yes"] == pytest.approx(float(made.offsets[1, 1]), abs=1e-6)
    assert "no more than chance" not in capsys.readouterr().err


def test_levelling_down_is_not_kept(tmp_path: Path) -> None:
    """Nothing that is known of the men tells their classes apart, so the gap shrinks by calling fewer women alone."""
    rng = np.random.default_rng(1)
    label, group = rng.integers(2, size=800), rng.integers(2, size=800)
    level = np.where(group == 0, 90 + 80 * label + rng.integers(-15, 16, 800), 60)
    model, cohort, pixels = shown(tmp_path, level, label, group)
    made = GroupThresholds(budget=1.0)(model, cohort, Training(pixels, folder=tmp_path))
    records = read_json_lines(tmp_path / "log.jsonl")
    gaining = [r for r in records[1:] if any(r["f1_by_group"][g] > f1 for g, f1 in records[0]["f1_by_group"].items())]
    assert any(record["fate"] > 0 for record in records[1:])
    assert bool(made.design.form.offsets) == any(record["fate"] > 0 for record in gaining)


def test_a_gap_of_chance_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    label, group = rng.integers(2, size=120), rng.integers(2, size=120)
    model, cohort, pixels = shown(tmp_path, 100 + 40 * label + rng.integers(-60, 61, 120), label, group)
    GroupThresholds()(model, cohort, Training(pixels))
    assert "no more than chance explains" in capsys.readouterr().err

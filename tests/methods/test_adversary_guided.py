"""Channels that tell the group leave first, those that the task needs stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from equiprune.data.cohort import Cohort
from equiprune.files import read_json_lines
from equiprune.methods import METHODS, AdversaryGuided
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.pruning.attribute_probe import halves, told
from equiprune.pruning.effects import effects
from equiprune.training.loop import Training
from equiprune.training.losses import sample_losses

if TYPE_CHECKING:
    from equiprune.data.loader import Batch

# Channels by what their images' planes hold: 0 the class, 1 the group, 2 noise that neither needs.
NETWORK = """
import torch
from torch import nn


def planted(num_classes):
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(3.0)
        for channel in range(6):
            net[0].weight[channel, channel % 3] = 1.0
        net[4].weight.zero_()
        net[4].bias.zero_()
        net[4].weight[0, 0::3] = -1.0   # the task reads the class's channels,
        net[4].weight[1, 0::3] = 1.0
        net[4].weight[1, 1::3] = 0.05   # and the group's a little
        net[4].bias[1] = -12.1
    return net
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Cohort, Any]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    n = 600
    label, group = rng.integers(2, size=n), rng.integers(2, size=n)
    level = np.stack([60 + 100 * label, 60 + 100 * group, np.full(n, 110)], 1)
    array = (level[:, None, None] + rng.integers(-40, 41, (n, 8, 8, 3)) + rng.integers(-15, 16, (n, 1, 1, 3))).clip(
        0, 255
    )
    split = np.where(np.arange(n) % 3 == 2, "validation", "train")
    rows = np.arange(n)
    cohort = Cohort(folder, rows.astype(str), label, ("no", "yes"), group, ("f", "m"), "sex", None, split, rows, "sha")
    pixels = SimpleNamespace(array=array.astype(np.uint8), rows=lambda image: image.astype(int))
    net = Classifier.build(Design(backbone=f"{folder}/net.py:planted", classes=cohort.classes, image_size=8))
    return net, cohort, pixels


@pytest.mark.parametrize("kind", ["classes", "findings"])
def test_the_channels_of_the_group_leave_first(kind: str, planted: Any, tmp_path: Path) -> None:  # noqa: ANN401
    net, cohort, pixels = planted
    if kind == "findings":
        cohort = replace(cohort, label=np.stack([1 - cohort.label, cohort.label], 1).astype(np.float32))
        design = net.design.model_copy(update={"task": "multilabel"})
        net = Classifier.build(design)
    method = AdversaryGuided(layer="last", step=0.17, iterations=2, tune=0, keep="last", budget=None, gain=None)
    method(net, cohort, Training(pixels, folder=tmp_path))
    *records, _ = read_json_lines(tmp_path / "log.jsonl")
    assert {records[1]["cut"]["0"][0], records[2]["cut"]["0"][0]} == {1, 4}
    # Two channels say the same of the group: with the second what is told of it is gone.
    told_by = [record["told"]["0"] for record in records]
    assert told_by[0] > 0.5
    assert told_by[1] > 0.5
    assert told_by[2] < 0.05
    assert records[2]["f1"] > 0.95


def test_with_much_weight_on_the_task_what_it_needs_least_leaves_first(planted: Any, tmp_path: Path) -> None:  # noqa: ANN401
    net, cohort, pixels = planted
    method = AdversaryGuided(weight=1e6, layer="last", step=0.17, iterations=2, tune=0, keep="last", budget=None)
    method(net, cohort, Training(pixels, folder=tmp_path))
    *records, _ = read_json_lines(tmp_path / "log.jsonl")
    assert {records[1]["cut"]["0"][0], records[2]["cut"]["0"][0]} == {2, 5}


def test_the_score_is_made_of_its_two_parts(planted: Any, tmp_path: Path) -> None:  # noqa: ANN401
    net, cohort, pixels = planted
    method = AdversaryGuided(weight=0.5, layer="last", step=0.17, iterations=1, tune=0, samples=1000)
    method(net, cohort, Training(pixels, folder=tmp_path))
    scores = read_json_lines(tmp_path / "log.jsonl")[0]["scores"]["0"]
    train = cohort.subset("train")

    def task(model: Classifier, batch: Batch) -> torch.Tensor:
        return sample_losses(model(batch.image), batch.label)

    found = effects(net, train, pixels, ["0"], task)["0"]
    group = torch.as_tensor(train.group)
    guess = told(found.pooled, torch.as_tensor(train.label), 2, group, 2, halves(train, (0, 0)))
    assert scores == pytest.approx((0.5 * found.second - guess.channel).tolist(), abs=1e-9)
    assert "adversary_guided" in METHODS

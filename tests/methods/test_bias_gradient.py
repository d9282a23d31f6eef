"""The bias and its gradient by explicit loops, and channels that carry a planted bias."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equiprune.files import read_json_lines
from equiprune.methods import METHODS, BiasGradient
from equiprune.methods.bias_gradient import bias, weights
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.objectives import Vanilla
from equiprune.predicting import predict
from equiprune.pruning.channels import channel_sets
from equiprune.pruning.saliency import sampled
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

Lesions = tuple["Cohort", "Pixels"]
SETTINGS = TrainingSettings(epochs=4, batch_size=32, learning_rate=2e-3, augment="none")


def by_loops(p: np.ndarray, among: np.ndarray, group: np.ndarray, groups: int) -> float:
    found = []
    for k in range(p.shape[1]):
        gaps = []
        for a, b in combinations(range(groups), 2):
            one = [p[i, k] for i in range(len(p)) if among[i, k] and group[i] == a]
            other = [p[i, k] for i in range(len(p)) if among[i, k] and group[i] == b]
            if one and other:
                gaps.append(abs(sum(one) / len(one) - sum(other) / len(other)))
        if gaps:
            found.append(sum(gaps) / len(gaps))
    return sum(found) / len(found) if found else 0.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), classes=st.integers(1, 4), groups=st.integers(2, 4))
def test_the_bias_is_that_of_explicit_loops_and_its_weights_its_gradient(
    seed: int, n: int, classes: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    p, among, group = rng.random((n, classes)), rng.random((n, classes)) < 0.6, rng.integers(-1, groups, n)
    tensors = torch.from_numpy(p), torch.from_numpy(among), torch.from_numpy(group)
    assert bias(*tensors, groups).item() == pytest.approx(by_loops(p, among, group, groups), abs=1e-12)
    slope = weights(*tensors, groups)
    small = 1e-7
    for i, k in [(0, 0), (n - 1, classes - 1), (n // 2, 0)]:
        moved = p.copy()
        moved[i, k] += small
        change = (by_loops(moved, among, group, groups) - by_loops(p, among, group, groups)) / small
        assert slope[i, k].item() == pytest.approx(change, abs=1e-6)


@pytest.fixture(scope="module")
def findings(lesion_data: Lesions) -> Cohort:
    cohort, _ = lesion_data
    label = (cohort.label[:, None] == np.arange(len(cohort.classes))).astype(np.float32)
    label[np.random.default_rng(0).random(label.shape) < 0.1] = np.nan
    return replace(cohort, label=label)


def trained(cohort: Cohort, pixels: Pixels) -> Classifier:
    design = Design(backbone="simple_cnn", classes=cohort.classes, image_size=32, task=cohort.task)
    return Vanilla()(Classifier.build(design, seed=0), cohort, Training(pixels, SETTINGS))


@pytest.mark.parametrize("kind", ["classes", "findings"])
@pytest.mark.parametrize("proxy", ["eopp1", "parity"])
def test_a_score_is_the_change_of_the_bias_to_first_order(
    kind: str, proxy: str, lesion_data: Lesions, findings: Cohort, tmp_path: Path
) -> None:
    """Scaling a channel of the last convolution down by a little changes B by the score times that little."""
    cohort, pixels = (lesion_data[0] if kind == "classes" else findings), lesion_data[1]
    model = trained(cohort, pixels)
    method = BiasGradient.model_validate({"proxy": proxy, "layer": "conv3", "iterations": 1, "samples": 1000})
    method(model, cohort, Training(pixels, folder=tmp_path))
    record = read_json_lines(tmp_path / "log.jsonl")[0]
    scores = record["scores"]["conv3"]
    train = sampled(cohort.subset("train"), 1000, 0, 0, by_group=True)
    known = np.isfinite(train.label) if kind == "findings" else np.ones_like(train.positive)
    among = train.positive if proxy == "eopp1" else known

    def biased(factor: float, channel: int) -> float:
        changed = model.clone().double()
        with torch.no_grad():  # a ReLU lets a factor above 0 through
            changed.get_parameter("network.conv3.weight")[channel] *= factor
            changed.get_parameter("network.conv3.bias")[channel] *= factor
        return by_loops(predict(changed, train, pixels).score, among, train.group, len(cohort.groups))

    assert record["bias"] == pytest.approx(biased(1.0, 0), abs=1e-6)
    small = 1e-5
    for channel in np.argsort(scores)[[0, 1, 64, -1]]:
        change = (biased(1 - small, channel) - biased(1 + small, channel)) / (2 * small)
        assert scores[channel] == pytest.approx(change, rel=1e-2, abs=1e-5)


def test_the_bias_falls_where_the_chosen_channels_go(lesion_data: Lesions) -> None:
    cohort, pixels = lesion_data
    model = trained(cohort, pixels)
    method = BiasGradient(layer="all", step=0.05, iterations=4, keep="last", budget=None)
    made = method(model, cohort, Training(pixels))
    train = cohort.subset("train")

    def biased(one: Classifier) -> float:
        return by_loops(predict(one, train, pixels).score, train.positive, train.group, len(cohort.groups))

    assert biased(made) < 0.8 * biased(model)
    assert sum(found.count for found in channel_sets(made)) < sum(found.count for found in channel_sets(model))


def test_the_fairest_iteration_within_the_budget_is_kept(lesion_data: Lesions, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    model = trained(cohort, pixels)
    BiasGradient(iterations=4, step=0.05, budget=0.1)(model, cohort, Training(pixels, folder=tmp_path))
    *records, ending = read_json_lines(tmp_path / "log.jsonl")
    within = [record for record in records if records[0]["f1"] - record["f1"] <= 0.1]
    assert ending["kept_iteration"] == min(within, key=lambda record: record["eopp1"])["iteration"]
    assert "bias_gradient" in METHODS

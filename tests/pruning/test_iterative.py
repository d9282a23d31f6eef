from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.pixels import Pixels
from equiprune.errors import UsageError
from equiprune.files import read_json_lines
from equiprune.methods import OBD, FairPrune, fairprune
from equiprune.models.classifier import Classifier
from equiprune.objectives import Vanilla
from equiprune.pruning.iterative import prune_iteratively
from equiprune.pruning.masks import prunable
from equiprune.pruning.saliency import sampled
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

Lesions = tuple[Cohort, Pixels]


@pytest.fixture(scope="module")
def trained(lesion_data: Lesions) -> Classifier:
    from equiprune.models.design import Design

    cohort, pixels = lesion_data
    net = Classifier.build(Design(backbone="simple_cnn", classes=cohort.classes, image_size=32), seed=0)
    settings = TrainingSettings(epochs=6, batch_size=32, learning_rate=2e-3, augment="none")
    return Vanilla()(net, cohort, Training(pixels, settings))


def _zeros(model: Classifier) -> int:
    return sum(int((weight == 0).sum()) for weight in prunable(model).values())


def _magnitude(model: Classifier, _iteration: int) -> dict[str, Tensor]:
    return {name: weight.detach().abs() for name, weight in prunable(model).items()}


def test_ratio_and_step_are_fractions_of_the_original_number(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    total = sum(weight.numel() for weight in prunable(trained).values())
    schedule = OBD(ratio=0.35, step=0.1, keep="last", budget=None)
    pruned = prune_iteratively(trained, cohort, Training(pixels), schedule, _magnitude)
    assert _zeros(pruned) == round(0.35 * total)
    assert _zeros(trained) == 0  # the one handed in is left as it was


def test_each_iteration_removes_one_step(lesion_data: Lesions, trained: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    schedule = OBD(ratio=0.35, step=0.05, keep="last", budget=None)
    prune_iteratively(trained, cohort, Training(pixels, folder=tmp_path), schedule, _magnitude)
    records = read_json_lines(tmp_path / "log.jsonl")
    assert [r["removed"] for r in records[:-1]] == pytest.approx([0.05 * k for k in range(8)], abs=1e-4)
    assert records[-1] == {"kept_iteration": 7, "stopped": "the ratio was reached"}


def test_a_second_pruning_keeps_the_first_ones_zeros(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    schedule = OBD(ratio=0.2, step=0.2, keep="last", budget=None)
    once = prune_iteratively(trained, cohort, Training(pixels), schedule, _magnitude)
    twice = prune_iteratively(once, cohort, Training(pixels), schedule, _magnitude)
    assert _zeros(twice) == 2 * _zeros(once)
    for name, weight in prunable(once).items():
        assert (twice.get_parameter(name)[weight == 0] == 0).all()


def test_interrupted_pruning_ends_in_the_same_bits(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, pixels = lesion_data
    method = FairPrune(ratio=0.3, step=0.1, samples=20, budget=None, keep="last")
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = method(trained, cohort, Training(pixels, folder=tmp_path / "whole"))
    calls = iter((False, False, True))

    def interrupted(*chosen: Any, **by: Any) -> Cohort:  # noqa: ANN401 - handed on as they come
        if next(calls):
            raise KeyboardInterrupt
        return sampled(*chosen, **by)

    monkeypatch.setattr(fairprune, "sampled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        method(trained, cohort, Training(pixels, folder=tmp_path / "broken"))
    monkeypatch.undo()
    assert len(read_json_lines(tmp_path / "broken" / "log.jsonl")) == 3
    resumed = method(trained, cohort, Training(pixels, folder=tmp_path / "broken"))
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_the_target_stops_and_is_kept(lesion_data: Lesions, trained: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    schedule = OBD(ratio=0.9, step=0.1, target=1.0, budget=None)
    prune_iteratively(trained, cohort, Training(pixels, folder=tmp_path), schedule, _magnitude)
    records = read_json_lines(tmp_path / "log.jsonl")
    assert records[-1] == {"kept_iteration": 0, "stopped": "the target gap was reached on validation"}


def test_the_budget_stops_and_what_overspent_is_not_kept(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    schedule = OBD(ratio=0.95, step=0.19, budget=0.02, keep="last")

    def worst(model: Classifier, iteration: int) -> dict[str, Tensor]:
        return {name: -score for name, score in _magnitude(model, iteration).items()}

    prune_iteratively(trained, cohort, Training(pixels, folder=tmp_path), schedule, worst)
    records = read_json_lines(tmp_path / "log.jsonl")
    assert records[-1]["stopped"] == "the accuracy budget was spent"
    kept = records[records[-1]["kept_iteration"]]
    assert records[0]["f1"] - kept["f1"] <= 0.02
    assert records[0]["f1"] - records[-2]["f1"] > 0.02


def test_the_best_trade_off_is_kept(lesion_data: Lesions, trained: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    schedule = OBD(ratio=0.9, step=0.15, budget=None)
    prune_iteratively(trained, cohort, Training(pixels, folder=tmp_path), schedule, _magnitude)
    *records, end = read_json_lines(tmp_path / "log.jsonl")
    fates = [-math.inf if r["fate"]["eopp1"] is None else r["fate"]["eopp1"] for r in records]
    assert end["kept_iteration"] == fates.index(max(fates))
    assert fates[0] == 0


def test_a_step_larger_than_the_ratio_is_refused(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    with pytest.raises(UsageError, match="must not be larger"):
        OBD(ratio=0.1, step=0.2)(trained, cohort, Training(pixels))

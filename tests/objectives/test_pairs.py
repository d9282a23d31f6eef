"""Every method after every other: no pair ends otherwise than in a model that works, or in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.objectives.conftest import built

from equiprune.errors import EquipruneError
from equiprune.methods import METHODS
from equiprune.models.classifier import Classifier
from equiprune.objectives import OBJECTIVES
from equiprune.predicting import predict
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

SETTINGS = TrainingSettings(epochs=1, batch_size=36, learning_rate=1e-3, augment="none")
QUICK: dict[str, dict[str, Any]] = {
    "fairprune": {"ratio": 0.2, "step": 0.2, "samples": 12, "keep": "last", "budget": 1.0},
    "obd": {"ratio": 0.2, "step": 0.2, "samples": 24, "keep": "last", "budget": 1.0},
    "scp": {"step": 0.2, "iterations": 1, "tune": 1, "samples": 16, "keep": "last", "budget": 1.0},
    "fairprune_channels": {"step": 0.2, "iterations": 1, "tune": 1, "samples": 12, "keep": "last", "budget": 1.0},
    "magnitude_channels": {"step": 0.2, "iterations": 1, "tune": 1},
    "random_channels": {"step": 0.2, "iterations": 1, "tune": 1},
    "multi_exit": {"confidence": 0.6},
    "group_thresholds": {"budget": 1.0, "least": 2},
    "layer_pruning": {"layers": "stage1.0, branch", "keep": "pruned", "budget": 1.0},
    "bias_gradient": {"step": 0.2, "iterations": 1, "samples": 12, "keep": "last", "budget": 1.0},
    "adversary_guided": {"step": 0.2, "iterations": 1, "tune": 1, "samples": 12, "keep": "last", "budget": 1.0},
}
REFUSED = {("multi_exit", "multi_exit"): "has early exits already"}


def applied(name: str, model: Classifier, cohort: Cohort, pixels: Pixels) -> Classifier:
    return METHODS[name](**QUICK.get(name, {}))(model, cohort, Training(pixels, SETTINGS))


@pytest.fixture(scope="module")
def few(lesion_data: tuple[Cohort, Pixels]) -> tuple[Cohort, Pixels]:
    """Half of the images: there are some 300 pairs."""
    cohort, pixels = lesion_data
    return cohort.take(np.arange(0, len(cohort), 2)), pixels


@pytest.fixture(scope="module")
def once(factory: str, few: tuple[Cohort, Pixels]) -> dict[str, Classifier]:
    """Each method alone, on a plainly trained model."""
    cohort, pixels = few
    start = applied("vanilla", built(factory, cohort), cohort, pixels)
    return {name: applied(name, start, cohort, pixels) for name in METHODS}


@pytest.mark.parametrize("second", list(METHODS))
def test_every_method_follows_every_other(
    once: dict[str, Classifier], factory: str, few: tuple[Cohort, Pixels], second: str, tmp_path: Path
) -> None:
    cohort, pixels = few
    refusals: dict[tuple[str, str], str] = {}
    for first, model in once.items():
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        try:
            made = applied(second, model, cohort, pixels)
        except EquipruneError as error:
            refusals[first, second] = str(error)
            continue
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), (first, second)
        found = predict(made, cohort.subset("test"), pixels)
        made.save(tmp_path / first)
        again = Classifier.load(tmp_path / first, factory=factory)
        assert (predict(again, cohort.subset("test"), pixels).score == found.score).all(), (first, second)
        # What was held at zero stays so, what was cut stays cut, what was built in stays built in.
        assert all((made.get_parameter(name)[~kept] == 0).all() for name, kept in made.masks.items()), (first, second)
        assert made.cuts[: len(model.cuts)] == model.cuts
        form, own = made.design.form, model.design.form
        assert (form.blocks, form.norms, form.offsets, bool(form.exits)) >= (
            own.blocks, own.norms, own.offsets, bool(own.exits)
        )  # fmt: skip
        told = second if second in OBJECTIVES else first if first in OBJECTIVES else "vanilla"
        assert made.trained is not None
        assert made.trained.method == told
    expected = {pair for pair in REFUSED if pair[1] == second}
    assert set(refusals) == expected, refusals
    assert all(REFUSED[pair] in refusals[pair] for pair in expected)

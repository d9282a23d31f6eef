"""Two classes and one finding are one problem: every method says the same of both.

The network of the two classes has a first logit of 0, that of the finding has the second logit alone. `advrev` is left
out: its adversary reads the logits, of which there are two and one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.objectives.conftest import NETWORK
from torch import nn

from equiprune.data.loader import batches
from equiprune.methods.bias_gradient import weights
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.models.reshaping import find_head, reshape
from equiprune.objectives import OBJECTIVES
from equiprune.predicting import exit_logits
from equiprune.pruning.attribute_probe import halves, told
from equiprune.pruning.effects import effects
from equiprune.pruning.saliency import second_order
from equiprune.training.loop import Training
from equiprune.training.losses import sample_losses

if TYPE_CHECKING:
    from pathlib import Path

    from equiprune.data.cohort import Cohort
    from equiprune.data.loader import Batch
    from equiprune.data.pixels import Pixels

Both = tuple[tuple[Classifier, "Cohort"], tuple[Classifier, "Cohort"]]
ALIKE = [name for name in OBJECTIVES if name != "advrev"]


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("nets") / "net.py"
    path.write_text(NETWORK)
    return f"{path}:small"


def alike(two: nn.Module, one: nn.Module, blocks: int = 1) -> None:
    """The layer of two logits gives 0 and what the layer of one gives, in each block."""
    assert isinstance(two, nn.Linear)
    assert isinstance(one, nn.Linear)
    with torch.no_grad():
        for mine, theirs in ((two.weight, one.weight), (two.bias, one.bias)):
            mine.zero_()
            mine.view(blocks, 2, -1)[:, 1] = theirs.view(blocks, 1, -1)[:, 0]


@pytest.fixture
def both(factory: str, lesion_data: tuple[Cohort, Pixels]) -> Both:
    cohort, _ = lesion_data
    binary = replace(cohort, label=(cohort.label == 0).astype(np.int64), classes=("no", "yes"))
    finding = replace(binary, label=binary.label[:, None].astype(np.float32), classes=("yes",))
    made = [
        Classifier.build(Design(backbone=factory, classes=one.classes, image_size=32, task=one.task), seed=0).double()
        for one in (binary, finding)
    ]
    inner: list[Any] = [one.network for one in made]
    inner[0].load_state_dict({k: v for k, v in inner[1].state_dict().items() if "fc" not in k}, strict=False)
    alike(inner[0].fc, inner[1].fc)
    return (made[0], binary), (made[1], finding)


@pytest.mark.parametrize("name", ALIKE)
def test_the_loss_is_the_same(name: str, both: Both, lesion_data: tuple[Cohort, Pixels]) -> None:
    pixels = lesion_data[1]
    losses = []
    torch.set_default_dtype(torch.float64)
    try:
        formed = []
        for model, cohort in both:
            objective: Any = OBJECTIVES[name]()
            if hasattr(objective, "form"):
                reshape(model, objective.form(model, cohort), seed=0)
            formed.append(model)
        two, one = formed
        blocks = len(two.design.form.groups) if two.design.form.blocks else 1
        alike(two.network.get_submodule(find_head(two)), one.network.get_submodule(find_head(one)), blocks)
        for mine, theirs in zip(*(getattr(model, "exit_heads", ()) for model in formed), strict=True):
            alike(mine.linear, theirs.linear)
        for model, cohort in both:
            loss: Any = OBJECTIVES[name]().loss(model, cohort, Training(pixels))
            train = cohort.subset("train")
            model.train()
            values = [loss(model, batch) for batch in batches(train, pixels, batch_size=60)]
            losses.append([float(value.detach()) for value in values])
    finally:
        torch.set_default_dtype(torch.float32)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_saliency_by_group_is_the_same(both: Both, lesion_data: tuple[Cohort, Pixels]) -> None:
    pixels = lesion_data[1]
    two, one = (
        second_order(model, cohort.subset("test"), Training(pixels), groups=cohort.groups, biases=False)
        for model, cohort in both
    )
    for group, found in one.items():
        for parameter, values in found.items():
            theirs = two[group][parameter]
            assert torch.allclose(theirs[1:] if "fc" in parameter else theirs, values, rtol=1e-6, atol=1e-15), parameter
        assert not two[group]["network.fc.weight"][0].any()


def test_what_channels_give_is_the_same(both: Both, lesion_data: tuple[Cohort, Pixels]) -> None:
    pixels = lesion_data[1]

    def task(model: Classifier, batch: Batch) -> torch.Tensor:
        return sample_losses(model(batch.image), batch.label)

    given, guessed, biased = [], [], []
    for model, cohort in both:
        found = effects(model, cohort, pixels, ["stage2.0"], task)["stage2.0"]
        given.append(found.second)
        label, group = torch.as_tensor(cohort.label), torch.as_tensor(cohort.group)
        guessed.append(told(found.pooled, label, len(cohort.classes), group, 2, halves(cohort, (0,))).channel)
        logits = exit_logits(model, cohort, pixels)[-1]
        p = logits.softmax(1) if cohort.task == "multiclass" else logits.sigmoid()
        share = weights(p, torch.ones_like(p, dtype=torch.bool), group, 2)
        biased.append(share[:, -1] * len(cohort.classes))  # of two classes each has half of the weight
    assert torch.allclose(given[0], given[1])
    assert torch.allclose(biased[0], biased[1])
    assert torch.allclose(guessed[0], guessed[1], rtol=0, atol=3e-3)  # the ridge on the label's columns differs

"""The second derivative of models that an objective gave exits or groups: by exit, and by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.objectives.conftest import built
from torch import Tensor, nn

from equiprune import curvature
from equiprune.data.loader import batches
from equiprune.models.classifier import Classifier
from equiprune.models.form import Form
from equiprune.models.reshaping import folded, reshape
from equiprune.pruning.saliency import second_order
from equiprune.training.loop import Training

if TYPE_CHECKING:
    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels


class Alone(nn.Module):
    """One exit of a classifier."""

    def __init__(self, classifier: Classifier, number: int) -> None:
        super().__init__()
        self.classifier, self.number = classifier, number

    def forward(self, image: Tensor) -> Tensor:
        exits = self.classifier.exits(image)
        return exits[self.number] + 0 * sum(exits)  # the curvature refuses layers that the output does not show


def rows(cohort: Cohort, pixels: Pixels) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(batch.image, batch.label, batch.group) for batch in batches(cohort, pixels, batch_size=16)]


@pytest.mark.parametrize("task", ["classes", "findings"])
def test_of_several_exits_it_is_the_weighted_sum_of_each_ones(
    factory: str, lesion_data: tuple[Cohort, Pixels], findings: Cohort, task: str
) -> None:
    cohort = (lesion_data[0] if task == "classes" else findings).subset("test")
    pixels = lesion_data[1]
    model = built(factory, cohort).eval()
    reshape(model, Form(exits=("stage1", "stage2"), weights=(0.25, 0.5, 1.0), confidence=0.6), seed=3)
    found = second_order(model, cohort, Training(pixels), groups=cohort.groups, biases=False)
    loss: curvature.Loss = "cross_entropy" if task == "classes" else "bce"
    each = [curvature.diagonal(Alone(model, e), rows(cohort, pixels), cohort.groups, loss) for e in range(3)]
    assert any("exit_heads" in name for name in found["dark"])
    for group in cohort.groups:
        for name, value in found[group].items():
            weight = model.get_parameter(name).detach()
            total = sum(w * part[group][f"classifier.{name}"] for w, part in zip((0.25, 0.5, 1.0), each, strict=True))
            torch.testing.assert_close(value, 0.5 * weight.square() * total, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("by_group", [True, False])
def test_where_the_group_is_needed_each_is_measured_by_its_own_model(
    factory: str, lesion_data: tuple[Cohort, Pixels], by_group: bool
) -> None:
    cohort, pixels = lesion_data[0].subset("test"), lesion_data[1]
    model = built(factory, cohort).eval()
    reshape(model, Form(groups=cohort.groups, norms=True, offsets=True))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_mean" in name or name == "offsets":
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) * 0.3)
    groups = cohort.groups if by_group else ("all",)
    found = second_order(model, cohort, Training(pixels), groups=groups, biases=False)
    parts = [cohort.take(cohort.group == g) for g in range(2)]
    each = [
        curvature.diagonal(folded(model, g), [(i, y, 0 * a) for i, y, a in rows(part, pixels)], ["own"])["own"]
        for g, part in enumerate(parts)
    ]
    for name in found[groups[0]]:
        half = 0.5 * model.get_parameter(name).detach().square()
        if by_group:
            for g, group in enumerate(groups):
                torch.testing.assert_close(found[group][name], half * each[g][name], rtol=1e-3, atol=1e-9)
        else:
            mean = sum(len(part) * one[name] for part, one in zip(parts, each, strict=True)) / len(cohort)
            torch.testing.assert_close(found["all"][name], half * mean, rtol=1e-3, atol=1e-9)

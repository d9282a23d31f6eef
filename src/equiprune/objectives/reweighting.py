"""Reweighting (Kamiran and Calders, 2012): small groups and rare classes count as much as large ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.objectives.outputs import asked
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training
from equiprune.training.losses import exits_loss


class Reweighting(BaseModel):
    """Each image's loss has the weight n / (cells · n_cell): every cell counts alike.

    A cell is a class in a group, or a class, or a group (`by`); with several findings, a finding's being there or not
    stands for the class. Weights are at most `cap` times their smallest, so that a single image does not rule. An image
    whose group is not known has the mean weight of its class over groups.

    Example:
        >>> Reweighting(by="group").cap
        20.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "reweighting"

    by: Literal["class_group", "class", "group"] = Field("class_group", description="What counts alike.")
    cap: float = Field(20.0, ge=1, description="The largest weight, as a multiple of the smallest.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The loss, with the weights in it."""
        return _Weighted(weights(cohort.subset("train"), self.by, self.cap))


class _Weighted(nn.Module):
    table: Tensor

    def __init__(self, table: Float[Tensor, "value class group_and_unknown"]) -> None:
        super().__init__()
        self.register_buffer("table", table.float())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        exits = asked(classifier, batch)
        if batch.label.ndim == 1:
            weight = self.table[1, batch.label, batch.group]
        else:
            value = batch.label.nan_to_num(0).long()
            weight = self.table[value, torch.arange(value.shape[1], device=value.device), batch.group[:, None]]
        return exits_loss(exits, batch.label, classifier.design.form, weight)


def weights(
    train: Cohort, by: Literal["class_group", "class", "group"], cap: float
) -> Float[Tensor, "value class group_and_unknown"]:
    """The weight of a label: by its value (0 or 1; of a class always 1), its class or finding, and the group.

    The last entry of the last axis is that of the unknown group, so that index −1 finds it.

    Args:
        train: the rows that are counted.
        by: what counts alike.
        cap: the largest weight, as a multiple of the smallest.
    """
    label = torch.as_tensor(train.label)
    group = torch.as_tensor(train.group)
    member = torch.stack([group == index for index in range(len(train.groups))]).double()
    if label.ndim == 1:
        has = (label == torch.arange(len(train.classes))[:, None]).double()
        values = torch.stack([torch.zeros_like(has), has])
    else:
        values = torch.stack([(label == 0).T, (label == 1).T]).double()
    count = values @ member.T  # (value, class, group)
    if by == "class":
        count = values.sum(2, keepdim=True).expand_as(count)
    elif by == "group":
        count = count.sum((0, 1), keepdim=True).expand_as(count)
    there = count > 0
    table = torch.where(there, 1 / count.clamp_min(1), 0.0)
    table = torch.where(there, table.clamp_max(cap * table[there].min()), 0.0)
    unknown = table.sum(2) / there.sum(2).clamp_min(1)
    table = torch.cat([table, unknown[:, :, None]], 2)
    return table / table[table > 0].mean()

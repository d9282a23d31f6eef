"""Group DRO (Sagawa et al., ICLR 2020): the worst-served group counts most."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.objectives.cells import by_group, cells, shares
from equiprune.objectives.outputs import asked
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training
from equiprune.training.losses import sample_losses


class GroupDRO(BaseModel):
    """Σ_g q_g l_g, where q_g grows by e^(η l_g) with every batch: the minimum of the largest group loss.

    A group is a group of the attribute, or with `over = "class_group"` a class in a group (the paper's; with several
    findings, a finding's being there or not). Groups that a batch lacks keep their q. Images whose attribute is unknown
    have the task's plain loss, by their share of the batch. Deviation: none of the paper's stronger L2 penalty; set
    `weight_decay`.

    Example:
        >>> GroupDRO().rate
        0.01
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "group_dro"

    rate: float = Field(0.01, gt=0, description="η.")
    over: Literal["group", "class_group"] = Field("group", description="What is a group.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The loss, which remembers q."""
        classes = len(cohort.classes) * (1 if cohort.task == "multiclass" else 2)
        count = len(cohort.groups) * (classes if self.over == "class_group" else 1)
        return _Worst(self, len(cohort.groups), count)


class _Worst(nn.Module):
    q: Tensor

    def __init__(self, settings: GroupDRO, groups: int, count: int) -> None:
        super().__init__()
        self.eta, self.over, self.groups = settings.rate, settings.over, groups
        self.register_buffer("q", torch.full((count,), 1 / count, dtype=torch.float64))
        self.penalty = torch.zeros(())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        exits = asked(classifier, batch)
        form = classifier.design.form
        weights = form.weights or (1.0,)
        each = sum(share * sample_losses(logits, batch.label) for share, logits in zip(weights, exits, strict=True))
        assert isinstance(each, Tensor)
        member = by_group(batch.group, self.groups)
        if self.over == "class_group":
            member = (cells(batch.label, len(classifier.design.classes))[:, None] * member[None]).flatten(0, 1)
        share, there = shares(member.to(each))
        losses = share @ each
        with torch.no_grad():
            self.q *= torch.where(there, torch.exp(self.eta * losses.double()), 1.0)
            self.q /= self.q.sum()
            self.penalty = losses[there].max() if bool(there.any()) else losses.sum()
        worst = (self.q.to(losses) * losses).sum()
        known = batch.group >= 0
        apart = each[~known].sum() / len(each)
        return known.to(each).mean() * worst + apart

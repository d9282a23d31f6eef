"""Domain-independent training (Wang et al., CVPR 2020): a block of logits a group, added up at use."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.form import Form
from equiprune.models.reshaping import find_head
from equiprune.objectives.outputs import own_loss, passed
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training


class DomainIndependent(BaseModel):
    """The last layer has D·K logits, and an image is trained by its own group's block; at use the blocks are added up.

    So the group is not needed at use. An image whose group is not known is trained by the sum. Early exits of the model
    have one block.

    Example:
        >>> DomainIndependent().model_dump()
        {}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "domain_independent"

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def form(self, classifier: Classifier, cohort: Cohort) -> Form:
        """Blocks of logits."""
        return classifier.design.form.model_copy(update={"groups": cohort.groups, "blocks": True})

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The task's loss of each image's own block."""
        head = find_head(classifier)
        groups = len(cohort.groups)

        def loss(model: Classifier, batch: Batch) -> Tensor:
            found = passed(model, batch, head)
            blocks = found.last.unflatten(1, (groups, -1))
            own = blocks[torch.arange(len(blocks), device=blocks.device), batch.group.clamp_min(0)]
            chosen = torch.where((batch.group >= 0)[:, None], own, found.logits)
            exits = (*found.exits[:-1], chosen)
            return own_loss(model, type(found)(exits, found.features, found.last), batch)

        return loss

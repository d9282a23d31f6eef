"""Uniform confusion (Alvi et al., 2018): features on which an adversary's guess of the group is a mere toss."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.func import functional_call

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.reshaping import find_head
from equiprune.objectives.adversary import adversary, guess_loss, width_of
from equiprune.objectives.outputs import own_loss, passed
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training


class AdvConf(BaseModel):
    """Task loss + α · (−1/D Σ_d log q_d(f)): the adversary q is to find all D groups equally likely.

    The adversary learns the group from the same features f, those the last layer reads, held fixed.

    Deviations: the published code trains the adversary for three epochs and then the model for one; here both take a
    step on every batch, and the adversary's learning rate is three times the model's (`ratio`). Images whose group is
    not known have the task's loss alone.

    Example:
        >>> AdvConf(alpha=0.5).ratio
        3.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "advconf"

    alpha: float = Field(1.0, ge=0, description="Weight of the confusion.")
    ratio: float = Field(3.0, gt=0, description="The adversary's learning rate, as a multiple of the model's.")
    hidden: int = Field(128, ge=1, description="Units of the adversary.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:
        """The loss, with the adversary in it."""
        return _Confused(self, classifier, len(cohort.groups), training.seed)


class _Confused(nn.Module):
    def __init__(self, settings: AdvConf, classifier: Classifier, groups: int, seed: int) -> None:
        super().__init__()
        self.head, self.alpha, self.rate = find_head(classifier), settings.alpha, settings.ratio
        self.adversary = adversary(width_of(classifier, self.head), groups, settings.hidden, seed)
        self.penalty = torch.zeros(())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        found = passed(classifier, batch, self.head)
        fixed = {name: parameter.detach() for name, parameter in self.adversary.named_parameters()}
        guessed: Tensor = functional_call(self.adversary, fixed, found.features).log_softmax(1)
        known = (batch.group >= 0).to(guessed.dtype)
        confusion = -(guessed.mean(1) * known).sum() / known.sum().clamp_min(1)
        self.penalty = confusion.detach()
        guess = guess_loss(self.adversary(found.features.detach()), batch.group)
        return own_loss(classifier, found, batch) + self.alpha * confusion + guess

"""Gradient reversal (Ganin and Lempitsky, 2015): features from which the group cannot be told."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.reshaping import find_head
from equiprune.objectives.adversary import adversary, guess_loss, width_of
from equiprune.objectives.outputs import own_loss, passed
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training


class GradientReversal(BaseModel):
    """A head that guesses the group stands behind a layer which passes features on and turns their gradient by −λ.

    λ rises from 0 to `strength` over the training as 2 / (1 + e^(−10 p)) − 1, p the share that is done. Images whose
    group is not known have the task's loss alone.

    Example:
        >>> round(GradientReversal().at(0.5), 3)
        0.987
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "gradient_reversal"

    strength: float = Field(1.0, ge=0, description="λ at the end.")
    hidden: int = Field(128, ge=1, description="Units of the head that guesses.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:
        """The loss, with the head that guesses in it."""
        return _Reversed(self, classifier, len(cohort.groups), training.seed)

    def at(self, progress: float) -> float:
        """λ when this share of the training is done."""
        return self.strength * (2 / (1 + math.exp(-10 * progress)) - 1)


class _Reversed(nn.Module):
    def __init__(self, settings: GradientReversal, classifier: Classifier, groups: int, seed: int) -> None:
        super().__init__()
        self.head, self.settings, self.progress = find_head(classifier), settings, 0.0
        self.adversary = adversary(width_of(classifier, self.head), groups, settings.hidden, seed)
        self.penalty = torch.zeros(())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        found = passed(classifier, batch, self.head)
        strength = self.settings.at(self.progress)
        # The value is the features', the gradient −λ times theirs.
        turned = (1 + strength) * found.features.detach() - strength * found.features
        guess = guess_loss(self.adversary(turned), batch.group)
        self.penalty = -guess.detach()
        return own_loss(classifier, found, batch) + guess

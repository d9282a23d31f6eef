"""Plain training: the baseline every other method is measured against."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.objectives.outputs import asked
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training
from equiprune.training.losses import exits_loss


class Vanilla(BaseModel):
    """Cross-entropy (multi-label: binary cross-entropy over known labels), blind to groups.

    Images whose attribute is unknown take part. A model with early exits is trained by the weighted sum over them.

    Example:
        >>> Vanilla().model_dump()
        {}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "vanilla"

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The task's loss."""
        return plain_loss


def plain_loss(classifier: Classifier, batch: Batch) -> Tensor:
    """The task's loss of a batch, of all exits."""
    return exits_loss(asked(classifier, batch), batch.label, classifier.design.form)

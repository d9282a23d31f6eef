"""FairAdaBN (Xu et al., MICCAI 2023): batch norm by group, and a loss on what the groups are told."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.form import Form
from equiprune.models.reshaping import reshape
from equiprune.objectives.cells import by_group, shares
from equiprune.objectives.outputs import asked
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training
from equiprune.training.losses import exits_loss


class FairAdaBN(BaseModel):
    """Every batch norm is one for each group; task loss + α · mean_k |mean p_k of one group − of another|.

    **The model needs the group of every image at use.** For an image of unknown group it gives the mean of the
    groups' logits; in training such images have the task's loss alone. With more than two groups the second term is
    the mean over pairs.

    Deviation: the statistical parity is taken of probabilities. The published code takes it of decisions, which have
    no gradient.

    Example:
        >>> FairAdaBN().alpha
        1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "fairadabn"

    alpha: float = Field(1.0, ge=0, description="Weight of the parity.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation.

        Raises:
            ModelError: the network has no batch norm.
        """
        return train(self, classifier, cohort, training)

    def check(self, classifier: Classifier, cohort: Cohort) -> None:
        """Refuses a network without batch norm; see `Checked`."""
        reshape(classifier.clone(), self.form(classifier, cohort))

    def form(self, classifier: Classifier, cohort: Cohort) -> Form:
        """Norms by group."""
        return classifier.design.form.model_copy(update={"groups": cohort.groups, "norms": True})

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The loss."""
        return _Alike(self.alpha, len(cohort.groups))


class _Alike(nn.Module):
    def __init__(self, alpha: float, groups: int) -> None:
        super().__init__()
        self.alpha, self.groups = alpha, groups
        self.penalty = torch.zeros(())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        exits = asked(classifier, batch)
        logits = exits[-1]
        probability = logits.softmax(1) if classifier.design.task == "multiclass" else logits.sigmoid()
        apart = parity(probability, batch.group, self.groups)
        self.penalty = apart.detach()
        return exits_loss(exits, batch.label, classifier.design.form) + self.alpha * apart


def parity(probability: Float[Tensor, "sample class"], group: Int[Tensor, " sample"], groups: int) -> Float[Tensor, ""]:
    """The mean over classes and pairs of groups of |mean probability of one − of the other|; 0 with one group.

    Example:
        >>> parity(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([0, 1]), 2)
        tensor(0.4000)
    """
    share, there = shares(by_group(group, groups).to(probability))
    mean = share @ probability
    pairs = (there[:, None] & there[None]).to(probability).triu(1)
    apart = (mean[:, None] - mean[None]).abs().mean(2)
    return (apart * pairs).sum() / pairs.sum().clamp_min(1)

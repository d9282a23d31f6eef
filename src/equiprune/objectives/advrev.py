"""Gradient projection (Zhang, Lemoine and Mitchell, 2018): no step that helps an adversary guess the group."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.objectives.adversary import adversary, guess_loss
from equiprune.objectives.outputs import asked
from equiprune.objectives.train import train
from equiprune.processes import average
from equiprune.training.loop import Loss, Training
from equiprune.training.losses import exits_loss


class AdvRev(BaseModel):
    """Each parameter tensor moves along g_y − α g_a − proj_{g_a} g_y.

    g_y is the gradient of the task's loss, g_a that of an adversary which guesses the group from the logits; the
    projection takes away what of g_y would help it. All gradients are taken before any step: the published code
    changes the adversary first, which current PyTorch refuses. A step costs one pass backwards more.

    Example:
        >>> AdvRev().alpha
        1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "advrev"

    alpha: float = Field(1.0, ge=0, description="Weight of the adversary's gradient.")
    ratio: float = Field(1.0, gt=0, description="The adversary's learning rate, as a multiple of the model's.")
    hidden: int = Field(32, ge=1, description="Units of the adversary.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:
        """A scalar whose gradient is the projected one."""
        return _Projected(self, len(classifier.design.classes), len(cohort.groups), training.seed)


class _Projected(nn.Module):
    def __init__(self, settings: AdvRev, classes: int, groups: int, seed: int) -> None:
        super().__init__()
        self.alpha, self.rate = settings.alpha, settings.ratio
        self.adversary = adversary(classes, groups, settings.hidden, seed)
        self.penalty = torch.zeros(())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        exits = asked(classifier, batch)
        logits = exits[-1]
        task = exits_loss(exits, batch.label, classifier.design.form)
        guess = guess_loss(self.adversary(logits), batch.group)
        self.penalty = -guess.detach()
        parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        wanted = torch.autograd.grad(task, parameters, retain_graph=True, allow_unused=True)
        helping = torch.autograd.grad(guess, parameters, allow_unused=True)
        average([slope for slope in (*wanted, *helping) if slope is not None])
        # A scalar whose gradient is the direction, and whose value is the task's loss.
        moved = [
            (parameter * projected(g, h, self.alpha)).sum()
            for parameter, g, h in zip(parameters, wanted, helping, strict=True)
            if g is not None or h is not None
        ]
        direction = torch.stack(moved).sum()
        own = guess_loss(self.adversary(logits.detach()), batch.group)
        return direction - direction.detach() + task.detach() + own


def projected(wanted: Tensor | None, helping: Tensor | None, alpha: float) -> Tensor:
    """g_y − α g_a − proj_{g_a} g_y of one parameter tensor.

    Args:
        wanted: g_y; None where the task's loss does not depend on it.
        helping: g_a; None likewise.
        alpha: see `AdvRev`.

    Example:
        >>> projected(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]), 0.5)
        tensor([ 3., -1.])
    """
    if helping is None:
        assert wanted is not None
        return wanted
    if wanted is None:
        return -alpha * helping
    square = helping.square().sum()
    along = torch.where(square > 0, (wanted * helping).sum() / square.clamp_min(1e-38), 0.0)
    return wanted - (alpha + along) * helping

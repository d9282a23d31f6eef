"""MMD-based fair distillation (Jung et al., CVPR 2021): each group's features as the teacher's of that class."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier, evaluating
from equiprune.models.reshaping import find_head
from equiprune.objectives.cells import by_group, cells, shares
from equiprune.objectives.kernel import radial, squared_distances, width
from equiprune.objectives.outputs import own_loss, passed
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training


class MFD(BaseModel):
    """Task loss + α Σ_{k,a} MMD²(teacher's features with y = k, student's with y = k and group a).

    The teacher is the model as it is given, frozen and in evaluation mode, and the student starts from it; the
    published code can leave the teacher in training mode. The features are those the last layer reads; the kernel is
    radial, its width the mean squared distance between the two models' features in the batch. With several findings k
    runs over "has it" and "has it not" of each. A step costs one pass forwards more, the teacher's.

    Deviation: images of a class stand side by side in the shuffled order, `together` at a time, so that a batch has
    several of each class it has.

    Example:
        >>> MFD().alpha
        1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "mfd"

    alpha: float = Field(1.0, ge=0, description="Weight of the distillation.")
    together: int = Field(8, ge=1, description="Images of a class that stand side by side in the shuffled order.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The loss, with the classifier as it is now for the teacher."""
        teacher = classifier.clone().to(memory_format=torch.channels_last)
        return _Distilled(self.alpha, teacher, find_head(classifier), len(cohort.groups))


class _Distilled:
    """Not a module: the teacher is neither trained nor stored."""

    def __init__(self, alpha: float, teacher: Classifier, head: str, groups: int) -> None:
        self.alpha, self.teacher, self.head, self.groups = alpha, teacher, head, groups
        self.penalty = torch.zeros(())

    def __call__(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        found = passed(classifier, batch, self.head)
        known = batch.group >= 0
        if not bool(known.any()):
            self.penalty = torch.zeros(())
            return own_loss(classifier, found, batch)
        with evaluating(self.teacher):
            taught = passed(self.teacher, batch, self.head).features[known]
        of_class = cells(batch.label[known], len(classifier.design.classes))
        apart = mmd(taught, found.features[known], of_class, by_group(batch.group[known], self.groups)).sum()
        self.penalty = apart.detach()
        return own_loss(classifier, found, batch) + self.alpha * apart


def mmd(
    teacher: Float[Tensor, "sample feature"],
    student: Float[Tensor, "sample feature"],
    of_class: Float[Tensor, "cell sample"],
    of_group: Float[Tensor, "group sample"],
) -> Float[Tensor, "cell group"]:
    """MMD² between the teacher's features of a class and the student's of it and a group; 0 where either is empty.

    The mean of the kernel over all pairs of the first set, plus that of the second, less twice that between them
    (i = j included, as in the published code: at least 0).

    Args:
        teacher: features of the batch.
        student: features of the same samples.
        of_class: 1 where a sample is in a class's cell.
        of_group: 1 where a sample is of a group.
    """
    with torch.autocast(student.device.type, enabled=False):
        wide = torch.float64 if student.dtype == torch.float64 else torch.float32
        teacher, student = teacher.to(wide), student.to(wide)
        between = squared_distances(student, teacher)
        scale = width(between, pairs=False)
        cross = radial(between, scale)
        first, has = shares(of_class.to(wide))
        second, theirs = shares((of_class.to(wide)[:, None] * of_group.to(wide)[None]).flatten(0, 1))
        own = ((first @ radial(squared_distances(teacher, teacher), scale)) * first).sum(1)
        others = ((second @ radial(squared_distances(student, student), scale)) * second).sum(1)
        both = (second @ cross).unflatten(0, (len(first), -1)) @ first[:, :, None]
        value = own[:, None] + others.view(len(first), -1) - 2 * both.squeeze(2)
        return torch.where(has[:, None] & theirs.view(len(first), -1), value, 0.0)

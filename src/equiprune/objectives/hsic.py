"""HSIC (Gretton et al., 2005; Quadrianto et al., 2019): features that do not depend on the group within a class."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.reshaping import find_head
from equiprune.objectives.cells import by_group, cells
from equiprune.objectives.kernel import radial, squared_distances, width
from equiprune.objectives.outputs import own_loss, passed
from equiprune.objectives.train import train
from equiprune.training.loop import Loss, Training

LEAST = 4  # the unbiased estimator divides by m − 3


class HSIC(BaseModel):
    """Task loss + λ Σ_k HSIC(features, group | y = k), by the unbiased estimator of Song et al. (2012).

    The features are those the last layer reads. The kernel of the features is radial, its width the mean squared
    distance in the batch; that of the group is 1 within a group and 0 between. With several findings k runs over "has
    it" and "has it not" of each. A class with fewer than four images of known group in the batch is left out.

    Deviation: images of a class stand side by side in the shuffled order, `together` at a time; else a batch of 256
    has about three usable classes of 114.

    Example:
        >>> HSIC().weight
        0.5
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "hsic"

    weight: float = Field(0.5, ge=0, description="λ.")
    together: int = Field(8, ge=1, description="Images of a class that stand side by side in the shuffled order.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        return train(self, classifier, cohort, training)

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The loss."""
        return _Independent(self.weight, find_head(classifier), len(cohort.groups))


class _Independent(nn.Module):
    def __init__(self, weight: float, head: str, groups: int) -> None:
        super().__init__()
        self.weight, self.head, self.groups = weight, head, groups
        self.penalty = torch.zeros(())

    def forward(self, classifier: Classifier, batch: Batch) -> Float[Tensor, ""]:
        found = passed(classifier, batch, self.head)
        known = batch.group >= 0
        within = cells(batch.label[known], len(classifier.design.classes))
        dependence = hsic(found.features[known], by_group(batch.group[known], self.groups), within).sum()
        self.penalty = dependence.detach()
        return own_loss(classifier, found, batch) + self.weight * dependence


def hsic(
    features: Float[Tensor, "sample feature"],
    groups: Float[Tensor, "group sample"],
    within: Float[Tensor, "cell sample"],
) -> Float[Tensor, " cell"]:
    """The unbiased estimate of the Hilbert-Schmidt independence criterion within each cell; may be below 0.

    With K and L the kernels of features and groups, their diagonals set to 0, over the m samples of a cell:
    (tr KL + 1ᵀK1 · 1ᵀL1 / ((m−1)(m−2)) − 2 1ᵀKL1 / (m−2)) / (m (m−3)); 0 where m < 4.

    Args:
        features: of each sample.
        groups: 1 where a sample is of a group.
        within: 1 where a sample is in a cell.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features if features.dtype == torch.float64 else features.float()
        apart = squared_distances(features, features)
        off = 1 - torch.eye(len(features), dtype=apart.dtype, device=apart.device)
        near = radial(apart, width(apart * off, pairs=True)) * off
        same = (groups.T @ groups).to(near) * off
        within = within.to(near)
        near_sums, same_sums = within @ near, within @ same  # of each sample, over its cell
        trace = ((within @ (near * same)) * within).sum(1)
        both = (near_sums * same_sums * within).sum(1)
        product = (near_sums * within).sum(1) * (same_sums * within).sum(1)
        count = within.sum(1)
        m = count.clamp_min(LEAST)
        value = (trace + product / ((m - 1) * (m - 2)) - 2 * both / (m - 2)) / (m * (m - 3))
        return torch.where(count >= LEAST, value, 0.0)

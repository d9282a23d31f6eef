"""Which samples of a batch share a label: the cells within which a group must not be seen."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cells(label: Tensor, classes: int) -> Float[Tensor, "cell sample"]:
    """1 where a sample is in a cell: one cell a class; with several findings two of each, with and without it.

    So two classes, and one finding, have the same cells. A finding that is not known (nan) puts a sample in neither.

    Args:
        label: class indices (sample,), or 0 / 1 / nan (sample, class).
        classes: how many there are.

    Example:
        >>> cells(torch.tensor([[1.0], [0.0], [float("nan")]]), 1)
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    if label.ndim == 1:
        return (label == torch.arange(classes, device=label.device)[:, None]).float()
    values = torch.tensor([0.0, 1.0], device=label.device)
    return (label.T[:, None] == values[:, None]).float().flatten(0, 1)


def by_group(group: Int[Tensor, " sample"], groups: int) -> Float[Tensor, "group sample"]:
    """1 where a sample is of a group; nowhere where it is not known."""
    return (group == torch.arange(groups, device=group.device)[:, None]).float()


def shares(members: Float[Tensor, "cell sample"]) -> tuple[Float[Tensor, "cell sample"], Tensor]:
    """Each cell's samples with weights that add up to 1, and which cells have any."""
    count = members.sum(1, keepdim=True)
    return members / count.clamp_min(1), count.squeeze(1) > 0

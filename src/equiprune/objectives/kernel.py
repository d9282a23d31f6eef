"""The radial kernel that HSIC and MMD are made of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def squared_distances(
    first: Float[Tensor, "row feature"], second: Float[Tensor, "column feature"]
) -> Float[Tensor, "row column"]:
    """|x_i − y_j|², at least 0; taken about the second's mean, so that no digits are lost."""
    middle = second.detach().mean(0)
    first, second = first - middle, second - middle
    square = first.square().sum(1)[:, None] + second.square().sum(1)[None, :]
    return (square - 2 * first @ second.T).clamp_min(0)


def width(distances: Float[Tensor, "row column"], *, pairs: bool) -> Float[Tensor, ""]:
    """The mean squared distance, as a number without gradient; 1 where all are equal.

    Args:
        distances: of all pairs.
        pairs: of a set with itself: i = j is left out.
    """
    count = distances.numel() - (len(distances) if pairs else 0)
    mean = distances.detach().sum() / max(count, 1)  # of nothing it is 0
    return torch.where(mean > 0, mean, torch.ones_like(mean))


def radial(distances: Tensor, scale: Tensor) -> Tensor:
    """exp(−d / (2 scale))."""
    return torch.exp(-distances / (2 * scale))

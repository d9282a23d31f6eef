"""The columns that a loss sends backwards: S with S Sᵀ its second derivative with respect to the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Loss = Literal["cross_entropy", "bce"]

TINY = 1e-300  # in the place of a divisor that is 0 in float64


def columns(
    loss: Loss, logits: Float[Tensor, "sample class"], label: Tensor
) -> Iterator[Float[Tensor, "sample class"]]:
    """Columns s of the same number for each sample, with Σ s sᵀ = ∂²l/∂z² exactly; formed one at a time.

    Args:
        loss: whose second derivative.
        logits: z.
        label: only the unknown findings of "bce" matter.

    Example:
        >>> [column.tolist() for column in columns("cross_entropy", torch.zeros(1, 2), torch.zeros(1))]
        [[[0.5, -0.5]]]
    """
    return _softmax(logits) if loss == "cross_entropy" else _sigmoid(logits, label)


def _softmax(logits: Float[Tensor, "sample class"]) -> Iterator[Float[Tensor, "sample class"]]:
    """The K - 1 columns of an exact factor of diag(p) - p pᵀ: its Cholesky factor in order of falling p.

    With q_r the sum of p_r, p_r+1, ..., column r has √(p_r q_r+1 / q_r) at r and -p_j √(p_r / (q_r q_r+1)) at j > r.
    Nothing is subtracted, so small probabilities keep all their digits.
    """
    p, order = logits.detach().double().softmax(1).sort(1, descending=True)
    tail = p.flip(1).cumsum(1).flip(1)
    here, after = tail[:, :-1].clamp_min(TINY), tail[:, 1:].clamp_min(TINY)
    first = (p[:, :-1] * after / here).sqrt()
    later = (p[:, :-1] / here).sqrt() / after.sqrt()
    for r in range(p.shape[1] - 1):
        column = -p * later[:, r : r + 1]
        column[:, :r] = 0
        column[:, r] = first[:, r]
        yield torch.empty_like(column).scatter_(1, order, column).to(logits.dtype)


def _sigmoid(
    logits: Float[Tensor, "sample finding"], label: Float[Tensor, "sample finding"]
) -> Iterator[Float[Tensor, "sample finding"]]:
    """One column a finding: √(p (1 - p)), 0 where the finding is not known."""
    z = logits.detach().double()
    root = (z.sigmoid() * (-z).sigmoid()).sqrt().masked_fill(label.isnan(), 0).to(logits.dtype)
    for k in range(root.shape[1]):
        column = torch.zeros_like(root)
        column[:, k] = root[:, k]
        yield column

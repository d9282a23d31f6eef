"""The columns that a loss sends backwards: S with S Sᵀ its second derivative with respect to the logits."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from equiprune.curvature.losses import Curved

TINY = 1e-300  # in the place of a divisor that is 0 in float64

Logits = Float[Tensor, "sample exit class"]


class Columns(Protocol):
    """The columns of a batch, every sample's ranked by falling mass |s|²; formed only when asked for."""

    @property
    def masses(self) -> Float[Tensor, "sample rank"]:
        """|s|² of every column, float64, never rising along a row."""
        ...

    def ranked(self, rank: Int[Tensor, " sample"]) -> Logits:
        """Each sample's column of this rank, counted from 0; zeros for -1."""
        ...

    def mixture(self, first: Int[Tensor, " sample"], signs: Float[Tensor, "sample exit class"]) -> Logits:
        """Each sample's columns from rank `first` on, mixed with signs ±1: its square is right on average."""
        ...


class Softmax:
    """The K - 1 columns of an exact factor of diag(p) - p pᵀ: its Cholesky factor in order of falling p.

    With q_r the sum of p_r, p_r+1, ..., column r has √(p_r q_r+1 / q_r) at r and -p_j √(p_r / (q_r q_r+1)) at j > r.
    Nothing is subtracted, so small probabilities keep all their digits. What the first r columns leave over is
    diag(p') - p' p'ᵀ / q_r, with p' the probabilities from r on: it has a factor of its own, A = diag(√p') -
    p' √p'ᵀ / q_r, whose columns are mixed at the cost of one. Several exits stand side by side.

    Args:
        logits: z.
        scale: what each exit's second derivative is multiplied by.

    Example:
        >>> found = Softmax(torch.zeros(1, 1, 2), torch.ones(1, 1))
        >>> found.ranked(torch.tensor([0])).tolist()
        [[[0.5, -0.5]]]
    """

    def __init__(self, logits: Logits, scale: Float[Tensor, "sample exit"]) -> None:
        self.dtype = logits.dtype
        z = logits.detach().double()
        self.p, self.order = z.softmax(2).sort(2, descending=True)
        self.tail = self.p.flip(2).cumsum(2).flip(2)
        here, after = self.tail[..., :-1].clamp_min(TINY), self.tail[..., 1:].clamp_min(TINY)
        root = scale.double().sqrt()[..., None]
        self.root = root
        self.at = root * (self.p[..., :-1] * after / here).sqrt()
        self.later = root * (self.p[..., :-1] / here).sqrt() / after.sqrt()
        squares = self.p.square().flip(2).cumsum(2).flip(2)
        masses = self.at.square() + self.later.square() * squares[..., 1:]
        # Never rising, so that the first ranks of an exit are its first columns, of which the mixture is the rest.
        masses = masses.flip(2).cummax(2)[0].flip(2).flatten(1)
        self.masses, self.rank_of = masses.sort(dim=1, descending=True, stable=True)

    def ranked(self, rank: Int[Tensor, " sample"]) -> Logits:  # noqa: D102 - see Columns
        width = self.p.shape[2] - 1
        place = self.rank_of.gather(1, rank.clamp_min(0)[:, None])
        exit_, r = place // width, place % width
        rows = torch.arange(len(rank), device=rank.device)[:, None]
        p, order = self.p[rows, exit_][:, 0], self.order[rows, exit_][:, 0]
        column = -p * self.later[rows, exit_, r]
        column.masked_fill_(torch.arange(width + 1, device=rank.device) < r, 0)
        column.scatter_(1, r, self.at[rows, exit_, r])
        column.masked_fill_(rank[:, None] < 0, 0)
        found = torch.zeros_like(self.p)
        found[rows[:, 0], exit_[:, 0]] = torch.empty_like(column).scatter_(1, order, column)
        return found.to(self.dtype)

    def mixture(self, first: Int[Tensor, " sample"], signs: Logits) -> Logits:  # noqa: D102 - see Columns
        width = self.p.shape[2] - 1
        exit_ = self.rank_of // width
        taken = torch.arange(exit_.shape[1], device=exit_.device) < first[:, None]
        used = torch.zeros(self.p.shape[:2], dtype=torch.int64, device=exit_.device)
        used.scatter_add_(1, exit_, taken.long())
        left = self.p.masked_fill(torch.arange(width + 1, device=exit_.device) < used[..., None], 0)
        all_ = self.tail.gather(2, used[..., None]).clamp_min(TINY)
        mixed = left.sqrt() * signs
        mixed = self.root * (mixed - left * (mixed.sum(2, keepdim=True) / all_))
        return torch.empty_like(mixed).scatter_(2, self.order, mixed).to(self.dtype)


class Sigmoid:
    """One column a finding: √(p (1 - p)) times the root of its scale, which is 0 where it is not known.

    Args:
        logits: z.
        scale: what each finding's second derivative is multiplied by.
    """

    def __init__(self, logits: Logits, scale: Float[Tensor, "sample exit class"]) -> None:
        z = logits.detach().double()
        self.root = (z.sigmoid() * (-z).sigmoid() * scale).sqrt()
        self.dtype = logits.dtype
        self.masses, self.rank_of = self.root.square().flatten(1).sort(dim=1, descending=True, stable=True)

    def ranked(self, rank: Int[Tensor, " sample"]) -> Logits:  # noqa: D102 - see Columns
        chosen = torch.zeros(self.masses.shape, dtype=torch.bool, device=rank.device)
        chosen.scatter_(1, self.rank_of.gather(1, rank.clamp_min(0)[:, None]), rank[:, None] >= 0)
        return self._only(chosen)

    def mixture(self, first: Int[Tensor, " sample"], signs: Logits) -> Logits:  # noqa: D102 - see Columns
        ranks = torch.arange(self.masses.shape[1], device=first.device)
        chosen = torch.zeros(self.masses.shape, dtype=torch.bool, device=first.device)
        return self._only(chosen.scatter_(1, self.rank_of, ranks >= first[:, None])) * signs.to(self.dtype)

    def _only(self, chosen: Bool[Tensor, "sample rank"]) -> Logits:
        return (self.root * chosen.view(self.root.shape)).to(self.dtype)


class Gradient:
    """The one column of the empirical Fisher: the gradient of the sample's own loss.

    Args:
        logits: z.
        losses: (z, label of the batch) to one loss a sample.
    """

    def __init__(self, gradient: Logits) -> None:
        self.gradient = gradient
        self.masses = gradient.double().square().sum((1, 2))[:, None]

    def ranked(self, rank: Int[Tensor, " sample"]) -> Logits:  # noqa: D102 - see Columns
        return self.gradient * (rank >= 0)[:, None, None]

    def mixture(self, first: Int[Tensor, " sample"], signs: Logits) -> Logits:  # noqa: ARG002, D102 - see Columns
        return torch.zeros_like(self.gradient)


def columns(curved: Curved, logits: Logits, label: Tensor) -> Columns:
    """The columns of a batch: Σ s sᵀ = ∂²l/∂z² exactly, for every sample.

    Args:
        curved: the loss.
        logits: of every exit.
        label: checked against the loss.
    """
    weights = exit_weights(curved, logits)
    scale = curved.scale(label, logits.shape[2])[:, None, :] * weights[:, None]
    return Softmax(logits, scale[..., 0]) if curved.softmax else Sigmoid(logits, scale)


def gradient(curved: Curved, logits: Logits, label: Tensor) -> Gradient:
    """The gradient of every sample's loss as the only column."""
    weights = exit_weights(curved, logits)
    with torch.enable_grad():
        z = logits.detach().double().requires_grad_()
        total = torch.stack([weights[e] * curved.each(z[:, e], label) for e in range(z.shape[1])]).sum()
        (found,) = torch.autograd.grad(total, z)
    return Gradient(found.to(logits.dtype))


def exit_weights(curved: Curved, logits: Logits) -> Float[Tensor, " exit"]:
    """w_e, float64."""
    given = curved.exits or (1.0,) * logits.shape[1]
    return torch.tensor(given, dtype=torch.float64, device=logits.device)

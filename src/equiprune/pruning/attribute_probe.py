"""What a layer's features tell of the group among images of one class, and which channels tell it.

A linear adversary guesses the group from the features' means over places. It knows the label as well, so it can gain
nothing from what the label tells: it measures what equalized odds forbids. It is fitted on one half of the images and
asked about the other, in turn, for with hundreds of channels it would find something in noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from equiprune.data.cohort import Cohort

STEPS = 100
RIDGE = 1e-3
ROUNDING = 1e-9
ROOM = 1 << 24  # numbers at a time


@dataclass(frozen=True, eq=False)
class Told:
    """Of one layer, in nats an image.

    Args:
        channel: by how much the adversary's loss grows if the channel says only what the label says.
        prior: the loss of one that knows the label alone.
        loss: the adversary's.
    """

    channel: Float[Tensor, " channel"]
    prior: float
    loss: float

    @property
    def gain(self) -> float:
        """What the features tell beyond the label; at or below 0 nothing was found."""
        return self.prior - self.loss


def told(
    features: Float[Tensor, "image channel"],
    label: Tensor,
    classes: int,
    group: Int[Tensor, " image"],
    groups: int,
    half: Int[Tensor, " image"],
) -> Told:
    """Fits the adversary on each half and asks it about the other.

    Args:
        features: float64.
        label: class indices (image,), or 0 / 1 / nan (image, class).
        classes: how many there are.
        group: index; images with −1 are left out.
        groups: how many there are.
        half: 0 or 1; images of one patient are in one half.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]] * 50, dtype=torch.float64)
        >>> group = torch.tensor([0, 1] * 50)
        >>> found = told(features, torch.zeros(100, dtype=torch.long), 1, group, 2, torch.arange(100) // 2 % 2)
        >>> found.gain > 0.5, (10 * found.channel).int().tolist()
        (True, [6, 0])
    """
    known = group >= 0
    context = _context(label[known], classes)
    features, group, half = features[known], group[known], half[known]
    channel = torch.zeros(features.shape[1], dtype=torch.float64)
    prior = loss = 0.0
    for fold in (0, 1):
        fit, ask = half != fold, half == fold
        adversary = _Adversary.fitted(features[fit], context[fit], group[fit], groups)
        share = float(ask.sum()) / len(ask)
        own = adversary.asked(features[ask], context[ask], group[ask])
        channel += share * own.channel
        prior, loss = prior + share * own.prior, loss + share * own.loss
    return Told(channel, prior, loss)


def halves(cohort: Cohort, seed: tuple[int, ...]) -> Int[Tensor, " row"]:
    """Which half a row is in, by unit where there is one."""
    unit: NDArray[np.int64] = np.arange(len(cohort))
    if cohort.unit is not None:
        unit = np.unique(cohort.unit, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(int(unit.max()) + 1)
    return torch.from_numpy(order[unit] % 2)


def _context(label: Tensor, classes: int) -> Float[Tensor, "image column"]:
    """What the adversary knows beside the features: the class, or every finding and 1. Unknown findings count half."""
    if label.ndim == 1:
        return functional.one_hot(label, classes).double()
    return torch.cat([torch.ones(len(label), 1).double(), label.double().nan_to_num(0.5)], 1)


@dataclass(frozen=True, eq=False)
class _Adversary:
    """log p(group) ∝ W (f − E[f | label]) / σ + B c(label)."""

    middle: Tensor  # (channel,): E[f]
    mean: Tensor  # (column, channel): E[f | label] - E[f], linear in the label's columns; 0 for a label never seen
    scale: Tensor  # (channel,); infinite where nothing is left
    weight: Tensor  # (channel, group)
    bias: Tensor  # (column, group)
    prior: Tensor  # (column, group): the bias of one that has no features

    @classmethod
    def fitted(cls, features: Tensor, context: Tensor, group: Tensor, groups: int) -> _Adversary:
        middle = features.mean(0)
        mean = torch.linalg.lstsq(_ridged(context), _padded(features - middle, context)).solution
        rest = features - middle - context @ mean
        scale = rest.square().mean(0).sqrt()
        scale = torch.where(scale > ROUNDING * features.abs().amax(0), scale, torch.inf)
        rest = rest / scale
        nothing = torch.zeros(len(rest), 0, dtype=torch.float64)
        _, prior = _minimum(nothing, context, group, groups)
        weight, bias = _minimum(rest, context, group, groups)
        return cls(middle, mean, scale, weight, bias, prior)

    def asked(self, features: Tensor, context: Tensor, group: Tensor) -> Told:
        rest = (features - self.middle - context @ self.mean) / self.scale
        logits = rest @ self.weight + context @ self.bias
        loss = functional.cross_entropy(logits, group)
        prior = functional.cross_entropy(context @ self.prior, group)
        silent = []
        for part in torch.arange(rest.shape[1]).split(max(1, ROOM // max(logits.numel(), 1))):
            less = logits[:, None] - rest[:, part, None] * self.weight[part]
            each = functional.cross_entropy(less.flatten(0, 1), group.repeat_interleave(len(part)), reduction="none")
            silent.append(each.view(len(rest), len(part)).mean(0))
        return Told(torch.cat(silent) - loss, float(prior), float(loss))


def _ridged(context: Tensor) -> Tensor:
    """With rows that make the least squares well-posed where a class is not in this half."""
    return torch.cat([context, RIDGE * torch.eye(context.shape[1], dtype=context.dtype)])


def _padded(features: Tensor, context: Tensor) -> Tensor:
    return torch.cat([features, features.new_zeros(context.shape[1], features.shape[1])])


def _minimum(rest: Tensor, context: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Weights and bias with the least cross-entropy, with a ridge; convex, so there is one minimum."""
    # The ridge of a Gaussian prior whose strength falls with the number of images.
    ridge = rest.shape[1] / max(len(rest), 1)
    weight = torch.zeros(rest.shape[1], groups, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(context.shape[1], groups, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def closure() -> Tensor:
        search.zero_grad()
        loss = functional.cross_entropy(rest @ weight + context @ bias, group)
        total = loss + 0.5 * ridge * weight.square().sum() + 0.5 * RIDGE * bias.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        search.step(closure)
    return weight.detach(), bias.detach()

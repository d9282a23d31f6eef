"""A small network that guesses the group, for the objectives that make it guess badly."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from equiprune.models.classifier import Classifier


def adversary(inputs: int, groups: int, hidden: int, seed: int) -> nn.Sequential:
    """Two layers from features to one logit a group; the weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, groups))


def width_of(classifier: Classifier, head: str) -> int:
    """How many features the network's last layer reads."""
    layer = classifier.network.get_submodule(head)
    assert isinstance(layer, nn.Linear)
    return layer.in_features


def guess_loss(logits: Float[Tensor, "sample group"], group: Int[Tensor, " sample"]) -> Float[Tensor, ""]:
    """The adversary's cross-entropy over the samples whose group is known; 0 where it is known of none."""
    known = (group >= 0).to(logits.dtype)
    each = functional.cross_entropy(logits, group.clamp_min(0), reduction="none")
    return (each * known).sum() / known.sum().clamp_min(1)

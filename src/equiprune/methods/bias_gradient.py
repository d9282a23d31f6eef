"""Bias-gradient pruning (Marcinkevics, Ozkan and Vogt, 2022): cut the channels that make the model biased."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.predicting import predict
from equiprune.progress import say
from equiprune.pruning.channel_loop import Gain, Iterations, Layer, Rate, Step, Tune, check, prune_channels
from equiprune.pruning.channels import Channels
from equiprune.pruning.effects import effects
from equiprune.pruning.saliency import sampled
from equiprune.pruning.watching import Budget, Gap, Keep, Target
from equiprune.training.loop import Training

Proxy = Literal["eopp1", "parity"]


class BiasGradient(BaseModel):
    """Removes the channels whose silence would, to first order, lower a differentiable bias the most.

    The bias is B = mean_k |μ_k|, μ_k the difference between two groups' mean probability of class k: among images of
    that class (`proxy="eopp1"`, equal opportunity; of findings, those that have it) or among all (`proxy="parity"`);
    with more than two groups the mean over pairs. A channel with maps h changes B by −⟨h, ∂B/∂h⟩. A step is cut, the
    bias is taken anew, and of all iterations that lose at most `budget` of macro F1 the one with the smallest gap on
    validation is kept.

    Decisions: units are channels, scored behind the activation; those that enter one sum leave together, scored on the
    sum. The work prunes for two groups and one label: classes, findings and pairs are averaged here.

    Example:
        >>> BiasGradient(step=0.05, iterations=4).keep
        'fairest'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer = "all"
    step: Step = 0.02
    iterations: Iterations = 10
    proxy: Proxy = Field("eopp1", description="Among the images of a class, or among all.")
    gap: Gap = "eopp1"
    target: Target = None
    gain: Gain = None
    budget: Budget = 0.05
    keep: Keep = "fairest"
    tune: Tune = 0
    rate: Rate = 0.1
    samples: int = Field(1000, ge=1, description="Training images a group that the bias is taken over.")

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any data do
        """Refuses a layer that does not exist or would be emptied; see `Checked`."""
        check(classifier, self)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A smaller classifier; see `prune_channels`."""
        train = cohort.subset("train")
        notes: dict[str, Any] = {}

        def score(model: Classifier, sets: Sequence[Channels], iteration: int) -> dict[str, Tensor]:
            chosen = sampled(train, self.samples, training.seed, iteration, by_group=True)
            probability = torch.from_numpy(predict(model, chosen, training.pixels).score)
            positive, group = torch.from_numpy(chosen.positive), torch.from_numpy(chosen.group)
            known = torch.as_tensor(chosen.label).isfinite() if chosen.task == "multilabel" else positive | ~positive
            among = positive if self.proxy == "eopp1" else known
            share = weights(probability, among, group, len(chosen.groups))
            notes["bias"] = float((share * probability).sum())
            say(f"the bias on training images is {notes['bias']:.4f}")

            def losses(now: Classifier, batch: Batch) -> Tensor:
                logits = now(batch.image, batch.group)
                told: Tensor = logits.softmax(1) if chosen.task == "multiclass" else logits.sigmoid()
                return (told * share[batch.index.cpu()].to(told)).sum(1)

            found = effects(model, chosen, training.pixels, [one.layer for one in sets], losses)
            return {one.layer: -found[one.layer].slope.sum(0) for one in sets}

        return prune_channels(classifier, cohort, training, self, score, notes=notes)


def bias(
    probability: Float[Tensor, "image class"],
    among: Float[Tensor, "image class"],
    group: Int[Tensor, " image"],
    groups: int,
) -> Float[Tensor, ""]:
    """B = Σ_i Σ_k w_ik p_ik: the mean over classes and pairs of groups of the difference of mean probabilities.

    Args:
        probability: of every image and class.
        among: where an image counts for a class.
        group: index, -1 = not known.
        groups: how many there are.

    Example:
        >>> p = torch.tensor([[0.9], [0.5], [0.1]])
        >>> round(bias(p, torch.tensor([[True], [True], [False]]), torch.tensor([0, 1, 1]), 2).item(), 6)
        0.4
    """
    return (weights(probability, among, group, groups) * probability).sum()


def weights(
    probability: Float[Tensor, "image class"],
    among: Float[Tensor, "image class"],
    group: Int[Tensor, " image"],
    groups: int,
) -> Float[Tensor, "image class"]:
    """∂B/∂p of every image and class; 0 where a class has images in fewer than two groups."""
    member = torch.stack([(group == index)[:, None] & among for index in range(groups)]).to(probability)
    count = member.sum(1, keepdim=True)
    share = member / count.clamp_min(1)  # (group, image, class)
    mean = (share * probability).sum(1)
    there = count.squeeze(1) > 0
    total, pairs = torch.zeros_like(probability), torch.zeros_like(probability[0])
    for first, second in combinations(range(groups), 2):
        both = (there[first] & there[second]).to(probability)
        total += both * (mean[first] - mean[second]).sign() * (share[first] - share[second])
        pairs += both
    used = (pairs > 0).sum().clamp_min(1)
    return total / pairs.clamp_min(1) / used

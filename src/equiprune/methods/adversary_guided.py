"""Adversary-guided pruning, our own: cut the channels that tell an adversary the group and the task little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.progress import say
from equiprune.pruning.attribute_probe import halves, told
from equiprune.pruning.channel_loop import Gain, Iterations, Layer, Rate, Step, Tune, check, prune_channels
from equiprune.pruning.channels import Channels
from equiprune.pruning.effects import effects
from equiprune.pruning.saliency import sampled
from equiprune.pruning.watching import Budget, Gap, Keep, Target
from equiprune.training.loop import Training
from equiprune.training.losses import sample_losses


class AdversaryGuided(BaseModel):
    """Removes the channels with the largest a_k − λ t_k, refits the adversary, and repeats.

    a_k is by how much the loss of an adversary grows that guesses the group from the layer's pooled features and the
    label, if channel k says only what the label says; t_k by how much the task's loss grows if the channel is silent,
    to second order. Both are nats an image, so λ = 1 gives up a nat of the task for a nat about the group. As the
    adversary knows the label, it measures what equalized odds forbids. It is fitted on one half of the images and
    asked about the other, in turn: where a layer tells nothing of the group, channels leave by the task alone.

    The course report on chest X-rays names pruning informed by an adversary as future work; docs/pruning.md has the
    derivation and how it compares.

    Example:
        >>> AdversaryGuided(weight=0.5).layer
        'all'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(
        1.0, ge=0, description="λ, how much the task counts: a nat of it against a nat about the group."
    )
    layer: Layer = "all"
    step: Step = 0.05
    iterations: Iterations = 3
    gap: Gap = "eopp1"
    target: Target = None
    gain: Gain = 0.0
    budget: Budget = 0.02
    keep: Keep = "best"
    tune: Tune = 5
    rate: Rate = 0.1
    samples: int = Field(1000, ge=2, description="Training images a group that are looked at.")

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any data do
        """Refuses a layer that does not exist or would be emptied; see `Checked`."""
        check(classifier, self)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A smaller classifier; see `prune_channels`."""
        train = cohort.subset("train")
        notes: dict[str, Any] = {}

        def score(model: Classifier, sets: Sequence[Channels], iteration: int) -> dict[str, Tensor]:
            chosen = sampled(train, self.samples, training.seed, iteration, by_group=True)
            found = effects(model, chosen, training.pixels, [one.layer for one in sets], _task)
            label, group = torch.as_tensor(chosen.label), torch.as_tensor(chosen.group)
            half = halves(chosen, (training.seed, iteration))
            scores, notes["told"] = {}, {}
            for one in sets:
                layer = found[one.layer]
                guess = told(layer.pooled, label, len(chosen.classes), group, len(chosen.groups), half)
                scores[one.layer] = self.weight * layer.second - guess.channel
                notes["told"][one.layer] = guess.gain
            most = max(notes["told"], key=lambda layer: notes["told"][layer])
            say(f"of {chosen.attribute}, {most} tells most beyond the label: {notes['told'][most]:.4f} nats an image")
            return scores

        return prune_channels(classifier, cohort, training, self, score, notes=notes)


def _task(classifier: Classifier, batch: Batch) -> Tensor:
    """The task's loss of each image, of all exits."""
    exits = classifier.exits(batch.image, batch.group)
    shares = classifier.design.form.weights or (1.0,)
    each = [share * sample_losses(logits, batch.label) for share, logits in zip(shares, exits, strict=True)]
    return torch.stack(each).sum(0)

"""Channels by FairPrune's score, and its controls: by magnitude, and at random.

A gain in fairness that random channels give as well is no gain of the method.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from equiprune.data.cohort import Cohort
from equiprune.models.classifier import Classifier
from equiprune.progress import say
from equiprune.pruning.channel_loop import Gain, Iterations, Layer, Rate, Step, Tune, check, prune_channels
from equiprune.pruning.channels import PREFIX, Channels
from equiprune.pruning.iterative import Curvature
from equiprune.pruning.saliency import difference, record_saliency, sampled, second_order
from equiprune.pruning.watching import Budget, Gap, Keep, Target, check_group, privileged_group
from equiprune.training.loop import Training


class FairPruneChannels(BaseModel):
    """Removes the channels with the smallest sum of FairPrune's score over the weights that make them.

    s_k = Σ_i ½ θ_i² (h_ii^unprivileged − β h_ii^privileged) over the filters of channel k, in all layers that enter one
    sum with it. The paper prunes single weights; this is its criterion for whole channels, which make a model smaller.

    Example:
        >>> FairPruneChannels(layer="all", step=0.1).beta
        0.33
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(0.33, ge=0, description="How much the privileged group's need counts against a channel.")
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
    estimator: Curvature = "stochastic"
    samples: int = Field(1000, ge=1, description="Training images a group the second derivative is taken over.")
    privileged: str | None = Field(
        None, description="The better-served group; by default the one with the highest macro F1 on validation."
    )

    def check(self, classifier: Classifier, cohort: Cohort) -> None:
        """Refuses a layer that does not exist or would be emptied, and a group that does not exist; see `Checked`."""
        check(classifier, self)
        check_group(cohort, self.privileged)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A smaller classifier; see `prune_channels`.

        Raises:
            UsageError: `privileged` is not one of the groups.
        """
        train = cohort.subset("train")
        privileged, unprivileged = privileged_group(classifier, cohort, training, self.privileged)
        say(f"privileged group: {privileged}; pruning in favour of {unprivileged}")

        def score(model: Classifier, sets: Sequence[Channels], iteration: int) -> dict[str, Tensor]:
            chosen = sampled(train, self.samples, training.seed, iteration, by_group=True)
            saliency = second_order(
                model, chosen, training, groups=cohort.groups, biases=False, estimator=self.estimator
            )
            if iteration == 0:
                record_saliency(saliency, training.folder)
            return by_channel(model, sets, difference(saliency, unprivileged, self.beta))

        facts = {"privileged": privileged, "unprivileged": unprivileged}
        return prune_channels(classifier, cohort, training, self, score, facts)


class MagnitudeChannels(BaseModel):
    """Removes the channels with the smallest L1 norm of the weights that make them: a control blind to groups.

    Example:
        >>> MagnitudeChannels().keep
        'last'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer = "all"
    step: Step = 0.05
    iterations: Iterations = 3
    gap: Gap = "eopp1"
    target: Target = None
    gain: Gain = None
    budget: Budget = None
    keep: Keep = "last"
    tune: Tune = 5
    rate: Rate = 0.1

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any data do
        """Refuses a layer that does not exist or would be emptied; see `Checked`."""
        check(classifier, self)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A smaller classifier; see `prune_channels`."""

        def score(model: Classifier, sets: Sequence[Channels], _iteration: int) -> dict[str, Tensor]:
            sizes = {name: weight.detach().abs() for name, weight in model.named_parameters()}
            return by_channel(model, sets, sizes)

        return prune_channels(classifier, cohort, training, self, score)


class RandomChannels(BaseModel):
    """Removes channels at random: what a method must beat before its gain means anything.

    Example:
        >>> RandomChannels(layer="last").gain is None
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer = "all"
    step: Step = 0.05
    iterations: Iterations = 3
    gap: Gap = "eopp1"
    target: Target = None
    gain: Gain = None
    budget: Budget = None
    keep: Keep = "last"
    tune: Tune = 5
    rate: Rate = 0.1
    draw: int = Field(0, ge=0, description="Another number draws other channels under the same seed.")

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any data do
        """Refuses a layer that does not exist or would be emptied; see `Checked`."""
        check(classifier, self)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A smaller classifier; see `prune_channels`."""

        def score(_model: Classifier, sets: Sequence[Channels], iteration: int) -> dict[str, Tensor]:
            generator = torch.Generator().manual_seed((training.seed * 1009 + self.draw) * 1009 + iteration)
            return {found.layer: torch.rand(found.count, generator=generator) for found in sets}

        return prune_channels(classifier, cohort, training, self, score)


def by_channel(model: Classifier, sets: Sequence[Channels], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum of the weights' values over every channel that leaves: one number a channel, float64 on the CPU.

    Args:
        model: for the shapes of its layers.
        sets: the channels in question.
        values: one number a weight, by parameter name.
    """
    found = {}
    for one in sets:
        layers = ((name, model.network.get_submodule(name)) for name in one.layers)
        sums = [_by_output(layer, values[f"{PREFIX}{name}.weight"]) for name, layer in layers]
        found[one.layer] = torch.stack(sums).sum(0).cpu()
    return found


def _by_output(layer: nn.Module, values: Tensor) -> Tensor:
    assert isinstance(layer, _ConvNd)
    if layer.transposed:  # (in, out / groups, ...): the groups follow one another along the input
        apart: Tensor = values.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        return apart.flatten(2).double().sum(2).flatten()
    return values.flatten(1).double().sum(1)

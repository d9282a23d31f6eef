"""SCP (Kong et al., MICCAI 2024): cut the channels whose features tell the groups apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune import processes
from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch, batches
from equiprune.entanglement import every_group, model_scores
from equiprune.models.classifier import Classifier, evaluating
from equiprune.models.taps import Tap
from equiprune.progress import bar
from equiprune.pruning.channel_loop import Gain, Iterations, Layer, Rate, Step, Tune, check, prune_channels
from equiprune.pruning.channels import PREFIX, Channels
from equiprune.pruning.saliency import sampled
from equiprune.pruning.watching import Budget, Gap, Keep, Target
from equiprune.training.loop import Training


class SCP(BaseModel):
    """Removes the channels with the smallest soft-nearest-neighbour loss S^k (Eq. 1), and trains the rest on.

    A small S^k means that an image's nearest neighbours in channel k are of its own group. Images whose attribute is
    unknown take no part. In a residual network the channels that enter one sum leave together, scored on the sum.

    Deviations from the paper, which gives neither batch, temperature, thresholds nor training-on: the temperature is
    each channel's mean squared distance (with 1, as in the published code, the score follows the features' scale), an
    image is not its own neighbour, and features are taken behind the activation; `score="published"` undoes all three.

    Example:
        >>> SCP(step=0.1, iterations=2).layer
        'last'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer = "last"
    step: Step = 0.02
    iterations: Iterations = 3
    gap: Gap = "eopp1"
    target: Target = None
    gain: Gain = 0.0
    budget: Budget = 0.02
    keep: Keep = "best"
    tune: Tune = 5
    rate: Rate = 0.1
    score: Literal["squared", "published"] = Field(
        "squared", description="Squared distances at their own scale, or as the published code has it."
    )
    tap: Tap = Field("activation", description="Features behind the activation, or the convolution's own.")
    temperature: float = Field(1.0, gt=0, description="Of the distances, as a multiple of their mean.")
    batch: int = Field(128, ge=4, description="Images compared with one another; every batch holds every group.")
    samples: int = Field(1000, ge=2, description="Training images a group that are scored.")

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any data do
        """Refuses a layer that does not exist or would be emptied; see `Checked`."""
        check(classifier, self)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A smaller classifier; see `prune_channels`."""
        train = cohort.subset("train")
        published = self.score == "published"

        def score(model: Classifier, sets: Sequence[Channels], iteration: int) -> dict[str, Tensor]:
            chosen = sampled(train, self.samples, training.seed, iteration, by_group=True)
            with evaluating(model), bar("scoring channels") as progress:
                rows = every_group(chosen.group.tolist(), self.batch, (training.seed, iteration))
                own = rows[processes.share(len(rows))]
                found = model_scores(
                    model,
                    _batches(chosen, training, own),
                    [PREFIX + one.layer for one in sets],
                    tap="conv" if published else self.tap,
                    temperature=self.temperature if published else None,
                    factor=1.0 if published else self.temperature,
                    published=published,
                    progress=lambda done: progress(done, len(chosen)),
                )
            # The mean over batches, from each process's mean over its own.
            parts = [processes.add(found[PREFIX + one.layer].double() * len(own)) for one in sets]
            total = processes.add(torch.tensor(len(own)))
            return {one.layer: part / total.to(part.device) for one, part in zip(sets, parts, strict=True)}

        return prune_channels(classifier, cohort, training, self, score)


def _batches(cohort: Cohort, training: Training, parts: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """Batches of these rows."""
    for rows in parts:
        yield from batches(cohort.take(np.array(rows)), training.pixels, batch_size=len(rows))

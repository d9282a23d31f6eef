"""Optimal Brain Damage (LeCun, Denker and Solla, 1989): prune what matters least to anyone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.models.classifier import Classifier
from equiprune.pruning.iterative import Biases, Curvature, Ratio, Scope, Step, check, prune_iteratively
from equiprune.pruning.saliency import sampled, second_order
from equiprune.pruning.track import track_key
from equiprune.pruning.watching import Budget, Gap, Keep, Target
from equiprune.training.loop import Training


class OBD(BaseModel):
    """Removes the weights with the smallest saliency s_i = ½ h_ii θ_i² over all training data.

    h is the diagonal of the second derivative of the mean training loss (Gauss-Newton). The same
    loop as FairPrune without groups: its control.

    Example:
        >>> OBD(ratio=0.5, step=0.1).budget
        0.05
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: Ratio = 0.35
    step: Step = 0.05
    gap: Gap = "eopp1"
    target: Target = None
    budget: Budget = 0.05
    keep: Keep = "best"
    scope: Scope = "global"
    biases: Biases = False
    estimator: Curvature = "stochastic"
    samples: int = Field(1000, ge=1, description="Training images the second derivative is taken over.")

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any model and data do
        """Refuses a step larger than the ratio; see `Checked`."""
        check(self)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A pruned copy of the classifier; see `prune_iteratively`."""
        train = cohort.subset("train")

        def score(model: Classifier, iteration: int) -> dict[str, Tensor]:
            everyone = sampled(train, self.samples, training.seed, iteration, by_group=False)
            return second_order(
                model, everyone, training, groups=("all",), biases=self.biases, estimator=self.estimator
            )["all"]

        key = track_key(classifier, self.model_dump(), training.seed) if training.shared is not None else ""
        return prune_iteratively(classifier, cohort, training, self, score, key=key)

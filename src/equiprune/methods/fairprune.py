"""FairPrune (Wu et al., MICCAI 2022): prune what serves the privileged group at the other's cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.models.classifier import Classifier
from equiprune.progress import say
from equiprune.pruning.iterative import Biases, Curvature, Ratio, Scope, Step, check, prune_iteratively
from equiprune.pruning.saliency import difference, record_saliency, sampled, second_order
from equiprune.pruning.track import once, track_key
from equiprune.pruning.watching import Budget, Gap, Keep, Target, check_group, privileged_group
from equiprune.training.loop import Training


class FairPrune(BaseModel):
    """Removes the weights with the smallest s_i = ½ θ_i² (h_ii^unprivileged − β h_ii^privileged).

    h^g is the diagonal of the second derivative of group g's mean training loss (Eq. 3-4; for
    networks of conv, linear, ReLU, pooling and batch norm in evaluation mode the Gauss-Newton
    diagonal used here equals the Hessian's). A low score is a weight the privileged group leans on
    and the other does not. Nothing is fine-tuned afterwards.

    With more than two groups the one with the lowest validation F1 has weight +1 and the others
    share −β equally. Images whose attribute is unknown take no part in the scores.

    Deviations from the paper: the curvature is the mean over `samples` training images a group, drawn
    anew each iteration, instead of over mini-batches of a fixed size; its expectation is the same. By
    default it is estimated from about one column a sample (see the curvature's docs): seeded, right on
    average, and the same choice of weights as the exact one to about two in a hundred.

    Example:
        >>> FairPrune(beta=0.2, ratio=0.5, step=0.1).samples
        1000
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(0.33, ge=0, description="How much the privileged group's need counts against a weight.")
    ratio: Ratio = 0.35
    step: Step = 0.05
    gap: Gap = "eopp1"
    target: Target = None
    budget: Budget = 0.05
    keep: Keep = "best"
    scope: Scope = "global"
    biases: Biases = False
    estimator: Curvature = "stochastic"
    samples: int = Field(1000, ge=1, description="Training images a group the second derivative is taken over.")
    privileged: str | None = Field(
        None, description="The better-served group; by default the one with the highest macro F1 on validation."
    )

    def check(self, classifier: Classifier, cohort: Cohort) -> None:  # noqa: ARG002 - any model does
        """Refuses a step larger than the ratio, or a privileged group that does not exist; see `Checked`."""
        check(self)
        check_group(cohort, self.privileged)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A pruned copy of the classifier; see `prune_iteratively`.

        Raises:
            UsageError: `privileged` is not one of the groups.
        """
        train = cohort.subset("train")
        privileged, unprivileged = privileged_group(classifier, cohort, training, self.privileged)
        say(f"privileged group: {privileged}; pruning in favour of {unprivileged}")

        key = track_key(classifier, self.model_dump(), training.seed) if training.shared is not None else ""

        def score(model: Classifier, iteration: int) -> dict[str, Tensor]:
            chosen = sampled(train, self.samples, training.seed, iteration, by_group=True)

            def measured() -> dict[str, dict[str, Tensor]]:
                return second_order(
                    model, chosen, training, groups=cohort.groups, biases=self.biases, estimator=self.estimator
                )

            if iteration == 1 and training.shared is not None:
                way = self.model_dump(exclude={"beta", "step", "scope", "privileged"})
                saliency = once(training.shared, track_key(classifier, way, training.seed), measured)
            else:
                saliency = measured()
            if iteration == 1:
                record_saliency(saliency, training.folder)
            return difference(saliency, unprivileged, self.beta)

        facts = {"privileged": privileged, "unprivileged": unprivileged}
        return prune_iteratively(classifier, cohort, training, self, score, facts, key)

"""Multi-exit training (Chiu et al., MICCAI 2023): early exits, and easy images leave there."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from equiprune.audit import Point, point
from equiprune.data.cohort import Cohort
from equiprune.errors import Problem, UsageError
from equiprune.metrics.operating import called
from equiprune.metrics.tradeoff import fate
from equiprune.models.classifier import Classifier
from equiprune.models.form import Form
from equiprune.models.reshaping import find_stages, reshape
from equiprune.objectives.train import train
from equiprune.objectives.vanilla import plain_loss
from equiprune.predicting import exit_logits, scored
from equiprune.progress import say
from equiprune.training.loop import Loss, Training

CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)


class MultiExit(BaseModel):
    """A small head behind each stage; L = Σ_e w_e l(z_e), w_e = e / E rising to 1.

    At use an image leaves at the first exit that is at least `confidence` sure (its largest probability; with several
    findings the least of max(p, 1 − p)), at the last where none is. The confidence is chosen on validation, by FATE
    of Eopp1 against the last exit alone among those that lose at most 0.02 of macro F1.

    Deviation: a head is the mean over places and one linear layer. All exits are computed for every image, so leaving
    early saves no time here.

    Example:
        >>> MultiExit(exits=("layer2", "layer3")).exits
        ('layer2', 'layer3')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "multi_exit"

    exits: tuple[str, ...] | None = Field(None, description="Layers of the network; by default the ends of its stages.")

    @field_validator("exits", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(name.removeprefix("network.") for name in names)
        return names

    confidence: float | None = Field(None, gt=0, le=1, description="How sure; by default chosen on validation.")
    budget: float = Field(0.02, ge=0, description="Macro F1 on validation that the choice may lose.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation.

        Raises:
            UsageError: it has early exits already, or a layer does not exist.
            ModelError: a layer gives no maps.
        """
        self.check(classifier, cohort)
        return train(self, classifier, cohort, training)

    def check(self, classifier: Classifier, cohort: Cohort) -> None:
        """Refuses a model that has exits, and layers that cannot have one; see `Checked`."""
        if classifier.design.form.exits:
            what = "multi_exit cannot follow multi_exit: the model has early exits already"
            raise UsageError(Problem(what, hint="vanilla trains them on"))
        reshape(classifier.clone(), self.form(classifier, cohort))

    def form(self, classifier: Classifier, cohort: Cohort) -> Form:  # noqa: ARG002 - needs none
        """Early exits, none of which is used until the confidence is chosen."""
        layers = self.exits or find_stages(classifier)
        weights = tuple((number + 1) / (len(layers) + 1) for number in range(len(layers) + 1))
        return classifier.design.form.model_copy(update={"exits": layers, "weights": weights, "confidence": None})

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:  # noqa: ARG002 - needs none
        """The weighted sum over exits."""
        return plain_loss

    def settled(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """The model with its confidence."""
        confidence = self.confidence or self._chosen(classifier, cohort.subset("validation"), training)
        told = "the last exit alone" if confidence is None else f"from {confidence:g} on an image leaves early"
        say(f"early exits: {told}")
        form = classifier.design.form.model_copy(update={"confidence": confidence})
        classifier.design = classifier.design.model_copy(update={"form": form})
        return classifier

    def _chosen(self, classifier: Classifier, validation: Cohort, training: Training) -> float | None:
        exits = exit_logits(classifier, validation, training.pixels)

        def figures(confidence: float | None) -> Point:
            return point(called(scored(exits, validation, confidence), training.threshold))

        last = figures(None)
        best, best_fate = None, 0.0
        for confidence in CONFIDENCES:
            now = figures(confidence)
            if last.f1 - now.f1 > self.budget or now.eopp1 is None or last.eopp1 is None:
                continue
            value = fate(now.f1, last.f1, now.eopp1, last.eopp1)
            if value > best_fate:
                best, best_fate = confidence, value
        return best

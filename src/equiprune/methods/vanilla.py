"""Plain training: the baseline every other method is measured against."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from equiprune.data.cohort import Cohort
from equiprune.models.classifier import Classifier
from equiprune.training.loop import Training, fit, objective


class Vanilla(BaseModel):
    """Cross-entropy (multi-label: binary cross-entropy over known labels), blind to groups.

    Images whose attribute is unknown take part.

    Example:
        >>> Vanilla().model_dump()
        {}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A trained copy of the classifier, at its best epoch on validation."""
        trained = classifier.clone()
        return fit(trained, cohort, training, objective(trained))

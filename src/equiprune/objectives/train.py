"""An objective carried out: the form it needs, the one loop, and what it settles on validation afterwards."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from equiprune.data.cohort import Cohort
from equiprune.models.classifier import Classifier, Trained
from equiprune.models.form import Form
from equiprune.models.reshaping import reshape
from equiprune.predicting import check_groups
from equiprune.training.loop import Loss, Training, fit


class Objective(Protocol):
    """A frozen record of settings that makes a loss."""

    name: ClassVar[str]

    def loss(self, classifier: Classifier, cohort: Cohort, training: Training) -> Loss:
        """The loss of the one loop.

        Args:
            classifier: as it begins, in the form it has.
            cohort: with its splits.
            training: see there.
        """

    def model_dump(self) -> dict[str, Any]:
        """The settings."""


@runtime_checkable
class Forming(Protocol):
    """An objective that builds something into the model."""

    def form(self, classifier: Classifier, cohort: Cohort) -> Form:
        """The form the model is to have; what it has already stays."""


@runtime_checkable
class Settling(Protocol):
    """An objective that settles something on the validation split once the model is trained."""

    def settled(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """The model with what was settled; may be the one given, changed."""


def train(objective: Objective, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
    """A copy of the classifier, trained by an objective, at its best epoch on validation.

    Raises:
        ModelError: the model cannot take the form the objective needs, or was made for other groups; or see `fit`.
    """
    check_groups(classifier, cohort)
    model = classifier.clone()
    if isinstance(objective, Forming):
        reshape(model, objective.form(model, cohort), training.seed)
    model.trained = Trained(method=objective.name, settings=objective.model_dump())
    return train_on(objective, model, cohort, training)


def train_on(objective: Objective, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
    """Trains a classifier that has the form already, in place.

    Raises:
        ModelError: see `fit`.
    """
    loss = objective.loss(classifier, cohort, training)
    trained = fit(classifier, cohort, training, loss, together=getattr(objective, "together", 1))
    return objective.settled(trained, cohort, training) if isinstance(objective, Settling) else trained

"""One file a published method that changes a trained model, and the table that names all methods."""

from typing import Protocol, runtime_checkable

from equiprune.data.cohort import Cohort
from equiprune.methods.adversary_guided import AdversaryGuided
from equiprune.methods.bias_gradient import BiasGradient
from equiprune.methods.channels import FairPruneChannels, MagnitudeChannels, RandomChannels
from equiprune.methods.fairprune import FairPrune
from equiprune.methods.group_thresholds import GroupThresholds
from equiprune.methods.layer_pruning import LayerPruning
from equiprune.methods.obd import OBD
from equiprune.methods.scp import SCP
from equiprune.models.classifier import Classifier
from equiprune.objectives import OBJECTIVES, AnyObjective

Method = (
    AnyObjective
    | GroupThresholds
    | FairPrune
    | OBD
    | SCP
    | FairPruneChannels
    | MagnitudeChannels
    | RandomChannels
    | LayerPruning
    | BiasGradient
    | AdversaryGuided
)

METHODS: dict[str, type[Method]] = {
    **OBJECTIVES,
    "fairprune": FairPrune,
    "obd": OBD,
    "scp": SCP,
    "fairprune_channels": FairPruneChannels,
    "magnitude_channels": MagnitudeChannels,
    "random_channels": RandomChannels,
    "layer_pruning": LayerPruning,
    "bias_gradient": BiasGradient,
    "adversary_guided": AdversaryGuided,
    "group_thresholds": GroupThresholds,
}
PRUNERS = tuple(name for name in METHODS if name not in OBJECTIVES)


@runtime_checkable
class Checked(Protocol):
    """A method that can tell before a run begins what it cannot do to a model with these data."""

    def check(self, classifier: Classifier, cohort: Cohort) -> None:
        """Refuses what does not fit.

        Args:
            classifier: the model that the run starts from.
            cohort: with its splits.

        Raises:
            UsageError: a setting does not fit the model or the data.
            ModelError: the model cannot be treated so.
        """


__all__ = [
    "METHODS",
    "OBD",
    "OBJECTIVES",
    "PRUNERS",
    "SCP",
    "AdversaryGuided",
    "BiasGradient",
    "Checked",
    "FairPrune",
    "FairPruneChannels",
    "GroupThresholds",
    "LayerPruning",
    "MagnitudeChannels",
    "Method",
    "RandomChannels",
]

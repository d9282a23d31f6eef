"""One file a training objective, and the table that names them all.

Each is a loss for the one loop, or a change inside the model.

Any of them may follow any other, and any pruning may follow any of them: a model remembers what it was trained with,
and is trained on by that after a cut.
"""

from __future__ import annotations

from equiprune.data.cohort import Cohort
from equiprune.errors import ModelError, Problem, nearest
from equiprune.models.classifier import Classifier
from equiprune.objectives.advconf import AdvConf
from equiprune.objectives.advrev import AdvRev
from equiprune.objectives.domain_independent import DomainIndependent
from equiprune.objectives.fairadabn import FairAdaBN
from equiprune.objectives.gradient_reversal import GradientReversal
from equiprune.objectives.group_dro import GroupDRO
from equiprune.objectives.hsic import HSIC
from equiprune.objectives.mfd import MFD
from equiprune.objectives.multi_exit import MultiExit
from equiprune.objectives.reweighting import Reweighting
from equiprune.objectives.train import Objective, train_on
from equiprune.objectives.vanilla import Vanilla
from equiprune.training.loop import Training

AnyObjective = (
    Vanilla
    | Reweighting
    | GroupDRO
    | AdvConf
    | AdvRev
    | GradientReversal
    | DomainIndependent
    | HSIC
    | MFD
    | FairAdaBN
    | MultiExit
)

OBJECTIVES: dict[str, type[AnyObjective]] = {
    each.name: each
    for each in (
        Vanilla,
        Reweighting,
        GroupDRO,
        AdvConf,
        AdvRev,
        GradientReversal,
        DomainIndependent,
        HSIC,
        MFD,
        FairAdaBN,
        MultiExit,
    )
}
AFTER_TRAINING = ("mfd",)  # they need a trained model to begin with


def own(classifier: Classifier) -> Objective:
    """The objective a classifier was trained with last; plain training where that is not known.

    Raises:
        ModelError: this version knows no such objective.
    """
    if classifier.trained is None:
        return Vanilla()
    name, settings = classifier.trained.method, classifier.trained.settings
    if name not in OBJECTIVES:
        what = f"the model was trained with {name!r}, which this version does not know"
        raise ModelError(Problem(what, hint=nearest(name, OBJECTIVES)))
    return OBJECTIVES[name].model_validate(settings)


def tune(classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
    """Trains a classifier on with its own objective, in place."""
    return train_on(own(classifier), classifier, cohort, training)


__all__ = [
    "AFTER_TRAINING",
    "HSIC",
    "MFD",
    "OBJECTIVES",
    "AdvConf",
    "AdvRev",
    "DomainIndependent",
    "FairAdaBN",
    "GradientReversal",
    "GroupDRO",
    "MultiExit",
    "Objective",
    "Reweighting",
    "Vanilla",
    "own",
    "tune",
]

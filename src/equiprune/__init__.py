"""equiprune: measures how unfair an image classifier is, and makes it fairer by pruning.

What needs no torch is here at once; the rest is imported when it is first used, because
importing torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from equiprune.audit import Audit, audit
from equiprune.predictions import Predictions

if TYPE_CHECKING:
    from equiprune import curvature, entanglement
    from equiprune.comparing import Comparison, Rules, compare
    from equiprune.data.cohort import Cohort
    from equiprune.data.manifest import read_manifest
    from equiprune.data.pixels import open_pixels
    from equiprune.data.settings import DataSettings
    from equiprune.data.splits import draw_splits
    from equiprune.data.synthetic import synthesize
    from equiprune.exporting import export
    from equiprune.methods.adversary_guided import AdversaryGuided
    from equiprune.methods.bias_gradient import BiasGradient
    from equiprune.methods.channels import FairPruneChannels, MagnitudeChannels, RandomChannels
    from equiprune.methods.fairprune import FairPrune
    from equiprune.methods.group_thresholds import GroupThresholds
    from equiprune.methods.layer_pruning import LayerPruning
    from equiprune.methods.obd import OBD
    from equiprune.methods.scp import SCP
    from equiprune.metrics.operating import operating_point
    from equiprune.models.backbones import build
    from equiprune.models.classifier import Classifier
    from equiprune.models.design import Design
    from equiprune.models.load import load_weights
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
    from equiprune.objectives.vanilla import Vanilla
    from equiprune.predicting import predict
    from equiprune.recipe import Recipe
    from equiprune.run import Place, carry_out
    from equiprune.training.loop import Training
    from equiprune.training.settings import TrainingSettings

__version__ = "0.1.0"

_HOME = {
    "AdvConf": "objectives.advconf",
    "AdvRev": "objectives.advrev",
    "AdversaryGuided": "methods.adversary_guided",
    "BiasGradient": "methods.bias_gradient",
    "Classifier": "models.classifier",
    "Cohort": "data.cohort",
    "Comparison": "comparing",
    "DataSettings": "data.settings",
    "Design": "models.design",
    "DomainIndependent": "objectives.domain_independent",
    "FairAdaBN": "objectives.fairadabn",
    "FairPrune": "methods.fairprune",
    "FairPruneChannels": "methods.channels",
    "GradientReversal": "objectives.gradient_reversal",
    "GroupDRO": "objectives.group_dro",
    "GroupThresholds": "methods.group_thresholds",
    "HSIC": "objectives.hsic",
    "LayerPruning": "methods.layer_pruning",
    "MFD": "objectives.mfd",
    "MagnitudeChannels": "methods.channels",
    "MultiExit": "objectives.multi_exit",
    "OBD": "methods.obd",
    "Place": "run",
    "RandomChannels": "methods.channels",
    "Recipe": "recipe",
    "Reweighting": "objectives.reweighting",
    "Rules": "comparing",
    "SCP": "methods.scp",
    "Training": "training.loop",
    "TrainingSettings": "training.settings",
    "Vanilla": "objectives.vanilla",
    "build": "models.backbones",
    "carry_out": "run",
    "compare": "comparing",
    "draw_splits": "data.splits",
    "export": "exporting",
    "load_weights": "models.load",
    "open_pixels": "data.pixels",
    "operating_point": "metrics.operating",
    "predict": "predicting",
    "read_manifest": "data.manifest",
    "synthesize": "data.synthetic",
}

__all__ = [
    "HSIC",
    "MFD",
    "OBD",
    "SCP",
    "AdvConf",
    "AdvRev",
    "AdversaryGuided",
    "Audit",
    "BiasGradient",
    "Classifier",
    "Cohort",
    "Comparison",
    "DataSettings",
    "Design",
    "DomainIndependent",
    "FairAdaBN",
    "FairPrune",
    "FairPruneChannels",
    "GradientReversal",
    "GroupDRO",
    "GroupThresholds",
    "LayerPruning",
    "MagnitudeChannels",
    "MultiExit",
    "Place",
    "Predictions",
    "RandomChannels",
    "Recipe",
    "Reweighting",
    "Rules",
    "Training",
    "TrainingSettings",
    "Vanilla",
    "audit",
    "build",
    "carry_out",
    "compare",
    "curvature",
    "draw_splits",
    "entanglement",
    "export",
    "load_weights",
    "open_pixels",
    "operating_point",
    "predict",
    "read_manifest",
    "synthesize",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in ("curvature", "entanglement"):
        return import_module(f"equiprune.{name}")
    if name in _HOME:
        return getattr(import_module(f"equiprune.{_HOME[name]}"), name)
    raise AttributeError(f"module 'equiprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

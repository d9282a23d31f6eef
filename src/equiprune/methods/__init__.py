"""One file a published method, and the table that names them all."""

from equiprune.methods.channels import FairPruneChannels, MagnitudeChannels, RandomChannels
from equiprune.methods.fairprune import FairPrune
from equiprune.methods.obd import OBD
from equiprune.methods.scp import SCP
from equiprune.methods.vanilla import Vanilla

Method = Vanilla | FairPrune | OBD | SCP | FairPruneChannels | MagnitudeChannels | RandomChannels

METHODS: dict[str, type[Method]] = {
    "vanilla": Vanilla,
    "fairprune": FairPrune,
    "obd": OBD,
    "scp": SCP,
    "fairprune_channels": FairPruneChannels,
    "magnitude_channels": MagnitudeChannels,
    "random_channels": RandomChannels,
}
OBJECTIVES = ("vanilla",)
PRUNERS = tuple(name for name in METHODS if name not in OBJECTIVES)

__all__ = [
    "METHODS",
    "OBD",
    "OBJECTIVES",
    "PRUNERS",
    "SCP",
    "FairPrune",
    "FairPruneChannels",
    "MagnitudeChannels",
    "Method",
    "RandomChannels",
    "Vanilla",
]

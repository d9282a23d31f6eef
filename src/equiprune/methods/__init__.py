"""One file a published method, and the table that names them all."""

from equiprune.methods.fairprune import FairPrune
from equiprune.methods.obd import OBD
from equiprune.methods.vanilla import Vanilla

Method = Vanilla | FairPrune | OBD

METHODS: dict[str, type[Method]] = {
    "vanilla": Vanilla,
    "fairprune": FairPrune,
    "obd": OBD,
}
OBJECTIVES = ("vanilla",)
PRUNERS = ("fairprune", "obd")

__all__ = ["METHODS", "OBD", "OBJECTIVES", "PRUNERS", "FairPrune", "Method", "Vanilla"]

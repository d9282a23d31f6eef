"""What a training step needs to carry on after being killed: safetensors, no pickle."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from equiprune.models.classifier import Classifier
from equiprune.models.storage import write_tensors
from equiprune.processes import first

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"


class Progress(BaseModel):
    """How far a training has come: finished epochs, and the best of them (counted from 0)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int = 0
    best_epoch: int = 0
    best_f1: float = -1.0


class Best:
    """The state of the best epoch: on disk, by the first process, where there is a folder, otherwise in memory."""

    def __init__(self, classifier: Classifier, folder: Path | None) -> None:
        self.classifier = classifier
        self.path = None if folder is None else folder / BEST
        self.state: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Takes the classifier as it is now for the best."""
        if self.path is None:
            self.state = {name: tensor.clone() for name, tensor in self.classifier.state_dict().items()}
        elif first():
            write_tensors(self.path, self.classifier.state_dict())

    def recall(self) -> None:
        """Puts the classifier back to its best."""
        self.classifier.load_state_dict(self.state if self.path is None else load_file(self.path))
        self.classifier.apply_masks()


def store(
    folder: Path | None,
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    beside: nn.Module | None = None,
) -> None:
    """Writes model, what is trained beside it, optimiser and progress as one file, whole or not at all."""
    if folder is None:
        return
    tensors = {f"model/{name}": tensor for name, tensor in classifier.state_dict().items()}
    if beside is not None:
        tensors |= {f"beside/{name}": tensor for name, tensor in beside.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items() if value is not None}
    write_tensors(folder / CHECKPOINT, tensors, {"progress": progress.model_dump_json()})


def restore(
    folder: Path | None,
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    beside: nn.Module | None = None,
) -> Progress:
    """Puts all back to the last finished epoch; a fresh `Progress` where there is none."""
    if folder is None or not (folder / CHECKPOINT).is_file():
        return Progress()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    saved: dict[str, dict[str, Tensor]] = {"model": {}, "beside": {}}
    with safe_open(folder / CHECKPOINT, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            kind, rest = name.split("/", 1)
            if kind in saved:
                saved[kind][rest] = file.get_tensor(name)
            else:
                index, key = rest.split("/", 1)
                parameter, value = parameters[int(index)], file.get_tensor(name)
                # The memory format of the parameter, so that resumed arithmetic is the same to the bit.
                like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                optimizer.state[parameter][key] = like.copy_(value)
        progress = Progress(**json.loads(file.metadata()["progress"]))
    classifier.load_state_dict(saved["model"])
    if beside is not None:
        beside.load_state_dict(saved["beside"])
    classifier.apply_masks()
    return progress


def clear(folder: Path) -> None:
    """Removes what only an unfinished step needs."""
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)

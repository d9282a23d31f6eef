"""A classifier for other programs: ONNX, safetensors with JSON, or a plain state dict with its loader."""

from __future__ import annotations

import json
import re
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from equiprune.errors import ModelError, Problem, UsageError, nearest
from equiprune.files import replacing, write_text
from equiprune.models import storage
from equiprune.models.classifier import Classifier, evaluating
from equiprune.models.exits import collected, leave
from equiprune.models.reshaping import folded

Format = Literal["onnx", "safetensors", "torch"]
ENDINGS = {"onnx": (".onnx",), "safetensors": (".safetensors",), "torch": (".pt", ".pth")}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
CHECKED = (1, 5)  # batch sizes on which the exported model is compared

LOADER = '''"""Loads {file} into {backbone} with {count} classes; needs torch alone, and runs no code of the file.

Classes, in the order of the logits: {classes}
Input: images of {size} x {size} pixels with {channels} channel(s), scaled to 0..1, less {mean}, divided by {std}.
"""

import torch


def load(network: torch.nn.Module, file: str) -> torch.nn.Module:
    for name, tensor in torch.load(file, map_location="cpu", weights_only=True).items():
        path, _, key = name.rpartition(".")
        layer = network.get_submodule(path)
        if getattr(layer, "groups", 1) > 1 and layer.groups == layer.in_channels == layer.out_channels:
            layer.groups = layer.in_channels = layer.out_channels = len(tensor)
        if tensor.dim() and hasattr(layer, "num_features"):
            layer.num_features = len(tensor)
        parameter = isinstance(getattr(layer, key), torch.nn.Parameter)
        setattr(layer, key, torch.nn.Parameter(tensor) if parameter else tensor)
    return network.eval()
'''


def export(classifier: Classifier, out: Path, kind: Format, group: str | None = None) -> list[Path]:
    """Writes a classifier for other programs, and returns the files.

    A model that needs the group at use is written for one group, as onnx or torch; safetensors keeps it whole.

    - onnx: one file. Input `image`, float32 (batch, channel, height, width) scaled to 0..1; normalisation is inside.
      Output `logits`. Compared with this model in onnxruntime before it is put in place.
    - safetensors: the file, and a `.json` beside it with design, masks and cuts. `Classifier.load` reads the pair.
    - torch: a plain state dict with the network's own names, and `load_NAME.py` beside it with a function that puts it
      into a fresh network, cut channels or not.

    Args:
        classifier: stays as it is.
        out: the file; its ending must be the format's.
        kind: the format.
        group: whose images it is for, where the model needs the group.

    Raises:
        UsageError: another ending, the packages that ONNX needs are missing, no group is named and the model needs one
            (or the other way round), or early exits as torch.
        ModelError: the network cannot be exported, or the exported one gives other logits.
    """
    if out.suffix not in ENDINGS[kind]:
        raise UsageError(Problem(f"a file of {kind} ends in {' or '.join(ENDINGS[kind])}", file=str(out)))
    if kind == "safetensors":
        if group is not None:
            raise UsageError(Problem("safetensors keeps the model whole, for all groups", hint="Leave --group out"))
        return storage.write(out, classifier.saved())
    alone = _alone(classifier, group)
    if kind == "torch" and alone.design.form.exits:
        hint = "onnx and safetensors keep them"
        raise UsageError(Problem("a state dict of the backbone cannot hold early exits", hint=hint))
    return _onnx(alone, out) if kind == "onnx" else _torch(alone, out)


def _alone(classifier: Classifier, group: str | None) -> Classifier:
    """The classifier for one group where it needs it, with what can be folded into its layers folded."""
    form = classifier.design.form
    if group is not None and not form.needs_group:
        raise UsageError(Problem("this model does not need the group", hint="Leave --group out"))
    if form.needs_group and group not in form.groups:
        what = "this model must be told the group of every image; it is exported for one of them"
        hint = f"Add --group with one of {', '.join(form.groups)}" if group is None else nearest(group, form.groups)
        raise UsageError(Problem(what if group is None else f"there is no group {group!r}", hint=hint))
    return folded(classifier, form.groups.index(group) if group is not None else 0)


def _torch(classifier: Classifier, out: Path) -> list[Path]:
    state = {name: tensor.detach().cpu() for name, tensor in classifier.network.state_dict().items()}
    with replacing(out) as part:
        torch.save(state, part)
    design = classifier.design
    loader = out.with_name("load_" + re.sub(r"\W", "_", out.stem) + ".py")
    text = LOADER.format(
        file=out.name,
        backbone=design.backbone,
        count=len(design.classes),
        classes=json.dumps(design.classes, ensure_ascii=True).replace("\\", "\\\\"),
        size=design.image_size,
        channels=design.channels,
        mean=design.mean,
        std=design.std,
    )
    write_text(loader, text)
    return [out, loader]


class _Whole(nn.Module):
    """Normalisation and network, without the checks of what came in."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.network
        self.form, self.task = classifier.design.form, classifier.design.task
        self.exit_heads = classifier.exit_heads if self.form.exits else nn.ModuleList()
        self.register_buffer("mean", classifier.mean)
        self.register_buffer("std", classifier.std)

    def forward(self, image: Tensor) -> Tensor:
        pixels = (image - self.mean) / self.std
        exits = collected(self.network, pixels, self.form.exits, tuple(self.exit_heads))
        return leave(exits, self.form.confidence, self.task)


def _onnx(classifier: Classifier, out: Path) -> list[Path]:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        hint = "pip install 'equiprune[onnx]'"
        raise UsageError(Problem(f"ONNX needs packages that are not installed: {', '.join(missing)}", hint=hint))
    whole = _Whole(classifier.clone().float().cpu())
    program = _exported(whole, classifier)
    design = classifier.design
    program.model.metadata_props.update(
        classes=json.dumps(design.classes, ensure_ascii=False), task=design.task, input="0..1", backbone=design.backbone
    )
    with replacing(out) as part:
        program.save(str(part), external_data=False)
        _compare(whole, classifier, part, out)
    return [out]


def _exported(whole: nn.Module, classifier: Classifier) -> Any:  # noqa: ANN401 - an ONNXProgram
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings(), evaluating(whole):
        warnings.simplefilter("ignore")
        try:
            return torch.onnx.export(
                whole,
                (_images(classifier, 2),),
                dynamo=True,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes={"image": {0: batch}},
                verbose=False,
            )
        except Exception as error:  # anything: the network may be the user's
            first = str(error).strip().splitlines()[:1]
            what = f"the network cannot be exported to ONNX ({type(error).__name__}: {''.join(first)[:200]})"
            raise ModelError(Problem(what, hint="safetensors and torch take any network")) from error


def _compare(whole: nn.Module, classifier: Classifier, part: Path, out: Path) -> None:
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(part.read_bytes(), providers=["CPUExecutionProvider"])
    for size in CHECKED:
        images = _images(classifier, size)
        with evaluating(whole):
            expected = whole(images).numpy()
        (found,) = session.run(None, {"image": images.numpy()})
        off = float(np.abs(found - expected).max())
        if found.shape != expected.shape or not off <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ModelError(Problem(f"the exported model's logits are off by {off:.2g}", file=str(out)))


def _images(classifier: Classifier, size: int) -> Tensor:
    design = classifier.design
    generator = torch.Generator().manual_seed(size)
    return torch.rand(size, design.channels, design.image_size, design.image_size, generator=generator)

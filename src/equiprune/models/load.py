"""A user's own weights onto a classifier, all of them or none."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from equiprune.errors import ModelError, Problem, nearest
from equiprune.models import backbones, storage
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.models.state import differences, fill

TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.")


@dataclass(frozen=True, eq=False)
class _Given:
    """Tensors for `Classifier.network` by name, masks likewise, and what was seen on the way."""

    file: str
    tensors: dict[str, Tensor]
    masks: dict[str, Tensor]
    notices: tuple[Problem, ...] = ()
    other_classes: bool = False


def load_weights(classifier: Classifier, weights: str | Path, *, new_head: bool = True) -> tuple[Problem, ...]:
    """Puts weights from a file onto the classifier; returns what a user should be told of it.

    Nothing is downloaded and nothing is unpickled but plain tensors. The whole file is checked before
    the first weight changes. A classification head made for other classes is left as it stands, fresh,
    with a notice; so are its masks. The design's mean and std stay as they are: by default ImageNet's.

    Args:
        classifier: its network is changed in place.
        weights: a safetensors file; a state dict saved by torch (.pt .pth .bin .ckpt .tar), bare or inside a
            checkpoint; a folder that `Classifier.save` wrote (masks come along); or the name of torchvision
            weights such as "IMAGENET1K_V1", whose file must lie in torch.hub's folder of checkpoints.
        new_head: whether a head made for other classes may be left fresh; otherwise it does not fit.

    Raises:
        ModelError: the file is missing, damaged, a pickled model, or does not fit; then every missing,
            unexpected and mis-shaped tensor is listed and the classifier is as it was.
    """
    given = _read(classifier, weights)
    own = classifier.network.state_dict()
    head = _head(classifier.network)
    dropped, notices = _other_head(head, own, given) if new_head else (frozenset(), ())
    tensors = {name: tensor for name, tensor in given.tensors.items() if name not in dropped}
    # Files from before 2018 lack this counter, which plain batch norm does not use.
    optional = {name for name in own if name.endswith(".num_batches_tracked")} - set(tensors)
    wanted = {name: tensor for name, tensor in own.items() if name not in dropped | optional}
    problems = differences(wanted, tensors, given.file)
    if problems:
        raise ModelError([*_channel_hint(wanted, tensors, given.file), *problems])
    fill(classifier.network, tensors)
    _take_masks(classifier, {name: kept for name, kept in given.masks.items() if name not in dropped})
    return (*given.notices, *notices)


def _read(classifier: Classifier, weights: str | Path) -> _Given:
    path = Path(weights)
    if not path.exists() and re.fullmatch(r"[A-Z][A-Z0-9_]*", str(weights)):
        path = _torchvision_file(classifier.design.backbone, str(weights))
    if path.name == storage.WEIGHTS and (path.parent / storage.DOCUMENT).is_file():
        path = path.parent
    if path.is_dir():
        return _from_folder(path, classifier.design)
    _check_file(path)
    if path.suffix == ".safetensors":
        found: object = storage.read_safetensors(path)
    else:
        found = _torch_file(path)
    return _stripped(_unwrapped(found, str(path)), classifier.network, str(path))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ModelError(Problem("there is no such file of weights", file=str(path)))
    if path.stat().st_size == 0:
        raise ModelError(Problem("is empty", file=str(path)))
    allowed = (".safetensors", *TORCH_FILES)
    if path.suffix not in allowed:
        what = f"ends in {path.suffix!r}, expected weights as {' '.join(allowed)}"
        raise ModelError(Problem(what, file=str(path)))


def _torchvision_file(backbone: str, name: str) -> Path:
    from torchvision.models import get_model_weights, list_models

    if backbone not in backbones.BACKBONES or backbone not in list_models():
        raise ModelError(f"torchvision has no weights {name!r} for {backbone!r}, and there is no file of this name")
    choices = get_model_weights(backbone).__members__
    if name not in choices:
        raise ModelError(Problem(f"torchvision has no weights {name!r} for {backbone}", hint=nearest(name, choices)))
    url = str(choices[name].value.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        hint = f"Nothing is downloaded here; fetch {url} yourself and put it there"
        raise ModelError(Problem(f"the file of weights {name} for {backbone} is not there", file=str(path), hint=hint))
    return path


def _from_folder(folder: Path, design: Design) -> _Given:
    saved = storage.read(folder)
    if saved.cuts:
        what = "holds a model of which channels were cut: its weights do not fit a whole network"
        raise ModelError(Problem(what, file=str(folder), hint="Classifier.load gives the model as it is"))
    notices = []
    if (saved.design.mean, saved.design.std) != (design.mean, design.std):
        what = f"was trained with mean {saved.design.mean} and std {saved.design.std}; here they are "
        notices.append(Problem(f"{what}{design.mean} and {design.std}", file=str(folder)))
    return _Given(
        file=str(folder),
        tensors={name.removeprefix("network."): tensor for name, tensor in saved.tensors.items()},
        masks={name.removeprefix("network."): kept for name, kept in saved.masks.items()},
        notices=tuple(notices),
        other_classes=saved.design.classes != design.classes,
    )


def _torch_file(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # torch remarks on TorchScript archives before it refuses them; we say it ourselves.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in any of them
        raise ModelError(_unreadable(path, str(error))) from error


def _unreadable(path: Path, message: str) -> Problem:
    named = re.search(r"GLOBAL ([A-Za-z_][\w.]*) ", message)
    with path.open("rb") as stream:
        plain_pickle = stream.read(1) == b"\x80" and "Unsupported" in message
    if not (named or plain_pickle or "TorchScript" in message):
        return Problem("cannot be read: damaged, cut short, or not saved by torch", file=str(path))
    holds = f"pickled objects ({named[1]})" if named else "pickled objects"
    return Problem(
        f"holds {holds}, not only weights; opening it could run code, so it is not opened",
        file=str(path),
        hint="Where you trust it, load it yourself and write torch.save(model.state_dict(), 'weights.pth')",
    )


def _unwrapped(found: object, file: str) -> dict[str, Tensor]:
    while isinstance(found, Mapping):
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not found:
        raise ModelError(Problem(f"holds {type(found).__name__}, expected a dict of tensors", file=file))
    strange = [f"{key!r} ({type(value).__name__})" for key, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        what = f"holds entries that are no tensors: {', '.join(strange[:8])}"
        raise ModelError(Problem(what, file=file, hint=f"A state dict is looked for under {', '.join(WRAPPERS)}"))
    return {str(key): value for key, value in found.items()}


def _stripped(tensors: dict[str, Tensor], network: nn.Module, file: str) -> _Given:
    own = network.state_dict()
    taken = ""
    while not own.keys() & tensors.keys():
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        shorter = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if len(shorter) < len(tensors):
            break
        tensors, taken = shorter, taken + prefix
    notices = (Problem(f"names begin with {taken!r}, which was taken off", file=file),) if taken else ()
    return _Given(file, tensors, {}, notices)


def _head(network: nn.Module) -> str | None:
    """The name of the last linear layer."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def _other_head(head: str | None, own: Mapping[str, Tensor], given: _Given) -> tuple[set[str], list[Problem]]:
    key = f"{head}.weight" if head else "weight"
    if head is None or key not in own or key not in given.tensors:
        return set(), []
    here, there = own[key].shape, given.tensors[key].shape
    if here[1:] != there[1:] or (here == there and not given.other_classes):
        return set(), []
    names = {key, f"{head}.bias"}
    what = f"head {head!r} was made for {there[0]} other classes; here it starts afresh with {here[0]}"
    return names, [Problem(what, file=given.file, hint="It must be trained before its predictions mean anything")]


def _channel_hint(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], file: str) -> Iterable[Problem]:
    for name, tensor in wanted.items():
        if tensor.ndim == 4:  # the first convolution is the only one that sees the image's channels
            here, there = tensor.shape, given[name].shape if name in given else tensor.shape
            if len(there) == 4 and here[0] == there[0] and here[2:] == there[2:] and here[1] != there[1]:
                what = f"was trained on images of {there[1]} channels, this model takes {here[1]}"
                hint = f"Set channels = {there[1]}"
                yield Problem(what, file=file, hint=f"{hint}: grey images are repeated" if there[1] == 3 else hint)
            return


def _take_masks(classifier: Classifier, masks: Mapping[str, Tensor]) -> None:
    for name, kept in masks.items():
        full = f"network.{name}"
        kept = kept.to(classifier.get_parameter(full).device)
        classifier.masks[full] = classifier.masks[full] & kept if full in classifier.masks else kept
    classifier.apply_masks()

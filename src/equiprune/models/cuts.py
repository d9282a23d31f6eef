"""Channels that were removed for good: the record of them, and a network in the shapes that are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from equiprune.errors import Problem


class Cut(BaseModel):
    """Output channels that left one layer, and with them whatever read or joined them.

    Example:
        >>> Cut(layer="network.conv1", channels=(3, 7)).channels
        (3, 7)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str = Field(description="Name of the convolution.")
    channels: tuple[int, ...] = Field(description="Numbers of the channels, as the layer was before this cut.")


def left(cuts: Iterable[Cut], layer: str, count: int) -> tuple[int, ...]:
    """The channels of a layer that are left, by their numbers in the network before any cut.

    Args:
        cuts: in the order in which they were made.
        layer: its name.
        count: how many channels it has now.

    Example:
        >>> left([Cut(layer="conv", channels=(0,)), Cut(layer="conv", channels=(1,))], "conv", 2)
        (1, 3)
    """
    own = [cut.channels for cut in cuts if cut.layer == layer]
    numbers = list(range(count + sum(map(len, own))))
    for channels in own:
        gone = set(channels)
        numbers = [number for place, number in enumerate(numbers) if place not in gone]
    return tuple(numbers)


@torch.no_grad()
def adopt(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives parameters and buffers these values, and the layers their shapes.

    Nothing else of the network is touched: a parameter that was frozen or shared is so afterwards. Which shapes fit
    together is not looked into.

    Args:
        module: its convolutions, linear layers and norms may become smaller.
        tensors: by the names of its state dict; what is not named stays.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    for prefix, layer in module.named_modules():
        before = prefix + "." if prefix else ""
        for name, parameter in list(layer.named_parameters(recurse=False)):
            given = tensors.get(before + name)
            if given is None or given.shape == parameter.shape:
                if given is not None:
                    parameter.copy_(given)
            else:
                if parameter not in made:
                    made[parameter] = nn.Parameter(given.to(parameter).clone(), parameter.requires_grad)
                setattr(layer, name, made[parameter])
        for name, buffer in list(layer.named_buffers(recurse=False)):
            if before + name in tensors:
                setattr(layer, name, tensors[before + name].to(buffer).clone())
        _resize(layer)


def _resize(layer: nn.Module) -> None:
    """Makes a layer's own record of its size what its weight says."""
    if isinstance(layer, _ConvNd):
        out, read = layer.weight.shape[:2] if not layer.transposed else layer.weight.shape[1::-1]
        if layer.groups == layer.out_channels == layer.in_channels and layer.groups > 1:
            layer.groups = layer.weight.shape[0]
        many = layer.groups
        # A transposed weight is (in, out / groups), any other (out, in / groups).
        layer.out_channels, layer.in_channels = (out * many, read) if layer.transposed else (out, read * many)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _NormBase):
        known = layer.running_mean if layer.running_mean is not None else layer.weight
        if known is not None:
            layer.num_features = len(known)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()


def unlike(cuts: Sequence[Cut], fresh: nn.Module, tensors: Mapping[str, Tensor], file: str) -> list[Problem]:
    """Where the record of cuts and the tensors of a file do not tell the same.

    Args:
        cuts: the record.
        fresh: the network before any cut.
        tensors: of the file.
        file: its name, for the problems.
    """
    found = []
    gone: dict[str, int] = {}
    for cut in cuts:
        gone[cut.layer] = gone.get(cut.layer, 0) + len(set(cut.channels))
    for layer, count in gone.items():
        try:
            module = fresh.get_submodule(layer)
        except AttributeError:
            module = None
        weight = tensors.get(f"{layer}.weight")
        if not isinstance(module, _ConvNd) or weight is None:
            found.append(Problem(f"tells of channels cut from {layer!r}, which is no convolution", file=file))
            continue
        has = weight.shape[1] * module.groups if module.transposed else weight.shape[0]
        if has != module.out_channels - count:
            what = f"tells of {count} channels cut from {layer!r}, but the weights hold {has} of {module.out_channels}"
            found.append(Problem(what, file=file))
    return found

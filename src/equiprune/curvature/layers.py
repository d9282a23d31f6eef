"""The kinds of layers whose share of the curvature is found from what they read and what comes back to them.

A *product* multiplies patches of its input with its weight: sample by sample, its weight's gradient is Uᵀ G with
patches U (position, fan_in) and gradients G (position, fan_out). Its sums are kept as (group, fan_in, fan_out), the
shape in which these products are fastest, and turned into the parameter's shape at the end. An *affine* layer
multiplies a normalised input by its weight, place by place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

PRODUCTS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
AFFINES = (*BATCH_NORMS, *INSTANCE_NORMS, nn.LayerNorm, nn.GroupNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

Patches = Float[Tensor, "group position fan_in"]
Products = Float[Tensor, "group fan_in fan_out"]


def is_fast(layer: nn.Module) -> bool:
    """Whether its parameters are a weight and a bias that this module knows. A subclass may do anything: no."""
    names = {name for name, _ in layer.named_parameters(recurse=False)}
    return type(layer) in PRODUCTS + AFFINES and names <= {"weight", "bias"}


def axes(layer: nn.Module) -> int:
    """How many axes what a layer reads has at least, the sample's included; InstanceNorm would take fewer."""
    if isinstance(layer, CONVOLUTIONS + TRANSPOSED):
        return layer.weight.dim()
    if isinstance(layer, INSTANCE_NORMS):
        return 2 + INSTANCE_NORMS.index(type(layer)) + 1
    return 1 + len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 2


def groups(layer: nn.Module) -> int:
    """In how many groups of channels a product is cut."""
    return layer.groups if isinstance(layer, CONVOLUTIONS + TRANSPOSED) else 1


def zeros(layer: nn.Module, dtype: torch.dtype) -> Products:
    """Where a product's squares are added up. A linear layer's lies in memory as its weight does."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):
        return torch.zeros(weight.shape, dtype=dtype, device=weight.device).t()[None]
    count = groups(layer)
    fan_in = weight.shape[0] // count if isinstance(layer, TRANSPOSED) else weight[0].numel()
    return torch.zeros(count, fan_in, weight.numel() // count // fan_in, dtype=dtype, device=weight.device)


def as_weight(layer: nn.Module, total: Products) -> Tensor:
    """The sums in the shape of the layer's weight."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):
        return total[0].t()
    kernel, count = weight.shape[2:], len(total)
    behind = range(1, 1 + len(kernel))
    if isinstance(layer, TRANSPOSED):
        parts = total.view(count, weight.shape[0] // count, *kernel, weight.shape[1])
        return parts.permute(0, 1, -1, *(axis + 1 for axis in behind)).reshape(weight.shape)
    parts = total.view(count, *kernel, weight.shape[1], weight.shape[0] // count)
    return parts.permute(0, -1, -2, *behind).reshape(weight.shape)


def positions(layer: nn.Module, read: Tensor, gradient: Tensor) -> int:
    """How many places of a sample the weight is applied at."""
    if isinstance(layer, nn.Linear):
        return math.prod(read.shape[1:-1])
    return math.prod((read if isinstance(layer, TRANSPOSED) else gradient).shape[2:])


def by_position(layer: nn.Module, gradient: Tensor) -> Float[Tensor, "sample position fan_out"]:
    """The gradients of a product's output, as they meet its patches."""
    if isinstance(layer, nn.Linear):
        return gradient.reshape(len(gradient), -1, gradient.shape[-1])
    if isinstance(layer, TRANSPOSED):
        # A transposed convolution is a convolution's backward pass: here its gradient is what is cut in patches.
        window = _window(layer)
        unfolded = torch.stack([_unfolded(row, window, layer.groups) for row in gradient])
        return unfolded.transpose(1, 2).flatten(2)  # group after group, as channels stand
    return gradient.movedim(1, -1).reshape(len(gradient), -1, gradient.shape[1])


def channels(layer: nn.Module, gradient: Tensor) -> Float[Tensor, "sample channel"]:
    """The gradient of a product's bias."""
    if isinstance(layer, nn.Linear):
        return gradient.flatten(1, -2).sum(1) if gradient.dim() > 2 else gradient
    return gradient.flatten(2).sum(2)


def patches(layer: nn.Module, read: Tensor, first: int = 0, last: int | None = None) -> Patches:
    """What one sample's weight is multiplied with, as a view where that can be.

    Args:
        layer: a product.
        read: one row of its input, without the sample's axis.
        first: of the places along the output's first axis; only a convolution is cut.
        last: behind the last of them.
    """
    if isinstance(layer, nn.Linear):
        return read.reshape(1, -1, read.shape[-1])
    if isinstance(layer, TRANSPOSED):
        return read.flatten(1).view(layer.groups, -1, read[0].numel()).mT
    assert isinstance(layer, CONVOLUTIONS)
    padding: Any = layer.padding
    if isinstance(padding, str):
        spread = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        ]
        sides = [(total // 2, total - total // 2) for total in spread]  # PyTorch puts the odd one behind
    else:
        sides = [(side, side) for side in padding]
    flat = [side for pair in reversed(sides) for side in pair]
    if layer.padding_mode != "zeros" and any(flat):
        read, flat = functional.pad(read[None], flat, mode=layer.padding_mode)[0], [0] * len(flat)
    return _unfolded(read, (layer.kernel_size, layer.dilation, flat, layer.stride), layer.groups, first, last)


def _window(layer: Any) -> tuple[Sequence[int], Sequence[int], list[int], Sequence[int]]:  # noqa: ANN401
    flat = [side for each in reversed(layer.padding) for side in (each, each)]
    return layer.kernel_size, layer.dilation, flat, layer.stride


def _unfolded(
    values: Float[Tensor, "channel ..."],
    window: tuple[Sequence[int], Sequence[int], list[int], Sequence[int]],
    count: int,
    first: int = 0,
    last: int | None = None,
) -> Patches:
    """One sample cut into overlapping patches, (group, position, kernel · channel): channels run fastest."""
    kernel, dilation, padding, stride = window
    padded = functional.pad(values.movedim(0, -1), [0, 0, *padding]).contiguous()
    size, steps = padded.shape[:-1], padded.stride()
    out = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(size, dilation, kernel, stride, strict=True)]
    last = out[0] if last is None else last
    width = padded.shape[-1] // count
    view = padded.as_strided(
        (count, last - first, *out[1:], *kernel, width),
        (
            width,
            *(s * step for s, step in zip(stride, steps, strict=False)),
            *(d * step for d, step in zip(dilation, steps, strict=False)),
            1,
        ),
        first * stride[0] * steps[0],
    )
    return view.reshape(count, (last - first) * math.prod(out[1:]), math.prod(kernel) * width)


def normalised(layer: nn.Module, read: Tensor) -> Tensor:
    """What an affine layer multiplies by its weight, in the shape of its input."""
    if isinstance(layer, BATCH_NORMS):
        return functional.batch_norm(read, layer.running_mean, layer.running_var, eps=layer.eps)
    if isinstance(layer, INSTANCE_NORMS):
        own = not layer.track_running_stats
        return functional.instance_norm(read, layer.running_mean, layer.running_var, use_input_stats=own, eps=layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(read, layer.normalized_shape, eps=layer.eps)
    assert isinstance(layer, nn.GroupNorm)
    return functional.group_norm(read, layer.num_groups, eps=layer.eps)


def by_weight(layer: nn.Module, values: Tensor) -> Float[Tensor, "sample ..."]:
    """Sums an affine layer's values over all places that share a weight."""
    if isinstance(layer, nn.LayerNorm):
        own = len(layer.normalized_shape)
        return values.flatten(1, -own - 1).sum(1) if values.dim() > own + 1 else values
    return values.flatten(2).sum(2) if values.dim() > 2 else values


def output_shape(layer: nn.Module, read: Tensor) -> list[int]:
    """The places of a convolution's output along each axis, for one row of its input."""
    assert isinstance(layer, CONVOLUTIONS)
    found = []
    for axis, (n, k, d, s) in enumerate(
        zip(read.shape[1:], layer.kernel_size, layer.dilation, layer.stride, strict=True)
    ):
        padding = layer.padding
        same = d * (k - 1) if padding == "same" else 0
        both = same if isinstance(padding, str) else 2 * padding[axis]
        found.append((n + both - d * (k - 1) - 1) // s + 1)
    return found

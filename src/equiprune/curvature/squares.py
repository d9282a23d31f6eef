"""One layer: the squares of its gradients, sample by sample and column by column, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from equiprune.curvature.passes import Call

WORKING = 64 << 20  # bytes of unfolded inputs, or of products of positions, formed at a time
CACHED = 2 << 20  # bytes of gradients of single samples formed at a time on a CPU: they must stay in cache

Span = tuple[slice, dict[str, Tensor]]


def add_layer(call: Call, gradients: Sequence[Tensor], spans: Sequence[Span]) -> None:
    """Adds the squares of one layer's weight and bias gradients, over samples and columns.

    Args:
        call: the layer, with what it read.
        gradients: of its output, one for each column.
        spans: rows of the batch, and the sums by parameter name that they add to.
    """
    layer = call.layer
    by_channel = [_by_channel(gradient, last=isinstance(layer, nn.Linear)) for gradient in gradients]
    for rows, sums in spans:
        parts = [gradient[rows] for gradient in by_channel]
        weight, bias = sums.get(call.key("weight")), sums.get(call.key("bias"))
        if weight is not None and isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            normal = _normalised(layer, call.input[rows])
            for part in parts:
                weight += (part * normal).sum(2).square_().sum(0)
        elif weight is not None:
            _add_product(layer, call.input[rows], parts, weight)
        if bias is not None:
            for part in parts:
                bias += part.sum(2).square_().sum(0)


def _by_channel(values: Tensor, *, last: bool) -> Float[Tensor, "sample channel position"]:
    """One axis of positions behind the channels, which stand second, or last; a view for channels-last tensors too."""
    if values.dim() == 2:
        return values.unsqueeze(2)
    return values.flatten(1, -2).mT if last else values.flatten(2)


def _normalised(layer: nn.BatchNorm1d | nn.BatchNorm2d, read: Tensor) -> Float[Tensor, "sample channel position"]:
    assert layer.running_mean is not None  # checked with the layers
    assert layer.running_var is not None
    scale = (layer.running_var + layer.eps).rsqrt()
    return (_by_channel(read, last=False) - layer.running_mean[:, None]) * scale[:, None]


def _add_product(layer: nn.Module, read: Tensor, gradients: Sequence[Tensor], weight: Tensor) -> None:
    """Adds the squares of a weight that multiplies patches of its input: a convolution's or a linear layer's.

    A sample's gradient is G Uᵀ with gradients G (out, position) and patches U (in, position). Its square, added over
    R columns, costs R P products a weight; or P (P + 1) / 2 by way of the Gram matrices of positions, since
    Σ_r (Σ_p G_rop U_ip)² = Σ_pq (Σ_r G_rop G_roq) (U_ip U_iq). The cheaper one is taken.
    """
    convolution = layer if isinstance(layer, nn.Conv2d) else None
    groups = convolution.groups if convolution else 1
    total = weight.view(groups, len(weight) // groups, -1)
    gram, step = _plan(total, gradients[0].shape[2], len(gradients))
    for start in range(0, len(read), step):
        rows = slice(start, start + step)
        part = read[rows].to(weight.dtype)
        patches = _grouped(_unfolded(convolution, part) if convolution else _by_channel(part, last=True), groups)
        pieces = [_grouped(gradient[rows].to(weight.dtype), groups) for gradient in gradients]
        if gram:
            _add_gram(patches, torch.stack(pieces, 4), total)
        else:
            for piece in pieces:
                _add_direct(patches, piece, total)


def _plan(total: Float[Tensor, "group fan_out fan_in"], positions: int, columns: int) -> tuple[bool, int]:
    """Whether to go by way of Gram matrices, and how many samples at a time."""
    groups, outputs, inputs = total.shape
    pairs = positions * (positions + 1) // 2
    direct = groups * inputs * positions * total.itemsize
    by_gram = groups * (inputs * pairs + outputs * positions * (positions + columns)) * total.itemsize
    gram = positions + 1 <= 2 * columns and by_gram <= WORKING
    return gram, max(1, WORKING // (by_gram if gram else direct))


def _grouped(
    values: Float[Tensor, "sample channel position"], groups: int
) -> Float[Tensor, "sample group channel_of_group position"]:
    samples, channels, positions = values.shape
    return values.reshape(samples, groups, channels // groups, positions)


def _unfolded(layer: nn.Conv2d, read: Tensor) -> Float[Tensor, "sample fan_in position"]:
    """The patches that a convolution multiplies with its weight, a column for each output position."""
    padding: Any = layer.padding
    if isinstance(padding, str):
        # PyTorch puts the odd one of "same" behind.
        spread = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        ]
        sides = [side for total in reversed(spread) for side in (total // 2, total - total // 2)]
        read, padding = functional.pad(read, sides), 0
    return functional.unfold(read, layer.kernel_size, layer.dilation, padding, layer.stride)


def _add_direct(
    patches: Float[Tensor, "sample group fan_in position"],
    gradients: Float[Tensor, "sample group fan_out position"],
    total: Float[Tensor, "group fan_out fan_in"],
) -> None:
    groups, outputs, inputs = total.shape
    limit = CACHED if total.device.type == "cpu" else WORKING
    wide = min(outputs, max(16, limit // (groups * inputs * total.itemsize)))
    step = max(1, limit // (groups * wide * inputs * total.itemsize))
    for start in range(0, len(patches), step):
        right = patches[start : start + step].mT
        for out in range(0, outputs, wide):
            gradient = gradients[start : start + step, :, out : out + wide] @ right
            total[:, out : out + wide] += gradient.square_().sum(0)


def _add_gram(
    patches: Float[Tensor, "sample group fan_in position"],
    gradients: Float[Tensor, "sample group fan_out position column"],
    total: Float[Tensor, "group fan_out fan_in"],
) -> None:
    p, q = torch.triu_indices(patches.shape[3], patches.shape[3], device=total.device)
    left = (gradients @ gradients.mT)[..., p, q] * torch.where(p == q, 1, 2)
    by_position = patches.mT.contiguous()
    right = by_position[:, :, p] * by_position[:, :, q]
    total.baddbmm_(left.permute(1, 2, 0, 3).flatten(2), right.transpose(0, 1).flatten(1, 2))

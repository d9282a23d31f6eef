"""The squares of a product's weight gradients, added up over columns: three ways, and what each costs.

A sample's gradient under a column is Uᵀ G with patches U (position, fan_in) and gradients G (position, fan_out).
Wanted is its square, entry by entry, added over the sample's columns.

- *direct*: form Uᵀ G in blocks that stay in cache, square, add. P products a weight and column.
- *gram*: Σ_r (Σ_p U_pi G_rpo)² = Σ_pq (U_pi U_qi) (Σ_r G_rpo G_rqo): P (P + 1) / 2 products a weight for any number
  of columns. For few positions and many columns.
- *support*: behind ReLU and max pooling most gradients are zero, at places that depend on the sample and channel but
  not on the column. Channel by channel the positions where anything is left are picked out, for all columns at once.

The products are written as (fan_in, P) x (P, fan_out): the common BLAS libraries are up to three times slower the
other way round, where the left side has few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from equiprune.curvature.layers import Patches, Products

BLOCK = 4 << 20  # bytes of products formed at a time on a CPU: more would leave the cache
PATCHES = 64 << 20  # bytes of one sample's patches formed at a time

# Seconds a multiplication and a channel cost, on one recent server core pair. They choose the way; nothing else.
DENSE = 1 / 85e9
PICKED = 1 / 100e9
FEW = 30  # columns at which the picked products reach half their speed
CHANNEL = 40e-6
PICK = 1.5e-9  # an entry looked at in the search for those that are not zero

Target = tuple[Products, float]  # where squares are added, and their sign or weight
Gradient = Float[Tensor, "position fan_out"]
Piece = Callable[[int, int], Patches]  # patches of the places from ... to


class Workspace:
    """Memory that is used again and again: a fresh block of this size costs more than what is computed in it."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, like: Tensor) -> Tensor:
        """An uninitialised tensor; the one of this name that was handed out before is overwritten."""
        need = 1
        for size in shape:
            need *= size
        held = self._held.get(name)
        if held is None or held.numel() < need or held.dtype != like.dtype or held.device != like.device:
            held = self._held[name] = torch.empty(need, dtype=like.dtype, device=like.device)
        return held[:need].view(shape)


def cost_of_direct(fan_in: int, fan_out: int, positions: int, columns: float) -> float:
    """Seconds for one sample."""
    return DENSE * fan_in * fan_out * positions * columns


def cost_of_gram(fan_in: int, fan_out: int, positions: int, columns: float) -> float:
    """Seconds for one sample."""
    pairs = positions * (positions + 1) / 2
    return DENSE * (fan_out * (1.3 * fan_in * pairs + positions**2 * columns) + 100 * fan_in * pairs)


def cost_of_support(fan_in: int, fan_out: int, positions: int, columns: float, picked: float) -> float:
    """Seconds for one sample of which `picked` gradients a column are not zero, over all channels."""
    return (CHANNEL + PICK * positions * columns) * fan_out + PICKED * fan_in * picked * (columns + FEW)


def add_direct(
    piece: Piece, places: int, gradients: Sequence[Gradient], targets: Sequence[Target], work: Workspace
) -> None:
    """Adds one sample's squares by forming each column's gradient.

    Args:
        piece: its patches, by range of places.
        places: how many there are to range over; one piece is taken where it is small enough.
        gradients: one a column.
        targets: each gets all columns.
        work: for blocks.
    """
    total = targets[0][0]
    count, fan_in, fan_out = total.shape
    whole = gradients[0].shape[0] * count * fan_in * total.itemsize
    pieces = min(places, -(-whole // PATCHES))
    if pieces > 1:
        _add_in_pieces(piece, places, pieces, gradients, targets)
        return
    read = piece(0, places).to(total.dtype)
    step = max(16, BLOCK // (fan_out * count * total.itemsize)) if total.device.type == "cpu" else fan_in
    for start in range(0, fan_in, step):
        left = read[:, :, start : start + step].mT
        block = work.take("block", count, left.shape[1], fan_out, like=total)
        for gradient in gradients:
            _multiplied(left, _grouped(gradient.to(total.dtype), count), block)
            for target, weight in targets:
                target[:, start : start + step].addcmul_(block, block, value=weight)


def _grouped(gradient: Gradient, count: int) -> Float[Tensor, "group position fan_out"]:
    return gradient.view(len(gradient), count, -1).transpose(0, 1)


def _multiplied(left: Tensor, right: Tensor, out: Tensor) -> None:
    if len(out) == 1:
        torch.mm(left[0], right[0], out=out[0])
    else:
        torch.bmm(left, right, out=out)


def _add_in_pieces(
    piece: Piece, places: int, pieces: int, gradients: Sequence[Gradient], targets: Sequence[Target]
) -> None:
    """Where the patches of one sample are too large: the products are added up piece by piece, and squared at last."""
    total = targets[0][0]
    step = -(-places // pieces)
    at_once = max(1, PATCHES // (total.numel() * total.itemsize))
    for begin in range(0, len(gradients), at_once):
        some = gradients[begin : begin + at_once]
        sums = torch.zeros(len(some), *total.shape, dtype=total.dtype, device=total.device)
        for first in range(0, places, step):
            last = min(places, first + step)
            read = piece(first, last).to(total.dtype).mT
            each = len(some[0]) // places
            for column, gradient in enumerate(some):
                part = _grouped(gradient[first * each : last * each].to(total.dtype), len(total))
                sums[column].baddbmm_(read, part)
        for target, weight in targets:
            for products in sums:
                target.addcmul_(products, products, value=weight)


def add_gram(read: Patches, gradients: Sequence[Gradient], targets: Sequence[Target]) -> None:
    """Adds one sample's squares by way of the products of its positions, taken two by two."""
    total = targets[0][0]
    count = len(total)
    columns = torch.stack([_grouped(gradient.to(total.dtype), count) for gradient in gradients], 3)
    p, q = torch.triu_indices(read.shape[1], read.shape[1], device=total.device)
    by_channel = columns.transpose(1, 2).flatten(0, 1)  # (group · fan_out, position, column)
    grams = (by_channel @ by_channel.mT)[:, p, q] * torch.where(p == q, 1, 2)
    right = grams.view(count, -1, len(p)).mT
    read = read.to(total.dtype)
    left = (read[:, p] * read[:, q]).mT
    for target, weight in targets:
        target.baddbmm_(left, right, alpha=weight)


class Support:
    """Where one sample's gradients can differ from zero, channel by channel."""

    def __init__(self, gradients: Float[Tensor, "row position fan_out"]) -> None:
        somewhere = (gradients != 0).any(0)  # (position, fan_out)
        channel, position = somewhere.t().nonzero(as_tuple=True)
        self.flat = position * somewhere.shape[1] + channel
        self.position = position
        self.ends = torch.bincount(channel, minlength=somewhere.shape[1]).cumsum(0).tolist()
        self.outside = (~somewhere).to(gradients.dtype)

    def __len__(self) -> int:
        return len(self.flat)

    def holds(self, gradient: Gradient, work: Workspace) -> bool:
        """Whether nothing of this gradient lies outside. A nan does not hold."""
        left = torch.mul(gradient, self.outside, out=work.take("outside", *gradient.shape, like=gradient))
        return bool(left.amax() == 0) and bool(left.amin() == 0)

    def picked(self, gradient: Gradient) -> Float[Tensor, " entry"]:
        """The entries of the support, channel after channel."""
        return gradient.reshape(-1).index_select(0, self.flat)

    def channels(self) -> Iterator[tuple[int, slice]]:
        """Every channel that has any, with where its entries stand."""
        start = 0
        for channel, end in enumerate(self.ends):
            if end > start:
                yield channel, slice(start, end)
            start = end


def add_support(
    read: Patches,
    support: Support,
    gradients: Float[Tensor, "column entry"],
    total: Float[Tensor, "fan_out fan_in"],
    work: Workspace,
) -> None:
    """Adds one sample's squares, a row of the total a channel, from the entries of its support only."""
    rows = read[0].to(total.dtype)
    widest = max((span.stop - span.start for _, span in support.channels()), default=0)
    held = work.take("chosen", widest, rows.shape[1], like=total)
    for channel, span in support.channels():
        chosen = torch.index_select(rows, 0, support.position[span], out=held[: span.stop - span.start])
        own = gradients[:, span]
        if 4 * len(chosen) < len(own):
            # Fewer entries than columns: uᵀ (Gᵀ G) u instead of |G u|².
            grams = torch.mm(own.t(), own)
            turned = chosen.t().contiguous()
            formed = torch.mm(turned, grams, out=work.take("block", *turned.shape, like=total))
            total[channel] += torch.linalg.vecdot(formed, turned).clamp_min_(0)
        else:
            product = work.take("block", rows.shape[1], len(own), like=total)
            torch.mm(chosen.t(), own.t(), out=product)
            total[channel] += torch.linalg.vector_norm(product, dim=1).square_()

"""One layer's part of a chunk of samples: takes its gradients pass by pass, and adds their squares when it is time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from equiprune.curvature import layers, squares
from equiprune.curvature.passes import Call
from equiprune.curvature.squares import Support, Workspace
from equiprune.curvature.sums import Sums

LEAST = 12  # columns a sample below which picking out a support is not thought of


@dataclass(frozen=True, eq=False)
class Chunk:
    """The rows of a forward pass: samples, some of them more than once, each time under other columns.

    Args:
        sample: of each row, never falling, counted from 0.
        group: of each sample.
        columns: of the sample that has most.
        groups: how many groups there are; differences follow them.
    """

    sample: list[int]
    group: list[int]
    columns: int
    groups: int

    @property
    def first(self) -> list[int]:
        """The first row of each sample."""
        return [self.sample.index(sample) for sample in range(len(self.group))]


@dataclass(frozen=True, eq=False)
class Turn:
    """One pass backwards.

    Args:
        sign: of each row in the differences, 0 for those that have no part in them; None where nobody has.
        active: whether a row has a column.
        share: (target, row) what part of a row's squares each target gets, float64.
    """

    sign: list[int] | None
    active: list[bool]
    share: Float[Tensor, "target row"]


class Affine:
    """A layer that multiplies a normalised input by its weight."""

    def __init__(self, call: Call, sums: Sums) -> None:
        self.call, self.sums = call, sums
        self.held = 0
        self.normal = layers.normalised(call.layer, call.input)

    def add(self, gradient: Tensor, turn: Turn) -> None:
        """Takes the gradient of the layer's output in one turn."""
        layer, call = self.call.layer, self.call
        if layer.weight is not None:
            own = layers.by_weight(layer, gradient * self.normal)
            self.sums.add_small(call.key("weight"), own.square_(), turn.share)
        if layer.bias is not None:
            self.sums.add_small(call.key("bias"), layers.by_weight(layer, gradient).square(), turn.share)

    def flush(self) -> None:
        """Nothing is held."""


class Product:
    """A layer that multiplies patches of its input by its weight.

    The way its squares are formed is chosen at the first gradient.
    """

    def __init__(self, call: Call, chunk: Chunk, sums: Sums, work: Workspace) -> None:
        self.call, self.chunk, self.sums, self.work = call, chunk, sums, work
        self.totals = sums.large(call.key("weight"), call.layer)
        self.held = 0
        self.way = ""
        self.entries: dict[tuple[int, int], list[Tensor]] = defaultdict(list)  # by sample and sign
        self.supports: list[Support] = []
        self.heights: dict[int, Tensor] = {}  # squares of a layer with one position, by sign

    def add(self, gradient: Tensor, turn: Turn) -> None:
        """Takes the gradient of the layer's output in one turn."""
        layer, call = self.call.layer, self.call
        if layer.bias is not None:
            bias = layers.channels(layer, gradient.to(self.totals[0].dtype))
            self.sums.add_small(call.key("bias"), bias.square(), turn.share)
        if layers.positions(layer, call.input, gradient) == 1:
            self._add_height(layers.by_position(layer, gradient)[:, 0].to(self.totals[0].dtype), turn)
            return
        by_position = layers.by_position(layer, gradient)
        if not self.way:
            self.way = self._way(by_position)
        if self.way == "support":
            self._pick(by_position, turn)
            return
        self.held += by_position.numel() * by_position.itemsize
        for row, active in enumerate(turn.active):
            if active:
                self.entries[self.chunk.sample[row], turn.sign[row] if turn.sign else 0].append(by_position[row])

    def _way(self, gradients: Float[Tensor, "row position fan_out"]) -> str:
        count, fan_in, fan_out = self.totals[0].shape
        size = fan_in, fan_out * count, gradients.shape[1]
        columns = self.chunk.columns
        costs = {"direct": squares.cost_of_direct(*size, columns), "gram": squares.cost_of_gram(*size, columns)}
        whole = size[2] * fan_in * self.totals[0].itemsize
        fits = count == 1 and columns >= LEAST and whole <= squares.PATCHES
        if fits and gradients.device.type == "cpu":
            picked = float(gradients[0].count_nonzero()) * 1.1
            costs["support"] = squares.cost_of_support(*size, columns, picked)
        if size[2] ** 2 / 2 * max(fan_in, fan_out) * self.totals[0].itemsize > squares.PATCHES:
            del costs["gram"]
        return min(costs, key=lambda way: costs[way])

    def _add_height(self, gradient: Float[Tensor, "row fan_out"], turn: Turn) -> None:
        signs = turn.sign or [0] * len(gradient)
        for sign in set(signs):
            chosen = torch.tensor([each == sign for each in signs], device=gradient.device)
            added = gradient.square() * chosen[:, None]
            self.heights[sign] = self.heights[sign].add_(added) if sign in self.heights else added

    def _pick(self, gradients: Float[Tensor, "row position fan_out"], turn: Turn) -> None:
        if not self.supports:
            self._look(gradients)
        for row, active in enumerate(turn.active):
            support = self.supports[self.chunk.sample[row]]
            if active and not support.holds(gradients[row], self.work):
                self.flush()
                self._look(gradients)
                break
        for row, active in enumerate(turn.active):
            if active:
                sample = self.chunk.sample[row]
                picked = self.supports[sample].picked(gradients[row])
                self.entries[sample, turn.sign[row] if turn.sign else 0].append(picked)
                self.held += picked.numel() * picked.itemsize

    def _look(self, gradients: Float[Tensor, "row position fan_out"]) -> None:
        """Sets each sample's support to where these gradients, or any before, differ from zero."""
        if not self.supports:
            # The first column has all classes in it, so its gradients are hardly zero where another's are not.
            self.supports = [Support(gradients[row : row + 1]) for row in self.chunk.first]
            return
        sample = torch.tensor(self.chunk.sample)
        self.supports = [
            Support(torch.cat([gradients[sample == index], (1 - before.outside)[None]]))
            for index, before in enumerate(self.supports)
        ]

    def flush(self) -> None:
        """Adds up what is held."""
        first = self.chunk.first
        self._flush_heights(first)
        by_group: dict[tuple[int, int], list[int]] = defaultdict(list)
        for sample, sign in self.entries:
            by_group[self.chunk.group[sample], sign].append(sample)
        for (group, sign), samples in by_group.items():
            targets = [(self.totals[group], 1.0)]
            if sign:
                targets.append((self.totals[self.chunk.groups + group], float(sign)))
            reads = [(sample, self.call.input[first[sample]]) for sample in samples]
            if self.way == "support":
                self._flush_support(reads, sign, targets)
            else:
                self._flush_plain(reads, sign, targets)
        self.entries.clear()
        self.held = 0

    def _flush_plain(self, reads: Sequence[tuple[int, Tensor]], sign: int, targets: Sequence[squares.Target]) -> None:
        layer = self.call.layer
        for sample, read in reads:
            gradients = self.entries[sample, sign]
            piece = partial(layers.patches, layer, read)
            if self.way == "gram":
                squares.add_gram(piece(), gradients, targets)
            else:
                cut = isinstance(layer, layers.CONVOLUTIONS)
                places = _places(layer, read, gradients[0]) if cut else 1
                whole = piece if cut else lambda _first, _last, piece=piece: piece()
                squares.add_direct(whole, places, gradients, targets, self.work)

    def _flush_support(self, reads: Sequence[tuple[int, Tensor]], sign: int, targets: Sequence[squares.Target]) -> None:
        total = targets[0][0]
        rows = self.work.take("rows", total.shape[2], total.shape[1], like=total).zero_()
        for sample, read in reads:
            gradients = torch.stack(self.entries[sample, sign]).to(total.dtype)
            squares.add_support(
                layers.patches(self.call.layer, read), self.supports[sample], gradients, rows, self.work
            )
        for target, weight in targets:
            target[0].add_(rows.t(), alpha=weight)

    def _flush_heights(self, first: list[int]) -> None:
        """(Σ_r g²) ⊗ u² for a layer with one position, all samples of a group in one product."""
        if not self.heights:
            return
        layer, dtype = self.call.layer, self.totals[0].dtype
        count, _, fan_out = self.totals[0].shape
        reads = torch.stack([layers.patches(layer, self.call.input[row])[:, 0] for row in first]).to(dtype).square_()
        sample = torch.tensor(self.chunk.sample, device=reads.device)
        group = torch.tensor(self.chunk.group)
        for sign, height in self.heights.items():
            summed = height.new_zeros(len(first), height.shape[1]).index_add_(0, sample, height)
            for each in group.unique().tolist():
                rows = (group == each).to(reads.device)
                left = reads[rows].permute(1, 2, 0)
                right = summed[rows].view(-1, count, fan_out).transpose(0, 1)
                _add_outer(self.totals[each], left, right, 1.0)
                if sign:
                    _add_outer(self.totals[self.chunk.groups + each], left, right, float(sign))
        self.heights.clear()


def _places(layer: torch.nn.Module, read: Tensor, gradient: Tensor) -> int:
    """The size of a convolution's output along its first axis."""
    shape = layers.output_shape(layer, read)
    assert math.prod(shape) == len(gradient)
    return shape[0]


def _add_outer(total: Tensor, left: Tensor, right: Tensor, weight: float) -> None:
    if len(total) == 1:
        total[0].addmm_(left[0], right[0], alpha=weight)
    else:
        total.baddbmm_(left, right, alpha=weight)


Job = Affine | Product


def job(call: Call, chunk: Chunk, sums: Sums, work: Workspace) -> Job:
    """The layer's."""
    return Affine(call, sums) if isinstance(call.layer, layers.AFFINES) else Product(call, chunk, sums, work)

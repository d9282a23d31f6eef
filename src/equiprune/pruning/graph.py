"""Which channels of which layers leave together: what Torch-Pruning's dependency graph says, in our words."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from equiprune.errors import ModelError, Problem, UsageError, nearest

CUT = (_ConvNd, nn.Linear, _NormBase, nn.PReLU)


@dataclass(frozen=True)
class Channels:
    """Channels that leave together, one of each layer: those of one convolution, or of all that enter one sum.

    Args:
        layer: the last of the convolutions in the order of the forward pass, which speaks for all.
        layers: all of them.
        count: channels each.
        tied: a grouped convolution behind them lets channel k go only with k + count/tied, k + 2 count/tied, …
    """

    layer: str
    layers: tuple[str, ...]
    count: int
    tied: int

    @property
    def units(self) -> int:
        """How many decisions there are to make."""
        return self.count // self.tied

    def of_units(self, units: Sequence[int]) -> tuple[int, ...]:
        """The channels of some units, in order."""
        return tuple(sorted(unit + part * self.units for unit in units for part in range(self.tied)))


@dataclass(frozen=True)
class Part:
    """What one layer loses: along its output, or along what it reads."""

    layer: str
    side: Literal["out", "in"]
    index: tuple[int, ...]


def short(name: str) -> str:
    """A layer's name without what a classifier puts before it."""
    return name.removeprefix("classifier.").removeprefix("network.")


class Graph:
    """The dependencies of a network, found by one pass of a blank image.

    Args:
        network: stays as it is.
        image: one or more, as the network reads them.

    Raises:
        ModelError: the network cannot be traced.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        # A classifier's network and exits are called as its users call them.
        self.names: dict[Any, str] = {module: short(name) for name, module in network.named_modules()}
        self.order: list[nn.Module] = []  # convolutions as they are used; one that is used twice stands here twice
        hooks = [
            module.register_forward_hook(lambda used, _args, _out: self.order.append(used))
            for module in self.names
            if isinstance(module, _ConvNd)
        ]
        frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
        training = [module for module in self.names if module.training]
        try:
            self._tp, self._graph = _built(network, image, frozen)
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in frozen:
                parameter.requires_grad_(False)
            for module in training:
                module.training = True
        self._sets: tuple[Channels, ...] | None = None
        self.reasons: dict[str, str] = {}  # of the convolutions whose channels cannot leave

    def sets(self) -> tuple[Channels, ...]:
        """All channels that can leave, in the order of the forward pass."""
        if self._sets is None:
            known: dict[str, Channels] = {}
            for module in dict.fromkeys(self.order):
                name = self.names[module]
                if all(name not in found.layers for found in known.values()):
                    reason = self._reason(module)
                    if reason is not None:
                        self.reasons[name] = reason
                        continue
                    found = self._together(module)
                    known[found.layer] = found
            place = {self.names[module]: number for number, module in enumerate(self.order)}
            self._sets = tuple(sorted(known.values(), key=lambda one: place[one.layer]))
        return self._sets

    def find(self, layer: str) -> Channels:
        """The channels a convolution is part of.

        Raises:
            UsageError: there is no such layer.
            ModelError: its channels cannot leave; says why.
        """
        for found in self.sets():
            if layer in found.layers:
                return found
        if layer in self.reasons:
            raise ModelError(Problem(f"the channels of {layer!r} cannot leave: {self.reasons[layer]}"))
        names = [*(name for found in self.sets() for name in found.layers), *self.reasons]
        if layer in self.names.values():
            kind = type(next(module for module, name in self.names.items() if name == layer)).__name__
            what = f"layer {layer!r} ({kind}) is not a convolution that takes part in what the network gives"
            raise UsageError(Problem(what, hint=nearest(layer, names)))
        raise UsageError(Problem(f"there is no layer {layer!r}", hint=nearest(layer, names)))

    def parts(self, layer: str, channels: Sequence[int]) -> list[Part]:
        """Everything that goes when these channels of a layer go.

        Raises:
            ModelError: others of its channels would go with them.
        """
        items = self._items(self._module(layer), channels)
        others = sorted(self._own(self._module(layer), items) - set(channels))
        if others:
            told = ", ".join(map(str, others[:5]))
            raise ModelError(Problem(f"layer {layer!r}: with these channels others would leave, such as {told}"))
        return [
            Part(self.names[item.dep.target.module], self._side(item), tuple(sorted(set(item.idxs))))
            for item in items
            if isinstance(item.dep.target.module, CUT)
        ]

    def _own(self, module: nn.Module, items: Sequence[Any]) -> set[int]:
        """The layer's own channels among what leaves."""
        of_layer = (item for item in items if item.dep.target.module is module and self._side(item) == "out")
        return {index for item in of_layer for index in item.idxs}

    def _module(self, layer: str) -> nn.Module:
        module: nn.Module = next(module for module, name in self.names.items() if name == layer)
        return module

    def _items(self, module: nn.Module, channels: Sequence[int]) -> list[Any]:
        out = self._graph.get_pruner_of_module(module).prune_out_channels
        return list(self._graph.get_pruning_group(module, out, list(channels)).items)

    def _side(self, item: Any) -> Literal["out", "in"]:  # noqa: ANN401 - Torch-Pruning is not typed
        # A norm's or a depthwise convolution's channels go in and out at once, and count as output.
        return "out" if self._graph.is_out_channel_pruning_fn(item.dep.handler) else "in"

    def _reason(self, module: nn.Module) -> str | None:
        """Why the channels of a convolution cannot leave; None where they can."""
        if module not in self._graph.module2node:
            return "nothing the network gives depends on them as far as autograd can see"
        try:
            items = self._items(module, [0])
        except Exception as error:  # whatever the library's bookkeeping stumbles over
            return f"the dependencies cannot be followed ({type(error).__name__}: {error})"
        reason = next(filter(None, map(self._obstacle, items)), None)
        if reason is not None:
            return reason
        assert isinstance(module, _ConvNd)
        return self._unlike(module, items) if module.out_channels > 1 else "there is only one"

    def _obstacle(self, item: Any) -> str | None:  # noqa: ANN401 - Torch-Pruning is not typed
        """Why what depends on a channel cannot lose it; None where it can."""
        target = item.dep.target
        if self.order.count(target.module) > 1:
            return f"layer {self.names[target.module]!r} is used more than once"
        if target.type == self._tp.ops.OPTYPE.OUTPUT:
            return "they are what the network gives"
        if isinstance(target.module, nn.Parameter):
            return f"a parameter outside of any layer joins them ({target.name})"
        if target.module in self.names and not isinstance(target.module, CUT):
            return f"{self.names[target.module]!r} ({type(target.module).__name__}) reads them all together"
        return None

    def _unlike(self, module: _ConvNd, items: Sequence[Any]) -> str | None:
        """Why no single channel can leave: others are joined to it in another number, or in no regular way."""
        for item in items:
            other = item.dep.target.module
            if isinstance(other, _ConvNd) and self._side(item) == "out" and other.out_channels != module.out_channels:
                return f"they are joined with those of {self.names[other]!r}, of which there are {other.out_channels}"
        own = self._own(module, items)
        step = module.out_channels // len(own)
        if module.out_channels % len(own) or own != set(range(0, module.out_channels, step)):
            return f"channel 0 leaves only with {sorted(own - {0})[:5]}"
        return None if self._together(module).units > 1 else "they could only leave all at once"

    def _together(self, module: nn.Module) -> Channels:
        layers: list[str] = []
        items = self._items(module, [0])
        tied = len(self._own(module, items))  # the halves of a layer may meet
        for item in items:
            other = item.dep.target.module
            if not isinstance(other, _ConvNd):
                continue
            depthwise = other.groups == other.in_channels == other.out_channels
            if not depthwise:
                tied = math.lcm(tied, other.groups)
            if self._side(item) == "out":
                layers.append(self.names[other])
        place = [self.names[used] for used in self.order]
        ordered = tuple(sorted(layers, key=place.index))
        last = self._module(ordered[-1])
        assert isinstance(last, _ConvNd)
        return Channels(ordered[-1], ordered, last.out_channels, tied)


def _built(network: nn.Module, image: Tensor, frozen: Sequence[nn.Parameter]) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch_pruning

        for parameter in frozen:  # it follows autograd, and overlooks what needs no gradient
            parameter.requires_grad_(True)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                graph = torch_pruning.DependencyGraph().build_dependency(network, (image,), verbose=False)
        except Exception as error:  # anything: the network is the user's
            what = f"the network's graph cannot be traced ({type(error).__name__}: {error})"
            hint = "Channels can be cut from networks made of plain layers; weights can be pruned in any"
            raise ModelError(Problem(what, hint=hint)) from error
    return torch_pruning, graph

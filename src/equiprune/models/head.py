"""The last layer of a network: found by a pass, never by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiprune.errors import ModelError, Problem
from equiprune.models.observed import observed


@dataclass(eq=False)
class Seen:
    """What a layer read and gave in the last pass."""

    read: Tensor | None = None
    gave: Tensor | None = None

    @property
    def features(self) -> Float[Tensor, "image feature"]:
        """What it read, a row an image."""
        assert self.read is not None
        return self.read.flatten(1)


def head_of(network: nn.Module, image: Float[Tensor, "image channel height width"], logits: int) -> str:
    """The name of the linear layer that gives the logits.

    Args:
        network: stays as it is.
        image: one, as the network reads it.
        logits: how many there are.

    Raises:
        ModelError: what runs last is no linear layer with as many outputs.
    """
    last: list[tuple[str, nn.Module]] = []

    def look(name: str, layer: nn.Module, _out: object) -> None:
        if any(True for _ in layer.parameters(recurse=False)):
            last.append((name, layer))

    observed(network, image, look)
    name, layer = last[-1] if last else ("", network)
    if not isinstance(layer, nn.Linear) or layer.out_features != logits:
        what = (
            f"the last layer of this network, {name!r} ({type(layer).__name__}), is no linear one with {logits} outputs"
        )
        raise ModelError(Problem(what, hint="Objectives that work on features or on the last layer need one"))
    return name


@contextmanager
def watched(layer: nn.Module) -> Iterator[Seen]:
    """What the layer reads and gives in passes within the context."""
    seen = Seen()

    def look(_layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.read, seen.gave = args[0], output

    hook = layer.register_forward_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def widen(network: nn.Module, name: str, times: int) -> None:
    """Gives the last layer so many blocks of logits, whose sum is what it gave before, in place."""
    old = network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, times * old.out_features, old.bias is not None).to(old.weight)
    new.weight.copy_(old.weight.repeat(times, 1) / times)
    if new.bias is not None and old.bias is not None:
        new.bias.copy_(old.bias.repeat(times) / times)
    network.set_submodule(name, new)


@torch.no_grad()
def fold(network: nn.Module, name: str, times: int) -> None:
    """Adds the blocks of the last layer up, in place: what their logits' sum is."""
    old = network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, old.out_features // times, old.bias is not None).to(old.weight)
    new.weight.copy_(old.weight.unflatten(0, (times, -1)).sum(0))
    if new.bias is not None and old.bias is not None:
        new.bias.copy_(old.bias.unflatten(0, (times, -1)).sum(0))
    network.set_submodule(name, new)


@torch.no_grad()
def shift(network: nn.Module, name: str, offsets: Float[Tensor, " class"]) -> None:
    """Adds numbers to the logits by the last layer's bias, in place."""
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    before = 0 if layer.bias is None else layer.bias.detach()
    layer.bias = nn.Parameter(before + offsets.to(layer.weight))

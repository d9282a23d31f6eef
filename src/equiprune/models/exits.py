"""Early exits: small heads behind inner layers, and which of them answers for an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiprune.errors import ModelError, Problem, UsageError, nearest
from equiprune.models.observed import observed

INNER = 3  # exits beside the network's own where none are named


class ExitHead(nn.Module):
    """The mean over places of every channel, and a linear layer on it.

    Args:
        channels: of the maps.
        classes: logits to give.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, maps: Float[Tensor, "image channel *place"]) -> Float[Tensor, "image class"]:
        """Logits."""
        logits: Tensor = self.linear(maps.flatten(2).mean(2))
        return logits


def stages(network: nn.Module, image: Float[Tensor, "image channel height width"]) -> tuple[str, ...]:
    """The layers that end a stage: the last whose maps are as large, for each size of maps.

    Where several layers give the same maps, a block and the last layer in it, the outermost is named. The first
    (the stem) and the last (whose exit is the network's own) are left out; of the rest the last three are taken.

    Args:
        network: stays as it is.
        image: one, as the network reads it.

    Raises:
        ModelError: no inner layer gives maps.
    """
    ends: dict[tuple[int, ...], str] = {}
    # What is inside of a block is not the end of a stage, for the block's own output is.
    blocks = tuple(
        name + "." for name, module in network.named_modules() if name and not isinstance(module, nn.Sequential)
    )

    def look(name: str, _layer: nn.Module, out: object) -> None:
        if name and not name.startswith(blocks) and isinstance(out, Tensor) and out.dim() == 4 and out.shape[2] > 1:
            ends.pop(tuple(out.shape[2:]), None)
            ends[tuple(out.shape[2:])] = name

    observed(network, image, look)
    inner = list(ends.values())[:-1]
    inner = (inner[1:] or inner)[-INNER:]
    if not inner:
        raise ModelError(Problem("this network has no inner maps for early exits", hint="Name layers with exits"))
    return tuple(inner)


def heads(network: nn.Module, image: Tensor, layers: Sequence[str], classes: int) -> nn.ModuleList:
    """Fresh heads for the layers, in their order.

    Raises:
        UsageError: a layer does not exist.
        ModelError: a layer gives no maps.
    """
    widths: dict[str, int] = {}
    names = [name for name, _ in network.named_modules() if name]
    missing = [name for name in layers if name not in names]
    if missing:
        raise UsageError(
            Problem(f"there is no layer {name!r} for an exit", hint=nearest(name, names)) for name in missing
        )

    def look(name: str, _layer: nn.Module, out: object) -> None:
        if isinstance(out, Tensor) and out.dim() >= 3:
            widths[name] = out.shape[1]

    observed(network, image, look)
    unfit = [name for name in layers if name not in widths]
    if unfit:
        raise ModelError([Problem(f"layer {name!r} gives no maps (image, channel, ...) for an exit") for name in unfit])
    return nn.ModuleList(ExitHead(widths[name], classes) for name in layers)


def collected(
    network: nn.Module, image: Tensor, layers: Sequence[str], exit_heads: Sequence[nn.Module]
) -> tuple[Tensor, ...]:
    """The logits of every exit; the network's own come last."""
    modules = dict(network.named_modules())
    given: dict[str, Tensor] = {}
    hooks = [
        modules[name].register_forward_hook(
            lambda _used, _args, out, name=name, head=head: given.update({name: head(out)})
        )
        for name, head in zip(layers, exit_heads, strict=True)
    ]
    try:
        last = network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return (*(given[name] for name in layers), last)


def leave(
    exits: Sequence[Float[Tensor, "image class"]], confidence: float | None, task: Literal["multiclass", "multilabel"]
) -> Float[Tensor, "image class"]:
    """The logits of the first exit that is at least so sure, of the last where none is.

    How sure an exit is: its largest probability; with several findings the least of max(p, 1 - p) over them.
    """
    last = exits[-1]
    if confidence is None:
        return last
    chosen = last
    for logits in reversed(exits[:-1]):
        chosen = torch.where((sureness(logits, task) >= confidence)[:, None], logits, chosen)
    return chosen


def shares_leaving(
    exits: Sequence[Float[Tensor, "image class"]], confidence: float | None, task: Literal["multiclass", "multilabel"]
) -> list[float]:
    """The share of images that leave at each exit.

    Example:
        >>> shares_leaving([torch.tensor([[9.0, 0.0], [0.0, 0.0]]), torch.zeros(2, 2)], 0.9, "multiclass")
        [0.5, 0.5]
    """
    left = torch.ones(len(exits[-1]), dtype=torch.bool, device=exits[-1].device)
    shares = []
    for logits in exits[:-1]:
        sure = torch.zeros_like(left) if confidence is None else left & (sureness(logits, task) >= confidence)
        shares.append(float(sure.double().mean()))
        left = left & ~sure
    return [*shares, float(left.double().mean())]


def sureness(logits: Tensor, task: Literal["multiclass", "multilabel"]) -> Float[Tensor, " image"]:
    """How sure an exit is of each image."""
    if task == "multiclass":
        return logits.softmax(1).amax(1)
    p = logits.sigmoid()
    return torch.maximum(p, 1 - p).amin(1)

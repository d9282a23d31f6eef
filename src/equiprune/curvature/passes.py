"""One forward pass, with what each layer read, and the certainty that the layers are all there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from equiprune.errors import ModelError, Problem


@dataclass(frozen=True, eq=False)
class Call:
    """One layer's part in a forward pass.

    Args:
        name: of the layer in the model; blank when the model is the layer.
        layer: the layer.
        input: what it read.
        version: of that tensor at the time; it counts changes in place.
        edge: where its output hangs in the graph.
        size: of its output, in bytes.
    """

    name: str
    layer: nn.Module
    input: Tensor
    version: int
    edge: GradientEdge
    size: int

    def key(self, parameter: str) -> str:
        """The full name of one of its parameters."""
        return f"{self.name}.{parameter}" if self.name else parameter


def forward(
    model: nn.Module, layers: Mapping[str, nn.Module], image: Tensor
) -> tuple[Tensor, list[Call], dict[str, Node]]:
    """The model's output with its graph, what each layer read, and where each parameter stands in the graph.

    The model is left as it was: frozen parameters are thawed for the pass only, hooks are taken off even on error.

    Args:
        model: as given.
        layers: those that hold parameters, by name.
        image: on the model's device.

    Raises:
        ModelError: a layer is used twice, or runs where no gradient is kept.
    """
    calls: dict[str, Call] = {}
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    if image.dim() == 4:
        image = image.contiguous(memory_format=torch.channels_last)  # the faster layout of convolutions
    with ExitStack() as stack:
        for parameter in frozen:
            stack.callback(parameter.requires_grad_, False)
            parameter.requires_grad_(True)
        for name, layer in layers.items():
            # Before the caller's own hooks, which may put another tensor in the place of the output.
            hook = layer.register_forward_hook(partial(_record, name, calls), prepend=True, with_kwargs=True)
            stack.callback(hook.remove)
        stack.enter_context(torch.enable_grad())
        nodes = {name: get_gradient_edge(parameter).node for name, parameter in model.named_parameters()}
        return model(image), list(calls.values()), nodes


def _record(
    name: str, calls: dict[str, Call], layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> None:
    if name in calls:
        raise ModelError(f"layer {name!r} is used twice in one forward pass, and its uses cannot be told apart")
    if not output.requires_grad:
        raise ModelError(f"layer {name!r} runs without gradients inside the model, so it cannot be measured")
    read = (args[0] if args else kwargs["input"]).detach()
    # The edge, not the tensor: an in-place ReLU that follows changes the tensor's place in the graph.
    calls[name] = Call(name, layer, read, read._version, get_gradient_edge(output), output.numel() * output.itemsize)


def check_calls(logits: Tensor, calls: Sequence[Call], nodes: Mapping[str, Node]) -> None:
    """Refuses a pass in which a parameter works otherwise than once, in its own layer, on one row a sample.

    Each layer's share is found from what its module read and gave. So a parameter that something else reads too, or
    a layer whose effect the graph does not show, would be wrong in silence.

    Raises:
        ModelError: with every such layer.
    """
    uses = _uses(logits)
    problems = [f"layer {call.name!r} {reason}" for call in calls for reason in _odd(call, len(logits), uses)]
    called = {call.key(key) for call in calls for key, _ in call.layer.named_parameters(recurse=False)}
    if not problems:
        outside = [name for name, node in nodes.items() if uses[node] != (name in called)]
        problems = [f"parameter {name!r} is used outside its own layer's forward pass" for name in outside]
    if problems:
        raise ModelError([Problem(problem) for problem in problems])


def _odd(call: Call, samples: int, uses: Counter[Node]) -> Iterator[str]:
    if call.edge.node not in uses:
        yield "does not reach the model's output by differentiable steps"
    if call.input._version != call.version:
        yield "reads a tensor that is later changed in place"
    axes = 4 if isinstance(call.layer, nn.Conv2d) else 2
    if call.input.dim() < axes or len(call.input) != samples:
        shape = tuple(call.input.shape)
        yield f"reads {shape} for {samples} samples: the sample must be the first of at least {axes} axes"


def _uses(logits: Tensor) -> Counter[Node]:
    """How many edges of the graph behind the logits lead into each of its nodes."""
    uses: Counter[Node] = Counter()
    ahead = [logits.grad_fn] if logits.grad_fn is not None else []
    uses.update(ahead)
    while ahead:
        for node, _ in ahead.pop().next_functions:
            if node is not None:
                if node not in uses:
                    ahead.append(node)
                uses[node] += 1
    return uses

"""One forward pass, with what each layer read and gave, and which parameters that accounts for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from equiprune.curvature import layers
from equiprune.errors import ModelError, Problem


@dataclass(eq=False)
class Call:
    """One layer's part in a forward pass.

    Args:
        name: of the layer in the model; blank when the model is the layer.
        layer: the layer.
        input: what it read.
        version: of that tensor at the time; it counts changes in place.
        edge: where its output hangs in the graph.
        size: of its output, in bytes.
        times: how often it was called.
    """

    name: str
    layer: nn.Module
    input: Tensor
    version: int
    edge: GradientEdge
    size: int
    times: int = 1

    def key(self, parameter: str) -> str:
        """The full name of one of its parameters."""
        return f"{self.name}.{parameter}" if self.name else parameter

    def own(self) -> list[str]:
        """The full names of all its parameters."""
        return [self.key(name) for name, _ in self.layer.named_parameters(recurse=False)]


@dataclass(eq=False)
class Pass:
    """A forward pass with its graph.

    Args:
        logits: (sample, exit, class).
        single: whether the model gave one output, not a tuple of exits.
        calls: of the layers that are measured by what they read.
        read: of all layers that may be.
        others: parameters that only autograd itself can measure, row by row: those of other layers, and of layers
            that are used twice or otherwise than once on one row a sample.
    """

    logits: Tensor
    single: bool
    calls: list[Call]
    read: list[Call]
    others: dict[str, Tensor] = field(default_factory=dict)


def row_layers(two: Pass, three: Pass) -> frozenset[str]:
    """The layers that read one row a sample: as many as there are images, in a pass of two and in one of three.

    One pass alone does not tell: a sequence may be as long as the pass has images.
    """
    lengths = [{call.name: len(call.input) if call.input.dim() else 0 for call in each.read} for each in (two, three)]
    return frozenset(name for name, length in lengths[0].items() if (length, lengths[1].get(name)) == (2, 3))


def forward(model: nn.Module, image: Tensor, *, by_row: frozenset[str] | None = None, bfloat16: bool = False) -> Pass:
    """The model's output with its graph, and how each of its parameters can be measured.

    The model is left as it was: frozen parameters are thawed for the pass only, hooks are taken off even on error.

    Args:
        model: as given.
        image: on the model's device.
        by_row: the layers that read one row a sample, as `row_layers` finds them; None where that is not known yet.
        bfloat16: the pass, and so those backwards, runs under autocast.

    Raises:
        ModelError: a layer runs where no gradient is kept, or its effect on the output cannot be seen; the output is
            not a tensor (sample, class) or several.
    """
    calls: dict[str, Call] = {}
    with ExitStack() as stack:
        for parameter in model.parameters():
            if not parameter.requires_grad:
                stack.callback(parameter.requires_grad_, False)
                parameter.requires_grad_(True)
        for name, layer in model.named_modules():
            if layers.is_fast(layer) and any(True for _ in layer.parameters(recurse=False)):
                # Before the caller's own hooks, which may put another tensor in the place of the output.
                hook = layer.register_forward_hook(partial(_record, name, calls), prepend=True, with_kwargs=True)
                stack.callback(hook.remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=bfloat16))
        nodes = {name: get_gradient_edge(parameter).node for name, parameter in model.named_parameters()}
        given = model(laid_out(image))
        # Exits that stand side by side, so that one column can run backwards from all of them.
        logits = stacked(given, len(image))
        read = list(calls.values())
        return _sorted_out(model, Pass(logits, isinstance(given, Tensor), read, read), nodes, by_row)


def laid_out(image: Tensor) -> Tensor:
    """In the faster layout of convolutions."""
    return image.contiguous(memory_format=torch.channels_last) if image.dim() == 4 else image


def stacked(given: object, samples: int) -> Tensor:
    """What a model gave, as (sample, exit, class)."""
    every = list(given) if isinstance(given, tuple | list) else [given]
    exits = [each for each in every if isinstance(each, Tensor)]
    if not exits or len(exits) < len(every):
        kinds = ", ".join(type(each).__name__ for each in every)
        raise ModelError(f"the model gives a {type(given).__name__} of ({kinds}), not a tensor (sample, class)")
    for each in exits:
        if each.dim() != 2 or len(each) != samples or each.shape != exits[0].shape:
            raise ModelError(f"the model gives a tensor {tuple(each.shape)}, not (sample, class) for {samples} samples")
    return torch.stack([each.float() if each.dtype == torch.bfloat16 else each for each in exits], 1)


def _record(
    name: str, calls: dict[str, Call], layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> None:
    if not output.requires_grad:
        raise ModelError(f"layer {name!r} runs without gradients inside the model, so it cannot be measured")
    if name in calls:
        calls[name].times += 1
        return
    read = (args[0] if args else kwargs["input"]).detach()
    # The edge, not the tensor: an in-place ReLU that follows changes the tensor's place in the graph.
    calls[name] = Call(name, layer, read, read._version, get_gradient_edge(output), output.numel() * output.itemsize)


def _sorted_out(model: nn.Module, found: Pass, nodes: Mapping[str, Node], by_row: frozenset[str] | None) -> Pass:
    """Leaves the calls that account for all their layer's parameters do, and hands the other parameters over.

    Each layer's share is found from what its module read and gave. So a parameter that something else reads too,
    or a layer whose effect the graph does not show, would be wrong in silence.
    """
    uses = _uses(found.logits)
    problems = [f"layer {call.name!r} {reason}" for call in found.calls for reason in _unseen(call, uses)]
    if problems:
        raise ModelError([Problem(problem) for problem in problems])
    samples = len(found.logits)
    plain = [
        call
        for call in found.calls
        if (by_row is None or call.name in by_row) and _is_plain(call, samples, uses, nodes)
    ]
    covered = {key for call in plain for key in call.own()}
    found.calls = plain
    found.others = {
        name: parameter for name, parameter in model.named_parameters() if name not in covered and uses[nodes[name]] > 0
    }
    return found


def _unseen(call: Call, uses: Counter[Node]) -> Iterator[str]:
    if call.edge.node not in uses:
        yield "does not reach the model's output by differentiable steps"
    if call.input._version != call.version:
        yield "reads a tensor that is later changed in place"


def _is_plain(call: Call, samples: int, uses: Counter[Node], nodes: Mapping[str, Node]) -> bool:
    """Whether the layer worked once, on one row a sample, and nothing else read its parameters."""
    fits = call.input.dim() >= layers.axes(call.layer) and len(call.input) == samples
    # A tensor that two layers share has one name only, so the other layer's own names are missing.
    alone = all(name in nodes and uses[nodes[name]] == 1 for name in call.own())
    return call.times == 1 and fits and alone


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


def backward(found: Pass, column: Tensor) -> Sequence[Tensor]:
    """The gradients of all layers' outputs under one column, one tensor a call."""
    edges = [call.edge for call in found.calls]
    return torch.autograd.grad(found.logits, edges, column, retain_graph=True) if edges else ()


def row_gradients(found: Pass, column: Tensor, row: int) -> dict[str, Tensor]:
    """The gradient of the parameters that are not a plain layer's, of one row alone."""
    alone = torch.zeros_like(column)
    alone[row] = column[row]
    inputs = list(found.others.values())
    gradients = torch.autograd.grad(found.logits, inputs, alone, retain_graph=True)
    return dict(zip(found.others, gradients, strict=True))


def first_bad_layer(model: nn.Module, image: Tensor) -> str | None:
    """The name of the first layer, in the order in which they run, that gives nan or infinity for these images."""
    found: list[str] = []

    def look(name: str, _layer: nn.Module, _args: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(name)

    with ExitStack() as stack:
        for name, layer in model.named_modules():
            if name and not any(True for _ in layer.children()):
                stack.callback(layer.register_forward_hook(partial(look, name)).remove)
        model(image)
    return found[0] if found else None

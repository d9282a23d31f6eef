"""Removing channels for good: filters, biases, norms and whatever reads them, so that the model gets smaller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from equiprune.errors import ModelError, Problem, UsageError
from equiprune.models.asked import asked
from equiprune.models.classifier import Classifier, evaluating
from equiprune.models.cuts import Cut, adopt
from equiprune.models.design import Design
from equiprune.pruning.graph import Channels, Graph, Part, short

__all__ = ["Channels", "channel_sets", "cut", "lowest_units", "named"]

PREFIX = "network."
HINT = "Weights of this network can be pruned, or channels of another layer"
# Of what the logits vary by. Where a network runs in float32 alone: fewer channels are added in another order.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
Gone = dict[tuple[str, int], set[int]]  # what each tensor loses, by its name and dimension


def channel_sets(classifier: Classifier) -> tuple[Channels, ...]:
    """The channels that can be cut, in the order of the forward pass; layers by their names in the network.

    Raises:
        ModelError: the network cannot be traced, or has no channels that can be cut; says why.

    Example:
        >>> from equiprune.models.design import Design
        >>> net = Classifier.build(Design(backbone="simple_cnn", classes=("no", "yes"), image_size=16))
        >>> [(found.layer, found.count) for found in channel_sets(net)]
        [('conv1', 32), ('conv2', 64), ('conv3', 128)]
    """
    graph = _graph(classifier)
    if not graph.sets():
        why = [f"{layer}: {reason}" for layer, reason in graph.reasons.items()] or ["there is no convolution"]
        raise ModelError(Problem(f"no channels of {classifier.design.backbone} can be cut ({'; '.join(why[:4])})"))
    return graph.sets()


def named(classifier: Classifier, layer: str) -> tuple[Channels, ...]:
    """The channels that a setting means: `last`, `all`, or a convolution's name.

    Raises:
        UsageError: there is no such layer.
        ModelError: its channels cannot be cut.
    """
    if layer in ("all", "last"):
        sets = channel_sets(classifier)
        return sets if layer == "all" else sets[-1:]
    return (_graph(classifier).find(layer.removeprefix(PREFIX)),)


def cut(classifier: Classifier, channels: Mapping[str, Sequence[int]]) -> Classifier:
    """A smaller classifier, without some output channels of its convolutions.

    With a channel go its filter and bias, its norm's parameters and statistics, the weights that read it, and the same
    channel of every layer that is added to this one (in a ResNet, of the whole stage). Masks are cut along.

    The result is compared with the whole network, told to read nothing of these channels: in float64 and evaluation
    mode the logits of eight drawn images must be the same, and what ran in training mode must still run. So a layer
    that only other images or training mode reach is not compared.

    Args:
        classifier: stays as it is.
        channels: by a convolution's name in the network; numbers as the layer has them now.

    Raises:
        UsageError: there is no such layer, a number is out of range or comes twice, nothing would be left of a layer,
            or channels that leave together are named for two layers; all numbers that are wrong, at once.
        ModelError: the channels cannot leave, or removing them would change what others do.

    Example:
        >>> from equiprune.models.design import Design
        >>> net = Classifier.build(Design(backbone="simple_cnn", classes=("no", "yes"), image_size=16))
        >>> cut(net, {"conv3": range(64)}).network.fc1
        Linear(in_features=1024, out_features=128, bias=True)
    """
    graph = _graph(classifier)
    chosen = {graph.find(layer.removeprefix(PREFIX)): _whole(layer, numbers) for layer, numbers in channels.items()}
    problems = [problem for found, numbers in chosen.items() for problem in _unfit(found, numbers)]
    if len(chosen) < len(channels):
        problems.append(Problem("channels of two layers that leave together are named", hint="Name one of the layers"))
    if problems:
        raise UsageError(problems)
    names = ", ".join(repr(found.layer) for found in list(chosen)[:4])
    smaller = classifier.clone()
    modules = {short(name): module for name, module in smaller.named_modules()}
    try:
        parts = [part for found, numbers in chosen.items() for part in graph.parts(found.layer, numbers)]
        gone = _gone(modules, parts)
        _refuse_tied(smaller, gone)
        _silence(modules, parts)
        silent = smaller.clone()
        _adopt(smaller, gone)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"what depends on these channels of {names} cannot be followed ({type(error).__name__}: {error})"
        raise ModelError(Problem(what, hint=HINT)) from error
    smaller.cuts = (
        *classifier.cuts,
        *(Cut(layer=PREFIX + found.layer, channels=tuple(sorted(numbers))) for found, numbers in chosen.items()),
    )
    _compare(silent, smaller, names)
    return smaller


def _graph(classifier: Classifier) -> Graph:
    side = classifier.design.image_size
    blank = torch.zeros(1, classifier.design.channels, side, side).to(classifier.mean)
    return Graph(asked(classifier), blank)


def _probe(design: Design) -> Tensor:
    """Black, white, and noise: fine and coarse, faint and strong, dark and bright; so that many paths are open."""
    side = design.image_size
    generator = torch.Generator().manual_seed(0)
    fine = torch.rand(3, design.channels, side, side, generator=generator)
    coarse = nn.functional.interpolate(torch.rand(3, design.channels, 4, 4, generator=generator), (side, side))
    plain = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, *fine.shape[1:])
    noise = torch.cat([fine, coarse])
    strength = torch.tensor([1.0, 0.1, 0.3, 1.0, 0.3, 0.3]).view(6, 1, 1, 1)
    base = torch.tensor([0.0, 0.45, 0.7, 0.0, 0.0, 0.7]).view(6, 1, 1, 1)
    return torch.cat([plain, base + strength * noise])


def _whole(layer: str, numbers: object) -> tuple[int, ...]:
    """The channels as whole numbers, given as a list, a range, a set, an array or a tensor."""
    listed = numbers.tolist() if isinstance(numbers, Tensor | np.ndarray) else numbers
    given = list(listed) if isinstance(listed, Iterable) and not isinstance(listed, str) else [listed, None]
    whole = [int(number) for number in given if isinstance(number, Integral) and not isinstance(number, bool)]
    if len(whole) < len(given):
        what = f"layer {layer!r}: channels are named by a list of whole numbers, not by {listed!r:.60}"
        raise UsageError(Problem(what))
    return tuple(whole)


def _refuse_tied(classifier: Classifier, gone: Gone) -> None:
    """Layers that share a parameter must lose the same of it."""
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in classifier.named_parameters(remove_duplicate=False):
        names[parameter].append(short(name))
    for parameter, own in names.items():
        lost = [{axis: gone.get((name, axis), set()) for axis in range(parameter.dim())} for name in own]
        if any(each != lost[0] for each in lost):
            what = f"{own[0]!r} and {own[1]!r} are one parameter, of which they would lose different channels"
            raise ModelError(Problem(what, hint=HINT))


def _unfit(found: Channels, numbers: Sequence[int]) -> list[Problem]:
    problems = []
    wrong = [number for number in numbers if not 0 <= number < found.count]
    if wrong:
        problems.append(Problem(f"layer {found.layer!r} has channels 0 to {found.count - 1}, not {wrong[:5]}"))
    if len(set(numbers)) < len(numbers):
        problems.append(Problem(f"layer {found.layer!r}: a channel is named twice"))
    if not numbers:
        problems.append(Problem(f"layer {found.layer!r}: no channel is named"))
    elif len(set(numbers)) >= found.count:
        problems.append(Problem(f"layer {found.layer!r} would be left without a channel"))
    elif not wrong and set(numbers) != set(found.of_units(sorted({number % found.units for number in numbers}))):
        what = f"layer {found.layer!r}: a grouped convolution lets channel k go only together with "
        problems.append(Problem(what + ", ".join(f"k + {found.units * part}" for part in range(1, found.tied))))
    return problems


@torch.no_grad()
def _silence(modules: Mapping[str, nn.Module], parts: Sequence[Part]) -> None:
    """Sets the weights that read these channels to zero."""
    for part in parts:
        if part.side == "in":
            for name, axis, index in _losses(modules[part.layer], part):
                if name == "weight":
                    weight = modules[part.layer].get_parameter("weight")
                    weight.index_fill_(axis, torch.tensor(index, device=weight.device), 0.0)


def _losses(module: nn.Module, part: Part) -> list[tuple[str, int, list[int]]]:
    """Which entries of which tensor of a layer, along which dimension, go."""
    index = list(part.index)
    if isinstance(module, _ConvNd):
        turned = module.transposed
        if part.side == "out" or module.groups == module.in_channels == module.out_channels:
            wide = turned and module.groups < module.out_channels
            own = sorted({k % (module.out_channels // module.groups) for k in index}) if wide else index
            return [("weight", 1 if wide else 0, own), ("bias", 0, index)]
        read = module.in_channels // module.groups
        return [("weight", 0, index)] if turned else [("weight", 1, sorted({k % read for k in index}))]
    if isinstance(module, nn.Linear):
        return [("weight", 1, index)] if part.side == "in" else [("weight", 0, index), ("bias", 0, index)]
    if isinstance(module, nn.PReLU):
        return [("weight", 0, index)] if module.num_parameters > 1 else []
    return [(name, 0, index) for name in ("weight", "bias", "running_mean", "running_var")]


def _gone(modules: Mapping[str, nn.Module], parts: Sequence[Part]) -> Gone:
    gone: Gone = defaultdict(set)
    for part in parts:
        for name, axis, index in _losses(modules[part.layer], part):
            gone[f"{part.layer}.{name}", axis].update(index)
    return gone


def _adopt(classifier: Classifier, gone: Gone) -> None:
    """Takes the entries out of every tensor and of its mask, in place."""
    state: dict[str, Tensor] = {short(name): tensor for name, tensor in classifier.state_dict().items()}
    full = {short(name): name for name in classifier.state_dict()}
    smaller = {name: state[name] for name in dict.fromkeys(name for name, _ in gone) if name in state}
    masks = classifier.masks
    for (name, axis), index in gone.items():
        if name in smaller:
            keep = torch.tensor([place for place in range(smaller[name].shape[axis]) if place not in index])
            smaller[name] = smaller[name].index_select(axis, keep.to(smaller[name].device))
            if full[name] in masks:
                masks[full[name]] = masks[full[name]].index_select(axis, keep.to(masks[full[name]].device))
    adopt(classifier, {full[name]: tensor for name, tensor in smaller.items()})


def _compare(silent: Classifier, smaller: Classifier, layers: str) -> None:
    """Refuses a cut after which the network does something else than the silent one, or no longer runs.

    Args:
        silent: the whole network, which reads nothing of the channels.
        smaller: the network without them.
        layers: what messages call them.
    """
    images = _probe(smaller.design)

    def refuse(error: Exception, when: str) -> NoReturn:
        what = f"without these channels of {layers} the network no longer runs{when} ({type(error).__name__}: {error})"
        raise ModelError(Problem(what, hint=HINT)) from error

    precision, expected = _logits(silent, images)
    less = smaller.clone().to(precision)
    try:
        with evaluating(less):
            found = torch.cat(less.exits(images.to(less.mean)))
    except Exception as error:  # anything: the network is the user's
        refuse(error, "")
    off = float((found - expected).abs().max())
    varies = float((expected - expected.mean(0)).abs().max())
    rounding = 64 * torch.finfo(precision).eps * float(expected.abs().max())
    if not off <= TOLERANCE[precision] * varies + rounding:
        what = f"removing channels of {layers} changes what other channels do (logits by {off:.2g})"
        raise ModelError(Problem(what, hint=HINT))
    if _trains(silent, images) is None and (fault := _trains(smaller, images)) is not None:
        refuse(fault, " in training mode")


def _logits(silent: Classifier, images: Tensor) -> tuple[torch.dtype, Tensor]:
    """In float64, or in float32 where the network or the device has no float64."""
    try:
        whole = silent.clone().to(torch.float64)
        with evaluating(whole):
            return torch.float64, torch.cat(whole.exits(images.to(whole.mean)))
    except (RuntimeError, TypeError):
        whole = silent.clone().to(torch.float32)
        with evaluating(whole):
            return torch.float32, torch.cat(whole.exits(images.to(whole.mean)))


def _trains(classifier: Classifier, images: Tensor) -> Exception | None:
    """What a pass of a copy in training mode raises."""
    copy = classifier.clone().train()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            group = torch.arange(len(images), device=copy.mean.device) % max(1, len(copy.design.form.groups))
            copy.exits(images.to(copy.mean), group)
    except Exception as error:
        return error
    return None


def lowest_units(scores: Tensor, found: Channels, count: int) -> tuple[int, ...]:
    """The channels of the `count` units with the lowest mean score; of equals the first.

    Raises:
        ModelError: a score is not a number.
    """
    if bool(scores.isnan().any()):
        raise ModelError(f"layer {found.layer!r}: {int(scores.isnan().sum())} channels have a score that is NaN")
    by_unit = scores.double().view(found.tied, found.units).mean(0)
    order = torch.argsort(by_unit, stable=True)
    return found.of_units(order[:count].tolist())

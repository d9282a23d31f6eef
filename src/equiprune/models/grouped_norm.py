"""Batch norm with its own parameters and statistics for each group, as FairAdaBN has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from equiprune.errors import ModelError, Problem
from equiprune.processes import moments, summed, within_one_batch

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GroupedNorm(nn.Module):
    """A batch norm a group, side by side: (channel, group) parameters, so that a channel is cut like any other's.

    In training mode each group's images are normalised by their own statistics. Images whose group is not known are
    normalised by those of the whole batch, with the groups' mean parameters, and change no running statistics; a
    group of one value a channel is normalised by its running statistics. In evaluation mode every image needs a group.

    Args:
        norm: whose parameters and statistics every group starts with.
        groups: how many there are.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: _BatchNorm, groups: int) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.kind: type[_BatchNorm] = type(norm)
        self.eps, self.momentum = norm.eps, 0.1 if norm.momentum is None else norm.momentum
        self.group: Tensor | None = None  # of each image of the pass; set by `routed`
        for name in ("weight", "bias"):
            own = getattr(norm, name)
            parameter = None if own is None else nn.Parameter(_beside(own.detach(), groups), own.requires_grad)
            self.register_parameter(name, parameter)
        self.register_buffer("running_mean", _beside(norm.running_mean, groups))
        self.register_buffer("running_var", _beside(norm.running_var, groups))
        self.train(norm.training)

    @property
    def groups(self) -> int:
        """How many there are."""
        return self.running_mean.shape[1]

    def forward(self, maps: Float[Tensor, "image channel *place"]) -> Float[Tensor, "image channel *place"]:
        """Normalised maps."""
        if self.group is None:
            raise ModelError("this network normalises by group: call the classifier, not the network, with the group")
        return self._by_batch(maps, self.group) if self.training else self._by_running(maps, self.group)

    def _by_running(self, maps: Tensor, group: Int[Tensor, " image"]) -> Tensor:
        scale = (self.running_var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        shape = (len(maps), maps.shape[1], *(1,) * (maps.dim() - 2))
        return maps * scale.T[group].view(shape) + shift.T[group].view(shape)

    def _by_batch(self, maps: Tensor, group: Int[Tensor, " image"]) -> Tensor:
        parts: list[Tensor] = []
        places: list[Tensor] = []
        together = (
            within_one_batch()
        )  # a group this process has no image of is normalised all the same: others wait for it
        for index in range(-1, self.groups):
            rows = (group == index).nonzero().squeeze(1)
            if len(rows) or together:
                places.append(rows)
                parts.append(self._of_unknown(maps, rows) if index < 0 else self._of_group(maps[rows], index))
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _of_group(self, maps: Tensor, index: int) -> Tensor:
        mean, var = (values[:, index].contiguous() for values in (self.running_mean, self.running_var))
        weight, bias = (None if values is None else values[:, index] for values in (self.weight, self.bias))
        several = float(summed(maps.new_tensor(maps.numel(), dtype=torch.float32))) > maps.shape[1]
        made = functional.batch_norm(maps, mean, var, weight, bias, several, self.momentum, self.eps)
        if several:
            self.running_mean[:, index], self.running_var[:, index] = mean, var
        return made

    def _of_unknown(self, maps: Tensor, rows: Tensor) -> Tensor:
        weight, bias = (None if values is None else values.mean(1) for values in (self.weight, self.bias))
        with torch.no_grad():
            mean, var, _ = moments(maps)
        return functional.batch_norm(maps[rows], mean, var, weight, bias, False, 0.0, self.eps)

    def of_group(self, index: int) -> _BatchNorm:
        """One group's batch norm alone."""
        norm = self.kind(len(self.running_mean), self.eps, self.momentum, affine=False).to(self.running_mean)
        for name in ("weight", "bias"):
            own = getattr(self, name)
            value = None if own is None else nn.Parameter(own.detach()[:, index].clone(), own.requires_grad)
            norm.register_parameter(name, value)
        norm.affine = self.weight is not None
        norm.running_mean = self.running_mean[:, index].clone()
        norm.running_var = self.running_var[:, index].clone()
        return norm.train(self.training)


def _beside(values: Tensor, groups: int) -> Tensor:
    return values[:, None].repeat(1, groups)


def with_grouped_norms(network: nn.Module, groups: int) -> None:
    """Gives every batch norm of a network one for each group, in place.

    Raises:
        ModelError: there is none, or one does more than normalise.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    hint = "Use a network with plain batch norm, such as vgg11_bn or resnet18"
    if not norms:
        raise ModelError(Problem("norms by group need batch norm, and this network has none", hint=hint))
    odd = [name for name, norm in norms.items() if type(norm) not in PLAIN or norm.running_mean is None]
    if odd:
        what = f"norms by group need plain batch norm; {odd[0]!r} is a {type(norms[odd[0]]).__name__}"
        raise ModelError(Problem(what + " or keeps no running statistics", hint=hint))
    for name, norm in norms.items():
        network.set_submodule(name, GroupedNorm(norm, groups))


def of_group(network: nn.Module, index: int) -> None:
    """Leaves of every grouped norm the one of a group, in place."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, GroupedNorm)}
    for name, norm in norms.items():
        network.set_submodule(name, norm.of_group(index))


@contextmanager
def routed(network: nn.Module, group: Int[Tensor, " image"]) -> Iterator[None]:
    """Tells the norms the group of every image, as long as the context lasts."""
    norms = [module for module in network.modules() if isinstance(module, GroupedNorm)]
    for norm in norms:
        norm.group = group
    try:
        yield
    finally:
        for norm in norms:
            norm.group = None

"""Whether named tensors fit a network, and everything that does not."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from equiprune.errors import Problem


def differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], file: str) -> list[Problem]:
    """Every tensor that is missing, unexpected, of another shape or kind, or not finite.

    Example:
        >>> wanted, given = {"fc.weight": torch.zeros(2, 3)}, {"fc.weigth": torch.zeros(2, 3)}
        >>> for problem in differences(wanted, given, "w.pt"):
        ...     print(problem)
        w.pt: lacks tensor 'fc.weight' of shape (2, 3)
        w.pt: holds unexpected tensor 'fc.weigth' of shape (2, 3). Nearest missing name: 'fc.weight'
    """
    missing = [name for name in wanted if name not in given]
    found = [Problem(f"lacks tensor {name!r} of shape {tuple(wanted[name].shape)}", file=file) for name in missing]
    for name, tensor in given.items():
        if name not in wanted:
            found.append(_unexpected(name, tensor, missing, file))
        elif (what := _unlike(wanted[name], tensor)) is not None:
            found.append(Problem(f"tensor {name!r} {what}", file=file))
    return found


def _unexpected(name: str, tensor: Tensor, missing: list[str], file: str) -> Problem:
    near = get_close_matches(name, missing, n=1, cutoff=0.6)
    hint = f"Nearest missing name: {near[0]!r}" if near else None
    return Problem(f"holds unexpected tensor {name!r} of shape {tuple(tensor.shape)}", file=file, hint=hint)


def _unlike(wanted: Tensor, given: Tensor) -> str | None:
    if wanted.shape != given.shape:
        return f"has shape {tuple(given.shape)}, expected {tuple(wanted.shape)}"
    if wanted.is_floating_point() != given.is_floating_point():
        return f"is of type {given.dtype}, expected {wanted.dtype}"
    if given.is_floating_point() and not bool(torch.isfinite(given).all()):
        return "holds NaN or infinite values"
    return None


@torch.no_grad()
def fill(module: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Copies the tensors into the module's parameters and buffers of the same names."""
    own = module.state_dict()
    for name, tensor in given.items():
        own[name].copy_(tensor)

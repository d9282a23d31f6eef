"""What the caller of the curvature gives: checked, with everything that is wrong with the model at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from equiprune.curvature import layers
from equiprune.errors import DataError, ModelError, Problem, UsageError


def check_choices(groups: Sequence[str], max_bytes: int) -> None:
    """Refuses groups that are no list of names, and a bound that is no number."""
    if isinstance(groups, str):
        raise UsageError(f"groups must be a list of names, not one text: [{groups!r}]?")
    if not groups or len(set(groups)) < len(groups):
        raise UsageError(f"groups must be at least one name, and none twice, not {list(groups)}")
    if not isinstance(max_bytes, int) or max_bytes <= 0:
        raise UsageError(f"max_bytes must be a whole number above 0, not {max_bytes!r}")


def check_model(model: nn.Module) -> None:
    """One error with everything about the model that rules a measurement out."""
    problems = [Problem(reason) for name, layer in model.named_modules() for reason in _unfit(name, layer)]
    if problems:
        raise ModelError(problems)
    if not any(True for _ in model.parameters()):
        raise ModelError(f"the model ({type(model).__name__}) has no parameters, so it has no curvature")


def _unfit(name: str, layer: nn.Module) -> Iterator[str]:
    what = f"layer {name!r} ({type(layer).__name__})"
    if isinstance(layer, layers.BATCH_NORMS) and (layer.training or layer.running_mean is None):
        yield f"{what} normalises by the batch's own statistics, so samples have no curvature of their own; call eval()"
    elif layer.training and _draws(layer):
        yield f"{what} draws anew at every pass; call eval()"


def _draws(layer: nn.Module) -> bool:
    """Whether a layer in training mode is known to be random; others are found out by their outputs."""
    if isinstance(layer, nn.MultiheadAttention):
        return bool(layer.dropout > 0)
    return isinstance(layer, (*layers.DROPOUTS, nn.RReLU)) or type(layer).__name__ in ("StochasticDepth", "DropPath")


def known(batch: tuple[Tensor, ...], number: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, label and group of the rows whose group is known."""
    if not isinstance(batch, tuple | list) or len(batch) < 3:
        what = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise DataError(f"batch {number}: expected (image, label, group index), not {what}")
    if not all(isinstance(part, Tensor) for part in batch[:3]):
        kinds = ", ".join(type(part).__name__ for part in batch[:3])
        raise DataError(f"batch {number}: image, label and group index must be tensors, not {kinds}")
    image, label, group = batch[:3]
    if not label.is_floating_point() and not label.is_complex():
        label = label.long()
    group = group.detach().cpu()
    if group.dim() != 1 or group.is_floating_point() or not len(image) == len(label) == len(group):
        shapes = ", ".join(str(tuple(part.shape)) for part in (image, label, group))
        raise DataError(
            f"batch {number}: image, label and group must have as many rows, and group be a row of indices: {shapes}"
        )
    if len(group) and (int(group.min()) < -1 or int(group.max()) >= groups):
        raise DataError(f"batch {number}: group indices must be from -1 to {groups - 1}: {sorted(set(group.tolist()))}")
    group = group.long()
    known = (group >= 0).nonzero().squeeze(1)
    # Indexing also makes an ordinary tensor of one from inference mode, which autograd would refuse to keep.
    return image[known.to(image.device)], label[known.to(label.device)], group[known]


def check_counts(group: Tensor, groups: Sequence[str], *, any_batch: bool = True) -> None:
    """Refuses groups without samples."""
    if not any_batch:
        raise DataError("there is no batch to measure the curvature on")
    counts = torch.bincount(group, minlength=len(groups)).tolist()
    empty = [name for name, count in zip(groups, counts, strict=True) if count == 0]
    if empty:
        raise DataError([Problem(f"group {name!r} has no samples, so it has no curvature") for name in empty])

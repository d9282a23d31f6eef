"""Several processes that train one model: each computes its rows of a batch, and all see the whole batch's loss.

Gradients are averaged over processes, so a sum over rows that each process knows in full needs no thought, and the
gradient of `gathered` is taken as many times as there are processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def count() -> int:
    """How many processes work together; 1 where none were started."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that writes files and talks."""
    return count() == 1 or distributed.get_rank() == 0


@contextmanager
def started(device: str) -> Iterator[None]:
    """Sets torch's process group up where torchrun started several processes, as long as the context lasts.

    Args:
        device: "cpu", or "cuda" for one CUDA device a process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def told(value: bool) -> bool:
    """What the first process says, to all."""
    if count() == 1:
        return value
    said = [value]
    distributed.broadcast_object_list(said, src=0)
    return said[0]


@torch.no_grad()
def add(values: Tensor) -> Tensor:
    """The sum over processes, in place; nccl takes what is on its device only."""
    if count() > 1:
        nccl = distributed.get_backend() == "nccl" and values.device.type == "cpu"
        moved = values.cuda() if nccl else values.contiguous()
        distributed.all_reduce(moved)
        values.copy_(moved)
    return values


def most(value: Tensor) -> Tensor:
    """The largest over processes, in place."""
    if count() > 1:
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return value


def wait() -> None:
    """Until every process has come here."""
    if count() > 1:
        distributed.barrier()


def place() -> tuple[int, int]:
    """This process's number, from 0, and how many there are."""
    return (distributed.get_rank(), count()) if count() > 1 else (0, 1)


def shared(rows: int) -> bool:
    """Whether so many rows are shared out; with fewer rows than processes each computes them all."""
    return 1 < count() <= rows


def share(rows: int, of: tuple[int, int] | None = None) -> slice:
    """Which of so many rows are a process's own.

    Args:
        rows: how many there are.
        of: the process, as `place` tells it; by default this one.

    Example:
        >>> share(10, of=(1, 4)), share(3, of=(1, 4))
        (slice(2, 5, None), slice(0, 3, None))
    """
    rank, processes = of or place()
    return slice(rank * rows // processes, (rank + 1) * rows // processes) if rows >= processes else slice(0, rows)


def gathered(own: Tensor, rows: int) -> Tensor:
    """All rows, from each process's own, with gradient.

    Args:
        own: (own rows, ...).
        rows: how many there are in all.
    """
    return _Gathered.apply(own, rows) if shared(rows) else own


def summed(values: Tensor) -> Tensor:
    """Within `one_batch` the sum over processes, with gradient; else the values."""
    return _Summed.apply(values) if within_one_batch() else values


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """The mean over processes, in place, of all the tensors at once."""
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= count()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int) -> Tensor:  # noqa: ANN401 - what autograd hands over
        ctx.rows = rows
        sizes = [len(range(rows)[share(rows, (rank, count()))]) for rank in range(count())]
        padded = functional.pad(own.reshape(len(own), -1), (0, 0, 0, max(sizes) - len(own)))
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded.contiguous())
        together = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        return together.view(rows, *own.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return slope[share(ctx.rows)] * count(), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(_ctx: FunctionCtx, slope: Tensor) -> Tensor:
        total = slope.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def moments(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each channel over images and places: mean, biased variance, and the number of values; see `one_batch`.

    Args:
        maps: (image, channel, ...); in one batch of several processes one may have no image.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    axes = [0, *range(2, maps.dim())]
    channels = maps.shape[1]
    values = maps.new_full((1,), maps.numel() / channels)
    totals = summed(torch.cat([maps.sum(axes), values]))
    number = totals[-1].detach()
    mean = totals[:-1] / number.clamp_min(1)
    apart = maps - mean.view(1, channels, *(1,) * (maps.dim() - 2))
    return mean, summed(apart.square().sum(axes)) / number.clamp_min(1), number


@contextmanager
def one_batch(rows: int) -> Iterator[None]:
    """Batch norms in training mode take the statistics of all processes' rows, as long as the context lasts."""
    if not shared(rows):
        yield
        return
    with _SharedNorms() as mode:
        _ACTIVE.append(mode)
        try:
            yield
        finally:
            _ACTIVE.pop()


def within_one_batch() -> bool:
    """Whether a batch that is shared out is being computed."""
    return bool(_ACTIVE)


_ACTIVE: list[TorchFunctionMode] = []


class _SharedNorms(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,  # noqa: A002 - torch's name
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`functional.batch_norm` over all processes."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    mean, var, number = moments(input)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * number / (number - 1)).to(running_var), momentum)
    shape = (1, -1, *(1,) * (input.dim() - 2))
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    made = (input - mean.view(shape)) * scale.view(shape)
    return (made if bias is None else made + bias.view(shape)).to(input.dtype)

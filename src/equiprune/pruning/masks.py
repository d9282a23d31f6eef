"""Weights held at zero: which are next, and holding them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from numpy.typing import NDArray
from torch import Tensor

from equiprune.errors import ModelError, Problem
from equiprune.models.classifier import Classifier, prunable

__all__ = ["hold", "lowest", "prunable"]

CHUNK = 1 << 20


def lowest(
    scores: Mapping[str, Shaped[Tensor, ...]],
    count: int,
    *,
    held: Mapping[str, Bool[Tensor, ...]],
    scope: Literal["global", "layer"] = "global",
) -> dict[str, Tensor]:
    """Takes the `count` lowest-scored weights off those that are still kept.

    Of equal scores the earlier go first, by parameter name and then by place in the parameter, so
    the result does not depend on the order of the dicts. Weights held already are not ranked. Beside
    the scores it needs memory for the masks only.

    Args:
        scores: a score for every weight, by parameter name, in the parameter's shape. Infinite is allowed:
            +inf goes last.
        count: how many more to hold, exactly.
        held: the masks so far, True = kept; a parameter without one is kept whole.
        scope: "global" ranks all weights together; "layer" takes from every parameter the same
            fraction of its size, or all it has left where that is less.

    Returns:
        New masks, True = kept, on the scores' devices: for all scored parameters and all in `held`.

    Raises:
        ModelError: a score is NaN, shapes differ, or fewer than `count` weights are left.

    Example:
        >>> lowest({"w": torch.tensor([3.0, 1.0, 2.0, 1.0])}, 2, held={})["w"]
        tensor([ True, False,  True, False])
    """
    ranked = {name: _flat(scores[name]) for name in sorted(scores)}
    kept = {name: _kept(name, scores[name], held) for name in ranked}
    _check(ranked, kept, count)
    if scope == "global":
        _drop(ranked, kept, count)
    else:
        sizes = {name: array.size for name, array in ranked.items()}
        room = {name: int(array.sum()) for name, array in kept.items()}
        for name, share in shares(count, sizes, room).items():
            _drop({name: ranked[name]}, {name: kept[name]}, share)
    masks = dict(held)
    for name, array in kept.items():
        masks[name] = torch.from_numpy(array).view(scores[name].shape).to(scores[name].device)
    return masks


def _flat(score: Tensor) -> NDArray[Any]:
    wide = score.detach().to(torch.float64 if score.dtype == torch.float64 else torch.float32)
    array: NDArray[Any] = wide.cpu().contiguous().view(-1).numpy()
    return array


def _kept(name: str, score: Tensor, held: Mapping[str, Tensor]) -> NDArray[np.bool_]:
    if name not in held:
        return np.ones(score.numel(), dtype=np.bool_)
    if held[name].shape != score.shape:
        raise ModelError(f"{name}: scores have shape {tuple(score.shape)}, the mask {tuple(held[name].shape)}")
    mask: NDArray[np.bool_] = held[name].cpu().contiguous().view(-1).numpy()
    return mask.copy()


def _check(ranked: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[np.bool_]], count: int) -> None:
    # NaN compares false with everything: partition and topk would pass it over without a word.
    nans = {name: int((np.isnan(array) & kept[name]).sum()) for name, array in ranked.items()}
    problems = [Problem(f"parameter {name!r} has {n} scores that are NaN") for name, n in nans.items() if n]
    left = sum(int(mask.sum()) for mask in kept.values())
    if not 0 <= count <= left:
        problems.append(Problem(f"asked to prune {count} weights, but {left} are left"))
    if problems:
        raise ModelError(problems)


def _drop(ranked: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[np.bool_]], count: int) -> None:
    """Sets `kept` to False, in place, at the `count` lowest scores."""
    if count == 0:
        return
    limit = _nth(ranked, kept, count)
    left = count
    for name, array in ranked.items():
        below = (array < limit) & kept[name]
        left -= int(below.sum())
        kept[name][below] = False
    for name, array in ranked.items():
        left -= _drop_equal(array, kept[name], limit, left)


def _nth(ranked: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[np.bool_]], count: int) -> NDArray[Any]:
    """The score, as an array of one, of the last weight to go.

    Found 16 bits at a time from histograms over chunks: no copy of the scores, and the same time
    however many are equal, where sorting and partitioning slow down tenfold on a net of dead units.
    """
    dtype = np.result_type(*ranked.values())
    bits = 8 * dtype.itemsize
    prefix = 0
    for shift in range(bits - 16, -1, -16):
        histogram = np.zeros(1 << 16, dtype=np.int64)
        for name, array in ranked.items():
            for start in range(0, array.size, CHUNK):
                chunk = slice(start, start + CHUNK)
                keys = _ordered(array[chunk][kept[name][chunk]].astype(dtype))
                keys = keys[(keys >> shift) >> 16 == prefix]
                histogram += np.bincount((keys >> shift).astype(np.uint16), minlength=1 << 16)
        upto = np.cumsum(histogram)
        digit = int(np.searchsorted(upto, count))
        count -= int(upto[digit] - histogram[digit])
        prefix = prefix << 16 | digit
    return _score_of(prefix, dtype)


def _ordered(scores: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers in the order of the floats: sign flipped if positive, all bits if negative."""
    unsigned = np.dtype(f"u{scores.itemsize}")
    top = unsigned.type(1 << (8 * scores.itemsize - 1))
    bits: NDArray[Any] = (scores + scores.dtype.type(0)).view(unsigned)  # adding 0 makes -0 a plain 0
    flipped: NDArray[Any] = (0 - (bits >> (8 * scores.itemsize - 1))) | top
    ordered: NDArray[Any] = bits ^ flipped
    return ordered


def _score_of(key: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    top = 1 << (8 * dtype.itemsize - 1)
    bits = key ^ (top if key & top else 2 * top - 1)
    # An array keeps the type: a Python float would be rounded to float32 when compared.
    return np.array([bits], dtype=f"u{dtype.itemsize}").view(dtype)


def _drop_equal(array: NDArray[Any], kept: NDArray[np.bool_], limit: NDArray[Any], left: int) -> int:
    # By chunk: the indices of a hundred million equal scores would be 0.8 GB.
    dropped = 0
    for start in range(0, array.size, CHUNK):
        if dropped == left:
            break
        part = kept[start : start + CHUNK]
        equal = np.flatnonzero((array[start : start + CHUNK] == limit) & part)[: left - dropped]
        part[equal] = False
        dropped += len(equal)
    return dropped


def shares(count: int, sizes: Mapping[str, int], room: Mapping[str, int]) -> dict[str, int]:
    """Splits `count` over layers in proportion to their sizes, none above its room, exactly.

    `count` is at most the room of all. Largest remainder, equal ones by name; what a full layer
    cannot take goes to the others.

    Example:
        >>> shares(5, {"a": 10, "b": 30}, {"a": 10, "b": 30})
        {'a': 1, 'b': 4}
        >>> shares(5, {"a": 10, "b": 30}, {"a": 10, "b": 2})
        {'a': 3, 'b': 2}
    """
    given = dict.fromkeys(sorted(sizes), 0)
    while (left := count - sum(given.values())) > 0:
        open_ = [name for name in given if given[name] < room[name]]
        total = sum(sizes[name] for name in open_)
        quota = {name: divmod(left * sizes[name], total) for name in open_}
        spare = left - sum(whole for whole, _ in quota.values())
        by_rest = sorted(open_, key=lambda name: -quota[name][1])
        for name in open_:
            given[name] += quota[name][0]
        for name in by_rest[:spare]:
            given[name] += 1
        for name in open_:
            given[name] = min(given[name], room[name])
    return given


def hold(classifier: Classifier, masks: Mapping[str, Bool[Tensor, ...]]) -> None:
    """Merges the masks into the classifier's and sets the held weights to zero. Never revives any.

    Raises:
        ModelError: a mask names no parameter, or is not a bool tensor of its shape. Nothing is changed.
    """
    parameters = dict(classifier.named_parameters())
    problems = [problem for name, kept in masks.items() if (problem := _unfit(name, kept, parameters.get(name)))]
    if problems:
        raise ModelError(problems)
    for name, kept in masks.items():
        here = kept.to(parameters[name].device)
        classifier.masks[name] = here & classifier.masks[name] if name in classifier.masks else here.clone()
    classifier.apply_masks()


def _unfit(name: str, kept: Tensor, parameter: Tensor | None) -> Problem | None:
    if parameter is None:
        return Problem(f"there is a mask of {name!r}, which is no parameter")
    if kept.dtype != torch.bool or kept.shape != parameter.shape:
        what = f"the mask of {name!r} is {kept.dtype} of shape {tuple(kept.shape)}"
        return Problem(f"{what}, expected bool of shape {tuple(parameter.shape)}")
    return None

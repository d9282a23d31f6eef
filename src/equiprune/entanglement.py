"""Soft-nearest-neighbour loss of every channel of a layer: how far its maps tell the groups apart.

SCP (Kong et al., MICCAI 2024) calls a channel sensitive where the nearest neighbours of an image's feature map are
of the image's own group, and prunes those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiprune.errors import ModelError, Problem, UsageError, nearest
from equiprune.models.classifier import Classifier
from equiprune.models.taps import Tap, tapped

CACHED = 8 << 20  # bytes of distances at a time on a CPU: more would leave the cache


def channel_scores(
    features: Float[Tensor, "batch channel *place"],
    groups: Int[Tensor, " batch"] | Sequence[int],
    temperature: float | None = None,
    *,
    factor: float = 1.0,
    published: bool = False,
    max_bytes: int = 256 << 20,
) -> Float[Tensor, " channel"]:
    """S^k of Eq. 1: the lower, the more channel k's maps lie beside maps of their own group.

    With m_i the map of image i and d_ij = |m_i − m_j|²,

        S^k = −1/n Σ_i log( Σ_{j≠i, a_j=a_i} e^{−d_ij/T} / Σ_{j≠i} e^{−d_ij/T} ),

    over the n images that have another image of their group in the batch. Nothing to tell the groups apart gives about
    −log of the groups' shares; a channel that is the same for all images gives exactly −mean log((n_a − 1)/(b − 1)).

    Args:
        features: one layer's output.
        groups: of each image; −1 is "not known" and left out.
        temperature: T. By default each channel's own: the mean of d_ij over the pairs i ≠ j, so that the score does not
            follow the scale of the features.
        factor: multiplies that default.
        published: the score as the published code has it: d is the cosine distance, T = 1 unless given, and image i
            counts as its own neighbour in the numerator (so an image that is alone in its group is counted too).
        max_bytes: of working memory; channels are taken in blocks.

    Returns:
        One number a channel, in the features' precision, at least float32; nan where its features are not finite.

    Raises:
        UsageError: fewer than two groups, or no image with another of its group, are in the batch; a temperature or
            factor that is not above 0; shapes that do not fit.

    Example:
        >>> told_apart = torch.tensor([0.0, 0.1, 5.0, 5.1]).view(4, 1)
        >>> mixed = torch.tensor([0.0, 5.0, 0.1, 5.1]).view(4, 1)
        >>> channel_scores(torch.cat([told_apart, mixed], 1), [0, 0, 1, 1])
        tensor([0.3695, 1.8683])
    """
    group = _check(features, groups, temperature, factor)
    order = torch.argsort(group, stable=True)
    order = order[group[order] >= 0]
    sizes = group[order].unique(return_counts=True)[1].tolist()
    if len(sizes) < 2 or max(sizes) < 2:
        has = f"{len(sizes)} group" + "s" * (len(sizes) != 1) + f" in {sum(sizes)} images"
        what = f"a batch must hold images of two groups, and two images of one of them; this one has {has}"
        raise UsageError(what)
    wide = torch.float64 if features.dtype == torch.float64 or temperature is not None else torch.float32
    out = features.new_empty(features.shape[1], dtype=wide)
    read = features.detach().flatten(2) if features.dim() > 2 else features.detach()[:, :, None]
    order = order.to(read.device)
    images, places = len(order), read.shape[2]
    each = images * (3 * images + 3 * places) * out.itemsize
    bound = min(max_bytes, CACHED) if read.device.type == "cpu" else max_bytes
    step = max(1, bound // each)
    for start in range(0, len(out), step):
        maps = read[:, start : start + step][order].transpose(0, 1).to(wide)
        if temperature is None or published:
            # Neither score follows the scale, and squares of very large or small features would leave float32.
            largest = maps.abs().amax((1, 2), keepdim=True)
            maps = maps / torch.where(largest > 0, largest, 1.0)
        # The norms of d_ij hardly differ once the mean map is taken off: no digits are lost in their difference.
        if published:
            logits, own = _by_cosine(maps, temperature or 1.0)
        else:
            logits, own = _by_distance(maps - maps.mean(1, keepdim=True), temperature, factor)
        out[start : start + step] = _loss(logits, sizes, own)
    return out.to(torch.promote_types(features.dtype, torch.float32))


def _check(
    features: Tensor, groups: Tensor | Sequence[int], temperature: float | None, factor: float
) -> Int[Tensor, " batch"]:
    """The groups as a tensor, where everything fits."""
    try:
        group = torch.as_tensor(groups)
        problems = list(_unfit(features, group))
    except (TypeError, ValueError, RuntimeError):
        raise UsageError("groups must be whole numbers, one for each image: the index of its group") from None
    for name, value in (("temperature", temperature), ("factor", factor)):
        if value is not None and not (math.isfinite(value) and value > 0):
            problems.append(Problem(f"{name} must be above 0, not {value:g}"))
    if problems:
        raise UsageError(problems)
    return group


def _unfit(features: object, group: Tensor) -> Iterator[Problem]:
    if not isinstance(features, Tensor):
        yield Problem(f"features are a {type(features).__name__}, expected a tensor (batch, channel, ...)")
    elif features.dim() < 2 or not features.is_floating_point():
        what = f"features are {features.dtype} of shape {tuple(features.shape)}, expected floats (batch, channel, ...)"
        yield Problem(what)
    elif group.shape != features.shape[:1] or group.is_floating_point() or group.is_complex():
        what = f"groups are {group.dtype} of shape {tuple(group.shape)}, expected one index for each of {len(features)}"
        yield Problem(f"{what} images")
    elif len(group) and int(group.min()) < -1:
        yield Problem(f"group {int(group.min())} is no index: 0 and up, or -1 where it is not known")


def _by_distance(
    maps: Float[Tensor, "channel image place"], temperature: float | None, factor: float
) -> tuple[Tensor, float | None]:
    """−d_ij / T, less what is the same in each row."""
    square = maps.square().sum(2)
    if temperature is None:
        # Over pairs of centred maps, Σ |m_i − m_j|² = 2 b Σ |m_i|².
        scale = (2 * factor / (maps.shape[1] - 1)) * square.sum(1)
        scale = torch.where(scale > 0, scale, 1.0)
    else:
        scale = torch.full_like(square[:, 0], temperature)
    turned = maps * (2 / scale).sqrt()[:, None, None]
    return torch.baddbmm((square / -scale[:, None])[:, None, :], turned, turned.mT), None


def _by_cosine(maps: Float[Tensor, "channel image place"], temperature: float) -> tuple[Tensor, float | None]:
    """−d_ij / T with d = 1 − cos, less −1 / T; and its diagonal, which counts in the numerator."""
    unit = nn.functional.normalize(maps, dim=2)
    return (unit @ unit.mT) / temperature, 1 / temperature


def _loss(
    logits: Float[Tensor, "channel image image"], sizes: Sequence[int], own: float | None
) -> Float[Tensor, " channel"]:
    """The mean over images of log(all others) − log(others of the same group); images are sorted by group."""
    logits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    blocks = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    by_block = torch.stack([logits[:, :, block].logsumexp(2) for block in blocks])  # (group, channel, image)
    everyone = by_block.logsumexp(0)
    total = logits.new_zeros(len(logits))
    counted = 0
    for index, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        same = by_block[index, :, block]
        if own is not None:
            same = torch.logaddexp(same, torch.full_like(same, own))
        elif size == 1:
            continue  # no other image of this group: nothing to compare with
        total += (everyone[:, block] - same).sum(1)
        counted += size
    return total / counted


def model_scores(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor] | Sequence[Tensor]],
    layers: Sequence[str],
    *,
    tap: Tap = "activation",
    temperature: float | None = None,
    factor: float = 1.0,
    published: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Float[Tensor, " channel"]]:
    """`channel_scores` of several layers in one pass over the data: the mean over batches.

    Args:
        model: in evaluation mode; gives logits of images.
        batches: (image, label, group index, ...), each with images of at least two groups.
        layers: names of convolutions.
        tap: "activation" takes the features behind the activation that follows the convolution, its norm and the sum it
            enters, "conv" its own output.
        temperature: see there.
        factor: see there.
        published: see there.
        progress: is told how many images are done.

    Raises:
        UsageError: a layer does not exist, a batch has one group only, or there is no batch.
        ModelError: a layer gives nan or infinity.
    """
    modules = dict(model.named_modules())
    problems = [
        Problem(f"there is no layer {name!r}", hint=nearest(name, modules)) for name in layers if name not in modules
    ]
    if problems:
        raise UsageError(problems)
    device = next(model.parameters()).device
    sums: dict[str, Tensor] = {}
    group: Tensor = torch.empty(0)
    count = done = 0

    def take(name: str, features: Tensor) -> None:
        found = channel_scores(features, group, temperature, factor=factor, published=published)
        sums[name] = sums[name] + found if name in sums else found

    with torch.no_grad(), tapped({name: modules[name] for name in layers}, take, tap) as finish:
        for batch in batches:
            group = batch[2].to(device)
            # A classifier may need the group; any other model is given the images alone.
            model(batch[0].to(device), group) if isinstance(model, Classifier) else model(batch[0].to(device))
            finish()
            count += 1
            done += len(group)
            if progress is not None:
                progress(done)
    if not count:
        raise UsageError("there is no batch")
    silent = [name for name in layers if name not in sums]
    if silent:
        raise UsageError([Problem(f"layer {name!r} takes no part in what the model gives") for name in silent])
    found = {name: sums[name] / count for name in layers}
    bad = [name for name, score in found.items() if not bool(score.isfinite().all())]
    if bad:
        raise ModelError([Problem(f"the features of layer {name!r} are not finite") for name in bad])
    return found


def every_group(group: Int[Tensor, " row"] | Sequence[int], size: int, seed: Sequence[int]) -> list[list[int]]:
    """Rows in batches of about `size`, each with its share of every group, and two rows of each that has two.

    Rows whose group is not known (−1) are left out. A group that is too small for that is shown in several batches.

    Args:
        group: of each row.
        size: rows a batch.
        seed: of the order.

    Example:
        >>> [len(batch) for batch in every_group([0] * 6 + [1] * 4, 5, [0])]
        [5, 5]
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    index = torch.as_tensor(group)
    known = int((index >= 0).sum())
    many = max(1, round(known / size))
    parts: list[list[int]] = [[] for _ in range(many)]
    for one in sorted(set(index[index >= 0].tolist())):
        rows = (index == one).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        if len(rows) >= 2 * many:
            for part, own in zip(parts, rows.tensor_split(many), strict=True):
                part += own.tolist()
        else:
            for number, part in enumerate(parts):
                part += rows.roll(-2 * number)[:2].tolist()
    return parts

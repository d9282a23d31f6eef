"""The diagonal of the second derivative for each group: the loop over batches, and the checks of what comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from equiprune.curvature.columns import Loss, columns
from equiprune.curvature.passes import Call, check_calls, forward
from equiprune.curvature.squares import Span, add_layer
from equiprune.errors import DataError, ModelError, Problem, UsageError, nearest

Estimator = Literal["exact"]

COLUMNS = 256 << 20  # bytes of gradients of layer outputs held at a time, at least one column of them

MEASURED = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


# Whatever mode the caller is in, the sums are ordinary tensors, and only the forward passes keep a graph.
@torch.inference_mode(False)
@torch.no_grad()
def diagonal(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    groups: Sequence[str],
    loss: Loss = "cross_entropy",
    estimator: Estimator = "exact",
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, Tensor]]:
    """The diagonal of the second derivative of the loss for each group: h_ii of FairPrune's Eq. 3-4.

    For group a and weight i it is the mean over the samples of a of ∂²l/∂θ_i², in the Gauss-Newton form (see the
    module's text), where l is the sample's own loss: the cross-entropy, or the *sum* over the known findings of the
    binary cross-entropy with logits. It does not depend on the labels, except that an unknown finding (nan) adds
    nothing. How the samples are cut into batches changes speed and memory, not the result.

    Memory: one number a group and parameter, one forward pass's graph, and about 350 MiB at most besides, or the
    gradients of all layer outputs of one batch where these are more. Smaller batches need less and are hardly slower.

    Args:
        model: any module that maps the image batch to logits (sample, class). Batch norm and dropout must be in
            eval mode. Parameters may stand only in Linear, Conv2d, BatchNorm1d and BatchNorm2d layers, each used
            at most once in a forward pass; the first dimension of what they read is the sample. The model is left
            as it was, frozen parameters too (they are measured like the others).
        batches: tuples that begin with image, label and group index. Label: int (sample,), or for "bce" float
            (sample, finding) of 0, 1 and nan. Group index: int (sample,), an index into `groups`, -1 = not known:
            such a row is left out.
        groups: the groups' names.
        loss: "cross_entropy" or "bce".
        estimator: "exact" only.
        progress: called after each batch with the number of rows it held.

    Returns:
        {group: {parameter name: tensor like the parameter}}, at least 0 and finite, float32 (float64 for a float64
        model), on the parameter's device. 0 for a weight that the logits do not depend on.

    Raises:
        UsageError: an unknown loss or estimator, no groups or the same one twice.
        ModelError: what the model is made of or gives cannot be measured; the layer or the batch is named.
        DataError: no batches, a group without samples, labels or group indices that do not fit.

    Sources: LeCun et al., Optimal Brain Damage, 1989, Eq. 4; Wu et al., FairPrune, 2022, Eq. 3-4; Schraudolph, Fast
    curvature matrix-vector products, 2002, Sec. 3.

    Example:
        Equal logits give p = (½, ½) and H = ¼ on its diagonal; a weight's share is H_cc x²:

        >>> net = nn.Linear(1, 2)
        >>> _ = nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
        >>> image, label = torch.tensor([[2.0], [4.0]]), torch.tensor([0, 1])
        >>> found = diagonal(net, [(image, label, torch.tensor([0, 1]))], ["light", "dark"])
        >>> found["light"]["weight"].tolist(), found["dark"]["weight"].tolist()
        ([[1.0], [1.0]], [[4.0], [4.0]])
    """
    _check_choices(groups, loss, estimator)
    layers = _layers(model)
    sums = [{name: _zeros(parameter) for name, parameter in model.named_parameters()} for _ in groups]
    counts = torch.zeros(len(groups), dtype=torch.int64)
    number = 0
    for number, batch in enumerate(batches, start=1):
        image, label, group = _by_group(batch, number, len(groups))
        if len(group):
            try:
                _add_batch(model, layers, (image, label), loss, _spans(group, sums))
            except (DataError, ModelError) as error:
                raise type(error)(
                    [replace(each, what=f"batch {number}: {each.what}") for each in error.problems]
                ) from None
        counts += torch.bincount(group, minlength=len(groups))
        if progress is not None:
            progress(len(batch[0]))
    _check_counts(counts, groups, number)
    return {name: _mean(total, int(n)) for name, total, n in zip(groups, sums, counts, strict=True)}


def _zeros(parameter: Tensor) -> Tensor:
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)


def _mean(sums: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The sums divided in place. One that overflowed is an error, for no ranking ever picks a nan."""
    wrong = [name for name, total in sums.items() if not total.div_(count).isfinite().all()]
    if wrong:
        raise ModelError(
            [Problem(f"the curvature of {name!r} is not finite: its gradients overflow") for name in wrong]
        )
    return sums


# What the caller gives


def _check_choices(groups: Sequence[str], loss: str, estimator: str) -> None:
    for what, word, allowed in (("loss", loss, get_args(Loss)), ("estimator", estimator, get_args(Estimator))):
        if word not in allowed:
            raise UsageError(Problem(f"no {what} of the curvature is named {word!r}", hint=nearest(word, allowed)))
    if not groups or len(set(groups)) < len(groups):
        raise UsageError(f"groups must be at least one name, and none twice, not {list(groups)}")


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that hold parameters, by name, or one error with everything that cannot be measured."""
    layers = {
        name: layer for name, layer in model.named_modules() if any(True for _ in layer.parameters(recurse=False))
    }
    owners: dict[Tensor, str] = {}
    problems = [Problem(reason) for name, layer in model.named_modules() for reason in _unfit(name, layer)]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = owners.setdefault(parameter, name)
        if first != name:
            problems.append(Problem(f"parameters {first!r} and {name!r} are one tensor, used in two places"))
    if problems:
        raise ModelError(problems)
    if not layers:
        raise ModelError(f"the model ({type(model).__name__}) has no parameters, so it has no curvature")
    return layers


def _unfit(name: str, layer: nn.Module) -> Iterator[str]:
    """Why a layer cannot be measured, if it cannot."""
    what = f"layer {name!r} ({type(layer).__name__})"
    own = {key for key, _ in layer.named_parameters(recurse=False)}
    if isinstance(layer, NORMS) and (layer.training or layer.running_mean is None):
        yield f"{what} normalises by the batch's own statistics, so samples have no curvature of their own; call eval()"
    elif isinstance(layer, DROPOUTS) and layer.training:
        yield f"{what} draws anew at every pass; call eval()"
    elif own and type(layer) not in MEASURED:
        known = ", ".join(kind.__name__ for kind in MEASURED)
        yield f"{what} holds parameters, and only {known} can be measured"
    elif not own <= {"weight", "bias"}:
        extra = ", ".join(sorted(own - {"weight", "bias"}))
        yield f"{what} holds {extra}; make its pruning or weight norm permanent first"
    elif own and isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        yield f"{what} pads by {layer.padding_mode!r}, and only zeros can be measured"


def _by_group(batch: tuple[Tensor, ...], number: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, label and group of the rows whose group is known, ordered by group."""
    image, label, group = batch[:3]
    group = group.detach().cpu()
    if group.dim() != 1 or group.is_floating_point() or not len(image) == len(label) == len(group):
        shapes = ", ".join(str(tuple(part.shape)) for part in (image, label, group))
        raise DataError(
            f"batch {number}: image, label and group must have as many rows, and group be a row of indices: {shapes}"
        )
    if len(group) and (int(group.min()) < -1 or int(group.max()) >= groups):
        raise DataError(f"batch {number}: group indices must be from -1 to {groups - 1}: {sorted(set(group.tolist()))}")
    order = group.argsort(stable=True)[int((group == -1).sum()) :]
    # Indexing also makes an ordinary tensor of one from inference mode, which autograd would refuse to keep.
    return image[order.to(image.device)], label[order.to(label.device)], group[order]


def _spans(group: Tensor, sums: Sequence[dict[str, Tensor]]) -> list[Span]:
    """Which rows of a batch sorted by group add to which sums."""
    found, counts = torch.unique_consecutive(group, return_counts=True)
    ends = counts.cumsum(0).tolist()
    starts = [0, *ends]
    return [(slice(a, b), sums[i]) for a, b, i in zip(starts, ends, found.tolist(), strict=False)]


def _check_counts(counts: Tensor, groups: Sequence[str], number: int) -> None:
    if number == 0:
        raise DataError("there is no batch to measure the curvature on")
    empty = [name for name, count in zip(groups, counts.tolist(), strict=True) if count == 0]
    if empty:
        raise DataError([Problem(f"group {name!r} has no samples, so it has no curvature") for name in empty])


def _check_label(label: Tensor, logits: Tensor, loss: Loss) -> None:
    samples, classes = logits.shape
    if loss == "bce":
        if label.shape != logits.shape or not label.is_floating_point():
            expected = f"labels must be float ({samples}, {classes}), one for every finding"
            raise DataError(f"{expected}, not {label.dtype} {tuple(label.shape)}")
        if ((label < 0) | (label > 1)).any():
            raise DataError("labels of findings must be 0, 1 or nan")
        return
    if label.shape != (samples,) or label.is_floating_point() or label.is_complex():
        raise DataError(f"labels must be class indices ({samples},), not {label.dtype} {tuple(label.shape)}")
    if int(label.min()) < 0 or int(label.max()) >= classes:
        found = f"{int(label.min())} to {int(label.max())}"
        raise DataError(f"labels must be from 0 to {classes - 1}, for the model has {classes} classes: {found}")


def _add_batch(
    model: nn.Module, layers: Mapping[str, nn.Module], data: tuple[Tensor, Tensor], loss: Loss, spans: Sequence[Span]
) -> None:
    """Adds one batch's samples to the sums: one pass forwards, one backwards for each column."""
    image, label = data
    device = next(model.parameters()).device
    with torch.autocast(device.type, enabled=False):
        logits, calls, nodes = forward(model, layers, image.to(device))
        _check_logits(logits, len(image), loss)
        check_calls(logits, calls, nodes)
        label = label.to(logits.device)
        _check_label(label, logits, loss)
        ahead = columns(loss, logits, label)
        count = logits.shape[1] - (loss == "cross_entropy")
        blocks = -(-count * sum(call.size for call in calls) // COLUMNS)
        for _ in range(blocks):
            _add_columns(logits, calls, islice(ahead, -(-count // blocks)), spans)


def _add_columns(logits: Tensor, calls: Sequence[Call], block: Iterator[Tensor], spans: Sequence[Span]) -> None:
    edges = [call.edge for call in calls]
    gradients = [torch.autograd.grad(logits, edges, column, retain_graph=True) for column in block]
    for call, of_layer in zip(calls, zip(*gradients, strict=True), strict=False):
        add_layer(call, of_layer, spans)


def _check_logits(logits: object, samples: int, loss: Loss) -> None:
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model gives a {type(logits).__name__}, not a tensor (sample, class)")
    if logits.dim() != 2 or len(logits) != samples:
        raise ModelError(f"the model gives a tensor {tuple(logits.shape)}, not (sample, class) for {samples} samples")
    if logits.shape[1] == 0 or (loss == "cross_entropy" and logits.shape[1] == 1):
        raise ModelError(
            f"the model gives {logits.shape[1]} classes; {loss} needs {2 if loss == 'cross_entropy' else 1}"
        )
    if not logits.isfinite().all():
        raise ModelError("the model's output is nan or infinite")

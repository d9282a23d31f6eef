"""The diagonal of the second derivative for each group: the loop over batches, and the checks of what comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiprune import processes
from equiprune.curvature import columns
from equiprune.curvature.estimators import (
    Budget,
    Estimator,
    Exact,
    Fisher,
    Plan,
    Stochastic,
    budgeted,
    estimator_of,
    sampled,
)
from equiprune.curvature.given import check_choices, check_counts, check_model, known
from equiprune.curvature.losses import Loss, curved
from equiprune.curvature.meter import Meter, Samples, other_rows
from equiprune.curvature.regroup import Queue
from equiprune.errors import DataError, ModelError, Problem, UsageError

MAX_BYTES = 512 << 20

Batches = Iterable[tuple[Tensor, ...]]


class Diagonals(dict[str, dict[str, Tensor]]):
    """{group: {parameter name: tensor like the parameter}}, with what is known of it.

    Args:
        diagonals: the dict itself.
        samples: rows of each group.
        columns: formed in all.
        dropped: the share of each group's trace of ∂²l/∂z², at the logits, that "budget" left out; at most its
            tolerance. No weight's value is too high, and none lacks more than the columns left out would have added.
        error: of "stochastic" with `error`: for each group and parameter the root-mean-square error of the tensor
            over the seeds, relative to its norm.
    """

    def __init__(
        self,
        diagonals: Mapping[str, dict[str, Tensor]],
        *,
        samples: Mapping[str, int],
        columns: int = 0,
        dropped: Mapping[str, float] | None = None,
        error: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        super().__init__(diagonals)
        self.samples = dict(samples)
        self.columns = columns
        self.dropped = dict(dropped or {})
        self.error = {group: dict(errors) for group, errors in (error or {}).items()}


# Whatever mode the caller is in, the sums are ordinary tensors, and only the forward passes keep a graph.
@torch.inference_mode(False)
@torch.no_grad()
def diagonal(
    model: nn.Module,
    batches: Batches,
    groups: Sequence[str],
    loss: Loss = "cross_entropy",
    estimator: Estimator = "exact",
    *,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int], None] | None = None,
    together: bool = False,
) -> Diagonals:
    """The diagonal of the second derivative of the loss for each group: h_ii of FairPrune's Eq. 3-4.

    For group a and weight i it is the mean over the samples of a of ∂²l/∂θ_i², in the Gauss-Newton form (see the
    module's text), where l is the sample's own loss: the cross-entropy, or the *sum* over the known findings of the
    binary cross-entropy with logits. How the samples are cut into batches changes neither the result nor the speed.

    Memory beside the model: one number a group and parameter, and about `max_bytes`, or what one sample needs where
    that is more.

    Args:
        model: any module that maps the image batch to logits (sample, class), or to a tuple of them, one an exit,
            whose losses are added. Batch norm and dropout must be in eval mode, and no sample may have to do with
            another. Convolutions, linear layers and norms are measured fast. Parameters of any other layer, and of
            layers that are used more than once, are measured too, with one pass backwards a sample and column. The
            model is left as it was, frozen parameters too (they are measured like the others).
        batches: tuples that begin with image, label and group index. Label: int (sample,), or for "bce" float
            (sample, finding) of 0 to 1 and nan. Group index: int (sample,), an index into `groups`, -1 = not known:
            such a row is left out. "budget" and "stochastic" go through them twice, and must find the same rows; an
            iterator, which can be read only once, is held in memory for them.
        groups: the groups' names.
        loss: "cross_entropy" or "bce"; or a `torch.nn.CrossEntropyLoss` with weights or label smoothing, a
            `torch.nn.BCEWithLogitsLoss` with weights; or `Exits` to weigh exits. Label smoothing alone changes
            nothing.
        estimator: "exact"; "budget", the columns that carry all but 1e-4 of the curvature; "stochastic", about one
            column a sample; "fisher", the mean squared gradient, which is another quantity. Or `Exact`, `Budget`,
            `Stochastic` or `Fisher` with settings of their own.
        max_bytes: see above.
        progress: called with the number of rows that were done since the last call.
        together: all processes of torch's process group call this with the same batches; each measures its share of
            the rows, and all get what one process would.

    Returns:
        {group: {parameter name: tensor like the parameter}}, at least 0 and finite, float32 (float64 for a float64
        model), on the parameter's device. 0 for a weight that the logits do not depend on. See `Diagonals` for what
        else it holds.

    Raises:
        UsageError: an unknown loss or estimator, no groups or the same one twice.
        ModelError: what the model is made of or gives cannot be measured; the layer or the batch is named.
        DataError: no batches, a group without samples, labels or group indices that do not fit, batches that change
            from one reading to the next.

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
    chosen, of = estimator_of(estimator), curved(loss)
    check_choices(groups, max_bytes)
    check_model(model)
    meter = Meter(
        model,
        of,
        columns.gradient if isinstance(chosen, Fisher) else columns.columns,
        groups=len(groups),
        differences=isinstance(chosen, Stochastic) and chosen.error,
        seed=chosen.seed if isinstance(chosen, Stochastic) else 0,
        max_bytes=max_bytes,
        bfloat16=chosen.precision == "bfloat16",
    )
    with torch.autocast(meter.device.type, enabled=False):
        place = processes.place() if together else (0, 1)
        dropped = _measured(meter, batches, groups, chosen, progress or (lambda _rows: None), place)
    counts = dict(zip(groups, dropped.counts, strict=True))
    found, error = _means(meter, counts, together=together)
    formed = torch.tensor([meter.columns])
    total = int(processes.add(formed) if together else formed)
    return Diagonals(found, samples=counts, columns=total, dropped=dropped.dropped, error=error)


def combined(parts: Iterable[Diagonals]) -> Diagonals:
    """The diagonal over all samples from those over parts of them, which several processes may have measured.

    Args:
        parts: of the same model, groups, loss and estimator, over rows that do not overlap. A group may be missing
            from a part that had none of its samples.

    Returns:
        The means weighted by samples. What "budget" left out is bounded by the largest share of any part. The `error`
        of "stochastic" is left out: it cannot be had from relative errors of parts.

    Raises:
        UsageError: there is no part, or they are not of one model.

    Example:
        >>> one = Diagonals({"a": {"w": torch.tensor([1.0])}}, samples={"a": 1})
        >>> three = Diagonals({"a": {"w": torch.tensor([5.0])}}, samples={"a": 3})
        >>> combined([one, three])["a"]["w"]
        tensor([4.])
    """
    parts = list(parts)
    if not parts:
        raise UsageError("there is no part to combine")
    if not all(isinstance(part, Diagonals) for part in parts):
        raise UsageError("expected a list of what `diagonal` gave")
    shapes = [{name: value.shape for name, value in own.items()} for part in parts for own in part.values()]
    if any(each != shapes[0] for each in shapes):
        raise UsageError("the parts are of different models: their parameters' names or shapes differ")
    groups = list(dict.fromkeys(group for part in parts for group in part))
    samples = {group: sum(part.samples.get(group, 0) for part in parts) for group in groups}
    found: dict[str, dict[str, Tensor]] = {}
    for group in groups:
        own = [part for part in parts if group in part]
        shares = [part.samples[group] / samples[group] for part in own]
        found[group] = {
            name: sum((part[group][name] * share for part, share in zip(own, shares, strict=True)), torch.zeros(()))
            for name in own[0][group]
        }
    dropped = {
        group: max(part.dropped[group] for part in parts if group in part.dropped)
        for group in groups
        if any(group in part.dropped for part in parts)
    }
    return Diagonals(found, samples=samples, columns=sum(part.columns for part in parts), dropped=dropped)


class _Read:
    """What a reading of the batches has come to."""

    def __init__(self, groups: int) -> None:
        self.counts = [0] * groups
        self.dropped: dict[str, float] = {}


def _measured(
    meter: Meter,
    batches: Batches,
    groups: Sequence[str],
    chosen: Exact | Budget | Stochastic | Fisher,
    progress: Callable[[int], None],
    place: tuple[int, int],
) -> _Read:
    read = _Read(len(groups))
    two = isinstance(chosen, Budget | Stochastic)
    if two and isinstance(batches, Iterator):
        batches = list(batches)
    plan = None
    if two:
        masses, group = _masses(meter, _rows(batches, len(groups)), place)
        check_counts(group, groups)
        if isinstance(chosen, Budget):
            plan = budgeted(masses, group, len(groups), chosen)
            read.dropped = dict(zip(groups, plan.dropped.tolist(), strict=True))
        else:
            assert isinstance(chosen, Stochastic)
            plan = sampled(masses, group, len(groups), chosen)
    queue = Queue(meter, progress)
    seen: list[Tensor] = []
    for samples, unknown in _rows(batches, len(groups)):
        progress(unknown)
        seen.append(samples.group)
        own = _own(samples, place)
        if len(own):
            queue.put(_planned(meter, own, plan, group if two else None, chosen))
    queue.finish()
    group = torch.cat(seen) if seen else torch.zeros(0, dtype=torch.int64)
    if plan is not None and len(group) != len(plan.kept):
        raise DataError(f"the batches gave {len(plan.kept)} rows at first, and {len(group)} when read again")
    check_counts(group, groups, any_batch=bool(seen))
    read.counts = torch.bincount(group, minlength=len(groups)).tolist()
    return read


def _rows(batches: Batches, groups: int) -> Iterator[tuple[Samples, int]]:
    """The rows of each batch whose group is known, unplanned, and how many others it holds."""
    row = 0
    for number, batch in enumerate(batches, start=1):
        image, label, group = known(batch, number, groups)
        where = torch.arange(row, row + len(group))
        row += len(group)
        none = torch.zeros(len(group), dtype=torch.int64)
        yield (
            Samples(
                image=image,
                label=label,
                group=group,
                row=where,
                batch=torch.full_like(none, number),
                kept=none,
                mixed=none[:, None],
                scale=torch.ones(len(group), dtype=torch.float64),
                trace=torch.full((len(group),), float("nan"), dtype=torch.float64),
            ),
            len(batch[0]) - len(group),
        )


def _own(samples: Samples, place: tuple[int, int]) -> Samples:
    """The rows that this process measures: every so manieth."""
    rank, processes = place
    return samples if processes == 1 else samples.take((samples.row % processes == rank).nonzero().squeeze(1))


def _masses(
    meter: Meter, rows: Iterator[tuple[Samples, int]], place: tuple[int, int]
) -> tuple[Float[Tensor, "sample rank"], Tensor]:
    found: list[Tensor] = []
    row: list[Tensor] = []
    group: list[Tensor] = []
    for samples, _unknown in rows:
        group.append(samples.group)
        own = _own(samples, place)
        if len(own):
            label = meter.label(own)  # first, for it also looks whether the model can be measured
            logits = meter.logits(own.image, own.batch)
            found.append(meter.factor(meter.curved, logits, label).masses.cpu())
            row.append(own.row)
    if not sum(map(len, group)):
        return torch.zeros(0, 1, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    return _of_all(found, row, sum(map(len, group)), place), torch.cat(group)


def _of_all(found: list[Tensor], row: list[Tensor], rows: int, place: tuple[int, int]) -> Tensor:
    """The masses of every row, of those that other processes looked at too."""
    if place[1] == 1:
        return torch.cat(found)
    width = torch.tensor([found[0].shape[1] if found else 0], dtype=torch.int64)
    # A process without a row does not know how many there are of each.
    masses = torch.zeros(rows, int(processes.most(width)), dtype=torch.float64)
    if found:
        masses[torch.cat(row)] = torch.cat(found)
    return processes.add(masses)


def _planned(
    meter: Meter,
    samples: Samples,
    plan: Plan | None,
    group: Tensor | None,
    chosen: Exact | Budget | Stochastic | Fisher,
) -> Samples:
    """What is to be formed of each sample; those of which nothing is are left out later, by the queue."""
    meter.label(samples)
    if plan is None:
        exits, classes = meter.probe(samples)
        many = 1 if isinstance(chosen, Fisher) else exits * (classes - meter.curved.softmax)
        return replace(samples, kept=torch.full_like(samples.kept, many))
    assert group is not None
    if int(samples.row[-1]) >= len(plan.kept) or not torch.equal(group[samples.row], samples.group):
        raise DataError(other_rows(int(samples.batch[0])))
    at = samples.row
    return replace(samples, kept=plan.kept[at], mixed=plan.mixed[at], scale=plan.scale[at], trace=plan.trace[at])


def _means(
    meter: Meter, counts: Mapping[str, int], *, together: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, float]]]:
    """The sums divided. One that overflowed is an error, for no ranking ever picks a nan."""

    def taken(name: str, target: int) -> Tensor:
        own = meter.sums.taken(name, target)
        return processes.add(own) if together else own

    found: dict[str, dict[str, Tensor]] = {}
    error: dict[str, dict[str, float]] = {}
    wrong: list[str] = []
    for target, (group, count) in enumerate(counts.items()):
        found[group] = {name: taken(name, target).div_(count) for name in meter.sums.parameters}
        # A sum of squares is finite only where all of them are; looked at one by one only where it is not.
        wrong += [n for n, value in found[group].items() if not (value.sum().isfinite() or value.isfinite().all())]
        if meter.differences:
            error[group] = {
                name: _relative(taken(name, len(counts) + target).div_(count), value)
                for name, value in found[group].items()
            }
    if wrong:
        raise ModelError(
            [
                Problem(f"the curvature of {name!r} is not finite: its gradients overflow")
                for name in dict.fromkeys(wrong)
            ]
        )
    return found, error


def _relative(difference: Tensor, value: Tensor) -> float:
    norm = float(torch.linalg.vector_norm(value.double()))
    return float(torch.linalg.vector_norm(difference.double())) / norm if norm else 0.0

"""Second-order saliency of every prunable weight: what its loss would be felt like, by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from equiprune import curvature, processes
from equiprune.data.cohort import Cohort
from equiprune.data.loader import batches
from equiprune.files import write_json
from equiprune.models.asked import PREFIX, asked
from equiprune.models.classifier import Classifier, evaluating
from equiprune.progress import bar
from equiprune.pruning.masks import prunable
from equiprune.training.loop import Training

NAME = "saliency.json"
BATCH = 64  # rows read at a time; how many go through the model at once is the curvature's own choice
SHOWN = 1000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def sampled(train: Cohort, count: int, seed: int, iteration: int, *, by_group: bool) -> Cohort:
    """At most `count` random rows, of each group or of all, in manifest order."""
    generator = np.random.default_rng([seed, iteration])
    if by_group:
        pools = [np.flatnonzero(train.group == group) for group in range(len(train.groups))]
    else:
        pools = [np.arange(len(train))]
    rows = [generator.choice(pool, min(count, len(pool)), replace=False) for pool in pools]
    return train.take(np.sort(np.concatenate(rows)))


def second_order(
    model: Classifier,
    cohort: Cohort,
    training: Training,
    *,
    groups: Sequence[str],
    biases: bool,
    estimator: curvature.Named = "exact",
) -> dict[str, dict[str, Tensor]]:
    """s_i = ½ h_ii θ_i² per group, for every prunable weight (FairPrune Eq. 3; OBD).

    Args:
        model: in evaluation mode for the while.
        cohort: the rows the second derivative is averaged over.
        training: for pixels and device.
        groups: those of the cohort; or one name for all rows.
        biases: whether biases are prunable.
        estimator: of the second derivative; a stochastic one is seeded by the training's seed.

    Returns:
        group to parameter name to a tensor shaped like the parameter.
    """
    with evaluating(model), bar("second derivatives") as progress:
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            progress(done, len(cohort))

        diagonals = _diagonals(model, cohort, training, groups, estimator, count)
    weights = prunable(model, include_bias=biases)
    return {
        group: {name: diagonal.pop(name).mul_(weight.detach().square()).mul_(0.5) for name, weight in weights.items()}
        for group, diagonal in diagonals.items()
    }


def _diagonals(
    model: Classifier,
    cohort: Cohort,
    training: Training,
    groups: Sequence[str],
    estimator: curvature.Named,
    count: Callable[[int], None],
) -> curvature.Diagonals:
    """Of the loss of the model's task, of all its exits; a model that needs the group is measured group by group."""
    task: Literal["cross_entropy", "bce"] = "cross_entropy" if cohort.task == "multiclass" else "bce"
    form = model.design.form
    loss: curvature.Loss = curvature.Exits(task, form.weights) if form.exits else task
    chosen = curvature.Stochastic(seed=training.seed) if estimator == "stochastic" else estimator
    by_group = tuple(groups) == cohort.groups

    def measured(index: int, rows: Cohort, names: Sequence[str]) -> curvature.Diagonals:
        found = curvature.diagonal(
            asked(model, index), _Rows(rows, training, own=len(names) > 1), names, loss, chosen, progress=count,
            together=processes.count() > 1,
        )  # fmt: skip
        for group, diagonal in found.items():
            found[group] = {name.removeprefix(PREFIX): values for name, values in diagonal.items()}
        return found

    if not form.needs_group:
        return measured(0, cohort, groups)
    parts = [cohort.take(cohort.group == index) for index in range(len(form.groups))]
    return curvature.combined(
        measured(index, rows, [groups[index if by_group else 0]]) for index, rows in enumerate(parts) if len(rows)
    )


def difference(saliency: dict[str, dict[str, Tensor]], unprivileged: str, beta: float) -> dict[str, Tensor]:
    """FairPrune's score: the unprivileged group's saliency less β times the others', which share β equally.

    Args:
        saliency: by group, then by parameter; is used up.
        unprivileged: the group that is to gain.
        beta: how much the others' need counts.
    """
    total = saliency.pop(unprivileged)
    for other in saliency.values():
        for name, tensor in total.items():
            tensor.sub_(other[name], alpha=beta / len(saliency))
    return total


@dataclass(frozen=True)
class _Rows:
    """A cohort's batches as the curvature reads them, as often as it wants to: by its own groups, or all in one."""

    cohort: Cohort
    training: Training
    own: bool

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for batch in batches(self.cohort, self.training.pixels, batch_size=BATCH):
            yield batch.image, batch.label, batch.group if self.own else torch.zeros_like(batch.group)


def record_saliency(saliency: dict[str, dict[str, Tensor]], folder: Path | None) -> None:
    """Writes what the report draws: the first layer's saliency by group, and every layer's spread."""
    if folder is None:
        return
    groups = list(saliency)
    names = list(saliency[groups[0]])
    first = {group: saliency[group][names[0]].flatten().cpu() for group in groups}
    index = torch.linspace(0, len(first[groups[0]]) - 1, min(SHOWN, len(first[groups[0]]))).round().long()
    record = {
        "parameter": names[0],
        "groups": groups,
        "index": index.tolist(),
        "values": {group: first[group][index].tolist() for group in groups},
        "layers": [
            {"name": name, "quantiles": {group: _quantiles(saliency[group][name]) for group in groups}}
            for name in names
        ],
    }
    write_json(folder / NAME, record)


def _quantiles(values: Tensor) -> list[float]:
    return [float(value) for value in np.quantile(values.detach().cpu().numpy(), QUANTILES)]

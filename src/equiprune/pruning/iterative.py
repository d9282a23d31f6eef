"""Prune a little, look, prune again: the loop that every weight-pruning method shares.

Each iteration scores the weights that are left, holds the lowest at zero for good, and measures
the model on the validation split. Nothing is trained in between. The iteration with the best
trade-off on validation is the one that is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from equiprune.audit import point
from equiprune.data.cohort import Cohort
from equiprune.errors import UsageError
from equiprune.models.classifier import Classifier
from equiprune.models.storage import write_tensors
from equiprune.predicting import watch
from equiprune.progress import say
from equiprune.pruning.masks import hold, lowest, prunable
from equiprune.pruning.track import Track
from equiprune.pruning.watching import SPENT, Limits, best, limited, watched
from equiprune.training.log import Log
from equiprune.training.loop import Training

CHECKPOINT = "pruned.safetensors"
ROUNDING = 1e-9
DONE = "the ratio was reached"

Ratio = Annotated[float, Field(gt=0, lt=1, description="Share of the prunable weights removed at the end.")]
Step = Annotated[float, Field(gt=0, lt=1, description="Share removed in one iteration.")]
Scope = Annotated[
    Literal["global", "layer"], Field(description="Rank all weights together, or remove the same share of each layer.")
]
Curvature = Annotated[
    Literal["exact", "budget", "stochastic", "fisher"],
    Field(
        description="How the second derivative is found: all of it, all but 1e-4 of it, by chance, or the gradient's."
    ),
]
Biases = Annotated[bool, Field(description="Lets biases of conv and linear layers be pruned too.")]


class Schedule(Limits, Protocol):
    """The settings a weight-pruning method must have."""

    @property
    def ratio(self) -> float: ...  # noqa: D102
    @property
    def step(self) -> float: ...  # noqa: D102
    @property
    def scope(self) -> Literal["global", "layer"]: ...  # noqa: D102
    @property
    def biases(self) -> bool: ...  # noqa: D102


Score = Callable[[Classifier, int], dict[str, Tensor]]


def prune_iteratively(
    classifier: Classifier,
    cohort: Cohort,
    training: Training,
    schedule: Schedule,
    score: Score,
    facts: Mapping[str, str] = MappingProxyType({}),
    key: str = "",
) -> Classifier:
    """Removes the lowest-scored weights step by step and returns the best model met on the way.

    Args:
        classifier: left as it is; a copy is pruned.
        cohort: its validation split decides.
        training: with a folder, an interrupted run carries on at the last finished iteration.
        schedule: how much, how fast, when to stop.
        score: (model, iteration counted from 1) to one number per prunable weight; low leaves first.
        facts: what else the log's closing record is to say.
        key: a name for the way weights leave, by which points of a sweep share its iterations; see `track`.

    Returns:
        A classifier whose removed weights are held at zero.

    Raises:
        UsageError: the step is larger than the ratio.
    """
    check(schedule)
    validation = cohort.subset("validation")
    weights = prunable(classifier, include_bias=schedule.biases)
    total = sum(weight.numel() for weight in weights.values())
    last = math.ceil(schedule.ratio / schedule.step - ROUNDING)
    whole = math.floor(schedule.ratio / schedule.step + ROUNDING)  # iterations that remove a whole step
    track = Track(training.shared, key) if training.shared is not None and key else None
    if track is not None and training.folder is not None:
        track.taken(training.folder, CHECKPOINT, whole)
    path = _Path(weights, classifier.masks, training.folder)
    log = Log(training.folder)
    # Killed between the two files, or after the closing record: both go back to what both know.
    done = min(path.iteration, max(0, sum("iteration" in record for record in log.records) - 1))
    log.keep(done + 1)
    stopped = _replayed(log, schedule, last)
    done = max(0, len(log.records) - 1)
    path.forget_after(done)
    pruned = _at(classifier, path, done)
    while stopped is None:
        iteration = len(log.records)
        if iteration:
            started = time.monotonic()
            goal = round(min(iteration * schedule.step, schedule.ratio) * total)
            scores = score(pruned, iteration)
            masks = lowest(scores, goal - path.count(), held=pruned.masks, scope=schedule.scope)
            del scores
            path.record(masks, iteration)
            hold(pruned, masks)
            seconds = time.monotonic() - started
        else:
            seconds = 0.0
        figures = point(watch(pruned, validation, training.pixels, training.threshold))
        log.add(watched(iteration, path.count() / total, figures, log, seconds))
        say(_line(log.records[-1], last, schedule.gap))
        stopped = _stopped(log.records, schedule, last)
    if track is not None and training.folder is not None:
        track.left(training.folder, path.left, log.records, min(whole, len(log.records) - 1))
    kept = best(log, schedule, stopped)
    log.add({"kept_iteration": kept, "stopped": stopped, **facts})
    say(f"stopped because {stopped}; iteration {kept} is kept")
    if stopped == SPENT and kept == 0:
        say("nothing was pruned: try a smaller step (or beta), or a larger budget")
    return pruned if kept == path.iteration else _at(classifier, path, kept)


def check(schedule: Schedule) -> None:
    """Refuses steps that do not lead to the ratio.

    Raises:
        UsageError: the step is larger than the ratio.
    """
    if schedule.step > schedule.ratio:
        raise UsageError(f"step ({schedule.step:g}) must not be larger than ratio ({schedule.ratio:g})")


class _Path:
    """The iteration at which each weight left, 0 for those still there: the whole history in one byte each."""

    def __init__(
        self, weights: Mapping[str, torch.nn.Parameter], before: Mapping[str, Tensor], folder: Path | None
    ) -> None:
        self.before = {name: kept.cpu() for name, kept in before.items()}
        self.file = None if folder is None else folder / CHECKPOINT
        if self.file is not None and self.file.is_file():
            self.left = load_file(self.file)
        else:
            self.left = {name: torch.zeros(weight.shape, dtype=torch.uint8) for name, weight in weights.items()}

    @property
    def iteration(self) -> int:
        return max((int(left.max()) for left in self.left.values() if left.numel()), default=0)

    def count(self) -> int:
        return sum(int(left.count_nonzero()) for left in self.left.values())

    def forget_after(self, iteration: int) -> None:
        for left in self.left.values():
            left[left > iteration] = 0

    def record(self, masks: dict[str, Tensor], iteration: int) -> None:
        for name, left in self.left.items():
            leaves = ~masks[name].cpu() & (left == 0)
            # What an earlier step removed is not this one's doing.
            left[leaves & self.before[name] if name in self.before else leaves] = iteration
        if self.file is not None:
            write_tensors(self.file, self.left)

    def masks(self, iteration: int) -> dict[str, Tensor]:
        return {name: (left == 0) | (left > iteration) for name, left in self.left.items()}


def _at(classifier: Classifier, path: _Path, iteration: int) -> Classifier:
    model = classifier.clone()
    if iteration:
        hold(model, path.masks(iteration))
    return model


def _line(record: Mapping[str, Any], last: int, gap: str) -> str:
    value = "not estimable" if record[gap] is None else f"{record[gap]:.4f}"
    return (
        f"pruning {record['iteration']}/{last}: {100 * record['removed']:.3g} % removed, "
        f"validation F1 {record['f1']:.3f}, {gap} {value}, {record['seconds']:.0f} s"
    )


def _replayed(log: Log, schedule: Schedule, last: int) -> str | None:
    """Forgets what follows the iteration at which it stops, and says why it stops there; None: it goes on."""
    for number in range(1, len(log.records) + 1):
        stopped = _stopped(log.records[:number], schedule, last)
        if stopped is not None:
            log.keep(number)
            return stopped
    return None


def _stopped(records: Sequence[dict[str, Any]], schedule: Schedule, last: int) -> str | None:
    return limited(records, schedule) or (DONE if records[-1]["iteration"] >= last else None)

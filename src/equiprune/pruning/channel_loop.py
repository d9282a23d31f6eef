"""Remove a few channels, train on, look, again: the loop that every channel-pruning method shares.

Each iteration removes the lowest-scored channels for good, trains the smaller model on, measures it on the validation
split, and scores the channels that are left. The iteration with the best trade-off on validation is kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from equiprune import processes
from equiprune.audit import chance, point
from equiprune.data.cohort import Cohort
from equiprune.errors import Problem, UsageError
from equiprune.models import factory
from equiprune.models.classifier import Classifier
from equiprune.models.cuts import left
from equiprune.objectives import tune
from equiprune.predicting import watch
from equiprune.predictions import Predictions
from equiprune.progress import say
from equiprune.pruning.channels import PREFIX, Channels, cut, lowest_units, named
from equiprune.pruning.watching import GAPS, SPENT, Limits, best, limited, watched
from equiprune.training import checkpoint
from equiprune.training.log import Log
from equiprune.training.loop import Training

ITERATIONS = "iterations"
FLOOR = 200  # permutations behind the noise floor of an iteration's gap
DONE = "the last iteration was done"
NO_GAIN = "the gap on validation did not shrink by enough"

Layer = Annotated[str, Field(description="last, all, or the name of a convolution.")]
Step = Annotated[float, Field(gt=0, lt=1, description="Share of a layer's channels removed in one iteration.")]
Iterations = Annotated[int, Field(ge=1, description="How often, at most.")]
Tune = Annotated[int, Field(ge=0, description="Epochs the smaller model is trained on after each iteration.")]
Rate = Annotated[float, Field(gt=0, description="Learning rate of that, as a share of the training's own.")]
Gain = Annotated[
    float | None, Field(description="Stops when an iteration shrinks the gap by less than this; none: never.")
]


class Schedule(Limits, Protocol):
    """The settings a channel-pruning method must have."""

    @property
    def layer(self) -> str: ...  # noqa: D102
    @property
    def step(self) -> float: ...  # noqa: D102
    @property
    def iterations(self) -> int: ...  # noqa: D102
    @property
    def tune(self) -> int: ...  # noqa: D102
    @property
    def rate(self) -> float: ...  # noqa: D102
    @property
    def gain(self) -> float | None: ...  # noqa: D102


Scores = dict[str, Tensor]
Score = Callable[[Classifier, Sequence[Channels], int], Scores]


def prune_channels(
    classifier: Classifier,
    cohort: Cohort,
    training: Training,
    schedule: Schedule,
    score: Score,
    facts: Mapping[str, str] = MappingProxyType({}),
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> Classifier:
    """Removes the lowest-scored channels step by step and returns the best model met on the way.

    Args:
        classifier: left as it is.
        cohort: its train split scores and trains, its validation split decides.
        training: with a folder, an interrupted run carries on at the last finished iteration.
        schedule: which layers, how much, how often, when to stop.
        score: (model, the channels in question, iteration) to one number a channel, by layer; low leaves first.
        facts: what else the log's closing record is to say.
        notes: what else an iteration's record is to say; `score` fills it anew each time.

    Returns:
        A classifier with fewer channels, or the one given where no iteration was better.

    Raises:
        UsageError: see `check`.
        ModelError: see `check`.
    """
    sets, each = check(classifier, schedule)
    validation = cohort.subset("validation")
    log = Log(training.folder)
    log.keep(sum("iteration" in record for record in log.records))
    kept: dict[int, Classifier] = {0: classifier}
    model = _at(classifier, kept, training.folder, max(0, len(log.records) - 1))
    stopped = _stopped(log, schedule) if log.records else None
    while stopped is None:
        iteration = len(log.records)
        started = time.monotonic()
        tuning: list[dict[str, Any]] = []
        gone: dict[str, tuple[int, ...]] = {}
        if iteration:
            model, gone = _without_lowest(model, named(model, schedule.layer), each, log.records[-1]["scores"])
            model, tuning = _tuned(model, cohort, training, schedule, iteration)
            if training.folder is None:
                kept[iteration] = model
        found = watch(model, validation, training.pixels, training.threshold)
        now = named(model, schedule.layer)
        scores = score(model, now, iteration)
        log.add(
            {
                **watched(iteration, _removed(sets, now), point(found), log, time.monotonic() - started),
                **_chance(found, training.seed),
                "parameters": model.facts().parameters,
                "channels": {one.layer: one.count for one in now},
                "cut": gone,
                "tuning": tuning,
                "scores": {layer: values.tolist() for layer, values in scores.items()},
                **notes,
            }
        )
        say(_line(log.records[-1], schedule))
        stopped = _stopped(log, schedule)
    chosen = best(log, schedule, stopped)
    log.add({"kept_iteration": chosen, "stopped": stopped, **facts})
    say(f"stopped because {stopped}; iteration {chosen} is kept")
    if stopped == SPENT and chosen == 0:
        say("nothing was pruned: try a smaller step, more epochs of tuning, or a larger budget")
    return _at(classifier, kept, training.folder, chosen).clone()


def check(classifier: Classifier, schedule: Schedule) -> tuple[tuple[Channels, ...], dict[str, int]]:
    """The channels in question, and how many units of each layer leave in one iteration.

    Raises:
        UsageError: there is no such layer, or the iterations would leave one without a channel.
        ModelError: the network's channels cannot be cut.
    """
    sets = named(classifier, schedule.layer)
    each = {found.layer: max(1, round(schedule.step * found.units)) for found in sets}
    problems = [
        Problem(
            f"{schedule.iterations} iterations of {each[found.layer]} would leave layer {found.layer!r} of "
            f"{found.units} {'channels' if found.tied == 1 else 'sets of channels'} without any",
            hint="Lower step or iterations",
        )
        for found in sets
        if each[found.layer] * schedule.iterations >= found.units
    ]
    if problems:
        raise UsageError(problems)
    return sets, each


def _without_lowest(
    model: Classifier, sets: Sequence[Channels], each: Mapping[str, int], scores: Mapping[str, Sequence[float]]
) -> tuple[Classifier, dict[str, tuple[int, ...]]]:
    """The smaller model, and what left it: channels by their numbers before any cut."""
    chosen = {
        found.layer: lowest_units(torch.tensor(scores[found.layer], dtype=torch.float64), found, each[found.layer])
        for found in sets
    }
    gone = {}
    for layer, channels in chosen.items():
        numbers = left(model.cuts, PREFIX + layer, len(scores[layer]))
        gone[layer] = tuple(numbers[channel] for channel in channels)
    return cut(model, chosen), gone


def _tuned(
    model: Classifier, cohort: Cohort, training: Training, schedule: Schedule, iteration: int
) -> tuple[Classifier, list[dict[str, Any]]]:
    """The model after some epochs of its own objective, saved where there is a folder."""
    folder = _folder(training.folder, iteration)
    records: list[dict[str, Any]] = []
    if schedule.tune:
        rate = training.settings.learning_rate * schedule.rate
        settings = training.settings.model_copy(update={"epochs": schedule.tune, "learning_rate": rate})
        seed = training.seed * 1000 + iteration  # other batches each time
        own = replace(training, settings=settings, folder=folder, seed=seed)
        model = tune(model, cohort, own)
        records = Log(folder).records if folder is not None else []
    if folder is not None and processes.first():
        model.save(folder)
        checkpoint.clear(folder)
    return model, records


def _folder(folder: Path | None, iteration: int) -> Path | None:
    if folder is None:
        return None
    own = folder / ITERATIONS / f"{iteration:02d}"
    own.mkdir(parents=True, exist_ok=True)
    return own


def _at(classifier: Classifier, kept: Mapping[int, Classifier], folder: Path | None, iteration: int) -> Classifier:
    """The model as it was after an iteration."""
    if iteration in kept:
        return kept[iteration]
    own = _folder(folder, iteration)
    assert own is not None
    processes.wait()  # for the first process's file
    backbone = classifier.design.backbone
    source = backbone if factory.split(backbone) else None
    return Classifier.load(own, factory=source).to(next(classifier.parameters()).device)


def clear(folder: Path) -> None:
    """Removes the iterations' models, which only an unfinished step needs."""
    shutil.rmtree(folder / ITERATIONS, ignore_errors=True)


def _removed(before: Sequence[Channels], now: Sequence[Channels]) -> float:
    return 1 - sum(found.count for found in now) / sum(found.count for found in before)


def _chance(found: Predictions, seed: int) -> dict[str, Any]:
    """What equal error rates would show on a validation split like this, and how rare the gaps would be then."""
    told = chance(found, GAPS, replicates=FLOOR, seed=seed)
    return {"floor": {gap: told[gap][0] for gap in GAPS}, "p_value": {gap: told[gap][1] for gap in GAPS}}


def _stopped(log: Log, schedule: Schedule) -> str | None:
    stopped = limited(log.records, schedule)
    if stopped is not None:
        return stopped
    if len(log.records) > 1 and schedule.gain is not None:
        before, now = (record[schedule.gap] for record in log.records[-2:])
        if before is not None and now is not None and before - now < schedule.gain:
            return NO_GAIN
    return DONE if log.records[-1]["iteration"] >= schedule.iterations else None


def _line(record: Mapping[str, Any], schedule: Schedule) -> str:
    value, floor = record[schedule.gap], record["floor"][schedule.gap]
    told = "not estimable" if value is None else f"{value:.4f}"
    chance = "" if floor is None else f" ({floor:.4f} by chance)"
    return (
        f"iteration {record['iteration']}/{schedule.iterations}: {100 * record['removed']:.3g} % of channels removed, "
        f"{record['parameters']:,} parameters, validation F1 {record['f1']:.3f}, {schedule.gap} {told}{chance}, "
        f"{record['seconds']:.0f} s"
    )

"""Layer pruning on chest X-rays (course report, MIT): which layer carries the bias, and a model with half of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from equiprune.audit import chance, point
from equiprune.data.cohort import Cohort
from equiprune.errors import Problem, UsageError, nearest
from equiprune.methods.channels import by_channel
from equiprune.metrics import gaps
from equiprune.metrics.counts import count
from equiprune.models.classifier import Classifier
from equiprune.predicting import watch
from equiprune.predictions import Predictions
from equiprune.progress import say
from equiprune.pruning.channel_loop import FLOOR
from equiprune.pruning.channels import PREFIX, Channels, channel_sets, cut, lowest_units
from equiprune.pruning.iterative import Curvature
from equiprune.pruning.masks import hold, lowest, prunable
from equiprune.pruning.saliency import difference, sampled, second_order
from equiprune.pruning.watching import Budget, Gap, affordable, check_group, privileged_group, watched
from equiprune.training.log import Log
from equiprune.training.loop import Training

RATES = ("tpr", "fpr", "ppv", "fnr")
Criterion = Literal["l1", "random", "fairprune"]


class LayerPruning(BaseModel):
    """Prunes each convolution by itself, measures the gaps on validation, and keeps the least biased model.

    Of every layer in turn the `ratio` lowest-scored weights that it has left are held at zero, or its lowest-scored
    channels are cut (`kind="channels"`). Nothing is trained on. Kept is the model with the smallest gap among those
    that lose at most `budget` of macro F1; with `keep="best"` the model before pruning is among them. The whole table
    of layers is in the step's log: which layer's weights carry the bias.

    The report says neither how weights are chosen, nor on what the layer is chosen, nor how findings are averaged.
    Decisions: by L1 magnitude, on validation, by the mean absolute gap of the true positive rate over findings (Eopp1).
    The layer is the best of many on one validation split: expect less of it on test.

    Example:
        >>> LayerPruning(layers="conv1, conv2").layers
        ('conv1', 'conv2')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[str, ...] | None = Field(None, description="Convolutions of the network; by default all.")
    ratio: float = Field(0.5, gt=0, lt=1, description="Share of the layer that goes.")
    criterion: Criterion = Field("l1", description="What goes first: the smallest l1, random, or by fairprune's score.")
    kind: Literal["weights", "channels"] = Field("weights", description="Held at zero, or cut.")
    gap: Gap = "eopp1"
    budget: Budget = 0.05
    keep: Literal["best", "pruned"] = Field(
        "best", description="The fairest model, or the fairest pruned one even where the model was fairer before."
    )
    beta: float = Field(0.33, ge=0, description="For fairprune: see there.")
    estimator: Curvature = "stochastic"
    samples: int = Field(1000, ge=1, description="For fairprune: training images a group.")
    privileged: str | None = Field(None, description="For fairprune: the better-served group.")
    draw: int = Field(0, ge=0, description="For random: another number draws others under the same seed.")

    @field_validator("layers", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(name.removeprefix(PREFIX) for name in names)
        return names

    def check(self, classifier: Classifier, cohort: Cohort) -> None:
        """Refuses layers and groups that do not exist; see `Checked`."""
        check_group(cohort, self.privileged)
        self._layers(classifier)

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A pruned copy of the classifier, or an unpruned one where no layer's pruning makes it fairer.

        Raises:
            UsageError: a layer or group does not exist.
            ModelError: with `kind="channels"`, the network's channels cannot be cut.
        """
        layers = self._layers(classifier)
        pruned = self._pruner(classifier, layers, cohort, training)
        validation = cohort.subset("validation")
        log = Log(training.folder)
        log.keep(sum("layer" in record for record in log.records))
        for number in range(len(log.records), len(layers) + 1):
            started = time.monotonic()
            layer = layers[number - 1] if number else None
            model = classifier if layer is None else pruned(layer)
            found = watch(model, validation, training.pixels, training.threshold)
            log.add({"layer": layer, **self._record(classifier, model, found, log, started, training.seed)})
            say(self._line(log.records[-1], number, len(layers)))
        kept, told = self._chosen(log)
        chosen = layers[kept - 1] if kept else None
        log.add({"kept_iteration": kept, "kept_layer": chosen, "stopped": told})
        say(f"{told}; {'nothing is pruned' if chosen is None else f'{chosen} is pruned'}")
        return classifier.clone() if chosen is None else pruned(chosen)

    def _layers(self, classifier: Classifier) -> list[str]:
        """The layers to try, in the order of the network."""
        if self.kind == "channels":
            allowed = [found.layer for found in channel_sets(classifier)]
        else:
            allowed = [
                name for name, module in classifier.network.named_modules() if name and isinstance(module, _ConvNd)
            ]
        if not allowed:
            raise UsageError(Problem("this network has no convolution"))
        missing = [name for name in self.layers or () if name not in allowed]
        if missing:
            what = "there is no convolution {!r}" if self.kind == "weights" else "no channels are cut by the name {!r}"
            raise UsageError([Problem(what.format(name), hint=nearest(name, allowed)) for name in missing])
        return [name for name in allowed if self.layers is None or name in self.layers]

    def _pruner(
        self, classifier: Classifier, layers: Sequence[str], cohort: Cohort, training: Training
    ) -> Callable[[str], Classifier]:
        """From a layer to the model without what is lowest-scored of it."""
        scores = self._scores(classifier, cohort, training)
        if self.kind == "channels":
            sets = {found.layer: found for found in channel_sets(classifier) if found.layer in layers}
            by_layer = by_channel(classifier, list(sets.values()), scores)
            return lambda layer: _cut(classifier, sets[layer], by_layer[layer], self.ratio)
        return lambda layer: _held(classifier, f"{PREFIX}{layer}.weight", scores, self.ratio)

    def _scores(self, classifier: Classifier, cohort: Cohort, training: Training) -> dict[str, Tensor]:
        """One number a prunable weight; low leaves first."""
        weights = prunable(classifier)
        if self.criterion == "l1":
            return {name: weight.detach().abs() for name, weight in weights.items()}
        if self.criterion == "random":
            generator = torch.Generator().manual_seed(training.seed * 1009 + self.draw)
            return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}
        _, unprivileged = privileged_group(classifier, cohort, training, self.privileged)
        chosen = sampled(cohort.subset("train"), self.samples, training.seed, 0, by_group=True)
        saliency = second_order(
            classifier, chosen, training, groups=cohort.groups, biases=False, estimator=self.estimator
        )
        return difference(saliency, unprivileged, self.beta)

    def _record(
        self, before: Classifier, now: Classifier, found: Predictions, log: Log, started: float, seed: int
    ) -> dict[str, Any]:
        removed = 1 - _left(now) / _left(before)
        record = watched(0, removed, point(found), log, time.monotonic() - started)
        del record["iteration"]
        counts = count(found).take(slice(-1))
        floor, p_value = chance(found, [self.gap], replicates=FLOOR, seed=seed)[self.gap]
        rates = {rate: float(gaps.worst(gaps.by_pair(rate, counts))) for rate in RATES}
        return {**record, "rates": rates, "floor": floor, "p_value": p_value}

    def _line(self, record: dict[str, Any], number: int, layers: int) -> str:
        value = "not estimable" if record[self.gap] is None else f"{record[self.gap]:.4f}"
        name = "unpruned" if record["layer"] is None else record["layer"]
        told = f"validation F1 {record['f1']:.3f}, {self.gap} {value}, {record['seconds']:.0f} s"
        return f"layer {number}/{layers}, {name}: {told}"

    def _chosen(self, log: Log) -> tuple[int, str]:
        """The record with the smallest gap among those within the budget, and why."""
        first = log.records[0]
        trade = {
            number: record[self.gap]
            for number, record in enumerate(log.records)
            if record[self.gap] is not None and affordable(first, record, self.budget)
        }
        if self.keep == "pruned" and len(trade) > (0 in trade):
            trade.pop(0, None)
        if not set(trade) - {0}:
            return 0, "no layer's pruning is within the budget"
        kept = min(trade, key=lambda number: (trade[number], number))
        return kept, "every layer was tried" if kept else "no layer's pruning shrinks the gap on validation"


def _left(model: Classifier) -> int:
    facts = model.facts()
    return facts.prunable - facts.zeros


def _held(classifier: Classifier, name: str, scores: dict[str, Tensor], ratio: float) -> Classifier:
    model = classifier.clone()
    weight = model.get_parameter(name)
    left = int(model.masks[name].sum()) if name in model.masks else weight.numel()
    hold(model, lowest({name: scores[name]}, math.floor(ratio * left + 0.5), held=model.masks))
    return model


def _cut(classifier: Classifier, found: Channels, scores: Tensor, ratio: float) -> Classifier:
    many = min(max(1, math.floor(ratio * found.units + 0.5)), found.units - 1)
    return cut(classifier, {found.layer: lowest_units(scores, found, many)})

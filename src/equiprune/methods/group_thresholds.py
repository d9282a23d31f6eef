"""Thresholds by group (Hardt, Price and Srebro, 2016): after training, each group's own offsets of the logits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from equiprune.audit import Point, chance, point
from equiprune.data.cohort import Cohort
from equiprune.metrics.operating import called, of_run
from equiprune.metrics.testing import LEVEL
from equiprune.metrics.tradeoff import fate
from equiprune.models.classifier import Classifier
from equiprune.models.reshaping import reshape
from equiprune.predicting import check_groups, exit_logits, scored
from equiprune.predictions import Predictions
from equiprune.progress import say
from equiprune.pruning.watching import Gap
from equiprune.training.log import Log
from equiprune.training.loop import Training

ROUNDS = 8
HALF = 0.5
STRENGTHS = (0.5, 1.0)


class GroupThresholds(BaseModel):
    """Numbers added to the logits, one a group and class, such that every group has the class's overall TPR.

    **The model needs the group of every image at use**: whoever uses it decides by the attribute. For an image of
    unknown group the mean over groups is added.

    They are found on validation: with two classes or several findings each group's threshold is where its true
    positive rate is that of all; with more classes this is done class by class, half a step a round, as an offset of
    one class moves the others. Of the offsets after each round, and of parts of them, the one with the best FATE is
    kept that loses at most `budget` of macro F1 and with which some group's F1 rises: lowering the better-served group
    alone is no mending. Where none is better the model stays as it is, and needs no group. A class with fewer than
    `least` images in a group gets no offset there. All that were tried are in the step's log.

    Example:
        >>> GroupThresholds().least
        10
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "group_thresholds"

    gap: Gap = "eopp1"
    budget: float = Field(0.02, ge=0, description="Macro F1 on validation that may be lost.")
    least: int = Field(10, ge=1, description="Images of a class in a group from which a threshold is chosen.")

    def __call__(self, classifier: Classifier, cohort: Cohort, training: Training) -> Classifier:
        """A copy of the classifier that knows the offsets; none where no offsets are better."""
        check_groups(classifier, cohort)
        model = classifier.clone()
        form = model.design.form.model_copy(update={"groups": cohort.groups, "offsets": True})
        reshape(model, form)
        validation = cohort.subset("validation")
        exits = exit_logits(model, validation, training.pixels)
        group = torch.as_tensor(validation.group)
        over = exits[-1] - _called_from(scored(exits, validation, form.confidence), training.threshold)
        tried = offsets(over, torch.as_tensor(validation.label), group, len(cohort.groups), self.least)

        def figures(offset: Tensor) -> Point:
            added = torch.cat([offset, offset.mean(0)[None]])[group]
            found = scored([logits + added for logits in exits], validation, form.confidence)
            return point(called(found, training.threshold))

        none = torch.zeros_like(tried[0])
        before = figures(none)
        _tell_of_chance(scored(exits, validation, form.confidence), self.gap, training)
        log = Log(training.folder)
        log.keep(0)
        log.add(_record(none, before, 0.0, cohort))
        kept, best = None, 0.0
        for found in [strength * one for one in tried for strength in STRENGTHS]:
            now = figures(found)
            value = fate(now.f1, before.f1, getattr(now, self.gap), getattr(before, self.gap))
            log.add(_record(found, now, value, cohort))
            if before.f1 - now.f1 <= self.budget and value > best and _someone_gains(before, now):
                kept, best = found, value
        if kept is None:
            say(f"thresholds by group: of {len(tried) * len(STRENGTHS)} tried none is better than one for all groups")
            return classifier.clone()
        say(f"thresholds by group: FATE {best:.3f} on validation")
        model.offsets += kept.to(model.offsets)
        return model


def _someone_gains(before: Point, now: Point) -> bool:
    return any(now.f1_by_group[group] > f1 for group, f1 in before.f1_by_group.items())


def _record(offset: Tensor, figures: Point, value: float, cohort: Cohort) -> dict[str, Any]:
    by_class = [dict(zip(cohort.classes, row, strict=True)) for row in offset.tolist()]
    offsets = dict(zip(cohort.groups, by_class, strict=True))
    return {"offsets": offsets, **asdict(figures), "fate": value, "seconds": 0.0}


def _tell_of_chance(found: Predictions, gap: str, training: Training) -> None:
    floor, p_value = chance(called(found, training.threshold), [gap], seed=training.seed)[gap]
    if not p_value < LEVEL:
        say(f"note: the {gap} on validation is no more than chance explains ({floor:.3f}): offsets will follow noise")


def _called_from(found: Predictions, rule: str | None) -> Tensor:
    """The logit from which each finding is called; 0 for classes."""
    point = of_run(found, rule) if found.task == "multilabel" else None
    return torch.zeros(1) if point is None else torch.from_numpy(point.threshold).clamp(1e-6, 1 - 1e-6).logit()


def offsets(
    logits: Float[Tensor, "row class"], label: Tensor, group: Tensor, groups: int, least: int
) -> list[Float[Tensor, "group class"]]:
    """What is to be added to each group's logits, so that its TPR of each class is that of all rows, after each round.

    Args:
        logits: float64; of findings, less the logit from which each is called.
        label: class indices, or 0 / 1 / nan a finding.
        group: index, -1 = not known.
        groups: how many there are.
        least: positives from which an offset is chosen; 0 below.

    Example:
        >>> logits = torch.tensor([[2.0], [1.0], [-1.0], [-2.0]], dtype=torch.float64)
        >>> offsets(logits, torch.ones(4, 1), torch.tensor([0, 0, 1, 1]), 2, least=1)[-1].flatten().tolist()
        [-1.5, 1.5]
    """
    found = torch.zeros(groups, logits.shape[1], dtype=logits.dtype)
    multiclass = label.ndim == 1
    positive = torch.nn.functional.one_hot(label, logits.shape[1]).bool() if multiclass else label == 1
    several = multiclass and logits.shape[1] > 2
    made = []
    wanted = _rates(logits, positive, multiclass=multiclass)
    # With two classes an offset of the second alone decides.
    classes = range(1, 2) if multiclass and logits.shape[1] == 2 else range(logits.shape[1])
    for _ in range(ROUNDS if several else 1):
        for index in range(groups):
            for k in classes:
                own = (group == index) & positive[:, k]
                if int(own.sum()) < least:
                    continue
                margin = _margin(logits + found[group.clamp_min(0)], k, multiclass=multiclass)[own]
                found[index, k] += _shift(margin, float(wanted[k])) * (HALF if several else 1.0)
        made.append(found.clone())
    return made


def _rates(logits: Tensor, positive: Tensor, *, multiclass: bool) -> Float[Tensor, " class"]:
    """The true positive rate of each class, over all rows."""
    over = torch.stack([_margin(logits, k, multiclass=multiclass) > 0 for k in range(logits.shape[1])], 1)
    return (over & positive).sum(0) / positive.sum(0).clamp_min(1)


def _margin(logits: Tensor, k: int, *, multiclass: bool) -> Float[Tensor, " row"]:
    """By how much a class is called: its logit, over the largest of the others where one class is called."""
    if not multiclass:
        return logits[:, k]
    others = logits.clone()
    others[:, k] = -torch.inf
    return logits[:, k] - others.amax(1)


def _shift(margin: Float[Tensor, " positive"], rate: float) -> float:
    """What is added to the margins so that this share of them is above 0."""
    ordered = margin.sort(descending=True).values
    called = round(rate * len(ordered))
    if called == 0:
        return -float(ordered[0]) - 1e-6
    if called == len(ordered):
        return max(0.0, -float(ordered[-1]) + 1e-6)
    return -float((ordered[called - 1] + ordered[called]) / 2)

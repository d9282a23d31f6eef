"""Operating points: from which score on a class or finding is called, chosen on validation and never on test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from equiprune.errors import DataError, Problem, UsageError, nearest
from equiprune.metrics.ranking import truth
from equiprune.predictions import Predictions

RULES = ("youden", "sensitivity=0.9", "0.5")
SENSITIVITY = "sensitivity="


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """Thresholds, the same for every group, and where they come from.

    Args:
        rule: as it was asked for.
        chosen_on: rows of the validation split; None for a fixed threshold.
        classes: the classes or findings.
        threshold: of each: called from this score on.
    """

    rule: str
    chosen_on: int | None
    classes: tuple[str, ...]
    threshold: Float[np.ndarray, " class"]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `audit.json`."""
        values = dict(zip(self.classes, self.threshold.tolist(), strict=True))
        return {"rule": self.rule, "chosen_on": self.chosen_on, "values": values}

    def applied(self, predictions: Predictions) -> Predictions:
        """The same scores, called at these thresholds.

        Raises:
            UsageError: the predictions have other classes.
        """
        if predictions.classes != self.classes:
            raise UsageError(Problem("thresholds were chosen for other classes than these predictions have"))
        return predictions.called_at(self.threshold)


def of_run(validation: Predictions, rule: str | None = None) -> OperatingPoint | None:
    """Where a run calls findings: at Youden's thresholds, where no other rule is named.

    A finding of one kind only in the validation split is called from 0.5 on: there is nothing to choose by.

    Args:
        validation: what the thresholds are chosen on.
        rule: see `operating_point`.

    Returns:
        None where the most probable class is called: for classes, where no rule is named.

    Raises:
        UsageError: see `operating_point`.

    Example:
        >>> p = Predictions([[1.0], [0.0]], [[0.3], [0.1]], [0, 1], ["mass"], ["f", "m"])
        >>> of_run(p).threshold.round(3).tolist()
        [0.2]
    """
    if rule is None and validation.task == "multiclass":
        return None
    chosen = rule or RULES[0]
    return operating_point(chosen, validation, validation.classes, validation.task, otherwise=0.5)


def called(validation: Predictions, rule: str | None = None) -> Predictions:
    """Validation predictions called where `of_run` says, by themselves: what a training or pruning loop looks at."""
    point = of_run(validation, rule)
    return validation if point is None else point.applied(validation)


def operating_point(
    rule: str,
    validation: Predictions | None,
    classes: tuple[str, ...],
    task: str,
    *,
    otherwise: float | None = None,
) -> OperatingPoint:
    """Chooses thresholds.

    Multi-label: one for each finding. Two classes: one for the second class, and the rest of the probability for
    the first. Youden takes the threshold with the greatest TPR - FPR (the highest of equals); `sensitivity=S` the
    highest with a TPR of at least S. A threshold lies halfway between two scores of the validation split.

    Args:
        rule: `youden`, `sensitivity=0.9`, or a number, which is taken as it is.
        validation: what the thresholds are chosen on; not needed for a number.
        classes: names of classes or findings.
        task: `multiclass` or `multilabel`.
        otherwise: the threshold of a finding that is never positive, or never negative, in the validation split; None
            refuses.

    Raises:
        UsageError: no such rule; more than two classes, where the most probable one is called; no validation rows.
        DataError: a finding is never positive, or never negative, in the validation split, and `otherwise` is None.

    Example:
        >>> score = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]
        >>> p = Predictions([0, 0, 1, 1], score, [0] * 4, ["no", "yes"], ["f"])
        >>> operating_point("sensitivity=1", p, p.classes, p.task).threshold.round(3).tolist()
        [0.8, 0.2]
    """
    check(rule, classes, task)
    number = _number(rule)
    asked = tuple(range(len(classes))) if task == "multilabel" else (1,)
    if number is not None:
        return OperatingPoint(rule, None, classes, _both(np.full(len(asked), number), task))
    least = _least(rule)
    if validation is None:
        hint = (
            "Name a table of them (--validation), or audit the test rows (--split test) of a table with a split column"
        )
        raise UsageError(Problem(f"{rule!r} is chosen on validation predictions, and there are none", hint=hint))
    if validation.classes != classes:
        raise UsageError(Problem("the validation predictions have other classes than those that are audited"))
    problems = {k: tuple(_unfit(validation, k)) for k in asked}
    if otherwise is None and any(problems.values()):
        raise DataError(problem for some in problems.values() for problem in some)
    found = np.array([otherwise if problems[k] else _chosen(validation, k, least) for k in asked], np.float64)
    return OperatingPoint(rule, len(validation), classes, _both(found, task))


def check(rule: str, classes: tuple[str, ...], task: str) -> None:
    """Refuses a rule that does not exist, or that is for findings where there are classes.

    Raises:
        UsageError: see there.
    """
    if task == "multiclass" and len(classes) > 2:
        hint = "A threshold is for findings, or for two classes"
        raise UsageError(Problem(f"with {len(classes)} classes the most probable one is called", hint=hint))
    if _number(rule) is None:
        _least(rule)


def is_number(rule: str) -> bool:
    """Whether a rule is a threshold itself, so that nothing has to be chosen."""
    try:
        float(rule)
    except ValueError:
        return False
    return True


def _both(found: Float[np.ndarray, " asked"], task: str) -> Float[np.ndarray, " class"]:
    return found if task == "multilabel" else np.array([1 - found[0], found[0]])


def _number(rule: str) -> float | None:
    if not is_number(rule):
        return None
    number = float(rule)
    if not 0 <= number <= 1:
        raise UsageError(Problem(f"a threshold is a probability from 0 to 1, not {rule}"))
    return number


def _least(rule: str) -> float | None:
    """The sensitivity asked for; None for Youden."""
    if rule == "youden":
        return None
    if rule.startswith(SENSITIVITY):
        number = rule.removeprefix(SENSITIVITY)
        if is_number(number) and 0 < float(number) <= 1:
            return float(number)
        raise UsageError(Problem(f"a sensitivity is above 0 and at most 1, not {number}", hint="As sensitivity=0.9"))
    raise UsageError(Problem(f"there is no threshold {rule!r}", hint=nearest(rule, RULES)))


def _unfit(validation: Predictions, k: int) -> Iterator[Problem]:
    positive, known = truth(validation, k)
    for kind, rows in (("positive", positive & known), ("negative", ~positive & known)):
        if not rows.any():
            what = f"no validation row is {kind}: a threshold cannot be chosen"
            yield Problem(what, column=validation.classes[k], hint="Give a number instead")


def _chosen(validation: Predictions, k: int, least: float | None) -> float:
    positive, known = truth(validation, k)
    score, truly = validation.score[known, k].astype(np.float64), positive[known]
    steps, tpr, fpr = roc(score, truly)
    place = int(np.argmax(tpr - fpr)) if least is None else int(np.argmax(tpr >= least - 1e-12))
    below = steps[place + 1] if place + 1 < len(steps) else 0.0
    return float((steps[place] + below) / 2)


def roc(
    score: Float[np.ndarray, " row"], positive: Bool[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
    """Distinct scores from high to low, with TPR and FPR when a row is called from that score on.

    Example:
        >>> [part.tolist() for part in roc(np.array([0.9, 0.8, 0.8]), np.array([True, True, False]))]
        [[0.9, 0.8], [0.5, 1.0], [0.0, 1.0]]
    """
    steps, place = np.unique(-score, return_inverse=True)
    hits = np.cumsum(np.bincount(place.ravel(), positive, len(steps)))
    false = np.cumsum(np.bincount(place.ravel(), ~positive, len(steps)))
    return -steps, hits / max(hits[-1], 1), false / max(false[-1], 1)

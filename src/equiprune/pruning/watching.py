"""What a pruning loop writes down of every iteration, and which of them it keeps: the same for weights and channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from equiprune.audit import Point, point
from equiprune.data.cohort import Cohort
from equiprune.errors import Problem, UsageError, nearest
from equiprune.metrics.notices import constant
from equiprune.metrics.tradeoff import fate
from equiprune.models.classifier import Classifier
from equiprune.predicting import watch
from equiprune.progress import say
from equiprune.training.log import Log
from equiprune.training.loop import Training

GAPS = ("eopp0", "eopp1", "eodd")
SPENT = "the accuracy budget was spent"
MET = "the target gap was reached on validation"

Gap = Annotated[Literal["eopp0", "eopp1", "eodd"], Field(description="The gap that is to shrink.")]
Target = Annotated[float | None, Field(ge=0, description="Stops once the gap on validation is at most this.")]
Budget = Annotated[float | None, Field(ge=0, description="Macro F1 on validation that may be lost; then it stops.")]
Keep = Annotated[
    Literal["best", "fairest", "last"],
    Field(description="Which iteration within the budget is kept: best trade-off (FATE), smallest gap, or the last."),
]


class Limits(Protocol):
    """The settings by which an iteration is judged."""

    @property
    def gap(self) -> Literal["eopp0", "eopp1", "eodd"]: ...  # noqa: D102
    @property
    def target(self) -> float | None: ...  # noqa: D102
    @property
    def budget(self) -> float | None: ...  # noqa: D102
    @property
    def keep(self) -> Literal["best", "fairest", "last"]: ...  # noqa: D102


def watched(iteration: int, removed: float, figures: Point, log: Log, seconds: float) -> dict[str, Any]:
    """An iteration's record: figures on validation, and FATE against the first."""
    gaps = {gap: getattr(figures, gap) for gap in GAPS}
    first = log.records[0] if log.records else {"f1_by_group": figures.f1_by_group, **gaps}
    groups = _mean(figures.f1_by_group)
    return {
        "iteration": iteration,
        "removed": removed,
        "f1": figures.f1,
        "accuracy": figures.accuracy,
        "f1_by_group": figures.f1_by_group,
        **gaps,
        "fate": {gap: _fate(groups, _mean(first["f1_by_group"]), gaps[gap], first[gap]) for gap in GAPS},
        "seconds": seconds,
    }


def _fate(f1: float, f1_first: float, gap: float, gap_first: float | None) -> float:
    return math.nan if gap_first is None else fate(f1, f1_first, gap, gap_first)


def _mean(by_group: Mapping[str, float | None]) -> float:
    """F1 as FATE takes it: the mean over groups, as in the published tables; nan where a group has none."""
    return sum(math.nan if f1 is None else f1 for f1 in by_group.values()) / len(by_group)


def limited(records: Sequence[dict[str, Any]], limits: Limits) -> str | None:
    """Why pruning stops after the last iteration: the budget is spent, or the target is met. None: it goes on."""
    now = records[-1]
    if not affordable(records[0], now, limits.budget):
        return SPENT
    if limits.target is not None and now[limits.gap] is not None and now[limits.gap] <= limits.target:
        return MET
    return None


def affordable(first: dict[str, Any], now: dict[str, Any], budget: float | None) -> bool:
    """Whether the F1 that was lost is within the budget."""
    return budget is None or first["f1"] - now["f1"] <= budget


def best(log: Log, limits: Limits, stopped: str) -> int:
    """The iteration that is kept, of those within the budget; 0, unpruned, where none is better."""
    within = [record for record in log.records if affordable(log.records[0], record, limits.budget)]
    if stopped == MET or limits.keep == "last":
        return int(within[-1]["iteration"])
    if limits.keep == "fairest":
        trade = {r["iteration"]: -r[limits.gap] for r in within if r[limits.gap] is not None}
    else:
        trade = {r["iteration"]: r["fate"][limits.gap] for r in within if r["fate"][limits.gap] is not None}
    return max(trade, key=lambda iteration: (trade[iteration], -iteration)) if trade else 0


def privileged_group(classifier: Classifier, cohort: Cohort, training: Training, named: str | None) -> tuple[str, str]:
    """The privileged group (named, or with the highest macro F1 on validation) and the one with the lowest.

    Raises:
        UsageError: there is no group of that name.
    """
    check_group(cohort, named)
    found = watch(classifier, cohort.subset("validation"), training.pixels, training.threshold)
    for text in constant(found):
        say(f"note: on validation {text}")
    f1 = point(found).f1_by_group
    privileged = named or max(f1, key=lambda group: f1[group])
    others = {group: value for group, value in f1.items() if group != privileged}
    return privileged, min(others, key=lambda group: others[group])


def check_group(cohort: Cohort, named: str | None) -> None:
    """Refuses a privileged group that the cohort does not have; None is left to be found.

    Raises:
        UsageError: there is no group of that name.
    """
    if named is not None and named not in cohort.groups:
        raise UsageError(Problem(f"there is no group {named!r}", hint=nearest(named, cohort.groups)))

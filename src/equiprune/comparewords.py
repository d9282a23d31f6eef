"""The verdict on one model against the baseline: a code for machines, and words that claim no more than the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equiprune.comparefile import (
    BaselineGap,
    Change,
    Code,
    FairnessVerdict,
    GapChange,
    ModelComparison,
    Quality,
    QualityVerdict,
)
from equiprune.metrics.scored import SCORED
from equiprune.metrics.testing import LEVEL
from equiprune.metrics.tradeoff import CRITERIA

_WORDS: dict[Code, str] = {
    "fairer": "fairer",
    "levelling_down": "levelling down: the gap is smaller because a group fell, not because the worst-off gained",
    "less_fair": "less fair",
    "no_change": "no distinguishable change of fairness",
    "identical": "every decision is the same",
    "undefined": "fairness cannot be compared",
}
_QUALITY: dict[Quality, str] = {
    "better": "better",
    "worse": "worse",
    "no_change": "no distinguishable change",
    "identical": "every decision is the same",
    "undefined": "not estimable",
}


@dataclass(frozen=True)
class Told:
    """One model's changes."""

    overall: dict[str, Change]
    by_group: dict[str, dict[str, Change]]
    gaps: dict[str, GapChange]


@dataclass(frozen=True)
class Judged:
    """What a verdict rests on.

    Args:
        told: the changes.
        criterion: the gap.
        decisions_changed: rows.
        better: the privileged group.
        eligible: groups that can be called worst.
        models: how many are compared with the baseline.
    """

    told: Told
    criterion: str
    decisions_changed: int
    better: str
    eligible: Sequence[str]
    models: int

    @property
    def gap(self) -> GapChange:
        """Of the criterion."""
        return self.told.gaps[self.criterion]

    @property
    def worst(self) -> str:
        """The eligible group with the lowest F1 in the baseline, the privileged one aside where there is another."""
        f1 = {group: found["f1"].baseline for group, found in self.told.by_group.items()}
        known = {group: value for group, value in f1.items() if value is not None and group != self.better}
        chosen = {group: value for group, value in known.items() if group in self.eligible} or known
        return min(chosen, key=lambda group: chosen[group]) if chosen else self.better


def direction(change: Change | GapChange) -> int:
    """-1 for a fall and 1 for a rise that chance does not explain (adjusted over the models); else 0."""
    if change.change is None or change.p_holm is None or change.p_holm >= LEVEL:
        return 0
    return (change.change > 0) - (change.change < 0)


def fairness(judged: Judged) -> FairnessVerdict:
    """Whether the groups are treated more alike, and at whose cost."""
    code = _code(judged)
    text = f"{_WORDS[code]}: {judged.criterion} {_moved(judged.gap, judged.models)}"
    groups = [f"F1 of {group} {_shift(judged.told.by_group[group]['f1'])}" for group in _named(judged)]
    return FairnessVerdict(
        code=code, text="; ".join([text, *groups]), worst_group=judged.worst, better_group=judged.better
    )


def _named(judged: Judged) -> list[str]:
    return list(dict.fromkeys((judged.worst, judged.better)))


def _code(judged: Judged) -> Code:
    if not judged.decisions_changed and judged.criterion not in SCORED:
        return "identical"
    if judged.gap.change is None or judged.gap.p_holm is None:
        return "undefined"
    way = direction(judged.gap)
    if way >= 0:
        return "less_fair" if way else "no_change"
    worst, better = (direction(judged.told.by_group[group]["f1"]) for group in (judged.worst, judged.better))
    return "levelling_down" if worst <= 0 and min(worst, better) < 0 else "fairer"


def quality(judged: Judged) -> QualityVerdict:
    """Whether macro F1 over all rows rose or fell."""
    f1 = judged.told.overall["f1"]
    codes: dict[int, Quality] = {-1: "worse", 0: "no_change", 1: "better"}
    code = codes[direction(f1)]
    if f1.change is None:
        code = "undefined"
    elif not judged.decisions_changed:
        code = "identical"
    return QualityVerdict(code=code, text=f"{_QUALITY[code]}: F1 {_moved(f1, judged.models)}")


def _moved(change: Change | GapChange, models: int) -> str:
    if change.baseline is None or change.value is None:
        return "is not estimable"
    over = f", Holm over {models} models" if models > 1 else ""
    return f"from {change.baseline:.3f} to {change.value:.3f}, {_shift(change)}{over}"


def _shift(change: Change | GapChange) -> str:
    if change.change is None or change.low is None or change.high is None:
        return "not estimable"
    p = change.p_holm
    told = "p not estimable" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{change.change:+.3f} [{change.low:+.3f}, {change.high:+.3f}] ({told})"


def notices(
    criterion: str,
    chance: Mapping[str, BaselineGap],
    comparisons: Mapping[str, ModelComparison],
    supported: Mapping[str, bool],
) -> tuple[str, ...]:
    """What a reader must know before leaning on the figures."""
    many = len(comparisons)
    over = f"; p_holm is adjusted over the {many} models compared with the baseline" if many > 1 else ""
    found = [f"p-values hold for one figure each and are not adjusted for the number of figures{over}"]
    for name in dict.fromkeys((criterion, *CRITERIA)):
        gap = chance[name]
        if gap.value is not None and gap.p_value is not None and gap.p_value >= LEVEL:
            found.append(
                f"the baseline's {name} of {gap.value:.3f} is no more than chance explains (p = {gap.p_value:.2f}): "
                "no unfairness is shown that another model could mend"
            )
    few = [group for group, enough in supported.items() if not enough]
    if few:
        found.append(f"too few positives to be called worst: {', '.join(few)}")
    return tuple(found)

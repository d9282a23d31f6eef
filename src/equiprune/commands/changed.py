"""What a run's steps changed on test, in a few lines for the terminal."""

from __future__ import annotations

import math

from equiprune.audit import Point, point
from equiprune.rundir import RunFolder, StepFolder


def changed(run: RunFolder) -> list[str]:
    """The gap and F1 of the first and the last step, and whether the gap shrank; nothing where there is one step.

    Where steps start from others than the one before, a line each, against the first.
    """
    steps = run.steps()
    if len(steps) == 1:
        return []
    found = [(step, point(run.predictions(step, "test"))) for step in steps]
    if _branches(steps):
        ending = "Which of them is fairer, and whether that may be chance: `equiprune compare` tests it."
        return [*(_line(found[0], other) for other in found[1:]), ending]
    before, after = found[0][1], found[-1][1]
    line = _line(found[0], found[-1])
    if not math.isfinite(before.eopp1 + after.eopp1):
        return [line]
    shrank = after.eopp1 < before.eopp1
    gained = any(after.f1_by_group[name] > f1 for name, f1 in before.f1_by_group.items())
    if not shrank:
        verdict = "On test the model did not become fairer."
    elif gained:
        verdict = (
            "The gap shrank on test; whether that may be chance is in the report, and `equiprune compare` tests it."
        )
    else:
        verdict = "The gap shrank on test because no group gained and one lost more: levelling down."
    return [line, verdict]


def _branches(steps: list[StepFolder]) -> bool:
    """Whether a step starts from another than the one before it."""
    starts = [step.read().get("start") for step in steps]
    return any(start is not None and start < int(step.name[:2]) - 1 for step, start in zip(steps, starts, strict=True))


def _line(first: tuple[StepFolder, Point], other: tuple[StepFolder, Point]) -> str:
    before, after = first[1], other[1]
    told = f"test, {first[0].name} to {other[0].name}: Eopp1 {before.eopp1:.3f} to {after.eopp1:.3f}"
    groups = ", ".join(f"{name} {f1:.3f} to {after.f1_by_group[name]:.3f}" for name, f1 in before.f1_by_group.items())
    return f"{told}, F1 {before.f1:.3f} to {after.f1:.3f} ({groups})"

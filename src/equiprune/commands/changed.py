"""What a run's steps changed on test, in two lines for the terminal."""

from __future__ import annotations

import math

from equiprune.audit import point
from equiprune.rundir import RunFolder


def changed(run: RunFolder) -> list[str]:
    """The gap and F1 of the first and the last step, and whether the gap shrank; nothing where there is one step."""
    steps = run.steps()
    if len(steps) == 1:
        return []
    before, after = (point(run.predictions(step, "test")) for step in (steps[0], steps[-1]))
    told = f"test, {steps[0].name} to {steps[-1].name}: Eopp1 {before.eopp1:.3f} to {after.eopp1:.3f}"
    groups = ", ".join(f"{name} {f1:.3f} to {after.f1_by_group[name]:.3f}" for name, f1 in before.f1_by_group.items())
    line = f"{told}, F1 {before.f1:.3f} to {after.f1:.3f} ({groups})"
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

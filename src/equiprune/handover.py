"""The end of a run: what its models cost, the audits, the report, and last of all `audit.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import torch

from equiprune.audit import infer_privileged
from equiprune.auditfile import Cost
from equiprune.files import write_json, write_text
from equiprune.models.classifier import Classifier
from equiprune.models.costs import costs
from equiprune.progress import say
from equiprune.report.document import as_text
from equiprune.report.from_run import audit_steps, page_of
from equiprune.report.page import render
from equiprune.report.published import with_published
from equiprune.rundir import RunFolder, StepFolder


def measure(run: RunFolder, steps: Sequence[StepFolder], *, factory: str | None, device: torch.device) -> None:
    """Writes what each step's model takes to run, all measured in turns, so that a slow moment hits all alike."""
    if run.costs.is_file():
        return
    say("measuring what each model takes to run")
    models = [Classifier.load(step.path, factory=factory).to(device) for step in steps]
    write_json(run.costs, {step.name: asdict(cost) for step, cost in zip(steps, costs(models), strict=True)})


def hand_over(run: RunFolder, steps: Sequence[StepFolder], *, privileged: str | None, replicates: int) -> None:
    """Audits every step on test, writes the report, and last of all `audit.json`.

    Args:
        run: its directory.
        steps: the complete steps, the baseline first.
        privileged: None takes the group with the highest macro F1 of the first step on validation.
        replicates: bootstrap draws and permutations.
    """
    if privileged is None:
        privileged = infer_privileged(run.predictions(steps[0], "validation"))
    say("auditing on the test split")
    audits = audit_steps(run, steps, privileged=privileged, replicates=replicates)
    page = with_published(page_of(run, steps, audits), [run])
    write_text(run.report, render(page))
    write_text(run.report.with_suffix(".json"), as_text(page))
    needs = bool(steps[-1].read()["facts"].get("needs_group"))
    audits[-1].model_copy(update={"cost": _cost(run, steps), "needs_attribute": needs}).write(run.audit)


def _cost(run: RunFolder, steps: Sequence[StepFolder]) -> dict[Literal["before", "after"], Cost] | None:
    """The first and the last step's sizes and times; None for a run that was made before they were measured."""
    measured = run.read_costs()
    if not measured:
        return None
    keys = ("parameters", "zeros", "file_bytes")

    def of(step: StepFolder) -> Cost:
        facts = step.read()["facts"]
        return Cost(**{key: facts[key] for key in keys}, **measured[step.name])

    return {"before": of(steps[0]), "after": of(steps[-1])}

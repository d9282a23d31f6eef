"""The page's content, gathered from the directory of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from equiprune.audit import Audit, audit
from equiprune.auditfile import Thresholds
from equiprune.errors import Problem, UsageError
from equiprune.metrics.tradeoff import CRITERIA, fate, mean_f1
from equiprune.report.content import Page, StepPage
from equiprune.rundir import RunFolder, StepFolder

FOUND = ("thresholds", "exits", "loss")  # what a step found out, shown with its settings
NO_FACTS = {"privileged": None, "unprivileged": None, "kept_iteration": None, "stopped": None}


def audit_steps(run: RunFolder, steps: Sequence[StepFolder], *, privileged: str, replicates: int) -> list[Audit]:
    """The audit of every step on the test split, each but the first with its FATE against the first."""
    seed = run.read()["seed"]
    audits: list[Audit] = []
    for step in steps:
        found = audit(run.predictions(step, "test"), privileged=privileged, replicates=replicates, seed=seed)
        point = step.read()["facts"].get("thresholds")
        found = found.model_copy(update={"thresholds": None if point is None else Thresholds(**point)})
        audits.append(_with_fate(found, audits[0], steps[0].name) if audits else found)
    return audits


def _with_fate(found: Audit, first: Audit, baseline: str) -> Audit:
    values: dict[str, str | float | None] = {"baseline": baseline}
    for gap in CRITERIA:
        now, before = _number(found.gaps[gap].value), _number(first.gaps[gap].value)
        value = fate(_mean_f1(found), _mean_f1(first), now, before)
        values[gap] = value if math.isfinite(value) else None
    return found.model_copy(update={"fate": values})


def _mean_f1(found: Audit) -> float:
    return float(mean_f1(np.array([_number(figures.f1.value) for figures in found.by_group.values()])))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def page_of(run: RunFolder, steps: Sequence[StepFolder], audits: Sequence[Audit]) -> Page:
    """What the report says of a run.

    Args:
        run: its directory.
        steps: the complete steps, the baseline first.
        audits: their audits on test, in the same order.
    """
    record = run.read()
    data = record["data"]
    return Page(
        title=run.path.resolve().name,
        data={
            **data,
            "manifest": record["recipe"]["data"]["manifest"],
            "sha256": record["manifest_sha256"],
            "image_size": record["recipe"]["data"]["image_size"],
            "skipped": data["skipped"] or None,
        },
        environment={"seed": record["seed"], **record["environment"]},
        steps=tuple(_step(step, audit, run.read_costs()) for step, audit in zip(steps, audits, strict=True)),
        notices=tuple(record["notices"]),
    )


def _step(step: StepFolder, audit: Audit, costs: Mapping[str, Mapping[str, Any]]) -> StepPage:
    record = step.read()
    found = {key: value for key in FOUND if (value := record["facts"].get(key))}
    return StepPage(
        name=step.name,
        method=record["method"],
        settings={**record["settings"], **found},
        audit=audit.to_dict(),
        log=step.log(),
        saliency=step.saliency(),
        facts={**NO_FACTS, **record["facts"], **costs.get(step.name, {})},
    )


def page_of_runs(runs: Sequence[RunFolder]) -> Page:
    """One page for one or several complete runs on the same data; the first step of the first is the baseline.

    Raises:
        UsageError: a run is not complete, or the runs differ in manifest, split or attribute.
    """
    if not runs:
        raise UsageError("name at least one run")
    problems = [
        Problem("this run is not complete: it has no audit.json", file=str(run.path))
        for run in runs
        if not run.complete
    ]
    if problems:
        raise UsageError(problems)
    _refuse_different(runs)
    pages = [_page(run) for run in runs]
    if len(pages) == 1:
        return pages[0]
    steps = tuple(
        replace(step, name=f"{run.path.resolve().name}/{step.name}")
        for run, page in zip(runs, pages, strict=True)
        for step in page.steps
    )
    return replace(pages[0], title=", ".join(page.title for page in pages), steps=steps)


def _page(run: RunFolder) -> Page:
    kept = Audit.read(run.audit)
    steps = run.steps()
    audits = audit_steps(run, steps, privileged=kept.attribute.privileged, replicates=kept.conventions.replicates)
    return page_of(run, steps, audits)


def _refuse_different(runs: Sequence[RunFolder]) -> None:
    told = [_identity(run) for run in runs]
    problems = [
        Problem(f"its {what} differs from that of {runs[0].path}", file=str(run.path))
        for run, mine in zip(runs, told, strict=True)
        for what in mine
        if mine[what] != told[0][what]
    ]
    if problems:
        raise UsageError(problems)


def _identity(run: RunFolder) -> dict[str, object]:
    record = run.read()
    return {
        "manifest": record["manifest_sha256"],
        "attribute": record["data"]["attribute"],
        "split": dict(run.read_split()),
    }

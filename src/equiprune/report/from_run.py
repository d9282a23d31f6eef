"""The page's content, gathered from the directory of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equiprune.audit import Audit, audit
from equiprune.auditfile import Thresholds
from equiprune.errors import Problem, UsageError
from equiprune.metrics.tradeoff import CRITERIA, fate, mean_f1
from equiprune.report.content import Page, StepPage
from equiprune.report.examples import Folder, examples
from equiprune.report.predicted import summary
from equiprune.rundir import RunFolder, StepFolder

FOUND = ("thresholds", "exits", "loss")  # what a step found out, shown with its settings
UNFINISHED = "this run is not complete: it has no audit.json"
TEST = "test"
MOST_STEPS = 12
MOST_NAMES = 6
NO_FACTS = {"privileged": None, "unprivileged": None, "kept_iteration": None, "stopped": None}


def audit_steps(
    run: RunFolder,
    steps: Sequence[StepFolder],
    *,
    privileged: str,
    replicates: int,
    baseline: tuple[str, Audit] | None = None,
    split: str = TEST,
) -> list[Audit]:
    """The audit of every step on one split, with its FATE against the baseline.

    Args:
        run: its directory.
        steps: the complete steps.
        privileged: the group to call so.
        replicates: bootstrap draws and permutations.
        baseline: its name and audit; None takes the first step, which then has no FATE.
        split: whose images.
    """
    seed = run.read()["seed"]
    audits: list[Audit] = []
    for step in steps:
        found = audit(run.predictions(step, split), privileged=privileged, replicates=replicates, seed=seed)
        point = step.read()["facts"].get("thresholds")
        found = found.model_copy(update={"thresholds": None if point is None else Thresholds(**point)})
        if baseline is None:
            baseline = (step.name, found)
            audits.append(found)
        else:
            audits.append(_with_fate(found, baseline[1], baseline[0]))
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


def page_of(run: RunFolder, steps: Sequence[StepFolder], audits: Sequence[Audit], *, split: str = TEST) -> Page:
    """What the report says of a run.

    Args:
        run: its directory.
        steps: the complete steps, the baseline first.
        audits: their audits, in the same order.
        split: that they are of.
    """
    record, starts = run.read(), _starts(steps)
    names = {step.number: step.name for step in steps}
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
        steps=tuple(
            replace(
                _step(run, step, audit, split=split),
                after=names.get(starts[step.name], ""),
                leads_on=step.number in starts.values(),
            )
            for step, audit in zip(steps, audits, strict=True)
        ),
        notices=tuple(record["notices"]),
        facts=run.read_facts(),
        split=split,
    )


def _starts(steps: Sequence[StepFolder]) -> dict[str, int]:
    """By step the number of the one that it began with: where its record does not say so, the one before it."""
    return {step.name: step.read().get("start", step.number - 1) for step in steps}


def _step(run: RunFolder, step: StepFolder, audit: Audit, *, split: str) -> StepPage:
    record, costs = step.read(), run.read_costs()
    found = {key: value for key in FOUND if (value := record["facts"].get(key))}
    return StepPage(
        name=step.name,
        method=record["method"],
        settings={**record["settings"], **found},
        audit=audit.to_dict(),
        log=step.log(),
        saliency=step.saliency(),
        facts={**NO_FACTS, **record["facts"], **costs.get(step.name, {})},
        predicted=summary(run.predictions(step, split)),
    )


def page_of_runs(runs: Sequence[RunFolder], *, images: bool = False) -> Page:
    """One page for one or several complete runs on the same data; the first step of the first is the baseline.

    Runs that are not complete are named on the page and left out.

    Args:
        runs: their directories.
        images: whether pictures of the test set go into the page.

    Raises:
        UsageError: no run is complete, or the runs differ in manifest, split or attribute.
    """
    if not runs:
        raise UsageError("name at least one run")
    for run in runs:
        run.read()  # a folder that is no run is refused, whatever else is named
    whole = [run for run in runs if run.complete]
    broken = [Problem(UNFINISHED, file=str(run.path)) for run in runs if not run.complete]
    if not whole:
        raise UsageError(broken)
    _refuse_different(whole)
    kept = Audit.read(whole[0].audit)
    pages = [_page(whole[0], kept, None)]
    first = _named(whole[0], pages[0].first.name, alone=len(whole) == 1)
    baseline = Audit.model_validate(pages[0].first.audit)
    pages += [_page(run, kept, (first, baseline)) for run in whole[1:]]
    left = tuple(str(problem) for problem in broken)
    if images:
        pages[0] = _with_examples(pages[0], whole)
    if len(pages) == 1:
        return replace(pages[0], left_out=left)
    steps = [
        replace(
            step,
            name=_named(run, step.name, alone=False),
            after=_named(run, step.after, alone=False) if step.after else "",
            audit=_against(step.audit, first),
        )
        for run, page in zip(whole, pages, strict=True)
        for step in page.steps
    ]
    joint = replace(pages[0], title=_title(pages), left_out=left)
    return _shortened(replace(joint, steps=tuple(steps)), [len(page.steps) for page in pages])


def _with_examples(page: Page, runs: Sequence[RunFolder]) -> Page:
    """The page with pictures: of the first run's first step and of the last run's last."""
    data = runs[0].read()["recipe"]["data"]
    folder = Folder(Path(data["manifest"]).parent, bool(data.get("allow_outside")))
    (start, begun), (end, ended) = (runs[0], runs[0].steps()[0]), (runs[-1], runs[-1].steps()[-1])
    first = start.predictions(begun, "test")
    last = first if begun.path == ended.path else end.predictions(ended, "test")
    found, notices = examples(first, last, folder)
    return replace(page, examples=found, notices=(*page.notices, *notices))


def _named(run: RunFolder, step: str, *, alone: bool) -> str:
    return step if alone else f"{run.path.resolve().name}/{step}"


def _against(found: Mapping[str, Any], baseline: str) -> dict[str, Any]:
    fate = found["fate"]
    return {**found, "fate": None if fate is None else {**fate, "baseline": baseline}}


def _title(pages: Sequence[Page]) -> str:
    names = list(dict.fromkeys(page.title for page in pages))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _shortened(page: Page, counts: Sequence[int]) -> Page:
    """The page with no more steps in detail than can be read: the baseline, then the model each run ends with."""
    if len(page.steps) <= MOST_STEPS:
        return page
    ends = (np.cumsum(counts) - 1).tolist()
    shown = sorted({0, *ends[: MOST_STEPS - 1]})
    others = [at for at in range(len(page.steps)) if at not in shown]
    models = page.models
    told = f"{len(others)} more models are among the trade-offs and in the table of methods only"
    return replace(
        page,
        steps=tuple(page.steps[at] for at in shown),
        others=tuple(models[at] for at in others),
        notices=(*page.notices, told),
    )


def _page(run: RunFolder, kept: Audit, baseline: tuple[str, Audit] | None) -> Page:
    steps = run.steps()
    privileged, replicates = kept.attribute.privileged, kept.conventions.replicates
    return page_of(run, steps, audit_steps(run, steps, privileged=privileged, replicates=replicates, baseline=baseline))


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

"""The page's content, gathered from the directory of a sweep: what was tried, on validation, and the taken run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from equiprune.audit import infer_privileged, point
from equiprune.choosing import SEED
from equiprune.errors import Problem, UsageError
from equiprune.report.content import Page, Seen, SweepPage, Tried
from equiprune.report.from_run import audit_steps, page_of, page_of_runs
from equiprune.report.numbers import counted, known
from equiprune.report.published import names_table, with_published
from equiprune.rundir import RunFolder, StepFolder
from equiprune.sweepdir import PointFolder, SweepFolder

GAPS = ("eopp0", "eopp1", "eodd")
VALIDATION = "validation"
MOST_REASONS = 10
REPLICATES = 2000


def page_of_paths(paths: Sequence[Path], *, images: bool = False) -> Page:
    """The page of runs, or of one sweep.

    Args:
        paths: directories.
        images: whether pictures of the test set go into the page.

    Raises:
        UsageError: a sweep is named beside something else, or see `page_of_runs` and `page_of_sweep`.
    """
    sweeps = [path for path in paths if SweepFolder(path).record.is_file()]
    if not sweeps:
        runs = [RunFolder(path) for path in paths]
        return with_published(page_of_runs(runs, images=images), runs)
    if len(paths) > 1:
        raise UsageError(Problem("a sweep has a page of its own", file=str(sweeps[0]), hint="Name nothing beside it"))
    return page_of_sweep(SweepFolder(sweeps[0]), images=images)


def page_of_sweep(sweep: SweepFolder, *, images: bool = False) -> Page:
    """The taken run, audited on test, and every point on validation; without a taken one the baseline on validation.

    Of several seeds the first taken one is shown in detail, and all are held against their own baselines.

    Args:
        sweep: its directory; the sweep need not be finished.
        images: whether pictures of the test set go into the page.

    Raises:
        UsageError: no point is done.
    """
    points, found = sweep.points(), sweep.outcomes()
    done = [one for one in points if one.result.is_file()]
    if not done:
        raise UsageError(Problem("no point of this sweep is done yet", file=str(sweep.path)))
    row = next((one for one in (found or {}).get("outcomes", ()) if one["taken"]), None)
    names = () if row is None else row["points"].split()
    taken = [one for one in done if one.name in names]
    audited = [one for one in taken if one.run.complete]
    page = _audited([one.run for one in audited], images=images) if audited else _on_validation(done[0].run)
    content = _content(sweep, points, found, taken)
    looked = sum(one.run.complete for one in done if one.name not in names)
    return replace(
        page,
        title=sweep.path.resolve().name,
        left_out=tuple(_failures(content)),
        sweep=replace(content, seen=tuple(_seen(audited)), looked=looked),
    )


def _audited(runs: Sequence[RunFolder], *, images: bool) -> Page:
    """The first run's page; beside a published table stand the means over all."""
    page = page_of_runs(runs[:1], images=images)
    joint = page if len(runs) == 1 or not names_table(runs[0]) else page_of_runs(runs)
    return replace(page, published=with_published(joint, runs).published)


def _on_validation(run: RunFolder) -> Page:
    """The first step of a run, which no choice of a later step's setting touches, audited on validation."""
    steps = run.steps()[:1]
    privileged = infer_privileged(run.predictions(steps[0], VALIDATION))
    audits = audit_steps(run, steps, privileged=privileged, replicates=REPLICATES, split=VALIDATION)
    return page_of(run, steps, audits, split=VALIDATION)


def _content(
    sweep: SweepFolder, points: Sequence[PointFolder], found: Mapping[str, Any] | None, taken: Sequence[PointFolder]
) -> SweepPage:
    record = sweep.read()
    choice = None if not taken else {axis: value for axis, value in taken[0].choice.items() if axis != SEED}
    seeds = record["recipe"].get(SEED)
    asked = (record.get("trials") or 0) * (len(seeds) if isinstance(seeds, list) else 1)
    found = found or {}
    return SweepPage(
        axes=axis_titles(points[0].choice, record["recipe"].get("step", ())),
        points=tuple(Tried(one.name, one.choice, steps) for one in points if (steps := one.steps) is not None),
        gap=found.get("gap", "eopp1"),
        budget=known(found.get("budget")),
        failed={one.name: problems for one in points if (problems := one.problems) is not None},
        left=max(len(points), asked) - sum(one.settled for one in points),
        among=found.get("points"),
        taken=choice,
        seen=(),
        looked=0,
    )


def axis_titles(axes: Iterable[str], steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What each axis is called: its setting, and where two axes have the same setting, that of which step.

    Example:
        >>> axis_titles(["seed", "2.beta", "2.ratio"], [{"method": "vanilla"}, {"method": "fairprune"}])
        {'seed': 'seed', '2.beta': 'beta', '2.ratio': 'ratio'}
        >>> axis_titles(["1.epochs", "2.epochs"], [{"method": "vanilla"}, {"method": "fairprune"}])
        {'1.epochs': 'epochs of step 1 (vanilla)', '2.epochs': 'epochs of step 2 (fairprune)'}
    """
    whole = list(axes)
    names = [axis.rpartition(".")[2] for axis in whole]
    return {
        axis: name if names.count(name) == 1 else _whole(axis, name, steps)
        for axis, name in zip(whole, names, strict=True)
    }


def _whole(axis: str, name: str, steps: Sequence[Mapping[str, Any]]) -> str:
    section = axis.partition(".")[0]
    if not section.isdigit():
        return axis
    return f"{name} of step {section} ({steps[int(section) - 1]['method']})"


def _seen(points: Sequence[PointFolder]) -> Iterable[Seen]:
    for one in points:
        steps = one.run.steps()
        yield Seen(one.choice.get(SEED), _figures(one.run, steps[0]), _figures(one.run, steps[-1]))


def _figures(run: RunFolder, step: StepFolder) -> dict[str, Any]:
    found = point(run.predictions(step, "test"))
    return {
        "f1": known(found.f1),
        "f1_by_group": {group: known(value) for group, value in found.f1_by_group.items()},
        **{gap: known(getattr(found, gap)) for gap in GAPS},
    }


def _failures(sweep: SweepPage) -> Iterable[str]:
    """Why points could not be carried out, each reason once, with the first that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for name, problems in sweep.failed.items():
        by_reason.setdefault("; ".join(problems), []).append(name)
    for reason, names in list(by_reason.items())[:MOST_REASONS]:
        yield f"{counted(len(names), 'run')} of the sweep ({names[0]}{', ...' if len(names) > 1 else ''}): {reason}"
    more = len(by_reason) - MOST_REASONS
    if more > 0:
        yield f"runs of the sweep for {counted(more, 'more reason')}: see their error.json"

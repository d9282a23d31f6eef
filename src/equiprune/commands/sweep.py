"""`equiprune sweep`: a recipe with lists, by several workers. Heavy parts are imported where they are used."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from equiprune.commands.options import DataOptions, WorkOptions
from equiprune.commands.report import report
from equiprune.errors import Interrupted, Problem, UsageError
from equiprune.files import write_json, write_text
from equiprune.progress import say

if TYPE_CHECKING:
    from equiprune.choosing import Outcome
    from equiprune.grid import Grid
    from equiprune.sweep import Sweep
    from equiprune.sweepdir import PointFolder

CHOICE = Group("Which point is taken", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True)
class ChoiceOptions:
    """How the point is chosen, on validation alone."""

    gap: Annotated[Literal["eopp0", "eopp1", "eodd"], Parameter(help="The gap that is to be small.", group=CHOICE)] = (
        "eopp1"
    )
    budget: Annotated[
        float, Parameter(help="Macro F1 that may be lost against the first step of a point.", group=CHOICE)
    ] = 0.01


def sweep(
    recipe: Path | None = None,
    *,
    out: Path | None = None,
    join: str | None = None,
    workers: int = 1,
    trials: int | None = None,
    retry: Annotated[bool, Parameter(negative=())] = False,
    storage: str | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    smoke: Annotated[bool, Parameter(negative=())] = False,
    manifest: Path | None = None,
    choice: ChoiceOptions = ChoiceOptions(),
    columns: DataOptions = DataOptions(),  # noqa: B008 - frozen
    work: WorkOptions = WorkOptions(),  # noqa: B008 - frozen
) -> None:
    """Carries out every point of a recipe in which lists stand for several values. Resumes; shares what points share.

    Args:
        recipe: a TOML file.
        out: folder of the sweep; by default the recipe's name with -sweep.
        join: folder of a sweep that was begun, to work on it as well, from this or another machine; or the URL of its
            storage.
        workers: processes on this machine.
        trials: so many settings, which Optuna searches for little gap and much F1 on validation, instead of all.
        retry: tries points that failed once more.
        storage: Optuna's database instead of a file in the folder, such as postgresql://...
        dry_run: only prints what would be done.
        smoke: the same steps on synthetic images with narrow networks, in minutes: to see that the recipe runs.
        manifest: instead of the one that the recipe names.
        choice: see there.
        columns: instead of what the recipe says of the data.
        work: see there.
    """
    from equiprune.sinks import check
    from equiprune.sweep import Sweep

    _refuse(recipe, join, workers, trials, choice.budget)
    check(work.log_to)
    with _stopping():
        if join is not None:
            own = _joined(join, storage)
            _work(own, own.joined(), work)
            return
        assert recipe is not None
        data = columns.given() | ({} if manifest is None else {"manifest": str(manifest.absolute())})
        own = Sweep(out or recipe.with_name(f"{recipe.stem}-{'smoke' if smoke else 'sweep'}"), storage)
        grid = _small(recipe, data, own.path) if smoke else _grid(recipe, data, work.seed)
        if dry_run:
            _plan(grid, own, trials)
            return
        own.begin(grid, data, trials, choice.gap)
        own.study()
        if retry:
            own.forgive()
        if workers > 1:
            _together(own, workers, work)
        _work(own, grid, work)  # what workers that died left
        _ended(own, grid, choice, work)
        report((own.path,), out=own.path / "report.html")


@contextmanager
def _stopping() -> Iterator[None]:
    """Ctrl-C is a request to stop like any other (exit code 6): a sweep is meant to be carried on."""
    before = signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted("stopped; the same command carries on")


def _refuse(recipe: Path | None, join: str | None, workers: int, trials: int | None, budget: float) -> None:
    if (recipe is None) == (join is None):
        raise UsageError("name a recipe to begin or carry on, or --join the folder of a sweep")
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, not {workers}")
    if trials is not None and trials < 1:
        raise UsageError(f"--trials must be at least 1, not {trials}")
    if not budget >= 0:  # nan as well
        raise UsageError(f"--budget must be at least 0, not {budget:g}")


def _joined(join: str, storage: str | None) -> Sweep:
    from equiprune.study import folder_of
    from equiprune.sweep import Sweep

    return Sweep(folder_of(join), join) if "://" in join else Sweep(Path(join), storage)


def _work(own: Sweep, grid: Grid, work: WorkOptions) -> None:
    from equiprune.run import Place

    command = shlex.join(["equiprune", *sys.argv[1:]])
    place = Place(out=own.path, device=work.device, cache=work.cache, command=command, sinks=work.log_to)
    own.work(grid, place)


def _grid(recipe: Path, data: dict[str, Any], seed: int | None) -> Grid:
    from equiprune.grid import Grid

    grid = Grid.read(recipe, data)
    return grid if seed is None else Grid.of({**grid.raw, "seed": seed}, grid.where, grid.folder)


def _small(recipe: Path, data: dict[str, Any], out: Path) -> Grid:
    from equiprune.smoke import refuse_own_data, shrunk

    refuse_own_data(data)
    grid = _grid(recipe, {}, None)
    return grid.of(shrunk(grid.raw, out.parent), grid.where, grid.folder)


def _together(own: Sweep, workers: int, work: WorkOptions) -> None:
    """Workers as processes of their own, which share the cores; stopped together."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    options = ["--device", work.device, *(["--cache", str(work.cache)] if work.cache else [])]
    options += ["--storage", own.storage] if own.storage else []
    options += [option for name in work.log_to for option in ("--log-to", name)]
    base = [sys.executable, "-m", "equiprune", "sweep", "--join", str(own.path), *options]
    started = [subprocess.Popen(base, env={**environment, **_device(number, work)}) for number in range(workers)]
    try:
        for process in started:
            process.wait()
    except Interrupted:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait()
        raise


def _device(number: int, work: WorkOptions) -> dict[str, str]:
    """One CUDA device a worker, where there are several."""
    if work.device == "cpu":
        return {}
    import torch

    many = torch.cuda.device_count()
    return {"CUDA_VISIBLE_DEVICES": str(number % many)} if many > 1 else {}


def _plan(grid: Grid, own: Sweep, trials: int | None) -> None:
    from equiprune.run import step_key
    from equiprune.search import size

    points = list(grid.points())
    keys: dict[str, str] = {}
    for choice in points:
        recipe = grid.recipe(choice)
        for number, step in enumerate(recipe.step, start=1):
            keys.setdefault(step_key(recipe, number, ""), step.name)
    each = sum(len(grid.recipe(choice).step) for choice in points)
    print(f"{len(points):,} points; {len(keys):,} steps to carry out, where each point alone would take {each:,}")
    if trials is not None:
        print(f"of {size(grid):,} settings, each with all seeds, {min(trials, size(grid)):,} are searched for")
    for axis in grid.axes:
        print(f"  {axis.name}: {', '.join(map(str, axis.values))}")
    done = [folder for folder in own.points() if folder.result.is_file()] if own.folder.record.is_file() else []
    seconds: dict[str, list[float]] = {}
    for folder in done:
        for step in json.loads(folder.result.read_text())["steps"]:
            seconds.setdefault(step["method"], []).append(step["seconds"])
    if seconds:
        mean = {name: sum(own) / len(own) for name, own in seconds.items()}
        total = sum(mean.get(name, 0.0) for name in keys.values())
        whole = "the whole grid takes" if trials is not None else "all take"
        print(f"{len(done):,} points are done; by what their steps took, {whole} about {total / 3600:.2g} hours")


def _ended(own: Sweep, grid: Grid, choice: ChoiceOptions, work: WorkOptions) -> None:
    """The table of outcomes; and audit and report of the one that is taken: of it alone are test figures computed."""
    from equiprune.choosing import chosen, outcomes

    done = own.results()
    failed = [folder.name for folder in own.points() if folder.error.is_file()]
    for name in failed:
        say(f"{name} failed: see {own.path / 'points' / name / 'error.json'}")
    if not done:
        raise UsageError(Problem("no point could be carried out", file=str(own.path)))
    found = outcomes(done, choice.gap)
    taken = found[0] if len(found) == 1 else chosen(found, choice.budget)  # of seeds alone nothing is chosen
    names = () if taken is None else taken.points
    seen = [folder.name for folder in own.points() if folder.run.complete and folder.name not in names]
    rows = [_row(one, one is taken) for one in found]
    _write_table(own.path / "outcomes.csv", rows)
    write_json(own.path / "outcomes.json", {
        "gap": choice.gap, "budget": choice.budget, "points": len(done), "failed": failed, "seen_on_test": seen,
        "outcomes": rows,
    })  # fmt: skip
    if not work.json:
        _print(rows, choice, len(done))
    if seen:
        say(f"note: test figures of {len(seen)} other points were computed before, when others were taken: who has "
            "seen them has chosen on test as well")  # fmt: skip
    if taken is None:
        say(f"nothing is taken: no outcome loses at most {choice.budget:g} of macro F1, has a gap and is not constant")
    pages = [_audited(own, grid, folder, work) for folder in own.points() if folder.name in names]
    if work.json:
        print(json.dumps({
            "sweep": str(own.path), "outcomes": str(own.path / "outcomes.json"), "taken": list(names),
            "reports": [str(page) for page in pages], "report": str(own.path / "report.html"),
        }))  # fmt: skip
        return
    for page in pages:
        print(f"report: {page}")


def _audited(own: Sweep, grid: Grid, folder: PointFolder, work: WorkOptions) -> Path:
    """The page of a point, audited on test."""
    from equiprune.run import Place, carry_out

    place = Place(
        folder.path, device=work.device, cache=work.cache or own.path / "cache", shelf=own.path / "steps",
        sinks=work.log_to,
    )  # fmt: skip
    return carry_out(grid.recipe(folder.choice), place).report


def _row(one: Outcome, taken: bool) -> dict[str, Any]:
    values = {key: value if value == value else None for key, value in asdict(one).items() if isinstance(value, float)}
    half = {f"{key}_half": value if value == value else None for key, value in one.half.items()}
    return {
        **one.choice,
        **values,
        **half,
        "constant": one.constant,
        "front": one.front,
        "taken": taken,
        "points": " ".join(one.points),
    }


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _print(rows: Sequence[dict[str, Any]], choice: ChoiceOptions, points: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    axes = list(rows[0])[: list(rows[0]).index("f1")]
    head = [*axes, "F1", choice.gap, "F1 lost", "FATE", "front"]
    table = Table(*(Column(escape(name), overflow="fold") for name in head))
    for row in rows:
        mark = "constant" if row["constant"] else ("front" if row["front"] else "") + (" *" if row["taken"] else "")
        table.add_row(*(escape(str(row[name])) for name in axes), *(_told(row, name) for name in _SHOWN), mark)
    Console(highlight=False).print(table)
    print(
        f"all on validation; of {len(rows):,} settings the smallest {choice.gap} that loses at most {choice.budget:g} "
        f"of macro F1 is taken, where there is one (*); {points:,} points, +- half of the 95 % interval over seeds"
    )


_SHOWN = ("f1", "gap", "lost", "fate")


def _told(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "not estimable"
    half = row[f"{name}_half"]
    return f"{row[name]:.3f}" + ("" if half is None else f" +- {half:.3f}")

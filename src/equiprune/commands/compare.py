"""`equiprune compare`: which models it is about, and what it prints. Heavy parts are imported where they are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from equiprune.commands.options import MeaningOptions, RowOptions, TableOptions
from equiprune.errors import Problem, UsageError
from equiprune.files import refuse_missing
from equiprune.progress import bar, say

if TYPE_CHECKING:
    from equiprune.predictions import Predictions

GIVEN = "00-given"


def compare(
    runs: tuple[Path, ...],
    /,
    *,
    out: Path | None = None,
    gap: str = "eopp1",
    replicates: int = 2000,
    rows: RowOptions = RowOptions(),  # noqa: B008 - frozen
    meaning: MeaningOptions = MeaningOptions(),  # noqa: B008 - frozen
    table: TableOptions = TableOptions(),  # noqa: B008 - frozen
) -> None:
    """Tells whether models are better or fairer than the first one, on the same images.

    Args:
        runs: runs (all their steps), or tables of predictions; the first model is the baseline.
        out: a file for everything, compare.json.
        gap: what the verdict rests on; choose it before you look at the figures.
        replicates: bootstrap resamples, and exchanges of the models.
        rows: see there.
        meaning: see there.
        table: see there.
    """
    from equiprune.commands.compare_tables import comparison_tables
    from equiprune.comparing import Rules
    from equiprune.comparing import compare as compared

    if out is not None and out.suffix != ".json":
        raise UsageError(Problem("the comparison is a JSON file", file=str(out), hint="Give a name that ends in .json"))
    found = gathered(runs, rows, table)
    name, *others = found.models
    with bar("comparing models"):
        result = compared(
            found.models[name],
            {other: found.models[other] for other in others},
            name=name,
            privileged=found.privileged,
            replicates=replicates,
            seed=table.seed,
            rules=Rules(gap, meaning.eodd, meaning.zero_support, meaning.min_support),
        )
    result = result.model_copy(update={"notices": (*result.notices, *found.notices)})
    if out is not None:
        result.write(out)
        say(f"comparison: {out}")
    if table.json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
    else:
        comparison_tables(result)


@dataclass(frozen=True)
class Gathered:
    """What the command line named.

    Args:
        models: predictions by name, the baseline first.
        privileged: as the user or the first run has it; None: not known yet.
        notices: models that were left out.
    """

    models: Mapping[str, Predictions]
    privileged: str | None
    notices: tuple[str, ...]


def gathered(paths: Sequence[Path], rows: RowOptions, table: TableOptions) -> Gathered:
    """The models in runs and tables.

    Args:
        paths: of runs and tables.
        rows: which rows, and the columns of tables.
        table: how tables are read.

    Raises:
        UsageError: a path is named twice, a folder is not a run, or there are fewer than two models.
        DataError: predictions cannot be read.
    """
    from equiprune.pairing import same
    from equiprune.reading.scores import has_splits

    _check(paths, rows, table)
    models: dict[str, Predictions] = {}
    notices = []
    for path in paths:
        if not path.is_dir():
            models[_name(path.stem, path, models)] = table.read(path, rows.attribute, rows.split, rows.unit)
            if rows.split is None and has_splits(path):
                notices.append(
                    f"{path} has a split column, and all its rows are compared; --split test takes one split"
                )
            continue
        for title, place, predictions in _of_run(path, rows.split or "test", alone=len(paths) == 1):
            twin = next((name for name, one in models.items() if same(one, predictions)), None)
            if place.name == GIVEN and twin is not None:
                notices.append(f"{title} is the same model as {twin}, and left out")
            else:
                models[_name(title, place, models)] = predictions
    if len(models) < 2:
        hint = "Name another run or table of predictions"
        raise UsageError(Problem(f"two models are needed; there is {', '.join(models) or 'none'}", hint=hint))
    return Gathered(models, rows.privileged or _privileged(paths[0]), tuple(notices))


def _check(paths: Sequence[Path], rows: RowOptions, table: TableOptions) -> None:
    from equiprune.rundir import RunFolder

    twice = sorted({str(path) for path in paths if [one.resolve() for one in paths].count(path.resolve()) > 1})
    if twice:
        raise UsageError(Problem(f"named twice: {', '.join(twice)}"))
    refuse_missing(paths, "file or run")
    for path in paths:
        if path.is_dir():
            RunFolder(path).steps()
    if all(path.is_dir() for path in paths):
        table.refuse(rows.attribute, rows.unit)


def _of_run(path: Path, split: str, *, alone: bool) -> Iterator[tuple[str, Path, Predictions]]:
    """Every complete step: its title, its folder and its predictions."""
    from equiprune.rundir import RunFolder

    run = RunFolder(path)
    for step in run.steps():
        title = step.name if alone else f"{path.resolve().name}/{step.name}"
        yield title, path / step.name, run.predictions(step, split)


def _name(title: str, path: Path, taken: Mapping[str, Predictions]) -> str:
    """A short name, or the whole path where two models share it."""
    return str(path) if title in taken else title


def _privileged(path: Path) -> str | None:
    """As the run's audit has it, or else as its first model does on validation; None: a table does not say."""
    from equiprune.audit import Audit, infer_privileged
    from equiprune.rundir import RunFolder

    if not path.is_dir():
        return None
    run = RunFolder(path)
    if run.complete:
        return Audit.read(run.audit).attribute.privileged
    return infer_privileged(run.predictions(run.steps()[0], "validation"))

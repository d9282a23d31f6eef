"""`equiprune audit`: which predictions it is about, and what it prints. Heavy imports are where they are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from equiprune.commands.options import MEANING, MeaningOptions, TableOptions
from equiprune.errors import LimitExceeded, Problem, UsageError
from equiprune.files import refuse_missing
from equiprune.progress import say

if TYPE_CHECKING:
    from equiprune.auditfile import Audit, Source
    from equiprune.metrics.operating import OperatingPoint
    from equiprune.predictions import Predictions

Split = Literal["train", "validation", "test"]
POINT = "thresholds"


@Parameter(name="*")
@dataclass(frozen=True)
class ThresholdOptions:
    """Operating points."""

    threshold: Annotated[
        str | None,
        Parameter(
            help="Findings or two classes: youden, sensitivity=0.9 (chosen on validation), or a number.", group=MEANING
        ),
    ] = None
    validation: Annotated[
        Path | None,
        Parameter(
            help="Table to choose thresholds on; by default the validation rows beside the test rows.", group=MEANING
        ),
    ] = None


def audit(
    predictions: Path,
    *,
    attribute: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    split: Split | None = None,
    unit: str | None = None,
    privileged: str | None = None,
    out: Path | None = None,
    fail_on: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    fail_on_missing: Annotated[bool, Parameter(negative=())] = False,
    replicates: int = 2000,
    thresholds: ThresholdOptions = ThresholdOptions(),
    meaning: MeaningOptions = MeaningOptions(),  # noqa: B008 - frozen
    table: TableOptions = TableOptions(),  # noqa: B008 - frozen
) -> None:
    """Audits a table of predictions from any framework, or a run.

    Args:
        predictions: CSV or Parquet with label, attribute and score_CLASS columns, or a run.
        attribute: column of the sensitive attribute; several make intersections.
        split: which rows; of a run, test by default.
        unit: column of patient or lesion ids.
        privileged: the better-served group; by default the one with the highest macro F1.
        out: folder for audit.json.
        fail_on: a limit such as "eopp1>0.1" or "eopp1.low>0"; if it is exceeded the exit code is 5.
        fail_on_missing: a limit also counts as exceeded where its figure is not estimable or leaves classes out.
        replicates: bootstrap draws and permutations.
        thresholds: see there.
        meaning: see there.
        table: see there.
    """
    from equiprune.audit import audit as audited
    from equiprune.commands.audit_tables import audit_table
    from equiprune.commands.limits import Limit

    if fail_on_missing and not fail_on:
        raise UsageError("--fail-on-missing says what limits mean: give one with --fail-on")
    limits = [Limit.parse(text) for text in fail_on]
    refuse_missing([predictions], "file or run")
    source = _run(predictions, split, table, attribute, unit) if predictions.is_dir() else None
    if source is None:
        source = _table(predictions, split, table, attribute, unit)
    point, seen = _operating_point(source, thresholds, table)
    result = audited(
        source.found if point is None else point.applied(source.found),
        privileged=privileged or source.privileged,
        replicates=replicates,
        seed=table.seed,
        eodd=meaning.eodd,
        zero_support=meaning.zero_support,
        min_support=meaning.min_support,
    )
    result = _told(result, point, (*source.notices, *seen), _traced(predictions, source, table))
    of_run = source.of_run or {}
    # Thresholds that were asked for here stand; else those of the run hold.
    result = result.model_copy(update={key: value for key, value in of_run.items() if point is None or key != POINT})
    exceeded = [limit.told(result) for limit in limits if limit.exceeded(result)]
    missing = [f"{limit}: {gap}" for limit in limits if (gap := limit.gap(result)) and not limit.exceeded(result)]
    for text in missing if not fail_on_missing else ():
        say(f"{text}, and the limit counts as kept; --fail-on-missing decides otherwise")
    exceeded += missing if fail_on_missing else []
    if out is not None:
        result.write(out / "audit.json")
        say(f"audit: {out / 'audit.json'}")
    if table.json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
    else:
        audit_table(result)
    if exceeded:
        raise LimitExceeded([Problem(text) for text in exceeded])


@dataclass(frozen=True)
class _Source:
    """Predictions, how to read their validation rows, and what is known beside them."""

    found: Predictions
    validation: Any
    privileged: str | None
    split: str | None
    unit: str | None = None
    notices: tuple[str, ...] = ()
    of_run: Mapping[str, Any] | None = None  # what only the run's own audit knows


def _run(path: Path, split: Split | None, table: TableOptions, attribute: Sequence[str], unit: str | None) -> _Source:
    from equiprune.audit import Audit, infer_privileged
    from equiprune.rundir import RunFolder

    run = RunFolder(path)
    step = run.steps()[-1]
    table.refuse(attribute, unit)
    return _Source(
        found=run.predictions(step, split or "test"),
        validation=lambda: run.predictions(step, "validation"),
        privileged=infer_privileged(run.predictions(run.steps()[0], "validation")),
        split=split or "test",
        of_run=_of_run(Audit.read(run.audit)) if run.complete else None,
    )


def _of_run(kept: Audit) -> dict[str, Any]:
    return {"cost": kept.cost, "needs_attribute": kept.needs_attribute, POINT: kept.thresholds}


def _table(path: Path, split: Split | None, table: TableOptions, attribute: Sequence[str], unit: str | None) -> _Source:
    from equiprune.reading.scores import has_splits

    found = table.read(path, attribute, split, unit)
    splits = has_splits(path)
    notices = ("the table has a split column, and all its rows are audited; --split test audits one split",)
    return _Source(
        found=found,
        validation=(lambda: table.read(path, attribute, "validation", unit)) if splits and split == "test" else None,
        privileged=None,
        split=split,
        unit=unit,
        notices=notices if splits and split is None else (),
    )


def _operating_point(
    source: _Source, thresholds: ThresholdOptions, table: TableOptions
) -> tuple[OperatingPoint | None, tuple[str, ...]]:
    if thresholds.threshold is None:
        if thresholds.validation is not None:
            raise UsageError("--validation is for choosing thresholds: give --threshold youden or sensitivity=0.9")
        return None, ()
    from equiprune.metrics.operating import is_number, operating_point

    rule, found = thresholds.threshold, source.found
    validation = None if is_number(rule) else _validation(source, thresholds, table)
    point = operating_point(rule, validation, found.classes, found.task)
    return point, () if validation is None else tuple(_on_both_sides(validation, found))


def _on_both_sides(validation: Predictions, found: Predictions) -> Iterator[str]:
    """What thresholds were chosen on and judged on."""
    for what, first, second in (
        ("images", validation.image, found.image),
        ("units", validation.unit, found.unit),
    ):
        if first is not None and second is not None:
            many = len(set(first.tolist()) & set(second.tolist()) - {""})
            if many:
                yield f"{many:,} {what} are among those that thresholds were chosen on: this flatters the model"


def _validation(source: _Source, thresholds: ThresholdOptions, table: TableOptions) -> Predictions | None:
    """What thresholds are chosen on; its attribute does not matter, as a threshold is one for all groups."""
    if thresholds.validation is None:
        found: Predictions | None = source.validation() if source.validation is not None else None
        return found
    from equiprune.reading.attribute import INTERSECTION
    from equiprune.reading.scores import has_splits

    names = source.found.attribute.split(INTERSECTION)
    split = "validation" if has_splits(thresholds.validation) else None
    return table.read(thresholds.validation, names, split, source.unit)


def _traced(path: Path, source: _Source, table: TableOptions) -> Source:
    from equiprune import __version__
    from equiprune.auditfile import Source
    from equiprune.files import sha256

    return Source(
        version=__version__,
        file=str(path),
        sha256=None if path.is_dir() else sha256(path),
        split=source.split,
        unit=source.unit,
        groups=table.groups,
        missing=table.missing,
    )


def _told(result: Audit, point: OperatingPoint | None, notices: Sequence[str], source: Source) -> Audit:
    from equiprune.auditfile import Thresholds

    update: dict[str, object] = {"notices": (*result.notices, *notices), "source": source}
    if point is not None:
        update[POINT] = Thresholds(**point.to_dict())
    return result.model_copy(update=update)

"""A recipe carried out into a directory: data, training, pruning, predictions, audit, report.

Every file is whole or absent, so a run that was killed at any moment carries on with the same
command: finished steps are loaded, an unfinished one goes on at its last epoch or iteration.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from equiprune import processes
from equiprune.data import shades
from equiprune.data.check import examine
from equiprune.data.cohort import Cohort
from equiprune.data.duplicates import fingerprints
from equiprune.data.manifest import read_manifest
from equiprune.data.pixels import Pixels, open_pixels
from equiprune.errors import EquipruneError, ModelError, Problem, UsageError
from equiprune.files import clear_parts, explained, withheld, write_json
from equiprune.grid import digest
from equiprune.handover import hand_over, measure
from equiprune.methods import Checked
from equiprune.metrics import operating
from equiprune.metrics.loss import log_loss
from equiprune.models.classifier import Classifier
from equiprune.models.exits import shares_leaving
from equiprune.models.reshaping import reshape
from equiprune.objectives import OBJECTIVES
from equiprune.objectives.train import Forming
from equiprune.predicting import exit_logits, predict
from equiprune.progress import bar, say, silenced
from equiprune.pruning import channel_loop
from equiprune.recipe import SMOKE, Recipe, Step
from equiprune.rundir import RunFolder, StepFolder
from equiprune.runrecord import record_run, refuse_changed, refuse_other
from equiprune.shelf import Shelf
from equiprune.sinks import check as check_sinks
from equiprune.sinks import sending
from equiprune.starting import factory_of, first_model, tell, with_split
from equiprune.training import checkpoint
from equiprune.training.loop import Training

SHARED = "shared"
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Place:
    """Where and how a recipe is carried out.

    Args:
        out: the run's directory.
        device: "auto", "cpu" or "cuda".
        cache: where decoded images are kept; by default beside the run, so that runs share them.
        replicates: bootstrap draws and permutations of the audit.
        command: what the user typed, for the record.
        shelf: where steps are kept that other runs have in common with this one; None keeps each run by itself.
        audited: whether test figures are computed, and the report written; without them the run is not complete.
        sinks: where else its log is sent; see `sinks`.
    """

    out: Path
    device: str = "auto"
    cache: Path | None = None
    replicates: int = 2000
    command: str = ""
    shelf: Path | None = None
    audited: bool = True
    sinks: tuple[str, ...] = ()


def carry_out(recipe: Recipe, place: Place) -> RunFolder:
    """Does what a recipe says, or what is left of it, and returns the run's directory.

    Where torchrun started several processes, all call this alike and do the work together; the first one writes.

    Raises:
        UsageError: the directory holds another run, or another process is at work in it.
        DataError: the manifest or an image is not usable, or has changed since the run began.
        ModelError: weights do not fit, or training gave no numbers.
    """
    check_sinks(place.sinks)
    run = RunFolder(place.out)
    device = chosen_device(place.device)
    with processes.started(device.type):
        if processes.first():
            _lead(recipe, place, run, device)
        elif processes.told(False):
            with withheld(), silenced():
                _carry_out(recipe, place, run, device)
    return run


def _lead(recipe: Recipe, place: Place, run: RunFolder, device: torch.device) -> None:
    """What the first process does; it tells the others when the folder is ready for them, or that it never will be."""
    waiting = [True]

    def ready() -> None:
        waiting.clear()
        processes.told(True)

    _make_folder(run.path)
    try:
        with FileLock(run.path / ".lock", blocking=False):
            clear_parts(run.path)
            refuse_other(run, recipe)
            if run.complete:
                say(f"{run.path} is complete already")
            else:
                _carry_out(recipe, place, run, device, ready)
    except Timeout:
        raise UsageError(Problem("another process is at work in this folder", file=str(run.path))) from None
    finally:
        if waiting:
            processes.told(False)


def chosen_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one.

    Raises:
        UsageError: CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(Problem("there is no CUDA device here", hint="Use --device auto or --device cpu"))
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(error, path) from None


def _carry_out(
    recipe: Recipe, place: Place, run: RunFolder, device: torch.device, ready: Callable[[], None] = lambda: None
) -> None:
    torch.backends.cudnn.deterministic = True
    cohort = read_manifest(recipe.data)
    refuse_changed(run, recipe, cohort)
    cache = place.cache or run.path.resolve().parent / "equiprune-cache"
    total = len(cohort)
    with bar("decoding images") as progress:
        cohort, pixels = open_pixels(cohort, recipe.data, cache, progress=progress)
    smoke = [Problem(SMOKE)] if recipe.smoke else []
    cohort = replace(cohort, notices=(*smoke, *cohort.notices, *shades.notices(pixels.array, recipe.data.manifest)))
    cohort, drawn = with_split(cohort, recipe, run)
    tell(cohort.notices)
    classifier, given = first_model(recipe, cohort)
    classifier.to(device)
    _check_steps(recipe, classifier, cohort)
    facts = run.read_facts() or _facts(recipe, cohort, pixels)
    found = [Problem(text) for text in facts["notices"]]
    tell(found)
    # From here on the folder is this run's: what could be refused has been. The record comes first: a run killed
    # before its split is written draws the same one again, but a split without a record would look like another's.
    record_run(
        run,
        recipe,
        replace(cohort, notices=(*cohort.notices, *found)),
        {"skipped": {"images": total - len(cohort)} if total > len(cohort) else None, "split": drawn},
        place.command,
        device,
    )
    run.write_split(cohort.image, np.asarray(cohort.split))
    if not run.facts.is_file():
        write_json(run.facts, facts)
    ready()
    training = Training(pixels=pixels, device=device, seed=recipe.seed, threshold=recipe.audit.threshold)
    if place.shelf is not None:
        training = replace(training, shared=place.shelf / SHARED)
    shelf = None if place.shelf is None else Shelf(place.shelf)
    with sending(place.sinks if processes.first() else (), run, recipe.model_dump(mode="json")):
        done = _carry_out_steps(recipe, run, (classifier, given), cohort, training, shelf)
        del classifier
        if not (processes.first() and place.audited):
            return
        if not recipe.smoke:  # what a narrow network takes to run is of no use to anybody
            measure(run, done, factory=factory_of(recipe), device=device)
        named = (getattr(step.method, "privileged", None) for step in recipe.step)
        hand_over(run, done, privileged=next(filter(None, named), None), replicates=place.replicates)


def _carry_out_steps(
    recipe: Recipe,
    run: RunFolder,
    first: tuple[Classifier, bool],
    cohort: Cohort,
    training: Training,
    shelf: Shelf | None,
) -> list[StepFolder]:
    """The steps that are not complete yet; all of them are returned, and before them a model that was given."""
    classifier, given = first
    done = [_given(recipe, run, classifier, cohort, training)] if given else []
    folders = [run.step(number, step.name) for number, step in enumerate(recipe.step, start=1)]

    def work(number: int, place: StepFolder) -> None:
        step = recipe.step[number - 1]
        say(f"step {number} of {len(folders)}: {step.name}")
        model = classifier
        if step.start:
            model = Classifier.load(folders[step.start - 1].path, factory=factory_of(recipe)).to(training.device)
        _carry_out_step(step, place, model, cohort, training)

    for number, folder in enumerate(folders, start=1):
        if folder.complete:
            continue
        try:
            if shelf is None:
                work(number, folder)
            else:
                shelf.step(step_key(recipe, number, cohort.sha256), folder, partial(work, number))
        except (ModelError, UsageError):
            if number == 1 and processes.first():
                _forget(run)
            raise
    return [*done, *folders]


def _given(recipe: Recipe, run: RunFolder, classifier: Classifier, cohort: Cohort, training: Training) -> StepFolder:
    """The folder of the model that was given."""
    folder = run.step(0, "given")
    if not folder.complete:
        _finish(folder, classifier, cohort, training, {"method": "given", "settings": recipe.model.model_dump()})
    return folder


def step_key(recipe: Recipe, number: int, manifest_sha256: str) -> str:
    """A name for everything that a step's model depends on: data, seed, and the steps it follows."""
    chain: list[dict[str, Any]] = []
    while number:
        step = recipe.step[number - 1]
        chain.append({"method": step.name, **step.method.model_dump(), "training": step.training.model_dump()})
        number = step.start
    whole = recipe.model_dump(mode="json", exclude={"step": True, "published": True, "data": {"manifest": True}})
    return digest({"manifest": manifest_sha256, "chain": chain, "version": version("equiprune"), **whole})


def _check_steps(recipe: Recipe, classifier: Classifier, cohort: Cohort) -> None:
    """Refuses what a step could not do to the model as the steps before it leave it, all at once."""
    seen = [classifier]
    found: list[EquipruneError] = []
    for number, step in enumerate(recipe.step, start=1):
        model = seen[step.start].clone()
        try:
            if isinstance(step.method, Checked):
                step.method.check(model, cohort)
            if isinstance(step.method, Forming):
                reshape(model, step.method.form(model, cohort))
        except (UsageError, ModelError) as error:
            where = f"[[step]] {number} ({step.name})"
            found.append(type(error)(replace(problem, file=problem.file or where) for problem in error.problems))
        seen.append(model)
    try:
        if recipe.audit.threshold is not None:
            operating.check(recipe.audit.threshold, cohort.classes, cohort.task)
    except UsageError as error:
        found.append(UsageError(replace(problem, file="[audit]") for problem in error.problems))
    if found:
        raise type(found[0])(problem for error in found for problem in error.problems)


def _forget(run: RunFolder) -> None:
    """Empties the folder of a run whose first step failed by its settings, so that a corrected command may take it."""
    shutil.rmtree(run.path / "steps", ignore_errors=True)
    for path in (run.facts, run.split, run.record):
        path.unlink(missing_ok=True)


def _carry_out_step(step: Step, folder: StepFolder, classifier: Classifier, cohort: Cohort, training: Training) -> None:
    _make_folder(folder.path)
    if processes.first():
        clear_parts(folder.path)
    own = replace(training, settings=step.training, folder=folder.path)
    result = step.method(classifier, cohort, own)
    settings = step.method.model_dump(mode="json")
    if step.name in OBJECTIVES or "tune" in settings:
        settings |= step.training.model_dump(mode="json")
    _finish(folder, result, cohort, training, {"method": step.name, "start": step.start, "settings": settings})


def _finish(
    folder: StepFolder, classifier: Classifier, cohort: Cohort, training: Training, record: Mapping[str, Any]
) -> None:
    if processes.first():
        classifier.save(folder.path)
    processes.wait()  # for the first process's files
    found = {split: predict(classifier, cohort.subset(split), training.pixels) for split in HELD_OUT}
    point = operating.of_run(found["validation"], training.threshold)
    for split, predictions in found.items():
        (predictions if point is None else point.applied(predictions)).write(folder.predictions(split))
    facts = {
        **asdict(classifier.facts()),
        "needs_group": classifier.design.form.needs_group,
        "thresholds": None if point is None else point.to_dict(),
        "exits": _exits(classifier, cohort, training),
        "loss": {split: log_loss(predictions) for split, predictions in found.items()},
        "file_bytes": (folder.path / "model.safetensors").stat().st_size,
        "seconds": sum(entry["seconds"] for entry in folder.log()),
        **folder.ending(),
    }
    write_json(folder.record, {**record, "facts": facts})
    if processes.first():
        checkpoint.clear(folder.path)
        channel_loop.clear(folder.path)
    processes.wait()


def _exits(classifier: Classifier, cohort: Cohort, training: Training) -> dict[str, Any] | None:
    """Where images leave a model with early exits: the share of the validation split at each, the last its own."""
    form = classifier.design.form
    if not form.exits:
        return None
    logits = exit_logits(classifier, cohort.subset("validation"), training.pixels)
    names = (*form.exits, "the last")
    left = dict(zip(names, shares_leaving(logits, form.confidence, cohort.task), strict=True))
    return {"confidence": form.confidence, "left": left}


def _facts(recipe: Recipe, cohort: Cohort, pixels: Pixels) -> dict[str, Any]:
    """What `facts.json` holds, of the cohort with its splits."""
    say(f"looking for duplicates among {len(cohort):,} images")
    rows, prints = pixels.rows(cohort.image), fingerprints(pixels.array)
    examined = examine(cohort, pixels.sha256()[rows], None if prints is None else prints[rows])
    notices = [str(notice) for notice in examined.notices(recipe.data.manifest)]
    return {**examined.to_dict(), "notices": notices}

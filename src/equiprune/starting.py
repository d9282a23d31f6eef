"""What a run starts from: the model its first step gets, and the splits of its data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equiprune.data.cohort import Cohort
from equiprune.data.inspection import inspect_cohort
from equiprune.data.settings import DataSettings
from equiprune.data.splits import draw_splits
from equiprune.errors import DataError, ModelError, Problem, UsageError
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.models.factory import source_sha256
from equiprune.models.load import load_weights
from equiprune.progress import say
from equiprune.recipe import Recipe
from equiprune.rundir import RunFolder


def first_model(recipe: Recipe, cohort: Cohort) -> tuple[Classifier, bool]:
    """The classifier the first step gets, and whether it was given as a finished one.

    Raises:
        UsageError: the run it is to come from is not complete.
        ModelError: the weights do not fit, or the model was made for other data.
    """
    weights, data = recipe.model.weights, recipe.data
    if weights is not None and (source := _saved(Path(weights))) is not None:
        classifier = Classifier.load(source, factory=factory_of(recipe))
        tell(classifier.notices)
        _check_fits(classifier.design, cohort, data, str(weights))
        return classifier, recipe.model.trained
    design = Design(
        backbone=recipe.model.backbone,
        classes=cohort.classes,
        channels=data.channels,
        image_size=data.image_size,
        task=cohort.task,
        fit=data.fit,
    )
    classifier = Classifier.build(design, recipe.seed)
    if weights is not None:
        tell(load_weights(classifier, weights, new_head=not recipe.model.trained))
    return classifier, recipe.model.trained


def _saved(path: Path) -> Path | None:
    """The folder of the classifier, where the path is a run (its last step) or such a folder."""
    if (path / "run.json").is_file():
        run = RunFolder(path)
        if not run.complete:
            hint = "The command that began it carries on; a step's own folder may be named too"
            raise UsageError(Problem("this run is not complete", file=str(path), hint=hint))
        return run.steps()[-1].path
    return path if (path / "model.json").is_file() else None


def _check_fits(design: Design, cohort: Cohort, data: DataSettings, where: str) -> None:
    wanted = {
        "classes": (design.classes, cohort.classes),
        "task": (design.task, cohort.task),
        "image_size": (design.image_size, data.image_size),
        "channels": (design.channels, data.channels),
        "fit": (design.fit, data.fit),
        "groups": (design.form.groups or cohort.groups, cohort.groups),
    }
    problems = [
        Problem(f"the model has {key} {_listed(model)}, the data {_listed(given)}", file=where)
        for key, (model, given) in wanted.items()
        if model != given
    ]
    if problems:
        raise ModelError(problems)


def _listed(value: object) -> str:
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)


def with_split(cohort: Cohort, recipe: Recipe, run: RunFolder) -> tuple[Cohort, str]:
    """The cohort with its splits: as given, as this run or the run it starts from had them, or drawn; and which.

    Raises:
        DataError: an image is not in the split that is taken over, or a drawn split lacks a class.
    """
    if run.split.is_file():
        return cohort.with_split(_looked_up(cohort, run)), "as before"
    source = None if recipe.model.weights is None else RunFolder(Path(recipe.model.weights))
    if cohort.split is not None:
        drawn = "given by the manifest"
    elif source is not None and source.split.is_file():
        cohort, drawn = cohort.with_split(_looked_up(cohort, source)), f"taken from {source.path}"
    else:
        if recipe.model.trained:
            say("note: the split is drawn anew; images the given model was trained on may be in its test part")
        seed = recipe.seed if recipe.data.split_seed is None else recipe.data.split_seed
        cohort = cohort.with_split(draw_splits(cohort, recipe.data.fractions, seed))
        problems, _ = inspect_cohort(cohort, recipe.data.manifest)
        if problems:
            hint = (
                "The splits were drawn: join what is this small with another (groups), or name a column with the splits"
            )
            raise DataError(replace(problem, hint=hint) for problem in problems)
        drawn = "drawn, stratified by label and group" + (f", by {recipe.data.unit}" if recipe.data.unit else "")
    return cohort, drawn


def _looked_up(cohort: Cohort, run: RunFolder) -> np.ndarray[Any, np.dtype[np.str_]]:
    known = run.read_split()
    unknown = [
        Problem("this image is not in that run's split", file=str(run.split), row=int(row), column=str(image))
        for image, row in zip(cohort.image, cohort.row, strict=True)
        if image not in known
    ]
    if unknown:
        raise DataError(unknown)
    return np.array([known[image] for image in cohort.image])


def factory_of(recipe: Recipe) -> str | None:
    """The user's function that makes the network, where it is no network known by name."""
    return recipe.model.backbone if source_sha256(recipe.model.backbone) else None


def tell(notices: Iterable[Problem]) -> None:
    """Says each as a note."""
    for notice in notices:
        say(f"note: {notice}")

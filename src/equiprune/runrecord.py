"""`run.json`: what a run was begun with, and whether a folder is another run's."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from equiprune.data.cohort import SPLITS, Cohort
from equiprune.errors import DataError, Problem, UsageError
from equiprune.files import write_json
from equiprune.recipe import Recipe
from equiprune.rundir import RunFolder

SCHEMA = "equiprune-run/1"
PACKAGES = ("equiprune", "torch", "torchvision", "numpy", "pillow", "scikit-learn")


def record_run(
    run: RunFolder,
    recipe: Recipe,
    cohort: Cohort,
    data: Mapping[str, Any],
    command: str,
    device: torch.device,
) -> None:
    """Writes `run.json` when a run begins.

    Args:
        run: its directory; nothing is done where it has a record.
        recipe: what is carried out.
        cohort: with its splits and all notices.
        data: what else is known of the data.
        command: what the user typed.
        device: where it is computed.
    """
    if run.record.is_file():
        return
    splits = {
        split: {
            "images": len(part := cohort.subset(split)),
            "units": None if part.unit is None else len(np.unique(part.unit)),
            "groups": {
                name: int((part.group == index).sum()) for index, name in [*enumerate(part.groups), (-1, "unknown")]
            },
        }
        for split in SPLITS
    }
    write_json(
        run.record,
        {
            "schema": SCHEMA,
            "recipe": recipe.model_dump(mode="json"),
            "manifest_sha256": cohort.sha256,
            "seed": recipe.seed,
            "data": {
                "images": len(cohort),
                "units": None if cohort.unit is None else len(np.unique(cohort.unit)),
                "unit": recipe.data.unit,
                "attribute": cohort.attribute,
                "task": cohort.task,
                "classes": list(cohort.classes),
                "splits": splits,
                **data,
            },
            "notices": [str(notice) for notice in cohort.notices],
            "environment": {
                "command": command,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "device": torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else platform.processor() or "cpu",
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
                **{name: version(name) for name in PACKAGES},
            },
        },
    )


def refuse_changed(run: RunFolder, recipe: Recipe, cohort: Cohort) -> None:
    """Refuses a manifest that has changed since the run began.

    Raises:
        DataError: it has.
    """
    if run.record.is_file() and run.read()["manifest_sha256"] != cohort.sha256:
        what = f"the manifest has changed since the run in {run.path} began"
        hint = "Start a new run with another --out"
        raise DataError(Problem(what, file=recipe.data.manifest, hint=hint))


def refuse_other(run: RunFolder, recipe: Recipe) -> None:
    """Refuses a folder that holds other files, or a run of another recipe.

    Raises:
        UsageError: names the files, or every setting that differs.
    """
    if not run.record.is_file():
        others = [path.name for path in run.path.iterdir() if path.name != ".lock"]
        if others:
            raise UsageError(
                Problem(f"holds other files ({others[0]} ...)", file=str(run.path), hint="Choose another --out")
            )
        return
    now, then = _flat(recipe.model_dump(mode="json")), _flat(run.read()["recipe"])
    changed = [key for key in {**then, **now} if now.get(key) != then.get(key)]
    if changed:
        raise UsageError(
            [
                Problem(
                    f"was {then.get(key)!r} when this run began, now {now.get(key)!r}", file=str(run.path), column=key
                )
                for key in changed
            ]
            + [Problem("a run goes on with its own recipe. Choose another --out for a new one", file=str(run.path))]
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401 - nested JSON
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        items = {str(number): inner for number, inner in enumerate(value, start=1)}.items()
    else:
        return {prefix: value}
    return {
        key: inner for name, part in items for key, inner in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }

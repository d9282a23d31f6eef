"""A recipe made small: the same steps and axes on synthetic images, to see in minutes that all of it runs.

What it gives says nothing of the methods or of the paper: the networks are an eighth as wide and are trained for a few
epochs, on drawings.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equiprune.data.synthetic import COLUMNS, SyntheticSettings, synthesize
from equiprune.errors import Problem, UsageError
from equiprune.files import write_text
from equiprune.methods import METHODS
from equiprune.models import narrow
from equiprune.progress import say

FOLDER = "smoke-set"
"""Of the images, beside the run."""
SET = SyntheticSettings(images=120, size=32, classes=3)
SEEDS = 2
TRAINING = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "augment": "none", "workers": 0}
LIMITS = {"epochs": 2, "iterations": 2, "tune": 1, "samples": 12}
"""Of every step that has such a setting, whatever its default."""
WEIGHTS, CHANNELS = 0.25, 0.1
"""Steps of pruning, where the recipe has smaller ones."""
NARROW = ("vgg11", "vgg11_bn", "resnet18", "resnet50")
GROUP_SETTINGS = ("privileged",)
"""Settings that name a group of the recipe's own data."""


def shrunk(raw: Mapping[str, Any], beside: Path) -> dict[str, Any]:
    """The recipe on a synthetic set, which is drawn where it is not there yet.

    Steps, their order and the values of every axis stay, but of seeds only the first two. Networks keep the names of
    their layers.

    Args:
        raw: a recipe that was read and checked.
        beside: the folder that the set is drawn in.

    Raises:
        UsageError: something else stands in the set's place.
    """
    say("smoke run: synthetic images, narrow networks, few epochs; its figures mean nothing")
    manifest = synthesize(beside / FOLDER, SET)
    seed = raw.get("seed", 0)
    found = {
        **raw,
        "smoke": True,
        "seed": seed[:SEEDS] if isinstance(seed, list) else seed,
        "data": _data(raw["data"], manifest),
        "training": _limited({**raw.get("training", {}), **TRAINING}),
        "step": [_step(step) for step in raw["step"]],
    }
    if "model" in raw:
        found["model"] = _model(raw["model"])
    return found


def refuse_own_data(given: Mapping[str, Any]) -> None:
    """Refuses columns or a manifest on the command line.

    Raises:
        UsageError: something is given.
    """
    if given:
        options = ", ".join(f"--{key.replace('_', '-')}" for key in given)
        raise UsageError(Problem(f"--smoke has its own images, so {options} cannot be given"))


def _data(own: Mapping[str, Any], manifest: Path) -> dict[str, Any]:
    asked = own["attribute"]
    found: dict[str, Any] = {
        "manifest": str(manifest.absolute()),
        "attribute": asked if asked in COLUMNS else "skin_tone",
        "unit": "patient_id",
        "image_size": SET.size,
        **{key: own[key] for key in ("channels", "fractions", "split_seed") if key in own},
    }
    if "labels" not in own:
        return {**found, "label": "label"}
    findings = manifest.with_name("findings.csv")
    names = _write_findings(manifest, findings)
    return {**found, "manifest": str(findings.absolute()), "labels": names}


def _write_findings(manifest: Path, path: Path) -> list[str]:
    """The set with a column of 0 and 1 for each of its classes, as data with several findings have them."""
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["label"] for row in rows})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kept = [column for column in COLUMNS if column != "label"]
    writer.writerow((*kept, *names))
    writer.writerows([*(row[key] for key in kept), *(int(row["label"] == name) for name in names)] for row in rows)
    write_text(path, text.getvalue())
    return names


def _model(own: Mapping[str, Any]) -> dict[str, Any]:
    """The network, narrow; weights that it would start from do not fit and are left out."""
    asked = own.get("backbone", "resnet18")
    return {"backbone": [narrowed(one) for one in asked] if isinstance(asked, list) else narrowed(asked)}


def narrowed(backbone: str) -> str:
    """The name of a network's narrow version; of a small one, or the user's own, its name as it is."""
    return f"{narrow.__file__}:{backbone}" if backbone in NARROW else backbone


def _step(own: Mapping[str, Any]) -> dict[str, Any]:
    fields = METHODS[own["method"]].model_fields
    found = _limited({key: value for key, value in own.items() if key not in GROUP_SETTINGS})
    found |= {key: most for key, most in LIMITS.items() if key in fields and key not in found}
    if "step" in fields and not isinstance(own.get("step"), list):
        least = WEIGHTS if "ratio" in fields else CHANNELS
        ratio = own.get("ratio", fields["ratio"].default) if "ratio" in fields else least
        found["step"] = min(least, *(ratio if isinstance(ratio, list) else [ratio]))
    return found


def _limited(own: Mapping[str, Any]) -> dict[str, Any]:
    """With its limits kept; an axis keeps its values."""
    return {
        key: min(value, LIMITS[key]) if key in LIMITS and isinstance(value, int) else value
        for key, value in own.items()
    }

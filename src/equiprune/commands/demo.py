"""`equiprune demo`: the main job on synthetic skin lesions, small enough for a laptop."""

from __future__ import annotations

from pathlib import Path

from equiprune.data.synthetic import SyntheticSettings, synthesize
from equiprune.progress import bar, say
from equiprune.recipe import Recipe

IMAGES = 1500
SIZE = 64
EPOCHS = 8
# A large network on few images: nearly all of its saliency sits in few weights, so the steps are small.
PRUNING = {"method": "fairprune", "beta": 0.05, "step": 0.0003, "ratio": 0.0015, "samples": 150}
CHANNELS = {"method": "scp", "step": 0.05, "iterations": 2, "tune": 1, "samples": 300}


def demo_recipe(out: Path, *, seed: int) -> Recipe:
    """Draws the images, where they are not there yet, and returns what to do with them."""
    folder = out / "data"
    say(f"drawing {IMAGES} synthetic lesions into {folder}")
    with bar("drawing") as progress:
        manifest = synthesize(folder, SyntheticSettings(images=IMAGES, size=SIZE, seed=seed), progress=progress)
    raw = {
        "seed": seed,
        "data": {
            "manifest": str(manifest),
            "label": "label",
            "attribute": "skin_tone",
            "unit": "patient_id",
            "image_size": SIZE,
        },
        "model": {"backbone": "resnet18"},
        "training": {"epochs": EPOCHS, "batch_size": 64, "learning_rate": 1e-3, "augment": "flips"},
        "step": [{"method": "vanilla"}, PRUNING, CHANNELS],
    }
    return Recipe.parse(raw, "the demo")

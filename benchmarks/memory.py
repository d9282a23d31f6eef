"""Peak memory of training and of FairPrune on one network, each in a process of its own.

The claim: FairPrune needs at most four times the size of the parameters more than training does. The
cache of images is memory-mapped; training holds no copy of it (anonymous memory is shown beside its size).

Run: python benchmarks/memory.py [--backbone vgg11] [--classes 114] [--size 64]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = 240
MIB = 1 << 20


def measure(job: str, backbone: str, classes: int, size: int, folder: Path) -> dict[str, Any]:
    """Runs one job in this process and tells its peak resident memory and what the cache added."""
    import torch

    import equiprune as ep
    from equiprune.data.synthetic import SyntheticSettings

    manifest = ep.synthesize(folder / "set", SyntheticSettings(images=IMAGES, size=size, classes=3))
    settings = ep.DataSettings(manifest=str(manifest), label="label", attribute=("skin_tone",), image_size=size)
    cohort, pixels = ep.open_pixels(ep.read_manifest(settings), settings, folder / "cache")
    cohort = cohort.with_split(ep.draw_splits(cohort, settings.fractions, seed=0))
    names = tuple(f"class {number}" for number in range(classes))
    # The same images under more class names: the network's size is what counts here.
    cohort = replace(cohort, classes=names)
    training = ep.Training(
        pixels=pixels,
        settings=ep.TrainingSettings(epochs=1, batch_size=8, augment="none"),
        folder=Path(tempfile.mkdtemp(dir=folder)),
    )
    model = ep.Classifier.build(ep.Design(backbone=backbone, classes=names, image_size=size))
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if job == "train":
        ep.Vanilla()(model, cohort, training)
    else:
        ep.FairPrune(ratio=0.1, step=0.05, samples=4, budget=None)(model, cohort, training)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"parameters": parameters, "start": start, "peak": peak, "torch": torch.__version__}


def cache_held(size: int, folder: Path) -> tuple[float, float]:
    """MiB of a large cache, and MiB of anonymous memory that reading all of it in batches adds."""
    from equiprune.data.cohort import Cohort
    from equiprune.data.loader import batches
    from equiprune.data.pixels import Pixels

    rows = 512 * MIB // (size * size * 3)
    array = np.lib.format.open_memmap(folder / "large.npy", mode="w+", dtype=np.uint8, shape=(rows, size, size, 3))
    image = np.array([f"{row:09}.png" for row in range(rows)])
    zeros = np.zeros(rows, dtype=np.int64)
    cohort = Cohort(folder, image, zeros, ("a", "b"), zeros, ("x", "y"),
                    "attribute", None, None, np.arange(rows), "")  # fmt: skip
    pixels = Pixels(array, image)
    held: list[float] = []
    for batch in batches(cohort, pixels, batch_size=256):
        len(batch.index)
        held.append(_anonymous())
    return array.nbytes / MIB, max(held) - held[0]


def _anonymous() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(float(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon"))


def main() -> None:
    """Prints the table, or one job's figures as JSON where `--job` asks for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vgg11")
    parser.add_argument("--classes", type=int, default=114)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--job", choices=("train", "fairprune", "cache"))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.job == "cache":
        print(json.dumps(cache_held(given.size, given.folder)))
        return
    if given.job:
        print(json.dumps(measure(given.job, given.backbone, given.classes, given.size, given.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {job: _apart(job, given, folder) for job in ("train", "fairprune", "cache")}
    parameters = found["train"]["parameters"]
    print(f"{platform.machine()}, {platform.processor() or 'unknown processor'}, torch {found['train']['torch']}")
    print(f"{given.backbone}, {given.classes} classes, {given.size} px: parameters {parameters / MIB:.0f} MiB")
    for job in ("train", "fairprune"):
        peak = found[job]["peak"]
        print(f"{job:10} peak {peak / MIB:6.0f} MiB = {peak / parameters:.1f} x parameters")
    more = (found["fairprune"]["peak"] - found["train"]["peak"]) / parameters
    print(f"FairPrune above training: {more:+.1f} x parameters (at most +4)")
    size, held = found["cache"]
    print(f"reading a cache of {size:.0f} MiB adds {held:.1f} MiB of anonymous memory")


def _apart(job: str, given: argparse.Namespace, folder: str) -> Any:  # noqa: ANN401 - JSON
    command = [sys.executable, __file__, "--job", job, "--folder", folder]
    command += ["--backbone", given.backbone, "--classes", str(given.classes), "--size", str(given.size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

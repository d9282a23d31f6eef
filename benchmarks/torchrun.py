"""Images a second of training by one process with all cores, by one with one core, and by torchrun's two.

    python benchmarks/torchrun.py --out FOLDER [--backbone resnet18] [--size 64] [--images 1500]

Each is a run of its own by the command line; the first epoch, in which memory is taken, is left out. All see the same
batches and give the same model up to rounding, which grows with every step: the weights of two processes should be no
further from those of one than the weights of one core are from those of all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from safetensors.numpy import load_file

RECIPE = """
[data]
manifest = "{manifest}"
label = "label"
attribute = "skin_tone"
unit = "patient_id"
image_size = {size}
[model]
backbone = "{backbone}"
[training]
epochs = 4
batch_size = 64
augment = "none"
[[step]]
method = "vanilla"
"""


def main() -> None:
    """Measures and prints."""
    from equiprune.data.synthetic import SyntheticSettings, synthesize

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=1500)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "set" / "manifest.csv").is_file():
        synthesize(given.out / "set", SyntheticSettings(images=given.images, size=given.size))
    recipe = given.out / "recipe.toml"
    manifest = given.out.absolute() / "set" / "manifest.csv"
    recipe.write_text(RECIPE.format(manifest=manifest, size=given.size, backbone=given.backbone))
    cores = os.cpu_count() or 1
    python, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    print(f"{platform.processor() or platform.machine()}, {cores} cores, {given.backbone}, {given.size} px, batch 64")
    models = []
    for name, start, threads in (
        ("one process, one core", python, 1),
        (f"one process, {cores} cores", python, cores),
        ("two processes", torchrun, max(1, cores // 2)),
    ):
        out = given.out / name.replace(" ", "-").replace(",", "")
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run(
            [*start, "-m", "equiprune", "run", str(recipe), "--out", str(out), "--device", "cpu"],
            check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        (step,) = (out / "steps").iterdir()
        records = [json.loads(line) for line in (step / "log.jsonl").read_text().splitlines()]
        train = sum(line.endswith(",train") for line in (out / "split.csv").read_text().splitlines())
        seconds = [record["seconds"] for record in records[1:]]
        print(f"  {name}: {train * len(seconds) / sum(seconds):.0f} images/s, validation of each epoch included")
        models.append(load_file(step / "model.safetensors"))
    alone, whole, shared = models
    for name, other in (("one core", alone), ("two processes", shared)):
        off = max(abs(whole[key] - other[key]).max() for key in whole)
        print(f"  {name} against {cores} cores: weights and statistics differ by at most {off:.2g}")


if __name__ == "__main__":
    main()

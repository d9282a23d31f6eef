"""What a sweep over β and ratio costs beside one FairPrune run, and beside every point by itself.

    python benchmarks/sweep.py --out FOLDER [--backbone resnet18] [--size 64] [--images 1500]

One model is trained; then six values of β and four ratios are pruned from it: the largest ratio at one β alone, the 24
points as a sweep by one worker, and 24 times alone, of which the four ratios of one β are measured. All in one process.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path

RECIPE = """
[data]
manifest = "{manifest}"
label = "label"
attribute = "skin_tone"
unit = "patient_id"
image_size = {size}
[model]
backbone = "{backbone}"
{weights}
[training]
epochs = 2
batch_size = 64
learning_rate = 1e-3
augment = "none"
[[step]]
method = "{method}"
"""
PRUNED = """beta = {beta}
ratio = {ratio}
step = 0.05
samples = {samples}
keep = "last"
budget = 1.0
"""
BETA = [0.05, 0.1, 0.2, 0.33, 0.5, 0.7]
RATIO = [0.05, 0.15, 0.25, 0.35]


def main() -> None:
    """Measures and prints."""
    from equiprune.data.synthetic import SyntheticSettings, synthesize
    from equiprune.grid import Grid
    from equiprune.recipe import Recipe
    from equiprune.run import Place, carry_out
    from equiprune.sweep import Sweep

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=300)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "set" / "manifest.csv").is_file():
        synthesize(given.out / "set", SyntheticSettings(images=given.images, size=given.size))
    trained = given.out / "vanilla"

    out: Path = given.out

    def written(method: str, more: str = "") -> Path:
        weights = f'weights = "{trained}"\ntrained = true' if more else ""
        path = out / f"{method}.toml"
        text = RECIPE.format(
            manifest=given.out / "set" / "manifest.csv", size=given.size, backbone=given.backbone, weights=weights,
            method=method,
        )  # fmt: skip
        path.write_text(text + more)
        return path

    def took(work: Callable[[], object]) -> float:
        started = time.monotonic()
        work()
        return time.monotonic() - started

    def alone(beta: float, ratio: float) -> Callable[[], object]:
        out = given.out / f"alone-{beta}-{ratio}"
        shutil.rmtree(out, ignore_errors=True)
        recipe = Recipe.read(written("fairprune", PRUNED.format(beta=beta, ratio=ratio, samples=given.samples)))
        return lambda: carry_out(recipe, Place(out, audited=False))

    if not (trained / "audit.json").is_file():
        carry_out(Recipe.read(written("vanilla")), Place(trained, replicates=20))
    each = {ratio: took(alone(0.33, ratio)) for ratio in RATIO}
    one, naive = each[RATIO[-1]], len(BETA) * sum(each.values())
    shutil.rmtree(given.out / "sweep", ignore_errors=True)
    sweep = Sweep(given.out / "sweep")
    grid = Grid.read(written("fairprune", PRUNED.format(beta=BETA, ratio=RATIO, samples=given.samples)), {})
    sweep.begin(grid, {})
    whole = took(lambda: sweep.work(grid, Place(sweep.path)))
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {given.backbone}, {given.size} px, {given.samples} images a group")
    print(f"  one run to {RATIO[-1]:g}: {one:.0f} s")
    print(f"  the sweep: {whole:.0f} s, {whole / one:.2f} times one run")
    print(f"  every point alone: {naive:.0f} s, {naive / whole:.1f} times the sweep")


if __name__ == "__main__":
    main()

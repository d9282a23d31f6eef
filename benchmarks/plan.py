"""What the published grids cost on 1, 8 and 64 devices, on paper: from the steps of the recipes and measured passes.

    python benchmarks/plan.py [--recipes recipes] [--teraflops 20]

The unit is a plain pass: one image forwards and backwards. It is measured here for each network; for a device that is
not at hand it is its arithmetic at the rate that is given. What a training objective or a second derivative costs in
plain passes was measured by other benchmarks, which are named beside each figure. Steps are put on devices as soon as
the step before them is done, those with the longest way to go first; a step runs on one device.
"""

from __future__ import annotations

import argparse
import heapq
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from equiprune.grid import Grid
from equiprune.models.classifier import Classifier
from equiprune.models.costs import flops
from equiprune.models.design import Design
from equiprune.objectives import OBJECTIVES
from equiprune.recipe import Recipe, Step
from equiprune.run import step_key

IMAGES = {"fitzpatrick": 16_577, "isic": 25_331, "cxr": 112_120}  # of the data sets, by a part of the recipe's text
CLASSES = {"fitzpatrick": 114, "isic": 8, "cxr": 14}
TIMES = {  # plain training, docs/objectives.md
    "advrev": 1.79, "fairadabn": 1.21, "mfd": 1.29,
}  # fmt: skip
COLUMN = {"vgg11": 1.17, "resnet18": 1.80}  # plain passes of `stochastic`, one column, docs/curvature.md
FORWARD = 1 / 3
GROUPS = 2
DEVICES = (1, 8, 64)
BATCH = 32


@dataclass
class Work:
    """A step that is carried out once.

    Args:
        passes: plain passes.
        before: key of the step it follows.
        rest: passes of the longest way that begins with it.
        trains: whether it is a training objective.
    """

    passes: float
    before: str | None
    rest: float = 0.0
    trains: bool = False


def main() -> None:
    """Prints a row a recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=Path, default=Path(__file__).parents[1] / "recipes")
    parser.add_argument("--teraflops", type=float, default=20.0, help="that a device gets out of these networks")
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads here; a device of {given.teraflops:g} TFLOP/s")
    print("| recipe | steps | alone | passes | here | 1 device | 8 | 64 | longest way |")
    print("|---" * 9 + "|")
    measured: dict[tuple[str, int, int, int], tuple[float, float]] = {}
    whole, together = 0.0, dict[str, Work]()
    for path in sorted(given.recipes.glob("*.toml")):
        grid = Grid.read(path, {})
        name = next(key for key in IMAGES if key in path.read_text().lower())
        first = grid.recipe(next(grid.points()))
        network = (first.model.backbone, CLASSES[name], first.data.channels, first.data.image_size)
        if network not in measured:
            measured[network] = measure(*network)
        seconds, arithmetic = measured[network]
        works, alone = planned(grid, name)
        passes = sum(work.passes for work in works.values())
        device = 3 * arithmetic / (given.teraflops * 1e12)
        walls = [schedule(works, many) * device / 3600 for many in DEVICES]
        whole += passes * seconds / 3600
        for key, work in works.items():
            before = None if work.before is None else path.stem + work.before
            together[path.stem + key] = Work(
                work.passes * device / 3600, before, work.rest * device / 3600, work.trains
            )
        row = [passes * seconds / 3600, *walls, max(work.rest for work in works.values()) * device / 3600]
        print(f"| {path.stem} | {len(works)} | {alone} | {passes / 1e6:.1f} M | {' | '.join(map(hours, row))} |")
    walls = [schedule(together, many) for many in DEVICES]
    row = [whole, *walls, max(work.rest for work in together.values())]
    print(f"| all at once | {len(together)} | | | {' | '.join(map(hours, row))} |")
    trained = sum(work.passes for work in together.values() if work.trains) / walls[0]
    print(f"of the time on a device {trained:.0%} is training from the start, the rest pruning with its tuning")
    for (backbone, classes, _, size), (seconds, arithmetic) in measured.items():
        rate = 3 * arithmetic / seconds / 1e9
        print(f"{backbone}, {classes} classes, {size} px: a plain pass {1e3 * seconds:.1f} ms here, {rate:.0f} GFLOP/s")


def hours(value: float) -> str:
    """Hours, or days where there are many."""
    return f"{value:.1f} h" if value < 100 else f"{value / 24:.0f} d"


def measure(backbone: str, classes: int, channels: int, size: int) -> tuple[float, float]:
    """Seconds of a plain pass of one image here, and its operations forwards."""
    names = tuple(map(str, range(classes)))
    model = Classifier.build(Design(backbone=backbone, classes=names, channels=channels, image_size=size), 0).train()
    images, label = torch.randn(BATCH, channels, size, size), torch.arange(BATCH) % classes
    times = []
    for _ in range(4):
        started = time.perf_counter()
        cross_entropy(model(images), label).backward()
        times.append(time.perf_counter() - started)
    return min(times) / BATCH, flops(model)


def planned(grid: Grid, name: str) -> tuple[dict[str, Work], int]:
    """The steps that are carried out, by key; and how many there would be if every point were a run by itself."""
    works: dict[str, Work] = {}
    alone = 0
    pruned: dict[str, tuple[str, float]] = {}  # ratios of one setting share their way: only the longest is walked
    for choice in grid.points():
        recipe = grid.recipe(choice)
        alone += len(recipe.step)
        keys = [step_key(recipe, number, "") for number in range(1, len(recipe.step) + 1)]
        for number, step in enumerate(recipe.step, start=1):
            key = keys[number - 1]
            if key in works:
                continue
            before = keys[step.start - 1] if step.start else None
            passes = cost(recipe, step, IMAGES[name])
            if hasattr(step.method, "ratio") and hasattr(step.method, "step"):
                shorter = recipe.model_copy(update={"step": (*recipe.step[: number - 1], without_ratio(step))})
                track = step_key(shorter, number, "")
                other, known = pruned.get(track, (key, 0.0))
                if other != key:
                    works[other].passes -= known
                    passes = max(passes, known)
                pruned[track] = (key, passes)
            works[key] = Work(passes, before, trains=step.name in OBJECTIVES)
    for work in works.values():
        follow(works, work)
    return works, alone


def without_ratio(step: Step) -> Step:
    """The same for all ratios."""
    return step.model_copy(update={"method": step.method.model_copy(update={"ratio": 1.0})})


def follow(works: dict[str, Work], work: Work) -> None:
    """Tells the steps before it how long the way through this one is."""
    way, one = work.passes, work
    one.rest = max(one.rest, way)
    while one.before is not None:
        one = works[one.before]
        way += one.passes
        one.rest = max(one.rest, way)


def cost(recipe: Recipe, step: Step, images: int) -> float:
    """Plain passes of one step."""
    train, validation = (images * share for share in recipe.data.fractions[:2])
    looked = validation * FORWARD
    if step.name in OBJECTIVES:
        return step.training.epochs * (train * TIMES.get(step.name, 1.0) + looked)
    method = step.method.model_dump()
    if "tune" in method:  # channels
        return float(method["iterations"] * (train * FORWARD + method["tune"] * (train + looked)))
    if "step" in method and "samples" in method:
        column = COLUMN.get(recipe.model.backbone, max(COLUMN.values()))
        return float(math.ceil(method["ratio"] / method["step"]) * (GROUPS * method["samples"] * column + looked))
    return LAYERS * looked


LAYERS = 5  # of the small network that layer pruning tries


def schedule(works: dict[str, Work], devices: int) -> float:
    """Passes until all is done, on so many devices."""
    waiting = {key for key, work in works.items() if work.before is not None}
    ready = [(-work.rest, key) for key, work in works.items() if key not in waiting]
    heapq.heapify(ready)
    busy: list[tuple[float, str]] = []
    now = 0.0
    while ready or busy:
        while ready and len(busy) < devices:
            _, key = heapq.heappop(ready)
            heapq.heappush(busy, (now + works[key].passes, key))
        now, done = heapq.heappop(busy)
        for key in after(works, waiting, done):
            waiting.remove(key)
            heapq.heappush(ready, (-works[key].rest, key))
    return now


def after(works: dict[str, Work], waiting: set[str], done: str) -> Sequence[str]:
    """The steps that may begin now."""
    return list(_after(works, waiting, done))


def _after(works: dict[str, Work], waiting: set[str], done: str) -> Iterator[str]:
    yield from (key for key in sorted(waiting) if works[key].before == done)


if __name__ == "__main__":
    main()

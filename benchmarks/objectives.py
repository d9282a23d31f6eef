"""Training objectives: time of a step beside plain training, and what they do on the synthetic set.

    python benchmarks/objectives.py --only steps
    python benchmarks/objectives.py --only table --out FOLDER [--seeds 5] [--workers 2]

`steps` times one step of every objective in turns, so that a slow moment hits all alike. `table` trains every objective
on a synthetic set whose dark group is harder, prunes each with FairPrune and with SCP, and prints test figures over
seeds, as they come out; it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FACTORY = f"{HERE / 'small_net.py'}:small"
GAPS = ("eopp1", "eopp0", "eodd")
PRUNING = {
    "fairprune": {"ratio": 0.05, "step": 0.005, "samples": 300, "keep": "last"},
    "scp": {"step": 0.05, "iterations": 3, "tune": 3, "keep": "last", "gain": None, "budget": 0.05},
}
EXTRA = {  # what an objective needs beside the passes of plain training
    "mfd": "the teacher's pass",
    "advrev": "a second pass backwards",
    "multi_exit": "the early exits",
}


def steps(backbone: str, size: int, batch: int, rounds: int) -> None:
    """Milliseconds of a step by objective."""
    import torch

    from equiprune.data.loader import Batch
    from equiprune.models.classifier import Classifier
    from equiprune.models.design import Design
    from equiprune.models.reshaping import reshape
    from equiprune.objectives import OBJECTIVES
    from equiprune.training.loop import Training

    classes = tuple(f"c{k}" for k in range(8))
    cohort = _blank_cohort(classes, batch)
    generator = torch.Generator().manual_seed(0)
    drawn = Batch(
        torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=generator),
        torch.from_numpy(cohort.label),
        torch.from_numpy(cohort.group),
        torch.arange(batch),
    )
    made: dict[str, Callable[[], None]] = {}
    for name, kind in OBJECTIVES.items():
        model = Classifier.build(Design(backbone=backbone, classes=classes, image_size=size))
        objective: Any = kind()
        if hasattr(objective, "form"):
            reshape(model, objective.form(model, cohort))
        without: Any = None  # a step needs no pixels
        loss: Any = objective.loss(model, cohort, Training(without))
        beside = list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []
        optimizer = torch.optim.Adam([*model.parameters(), *beside], lr=1e-4)
        model.train().to(memory_format=torch.channels_last)
        made[name] = _step(model, loss, optimizer, drawn)
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(rounds + 1):
        for name, step in made.items():
            started = time.perf_counter()
            step()
            if turn:
                times[name].append(time.perf_counter() - started)
    median = {name: 1e3 * float(np.median(each)) for name, each in times.items()}
    print(f"{platform.processor() or platform.machine()}, {backbone}, {size} px, batch {batch}, {rounds} rounds")
    for name, value in median.items():
        more = f"  (with {EXTRA[name]})" if name in EXTRA else ""
        print(f"  {name:20} {value:8.1f} ms  {value / median['vanilla']:5.2f} times plain training{more}")


def _step(model: Any, loss: Any, optimizer: Any, batch: Any) -> Callable[[], None]:  # noqa: ANN401
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model, batch).backward()
        optimizer.step()
        model.apply_masks()

    return step


def _blank_cohort(classes: tuple[str, ...], rows: int) -> Any:  # noqa: ANN401
    from equiprune.data.cohort import Cohort

    index = np.arange(rows)
    return Cohort(
        Path(), index.astype(str), index % len(classes), classes, (index // len(classes)) % 2, ("dark", "light"),
        "tone", None, np.full(rows, "train"), index, "",
    )  # fmt: skip


def one(out: str, seed: int, epochs: int) -> None:
    """Everything of one seed; each line of `seed-N.jsonl` is one model's figures on test."""
    import torch

    from equiprune.audit import chance, point
    from equiprune.methods import METHODS
    from equiprune.models.classifier import Classifier
    from equiprune.models.design import Design
    from equiprune.objectives import OBJECTIVES
    from equiprune.predicting import predict
    from equiprune.training.loop import Training
    from equiprune.training.settings import TrainingSettings

    torch.set_num_threads(1)
    folder = Path(out)
    cohort, pixels = synthetic(folder)
    settings = TrainingSettings(epochs=epochs, batch_size=128, learning_rate=2e-3, augment="none")
    path = folder / f"seed-{seed}.jsonl"
    known = {json.loads(line)["model"] for line in path.read_text().splitlines()} if path.is_file() else set()

    def told(name: str, model: Any, started: float) -> None:  # noqa: ANN401
        found = predict(model, cohort.subset("test"), pixels)
        figures = point(found)
        floors = chance(found, GAPS, replicates=500)
        record = {
            "model": name, "f1": figures.f1, "f1_by_group": figures.f1_by_group,
            **{gap: getattr(figures, gap) for gap in GAPS},
            "floor": {gap: floors[gap][0] for gap in GAPS}, "p": {gap: floors[gap][1] for gap in GAPS},
            "seconds": time.monotonic() - started,
        }  # fmt: skip
        with path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")

    plain: Any = None
    for name in (*OBJECTIVES, "group_thresholds"):
        saved = folder / f"model-{seed}-{name}"
        if not (saved / "model.json").is_file():
            started = time.monotonic()
            start = Classifier.build(Design(backbone=FACTORY, classes=cohort.classes, image_size=48), seed)
            given = plain if name in ("mfd", "group_thresholds") else start
            made = METHODS[name]()(given, cohort, Training(pixels, settings, seed=seed))
            told(name, made, started)
            made.save(saved)
        model = Classifier.load(saved, factory=FACTORY)
        plain = model if name == "vanilla" else plain
        for pruning, own in PRUNING.items():
            if f"{name} + {pruning}" not in known:
                started = time.monotonic()
                pruned = METHODS[pruning](**own)(model, cohort, Training(pixels, settings, seed=seed))
                told(f"{name} + {pruning}", pruned, started)


def synthetic(folder: Path) -> Any:  # noqa: ANN401
    from equiprune.data.manifest import read_manifest
    from equiprune.data.pixels import open_pixels
    from equiprune.data.settings import DataSettings
    from equiprune.data.splits import draw_splits

    settings = DataSettings(
        manifest=str(folder / "set" / "manifest.csv"), label="label", attribute=("skin_tone",), unit="patient_id",
        image_size=48,
    )  # fmt: skip
    cohort, pixels = open_pixels(read_manifest(settings), settings, folder / "cache")
    return cohort.with_split(draw_splits(cohort, settings.fractions, seed=0)), pixels


def table(folder: Path, seeds: int, workers: int, epochs: int, images: int) -> None:
    """Runs what is missing and prints the table."""
    from equiprune.data.synthetic import SyntheticSettings, synthesize

    if not (folder / "set" / "manifest.csv").is_file():
        synthesize(folder / "set", SyntheticSettings(images=images, size=48))
    synthetic(folder)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(one, [str(folder)] * seeds, range(seeds), [epochs] * seeds))
    show(folder)


def show(folder: Path) -> None:
    """The table of what is there: means over seeds with 95 % intervals, changes paired by seed."""
    from scipy.stats import t

    from equiprune.metrics.tradeoff import fate

    runs = {
        path.stem: {record["model"]: record for record in map(json.loads, path.read_text().splitlines())}
        for path in sorted(folder.glob("seed-*.jsonl"))
    }
    names = [name for name in next(iter(runs.values())) if all(name in run for run in runs.values())]

    def mean(values: list[float]) -> str:
        given = np.array([value for value in values if value is not None and math.isfinite(value)])
        if len(given) < 2:
            return "not estimable"
        half = float(t.ppf(0.975, len(given) - 1) * given.std(ddof=1) / math.sqrt(len(given)))
        return f"{given.mean():.3f} ± {half:.3f}"

    def groups(record: Any) -> float:  # noqa: ANN401
        return float(np.mean(list(record["f1_by_group"].values())))

    print(f"{len(runs)} seeds; means ± half of the 95 % interval over seeds; test split")
    print("| model | F1 | Eopp1 | by chance | seeds with p < .05 | FATE (Eopp1) against vanilla |")
    print("|---|---|---|---|---|---|")
    for name in names:
        found = [run[name] for run in runs.values()]
        first = [run["vanilla"] for run in runs.values()]
        trade = [fate(groups(a), groups(b), a["eopp1"], b["eopp1"]) for a, b in zip(found, first, strict=True)]
        low = sum(record["p"]["eopp1"] < 0.05 for record in found)
        cells = (
            mean([r["f1"] for r in found]), mean([r["eopp1"] for r in found]),
            f"{np.mean([r['floor']['eopp1'] for r in found]):.3f}", str(low), mean(trade) if name != "vanilla" else "",
        )  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("steps", "table", "show"))
    parser.add_argument("--out", type=Path, default=Path("objectives"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if given.only in (None, "steps"):
        steps("resnet18", 64, 32, given.rounds)
    if given.only in (None, "table"):
        given.out.mkdir(parents=True, exist_ok=True)
        table(given.out, given.seeds, given.workers, given.epochs, given.images)
    if given.only == "show":
        show(given.out)


if __name__ == "__main__":
    main()

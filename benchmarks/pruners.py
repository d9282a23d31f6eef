"""Channel prunings side by side, at equal sparsity and at equal accuracy, over seeds.

    python benchmarks/pruners.py --out FOLDER [--seeds 5] [--workers 2]

Each seed trains one network on a synthetic set whose dark group is harder, and every method takes a tenth of every
layer's channels three times, trained on for three epochs each. Every iteration is measured on test; which one stands
for equal accuracy is decided on validation. Goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from objectives import FACTORY, GAPS, synthetic

HEAD = "| model | parameters gone | F1 | Eopp1 | by chance | FATE (Eopp1) |\n|---|---|---|---|---|---|"
LOSS = 0.02  # macro F1 on validation that equal accuracy allows
SCHEDULE = {
    "layer": "all", "step": 0.1, "iterations": 3, "tune": 3, "keep": "last", "gain": None, "budget": None,
}  # fmt: skip
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "adversary_guided": ("adversary_guided", {"samples": 500}),
    "adversary_guided, λ = 0": ("adversary_guided", {"samples": 500, "weight": 0.0}),
    "adversary_guided, λ = 0.1": ("adversary_guided", {"samples": 500, "weight": 0.1}),
    "bias_gradient": ("bias_gradient", {"samples": 500}),
    "scp": ("scp", {"samples": 500}),
    "fairprune_channels": ("fairprune_channels", {"samples": 300}),
    "magnitude_channels": ("magnitude_channels", {}),
    "random_channels": ("random_channels", {}),
}
ALONE: dict[str, tuple[str, dict[str, Any]]] = {  # which prune weights, not channels, and are not trained on
    "layer_pruning": ("layer_pruning", {"keep": "pruned", "budget": 0.05}),
    "fairprune": ("fairprune", {"ratio": 0.05, "step": 0.005, "samples": 300, "keep": "best"}),
}


def one(out: str, seed: int, epochs: int) -> None:
    """Everything of one seed; a line of `seed-N.jsonl` is one model's figures on test."""
    import torch

    from equiprune.files import read_json_lines
    from equiprune.methods import METHODS as KINDS
    from equiprune.models.classifier import Classifier
    from equiprune.models.design import Design
    from equiprune.training.loop import Training
    from equiprune.training.settings import TrainingSettings

    torch.set_num_threads(1)
    folder = Path(out)
    cohort, pixels = synthetic(folder)
    settings = TrainingSettings(epochs=epochs, batch_size=128, learning_rate=2e-3, augment="none")
    path, saved = folder / f"seed-{seed}.jsonl", folder / f"model-{seed}"
    known = {json.loads(line)["model"] for line in path.read_text().splitlines()} if path.is_file() else set()
    if not (saved / "model.json").is_file():
        start = Classifier.build(Design(backbone=FACTORY, classes=cohort.classes, image_size=48), seed)
        KINDS["vanilla"]()(start, cohort, Training(pixels, settings, seed=seed)).save(saved)
    plain = Classifier.load(saved, factory=FACTORY)
    lines = [_measured("vanilla", 0, plain, cohort, pixels, {})] if "vanilla" not in known else []
    for name, (kind, own) in {**METHODS, **ALONE}.items():
        if name in known:
            continue
        place = folder / f"steps-{seed}" / name.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        schedule = SCHEDULE if name in METHODS else {}
        made = KINDS[kind](**{**schedule, **own})(plain, cohort, Training(pixels, settings, seed=seed, folder=place))
        seconds = time.monotonic() - started
        if name in ALONE:
            lines.append(_measured(name, 0, made, cohort, pixels, {"seconds": seconds}))
        else:
            for record in read_json_lines(place / "log.jsonl")[1:-1]:
                number = record["iteration"]
                model = Classifier.load(place / "iterations" / f"{number:02d}", factory=FACTORY)
                within = read_json_lines(place / "log.jsonl")[0]["f1"] - record["f1"] <= LOSS
                more = {"within": within, "removed": record["removed"], "seconds": seconds, "told": record.get("told")}
                lines.append(_measured(name, number, model, cohort, pixels, more))
        with path.open("a") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
        lines = []


def _measured(name: str, number: int, model: Any, cohort: Any, pixels: Any, more: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    from equiprune.audit import chance, point
    from equiprune.predicting import predict

    found = predict(model, cohort.subset("test"), pixels)
    figures, floors = point(found), chance(found, GAPS, replicates=500)
    return {
        "model": name, "iteration": number, "f1": figures.f1, "f1_by_group": figures.f1_by_group,
        **{gap: getattr(figures, gap) for gap in GAPS},
        "floor": {gap: floors[gap][0] for gap in GAPS}, "parameters": model.facts().parameters, **more,
    }  # fmt: skip


def show(folder: Path) -> None:
    """Means over seeds with 95 % intervals; changes against the seed's own unpruned model."""
    runs = [
        [json.loads(line) for line in path.read_text().splitlines()] for path in sorted(folder.glob("seed-*.jsonl"))
    ]
    print(f"{platform.processor() or platform.machine()}, {len(runs)} seeds")
    for title, choose in (("equal sparsity: three iterations", _last), ("equal accuracy", _within)):
        print(f"\n{title}\n\n{HEAD}")
        for name in ("vanilla", *METHODS, *ALONE):
            chosen = [choose(run, name) for run in runs]
            if all(record is not None for record in chosen):
                print(_row(name, chosen, [_last(run, "vanilla") for run in runs]))


def _of(run: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in run if record["model"] == name]


def _last(run: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    found = _of(run, name)
    return found[-1] if found else None


def _within(run: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The last iteration before the accuracy was spent; the unpruned model where the first one spent it."""
    found = _of(run, name)
    if not found:
        return None
    kept = _of(run, "vanilla")[0]
    for record in found:
        if not record.get("within", True):
            break
        kept = record
    return kept


def _row(name: str, chosen: list[Any], plain: list[Any]) -> str:
    from equiprune.metrics.tradeoff import fate

    fates = [
        fate(_groups(now), _groups(before), now["eopp1"], before["eopp1"])
        for now, before in zip(chosen, plain, strict=True)
    ]
    removed = [100 * (1 - now["parameters"] / before["parameters"]) for now, before in zip(chosen, plain, strict=True)]
    cells = (
        name, f"{np.mean(removed):.0f} %",
        _mean([one["f1"] for one in chosen]), _mean([one["eopp1"] for one in chosen]),
        f"{np.mean([one['floor']['eopp1'] for one in chosen]):.3f}", "" if name == "vanilla" else _mean(fates),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _groups(record: dict[str, Any]) -> float:
    return float(np.mean(list(record["f1_by_group"].values())))


def _mean(values: list[float]) -> str:
    from scipy.stats import t

    given = np.array(values)
    half = float(t.ppf(0.975, len(given) - 1) * given.std(ddof=1) / math.sqrt(len(given)))
    return f"{given.mean():.3f} ± {half:.3f}"


def main() -> None:
    """Runs what is missing and prints both tables."""
    from equiprune.data.synthetic import SyntheticSettings, synthesize

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--show", action="store_true", help="only prints what is there")
    given = parser.parse_args()
    if not given.show:
        if not (given.out / "set" / "manifest.csv").is_file():
            synthesize(given.out / "set", SyntheticSettings(images=given.images, size=48))
        synthetic(given.out)
        with ProcessPoolExecutor(given.workers) as pool:
            list(pool.map(one, [str(given.out)] * given.seeds, range(given.seeds), [given.epochs] * given.seeds))
    show(given.out)


if __name__ == "__main__":
    main()

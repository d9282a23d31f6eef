"""Do the intervals of `equiprune compare` cover the true change? By simulation with a known truth.

Five classes from 40 % to 8 % common, two groups, two models whose errors hang together. Five scenes: neither model is
unfair; both are, alike; the first is and the second is not; the second is better; the second is over-confident. The
truth comes from 600,000 images. Shown is the share of 95 % intervals that hold it, and the share of p < 0.05.

Run: python benchmarks/comparing.py [--sets 240] [--rows 600 2000] [--jobs 2]
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

import equiprune as ep
from equiprune.metrics.tradeoff import fate

COMMON = np.array([0.4, 0.25, 0.15, 0.12, 0.08])
SCENES = ("no unfairness", "both unfair", "mended", "better", "over-confident")
GAPS = ("eopp0", "eopp1", "eodd", "f1", "ece", "auroc", "brier", "ppv", "calibration_slope")
FIGURES = ("accuracy", "f1", "ece", "auroc", "brier")
FATES = ("eopp0", "eopp1", "eodd")
MANY = 600_000
LIFT = 1.8
"""By how much the logit of the true class stands out; 0.6 less in a group that is served badly."""


def two(scene: str, rows: int, rng: np.random.Generator) -> list[ep.Predictions]:
    """Both models' predictions of one test set."""
    label, group = rng.choice(len(COMMON), rows, p=COMMON), rng.integers(2, size=rows)
    common = 0.8 * rng.normal(size=(rows, len(COMMON)))
    unfair = {"both unfair": (True, True), "mended": (True, False)}.get(scene, (False, False))
    better = {"better": (0.0, 0.5)}.get(scene, (0.0, 0.0))
    sharper = {"over-confident": (1.0, 1.5)}.get(scene, (1.0, 1.0))
    found = []
    for worse, more, sharp in zip(unfair, better, sharper, strict=True):
        logit = common + 0.6 * rng.normal(size=common.shape)
        logit[np.arange(rows), label] += LIFT + more - 0.6 * (worse & (group == 1))
        score = np.exp(sharp * logit)
        score /= score.sum(axis=1, keepdims=True)
        found.append(ep.Predictions(label, score, group, [f"c{k}" for k in range(len(COMMON))], ["a", "b"]))
    return found


def truth(scene: str) -> dict[str, float]:
    """The true change of every figure, and the true FATEs."""
    old, new = (ep.audit(p, replicates=5) for p in two(scene, MANY, np.random.default_rng(99)))

    def number(one: Any) -> float:  # noqa: ANN401 - an Estimate or a Gap
        return float(one.value)

    after, before = (float(np.mean([number(group.f1) for group in one.by_group.values()])) for one in (new, old))
    found = {f"gap {name}": number(new.gaps[name]) - number(old.gaps[name]) for name in GAPS}
    found |= {name: number(new.overall[name]) - number(old.overall[name]) for name in FIGURES}
    return found | {
        f"fate {name}": fate(after, before, number(new.gaps[name]), number(old.gaps[name])) for name in FATES
    }


def held(seed: int, scene: str, rows: int, true: dict[str, float]) -> dict[str, tuple[bool, bool]]:
    """Whether each interval holds the truth, and whether p < 0.05 (never for FATE), on one test set."""
    old, new = two(scene, rows, np.random.default_rng([SCENES.index(scene), rows, seed]))
    told = ep.compare(old, {"new": new}, replicates=400, seed=seed).comparisons["new"]
    found = {f"gap {name}": told.gaps[name] for name in GAPS} | {name: told.overall[name] for name in FIGURES}
    ends: dict[str, Any] = {**found, **{f"fate {name}": told.fate[name] for name in FATES}}
    result = {}
    for name, value in true.items():
        low, high = ends[name].low, ends[name].high
        inside = (low is None or low - 1e-9 <= value) and (high is None or value <= high + 1e-9)
        result[name] = inside, name in found and (found[name].p_value or 1) < 0.05
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=240)
    parser.add_argument("--rows", type=int, nargs="+", default=[600, 2000])
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=SCENES)
    parser.add_argument("--jobs", type=int, default=2)
    chosen, start = parser.parse_args(), time.perf_counter()
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for scene in chosen.scenes:
            true = truth(scene)
            for rows in chosen.rows:
                job = partial(held, scene=scene, rows=rows, true=true)
                found = list(pool.map(job, range(chosen.sets), chunksize=10))
                print(f"\n{scene}, {rows} images: true change, share of intervals that hold it, share of p < 0.05")
                for name, value in true.items():
                    inside, small = np.mean([one[name] for one in found], axis=0)
                    print(
                        f"{name:>22}{value:>9.3f}{inside:>8.3f}{'' if 'fate' in name else f'{small:8.3f}'}", flush=True
                    )
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

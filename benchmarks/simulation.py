"""Do the audit's intervals cover, are its p-values calibrated, and does it find what theory says it should?

Three tables, by simulation with a known truth:

- coverage: two groups, every class with the same number of positives in each; true rates .5, .8, .95, with and
  without a difference between the groups. How often a 95 % interval holds the true value.
- null: fair data sets. How often p < 0.05.
- power: a planted difference in one class. How often p < 0.05, beside the power of the two-proportion test by theory,
  and how often the gap called detectable with 80 % power is found.

Run: python benchmarks/simulation.py [--audits 2000] [--only coverage|null|power] [--jobs 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

import equiprune as ep
from equiprune.metrics import null

null.REFITTED = 0  # nothing is said of calibration here, and fitting it anew takes most of the time
SUPPORT = (8, 15, 30, 100, 300)
RATES = (0.5, 0.8, 0.95)
GAPS = ("eopp1", "eopp0", "eodd", "ppv", "selection_rate", "accuracy", "recall", "f1")
DIFFERENCE = 0.2


def confusion(classes: int, rate: np.ndarray) -> np.ndarray:
    """Probabilities of the prediction by (group, true class): `rate` of each is right, the rest spread evenly."""
    right = np.broadcast_to(rate, (2, classes))
    wrong = (1 - right[..., None]) / (classes - 1)
    return np.where(np.eye(classes, dtype=bool), right[..., None], wrong)


def drawn(law: np.ndarray, positives: int, rng: np.random.Generator) -> ep.Predictions:
    """A test set with so many rows of every class in both groups."""
    groups, classes, _ = law.shape
    group, label = (part.ravel() for part in np.meshgrid(np.arange(groups), np.arange(classes), indexing="ij"))
    group, label = np.repeat(group, positives), np.repeat(label, positives)
    called = (rng.random(len(label))[:, None] > np.cumsum(law[group, label], axis=1)).sum(axis=1).clip(max=classes - 1)
    score = np.full((len(label), classes), 0.4 / (classes - 1))
    score[np.arange(len(label)), called] = 0.6
    return ep.Predictions(label, score, group, [f"c{k}" for k in range(classes)], ["a", "b"])


def truths(law: np.ndarray) -> dict[str, float]:
    """The true value of every gap, when classes are equally common."""
    classes = law.shape[1]
    tpr = law[:, np.arange(classes), np.arange(classes)]
    called = law.sum(axis=1) / classes
    fpr = (called - tpr / classes) / (1 - 1 / classes)
    ppv = tpr / classes / called
    f1 = 2 * tpr / classes / (called + 1 / classes)
    gap = {name: np.abs(rate[0] - rate[1]) for name, rate in (("tpr", tpr), ("fpr", fpr), ("ppv", ppv))}
    return {
        "eopp1": gap["tpr"].mean(),
        "eopp0": gap["fpr"].mean(),
        "eodd": np.abs((tpr + fpr)[0] - (tpr + fpr)[1]).mean() / 2,
        "ppv": gap["ppv"].mean(),
        "selection_rate": np.abs(called[0] - called[1]).mean(),
        "accuracy": abs(tpr[0].mean() - tpr[1].mean()),
        "recall": abs(tpr[0].mean() - tpr[1].mean()),
        "f1": abs(f1[0].mean() - f1[1].mean()),
        "rate": float(tpr[0, 0]),
        "class": float(gap["tpr"][0]),
        "group f1": float(f1[0].mean()),
        "group accuracy": float(tpr[0].mean()),
    }


def held(found: Any, truth: dict[str, float]) -> dict[str, bool]:  # noqa: ANN401 - an Audit
    """Which intervals hold the truth."""

    def inside(one: Any, value: float) -> bool:  # noqa: ANN401 - an Estimate
        return bool(one.low - 1e-12 <= value <= one.high + 1e-12)

    first = next(row for row in found.by_class if row.group == "a")
    single = next(row for row in found.gaps_by_class if row.rate == "tpr")
    return {name: inside(found.gaps[name], truth[name]) for name in GAPS} | {
        "rate": inside(first.tpr, truth["rate"]),
        "class": inside(single, truth["class"]),
        "group f1": inside(found.by_group["a"].f1, truth["group f1"]),
        "group accuracy": inside(found.by_group["a"].accuracy, truth["group accuracy"]),
    }


def coverage(task: tuple[int, int, float, float, int]) -> dict[str, float]:
    """Share of audits whose intervals hold the truth, in one setting."""
    classes, positives, rate, less, audits = task
    law = confusion(classes, np.array([[rate], [rate - less]]))
    truth, rng = truths(law), np.random.default_rng([classes, positives, int(100 * rate), int(100 * less)])
    found = [held(ep.audit(drawn(law, positives, rng), replicates=200, seed=i), truth) for i in range(audits)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def fair(task: tuple[int, int, float, int]) -> dict[str, float]:
    """Share of fair data sets with p < 0.05, in one setting."""
    classes, positives, rate, audits = task
    law = confusion(classes, np.array([[rate], [rate]]))
    rng = np.random.default_rng([classes, positives, int(100 * rate)])
    found = [ep.audit(drawn(law, positives, rng), replicates=500, seed=i) for i in range(audits)]
    return {name: float(np.mean([(one.gaps[name].p_value or 1) < 0.05 for one in found])) for name in GAPS}


def planted(task: tuple[int, float, float, int]) -> dict[str, float]:
    """How often a difference of TPR in one of two classes is found, and a gap called detectable in both."""
    positives, rate, less, audits = task
    one = confusion(2, np.array([[rate, rate], [rate - less, rate]]))
    rng = np.random.default_rng([positives, int(100 * rate), int(100 * less)])
    found = [ep.audit(drawn(one, positives, rng), replicates=500, seed=i) for i in range(audits)]
    single = [next(row for row in a.gaps_by_class if row.rate == "tpr") for a in found]
    smallest = float(np.median([a.gaps["eopp1"].detectable or np.nan for a in found]))
    both = confusion(2, np.array([[rate], [rate - smallest]])) if smallest < rate else one
    again = [ep.audit(drawn(both, positives, rng), replicates=500, seed=i) for i in range(audits)]
    return {
        "found": float(np.mean([(row.p_value or 1) < 0.05 for row in single])),
        "theory": exact_power(positives, rate, rate - less),
        "detectable": smallest,
        "found then": float(np.mean([(a.gaps["eopp1"].p_value or 1) < 0.05 for a in again])),
    }


def exact_power(n: int, p: float, q: float) -> float:
    """Power of the two-proportion z-test at 0.05, by summing over all outcomes."""
    first, second = np.arange(n + 1), np.arange(n + 1)
    pooled = (first[:, None] + second) / (2 * n)
    noise = np.sqrt(np.maximum(pooled * (1 - pooled) * 2 / n, 1e-12))
    rejected = np.abs(first[:, None] - second) / n / noise > stats.norm.ppf(0.975)
    law = stats.binom.pmf(first, n, p)[:, None] * stats.binom.pmf(second, n, q)
    return float(law[rejected].sum())


def table(
    title: str, heads: tuple[str, ...], tasks: list[Any], job: Callable[[Any], dict[str, float]], jobs: int
) -> Iterator[str]:
    yield f"\n{title}"
    with ProcessPoolExecutor(jobs) as pool:
        for number, (task, row) in enumerate(zip(tasks, pool.map(job, tasks), strict=True)):
            if not number:
                yield "".join(f"{head:>10}" for head in heads) + "".join(f"{name:>15}" for name in row)
            yield "".join(f"{part:>10}" for part in task[: len(heads)]) + "".join(f"{v:>15.3f}" for v in row.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=2000)
    parser.add_argument("--only", choices=("coverage", "null", "power"))
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--support", type=int, nargs="+", default=list(SUPPORT))
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    start, n = time.perf_counter(), chosen.audits
    settings = list(product(chosen.classes, chosen.support, RATES))
    tables: dict[str, tuple[str, tuple[str, ...], list[Any], Callable[[Any], dict[str, float]]]] = {
        "coverage": (
            f"Coverage of 95 % intervals, {n} audits a row (B is worse by `less`)",
            ("classes", "positives", "rate", "less"),
            [(*one, less, n) for one in settings for less in (0.0, DIFFERENCE)],
            coverage,
        ),
        "null": (
            f"Share of fair data sets with p < 0.05, {max(n, 500)} a row",
            ("classes", "positives", "rate"),
            [(*one, max(n, 500)) for one in settings],
            fair,
        ),
        "power": (
            f"Planted difference of TPR in one of two classes, {max(n // 4, 100)} a row",
            ("positives", "rate", "less"),
            [(s, r, less, max(n // 4, 100)) for s in (30, 100, 300) for r in (0.8, 0.95) for less in (0.1, 0.2)],
            planted,
        ),
    }
    for name, (title, heads, tasks, job) in tables.items():
        if chosen.only in (None, name):
            for line in table(title, heads, tasks, job, chosen.jobs):
                print(line, flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

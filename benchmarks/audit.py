"""The audit's speed beside fairlearn's, doing the same work in the same run.

Four measurements, each in a process of its own where memory counts:

- point: a million rows, 2 groups, 9 classes: every rate of every class and group, and its gaps, from one table of
  counts; beside MetricFrame with the same rates (a MetricFrame a class, as it has no multi-class rates).
- bootstrap: 20,000 rows, 2,000 resamples of every gap, beside MetricFrame's bootstrap of a few resamples, scaled up.
- complete: `ep.audit` with intervals and floors on a million rows and 114 classes, with its peak memory.
- command: `equiprune audit` of a CSV with 5,000 rows, start-up included.

Run: python benchmarks/audit.py [--rows 1000000] [--only point|bootstrap|complete|command]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MIB = 1 << 20
RESAMPLES = 2000
THEIRS = 3


def table(rows: int, classes: int, seed: int = 0, dtype: Any = np.float32) -> tuple[np.ndarray, ...]:  # noqa: ANN401
    """Labels, probabilities and groups of a classifier that is right about two times of three."""
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=rows)
    score = rng.standard_normal((rows, classes), dtype=np.float32)
    score[np.arange(rows), label] += 2.5
    np.exp(score, out=score)
    score /= score.sum(axis=1, keepdims=True)
    return label, score.astype(dtype, copy=False), rng.integers(2, size=rows)


def predictions(rows: int, classes: int) -> Any:  # noqa: ANN401 - ep.Predictions
    import equiprune as ep

    label, score, group = table(rows, classes)
    return ep.Predictions(label, score, group, [f"c{k}" for k in range(classes)], ["a", "b"])


def frames(label: np.ndarray, called: np.ndarray, group: np.ndarray, classes: int, **more: Any) -> dict[str, float]:  # noqa: ANN401
    """fairlearn's: five rates of every class against the rest by group, and the mean gaps."""
    from fairlearn.metrics import (
        MetricFrame,
        false_negative_rate,
        false_positive_rate,
        selection_rate,
        true_negative_rate,
        true_positive_rate,
    )

    rates = {
        "tpr": true_positive_rate,
        "fpr": false_positive_rate,
        "tnr": true_negative_rate,
        "fnr": false_negative_rate,
        "selection_rate": selection_rate,
    }
    found: dict[str, list[float]] = {name: [] for name in rates}
    for k in range(classes):
        one = MetricFrame(metrics=rates, y_true=label == k, y_pred=called == k, sensitive_features=group, **more)
        for name in rates:
            found[name].append(float(one.difference()[name]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def ours(label: np.ndarray, called: np.ndarray, group: np.ndarray, classes: int) -> dict[str, float]:
    """The same from one table of counts."""
    from equiprune.metrics import gaps
    from equiprune.metrics.counts import Counts, confusion

    counts = Counts.from_confusion(confusion(label, called, group, 2, classes))
    return {
        name: float(gaps.worst(gaps.by_pair(name, counts))) for name in ("tpr", "fpr", "tnr", "fnr", "selection_rate")
    }


def best(job: Any, times: int = 3) -> tuple[float, Any]:  # noqa: ANN401
    """The shortest of a few runs in seconds, and the result."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        result = job()
        spent.append(time.perf_counter() - start)
    return min(spent), result


def point(rows: int) -> None:
    classes = 9
    label, score, group = table(rows, classes)
    called = score.argmax(axis=1)
    mine, found = best(lambda: ours(label, called, group, classes), 5)
    theirs, expected = best(lambda: frames(label, called, group, classes), 1)
    worst = max(abs(found[name] - expected[name]) for name in found)
    print(f"point      {rows:>9,} rows x {classes} classes: {1000 * mine:.1f} ms, fairlearn {theirs:.1f} s, "
          f"{theirs / mine:,.0f} times; largest difference of a figure {worst:.1e}")  # fmt: skip


def bootstrap() -> None:
    rows, classes = 20_000, 9
    from equiprune.metrics import gaps
    from equiprune.metrics.sampling import count_atoms, counts_of, resample

    label, score, group = table(rows, classes)
    called = score.argmax(axis=1)
    p = predictions(rows, classes)

    def replicates() -> int:
        made = 0
        for totals in resample(count_atoms(p), RESAMPLES, np.random.default_rng(0)):
            counts = counts_of(totals, 3, classes).take(slice(-1))
            for name in ("tpr", "fpr", "tnr", "fnr", "selection_rate", "eopp0", "eopp1", "eodd", "ppv"):
                gaps.worst(gaps.by_pair(name, counts))
            made += len(totals)
        return made

    mine, made = best(replicates)
    plain, _ = best(lambda: frames(label, called, group, classes), 1)
    more = {"n_boot": THEIRS, "ci_quantiles": [0.025, 0.975], "random_state": 0}
    some, _ = best(lambda: frames(label, called, group, classes, **more), 1)
    each = (some - plain) / THEIRS
    as_many = each * RESAMPLES
    print(f"bootstrap  {rows:>9,} rows x {classes} classes: {made:,} resamples of 9 gaps {mine:.2f} s, fairlearn "
          f"{each:.2f} s each for 5, so {as_many:,.0f} s for as many: {as_many / mine:,.0f} times")  # fmt: skip


def complete(rows: int) -> None:
    """In this process: build, audit, tell."""
    import equiprune as ep

    p = predictions(rows, 114)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = ep.audit(p)
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({
        "seconds": spent, "before": before * 1024 / MIB, "peak": peak * 1024 / MIB,
        "bootstrap": found.conventions.count_replicates, "floor": found.conventions.floor_replicates,
        "auroc_floor": found.conventions.auroc_floor_replicates,
    }))  # fmt: skip


def told(rows: int) -> None:
    script = [sys.executable, __file__, "--only", "complete-here", "--rows", str(rows)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"complete   {rows:>9,} rows x 114 classes: {found['seconds']:.1f} s, peak memory {found['peak']:,.0f} MiB "
          f"(making the table: {found['before']:,.0f}); {found['bootstrap']} resamples, {found['floor']} permutations "
          f"of counts, {found['auroc_floor']} of scores")  # fmt: skip


def command() -> None:
    rows, classes = 5000, 8
    label, score, group = table(rows, classes, dtype=np.float64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["image", "label", "sex", *(f"score_c{k}" for k in range(classes))])
            for i in range(rows):
                writer.writerow([f"{i}.png", f"c{label[i]}", "fm"[group[i]], *map(repr, score[i].tolist())])
        arguments = [sys.executable, "-m", "equiprune", "audit", str(path), "--attribute", "sex", "--out", folder]
        spent, _ = best(lambda: subprocess.run(arguments, check=True, capture_output=True), 5)
    print(f"command    {rows:>9,} rows x {classes} classes, CSV: {spent:.2f} s with start-up")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("point", "bootstrap", "complete", "command", "complete-here"))
    chosen = parser.parse_args()
    if chosen.only == "complete-here":
        complete(chosen.rows)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    jobs = {
        "command": command,
        "complete": lambda: told(chosen.rows),
        "point": lambda: point(chosen.rows),
        "bootstrap": bootstrap,
    }
    for name, job in jobs.items():
        if chosen.only in (None, name):
            job()


if __name__ == "__main__":
    main()

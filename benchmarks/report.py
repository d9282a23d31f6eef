"""The report of 500 models of 114 classes, and of a sweep of 500 points.

How large, how long to build, how long until drawn and changed.

    python benchmarks/report.py [--models 500] [--points 500] [--classes 114] [--out page.html]

Audits are made up, in the form that `audit.json` has. Times in a browser need a Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equiprune.predictions import Predictions
from equiprune.report.content import Model, Page, Seen, StepPage, SweepPage, Tried
from equiprune.report.document import as_text
from equiprune.report.page import render
from equiprune.report.predicted import summary
from equiprune.report.tables import GAPS, PERFORMANCE

GROUPS = ("light", "dark")
RATES = ("tpr", "fpr", "ppv", "fnr")
LIMIT_MB, LIMIT_BUILD, LIMIT_BROWSER = 8.0, 20.0, 2.0

# Put into a copy of the page: how long it took to draw, and how long a choice takes to be seen.
WATCH = """
document.addEventListener("DOMContentLoaded", () => {
  const root = document.documentElement;
  let ready = 0;
  const timer = setInterval(() => {
    const plot = document.getElementById("explorer");
    if (plot.dataset.ready && !ready) ready = performance.now();
    if (!root.dataset.drawn) return;
    clearInterval(timer);
    const opened = performance.now();
    const started = performance.now();
    const box = document.getElementById("explorer-model");
    plot.once("plotly_afterplot", () => { console.log("times", ready, opened, performance.now() - started); });
    box.selectedIndex = box.options.length - 1;
    box.dispatchEvent(new Event("change"));
  }, 5);
});
"""


def estimate(value: float, half: float = 0.03) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def made_up(random: np.random.Generator, classes: int, *, detailed: bool) -> dict[str, Any]:
    """An audit; only a detailed one says something of each class, as the explorer does not need it."""
    skill, gap = random.uniform(0.4, 0.6), random.uniform(0.02, 0.2)
    names = [f"condition {at}" for at in range(classes)]
    figures = {
        group: {"n": 2000, "n_units": None, "supported": True,
                **{key: estimate(float(skill + gap * at)) for key in PERFORMANCE}}
        for at, group in enumerate(GROUPS)
    }  # fmt: skip
    gaps = {
        key: {**estimate(float(gap * random.uniform(0.5, 1))), "floor": 0.05, "p_value": 0.1, "detectable": 0.1,
              "classes_used": classes, "classes_skipped": 0, "pair": list(GROUPS)}
        for key in GAPS
    }  # fmt: skip
    of_class = [
        {"class": name, "group": group, "n": 20, **{rate: estimate(float(random.uniform())) for rate in RATES}}
        for name in names
        for group in GROUPS
    ]
    gaps_of_class = [
        {"class": name, "rate": rate, "pair": list(GROUPS), **estimate(float(random.uniform(0, 0.3))),
         "signed": float(random.uniform(-0.3, 0.3)), "p_value": 0.2, "p_holm": 1.0, "p_bh": 0.5, "supported": True}
        for name in names
        for rate in RATES
    ]  # fmt: skip
    return {
        "task": "multiclass", "n": 4000, "n_units": None, "classes": names,
        "attribute": {"name": "skin_tone", "groups": list(GROUPS), "privileged": "light", "unknown": 0},
        "overall": {key: estimate(float(skill + gap / 2)) for key in (*PERFORMANCE, "balanced_accuracy")},
        "by_group": figures, "gaps": gaps, "by_class": of_class if detailed else [],
        "gaps_by_class": gaps_of_class if detailed else [], "conventions": {"interval": "95 %", "replicates": 2000},
        "fate": {"baseline": "run 0", "eopp0": 0.1, "eopp1": 0.2, "eodd": 0.1}, "notices": [],
    }  # fmt: skip


def predicted(random: np.random.Generator, classes: int) -> Mapping[str, Any]:
    label, group = random.integers(0, classes, 4000), random.integers(0, 2, 4000)
    logits = random.normal(size=(4000, classes)) + 2 * np.eye(classes)[label]
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return summary(Predictions(label, score, group, [f"condition {at}" for at in range(classes)], list(GROUPS)))


def page(models: int, classes: int) -> Page:
    """A page of two steps in detail and all others in the explorer."""
    random = np.random.default_rng(0)
    facts = {"parameters": 11_000_000, "prunable": 11_000_000, "zeros": 0, "file_bytes": 44_000_000, "seconds": 900.0}
    steps = tuple(
        StepPage(f"0{at}-{method}", method, {"beta": 0.33}, made_up(random, classes, detailed=True), (), None, facts,
                 predicted(random, classes))
        for at, method in enumerate(("vanilla", "fairprune"))
    )  # fmt: skip
    methods = ("fairprune", "scp", "hsic", "advconf", "mfd")
    others = tuple(
        Model(f"run {at}", methods[at % 5], f"beta {at / 500}", made_up(random, classes, detailed=False))
        for at in range(models - len(steps))
    )
    split = {"images": 4000, "units": None, "groups": dict.fromkeys(GROUPS, 2000)}
    data = {
        "manifest": "m.csv", "sha256": "0" * 64, "images": 16000, "units": None, "unit": None, "attribute": "skin_tone",
        "task": "multiclass", "image_size": 128, "skipped": None, "classes": steps[0].audit["classes"],
        "splits": {"train": split, "test": split},
    }  # fmt: skip
    return Page("A sweep", data, {"seed": 0}, steps, (), others=others)


def validated(random: np.random.Generator, name: str, method: str) -> dict[str, Any]:
    """A step as `point.json` has it."""
    f1, gap = random.uniform(0.4, 0.6), random.uniform(0.02, 0.2)
    return {
        "name": name, "method": method, "f1": f1, "f1_by_group": {"light": f1 + 0.02, "dark": f1 - 0.02},
        "eopp0": gap / 8, "eopp1": gap, "eodd": gap / 2, "constant": False, "parameters": 11_000_000,
        "zeros": 2_000_000, "seconds": 900.0,
    }  # fmt: skip


def swept(points: int, classes: int) -> Page:
    """The same two steps in detail, and a sweep of two axes and one seed around them."""
    random = np.random.default_rng(1)
    first = validated(random, "01-vanilla", "vanilla")
    choices = [{"2.beta": at // 20 / 100, "2.ratio": (1 + at % 20) / 50} for at in range(points)]
    tried = tuple(
        Tried(f"{at:04d}-0a1b2c3d", choice, (first, validated(random, "02-fairprune", "fairprune")))
        for at, choice in enumerate(choices)
    )
    sweep = SweepPage(
        axes={"2.beta": "beta", "2.ratio": "ratio"}, points=tried, gap="eopp1", budget=0.01, failed={}, left=0,
        among=points, taken=choices[7], seen=(Seen(None, first, tried[7].steps[1]),), looked=0,
    )  # fmt: skip
    return replace(page(2, classes), sweep=sweep)


def browsed(html: str, folder: Path) -> list[float] | None:
    """Seconds until the explorer can be used, all is drawn, and a choice is seen; None without a Chromium."""
    browser = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if browser is None:
        return None
    file = folder / "page.html"
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    file.write_text(policy.sub("", html).replace("</body>", f"<script>{WATCH}</script></body>"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--remote-debugging-port=0", "--enable-logging=stderr", file.as_uri()]  # else it leaves when loaded
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            lines = iter(process.stderr or ())
            told = next(found for line in lines if (found := re.search(r"times ([\d.]+) ([\d.]+) ([\d.]+)", line)))
        finally:
            process.terminate()
    return [float(each) / 1000 for each in told.groups()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--classes", type=int, default=114)
    parser.add_argument("--out", type=Path, help="keeps the page")
    parser.add_argument("--points", type=int, default=500)
    asked = parser.parse_args()
    measured(f"{asked.models} models", page(asked.models, asked.classes), asked.classes, asked.out)
    measured(f"a sweep of {asked.points} points", swept(asked.points, asked.classes), asked.classes, None)


def measured(what: str, content: Page, classes: int, out: Path | None) -> None:
    """Prints a table of sizes and times, each with its limit."""
    started = time.perf_counter()
    html = render(content)
    built = time.perf_counter() - started
    if out:
        out.write_text(html, encoding="utf-8")
    print(f"\n| {what}, {classes} classes | measured | limit |\n|---|---:|---:|")
    print(f"| page, MB | {len(html.encode()) / 1e6:.2f} | {LIMIT_MB:g} |")
    print(f"| report.json, MB | {len(as_text(content)) / 1e6:.2f} | |")
    print(f"| built, s | {built:.2f} | {LIMIT_BUILD:g} |")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the browser may still write
        found = browsed(html, Path(folder))
    if found is None:
        print("| in a browser | no Chromium on the PATH | |")
        return
    for moment, seconds in zip(("explorer to be used", "all drawn", "a choice seen"), found, strict=True):
        print(f"| {moment}, s | {seconds:.2f} | {LIMIT_BROWSER:g} |")


if __name__ == "__main__":
    main()

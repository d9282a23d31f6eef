"""How large a gap does a perfectly fair classifier show on a test split of a given shape?

The shape is what counts: how many images each group has of each class. Here a classifier is right with the same
probability in every group, so its true gap is 0. What it shows all the same is chance, and the audit's noise
floor says how much that is.

Run: python noise_floor.py [TABLE.csv LABEL GROUP "light=1-3;dark=4-6"]
Without a table, a split with 114 classes of 1 to 40 images is made up.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

import equiprune as ep
from equiprune.audit import point

RIGHT = 0.5
TESTS = 20


def shape(arguments: list[str]) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Labels and groups of a split; a group is -1 where it is unknown."""
    if not arguments:
        rng = np.random.default_rng(0)
        label = np.repeat(np.arange(114), rng.integers(1, 41, size=114))
        group = (rng.random(len(label)) < 0.3).astype(np.int64)
        return label, group, [f"class {k}" for k in range(114)], ["light", "dark"]
    path, column, attribute, regroup = arguments
    with Path(path).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    from equiprune.reading.attribute import coded, parse_groups

    group_of = parse_groups(regroup)
    groups = list(dict.fromkeys(group_of.values()))
    classes, label = np.unique([row[column] for row in rows], return_inverse=True)
    return label, coded([group_of.get(row[attribute], "") for row in rows], tuple(groups)), classes.tolist(), groups


def fair(label: np.ndarray, group: np.ndarray, classes: list[str], groups: list[str], seed: int) -> ep.Predictions:
    """Predictions that are right with one probability, whatever the class and the group."""
    rng = np.random.default_rng(seed)
    called = np.where(rng.random(len(label)) < RIGHT, label, rng.integers(len(classes), size=len(label)))
    score = np.full((len(label), len(classes)), 0.5 / (len(classes) - 1))
    score[np.arange(len(label)), called] = 0.5
    return ep.Predictions(label, score, group, classes, groups, attribute="skin_tone")


def main(arguments: list[str]) -> None:
    """Prints what fair classifiers show, and what the audit of one of them says of it."""
    label, group, classes, groups = shape(arguments)
    values = np.array([point(fair(label, group, classes, groups, seed)).eopp1 for seed in range(TESTS)])
    print(f"{len(label):,} images, {len(classes)} classes, groups {', '.join(groups)}")
    print(
        f"{TESTS} fair classifiers show an Eopp1 of {values.mean():.3f} (from {values.min():.3f} to {values.max():.3f})"
    )
    gap = ep.audit(fair(label, group, classes, groups, 0)).gaps["eopp1"]
    print(f"the audit of the first: Eopp1 {gap.value:.3f}, noise floor {gap.floor:.3f}, p {gap.p_value:.2f}")
    print(f"the smallest true gap that this split would reveal in four of five cases: {gap.detectable:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""A fair classifier on a test split of the published shape shows most of the published gap, and the audit says so."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from tests.repeating import repeated

from equiprune.audit import audit
from equiprune.metrics import gaps
from equiprune.metrics.counts import Counts, confusion
from equiprune.predictions import Predictions
from equiprune.reading.attribute import coded, parse_groups

TABLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "official"
RIGHT = 0.5
PUBLISHED = 0.278  # Eopp1 of the best published model on this split


def split(name: str) -> list[dict[str, str]]:
    path = TABLES / name
    if not path.is_file():
        pytest.skip(f"the published split {name} is not beside the project")
    return list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))


def fair(label: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(len(label)) < RIGHT, label, rng.integers(classes, size=len(label)))


@pytest.mark.usefixtures("no_detectable_gap")
def test_the_floor_of_fitzpatrick_is_what_fair_classifiers_show() -> None:
    rows = split("paper_split_fitzpatrick17k_test.csv.gz")
    groups = parse_groups("light=1-3;dark=4-6")
    classes, label = np.unique([row["label"] for row in rows], return_inverse=True)
    group = coded([groups.get(row["fitzpatrick"], "") for row in rows], ("light", "dark"))
    assert (len(rows), len(classes)) == (1657, 114)
    rng = np.random.default_rng(0)
    shown = repeated(
        lambda _: float(gaps.eopp1(Counts.from_confusion(confusion(label, fair(label, 114, rng), group, 2, 114)))), 400
    )

    def floor(seed: int) -> float:
        called = fair(label, 114, np.random.default_rng([1, seed]))
        score = np.full((len(label), 114), 0.4 / 113)
        score[np.arange(len(label)), called] = 0.6
        p = Predictions(label, score, group, classes.tolist(), ["light", "dark"])
        gap = audit(p, replicates=200, seed=seed).gaps["eopp1"]
        assert gap.low == 0 or (gap.p_value or 0) < 0.05
        return gap.floor or 0

    floors = repeated(floor, 25)
    error = np.hypot(np.std(shown) / np.sqrt(400), np.std(floors) / np.sqrt(25))
    assert np.mean(floors) == pytest.approx(np.mean(shown), abs=3 * error)
    assert 0.21 < np.mean(shown) < 0.32
    assert np.mean(shown) > 0.9 * PUBLISHED

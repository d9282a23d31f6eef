from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st
from numpy.typing import NDArray

from equiprune.data.cohort import SPLITS, Cohort
from equiprune.data.manifest import read_manifest
from equiprune.data.settings import DataSettings
from equiprune.data.splits import draw_splits
from equiprune.errors import DataError


def cohort_of(label: NDArray[np.generic], group: NDArray[np.int64], unit: NDArray[np.generic] | None) -> Cohort:
    classes = label.shape[1] if label.ndim == 2 else int(label.max(initial=0)) + 1
    return Cohort(
        root=Path(),
        image=np.arange(len(label)).astype(np.str_),
        label=label,
        classes=tuple(map(str, range(classes))),
        group=group,
        groups=tuple(map(str, range(int(group.max(initial=0)) + 1))),
        attribute="g",
        unit=None if unit is None else unit.astype(np.str_),
        split=None,
        row=np.arange(len(label)) + 2,
        sha256="",
    )


def random_cohort(rows: int, units: int | None, classes: int = 5, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    unit = None if units is None else rng.integers(0, units, rows)
    share = 1 / np.arange(1, classes + 1)
    return cohort_of(rng.choice(classes, rows, p=share / share.sum()), rng.integers(-1, 2, rows), unit)


def leaks(cohort: Cohort, split: NDArray[np.str_]) -> int:
    assert cohort.unit is not None
    pairs = set(zip(cohort.unit.tolist(), split.tolist(), strict=True))
    return len(pairs) - len(set(cohort.unit.tolist()))


@configure(max_examples=60, deadline=None)
@given(
    rows=st.integers(3, 60),
    units=st.integers(1, 60),
    classes=st.integers(1, 6),
    several=st.booleans(),
    fractions=st.sampled_from([(0.6, 0.2, 0.2), (0.34, 0.33, 0.33), (0.8, 0.15, 0.05), (0.1, 0.1, 0.8)]),
    seed=st.integers(0, 2**31 - 1),
)
def test_no_unit_is_in_two_splits_and_every_class_is_learned(
    rows: int, units: int, classes: int, several: bool, fractions: tuple[float, float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, np.nan], (rows, classes)) if several else rng.integers(0, classes, rows)
    cohort = cohort_of(label, rng.integers(-1, 3, rows), rng.integers(0, units, rows))
    if len(np.unique(np.asarray(cohort.unit))) < 3:
        with pytest.raises(DataError, match="too few"):
            draw_splits(cohort, fractions, seed)
        return
    split = draw_splits(cohort, fractions, seed)
    assert leaks(cohort, split) == 0
    learned = cohort.positive[split == "train"].any(axis=0)
    assert (learned == cohort.positive.any(axis=0)).all()
    assert "train" in split
    np.testing.assert_array_equal(split, draw_splits(cohort, fractions, seed))


@pytest.mark.parametrize("units", [None, 700])
@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.5, 0.1, 0.4), (0.94, 0.03, 0.03)])
def test_shares_are_as_asked_overall_and_in_every_large_stratum(
    units: int | None, fractions: tuple[float, float, float]
) -> None:
    cohort = random_cohort(2000, units)
    split = draw_splits(cohort, fractions, 1)
    for name, share in zip(SPLITS, fractions, strict=True):
        assert np.mean(split == name) == pytest.approx(share, abs=0.02)
        for label in range(3):
            for group in range(2):
                inside = (cohort.label == label) & (cohort.group == group)
                assert np.mean(split[inside] == name) == pytest.approx(share, abs=0.04)


def test_the_seed_and_only_the_seed_changes_the_draw() -> None:
    cohort = random_cohort(500, 200)
    first, again, other = (draw_splits(cohort, (0.6, 0.2, 0.2), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != other) > 0.2


def test_a_class_of_one_unit_is_in_train() -> None:
    cohort = random_cohort(300, 100, classes=3)
    assert cohort.unit is not None
    label = np.where(cohort.unit == cohort.unit[0], 3, cohort.label)
    for seed in range(5):
        split = draw_splits(replace(cohort, label=label, classes=tuple("0123")), (0.2, 0.4, 0.4), seed)
        assert set(split[label == 3]) == {"train"}


def test_one_patient_with_most_images_goes_to_train_and_all_splits_have_rows() -> None:
    unit = np.array([0] * 80 + list(range(1, 21)))
    rng = np.random.default_rng(0)
    cohort = cohort_of(rng.integers(0, 2, 100), rng.integers(0, 2, 100), unit)
    split = draw_splits(cohort, (0.6, 0.2, 0.2), 0)
    assert set(split[unit == 0]) == {"train"}
    assert set(split) == set(SPLITS)


def test_rows_of_one_rare_group_are_dealt_to_every_split() -> None:
    rng = np.random.default_rng(0)
    group = np.array([1] * 30 + [0] * 570)
    split = draw_splits(cohort_of(rng.integers(0, 12, 600), group, None), (0.6, 0.2, 0.2), 0)
    assert [int((split[group == 1] == name).sum()) for name in SPLITS] == pytest.approx([18, 6, 6], abs=3)


def test_scikit_learns_warnings_stay_inside() -> None:
    label = np.array([0] * 50 + [1, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_splits(cohort_of(label, np.zeros(53, np.int64), None), (0.6, 0.2, 0.2), 0)


def test_isic_lesions_stay_together(shared_data: Path) -> None:
    path = str(shared_data / "isic2019/manifest.csv")
    cohort = read_manifest(DataSettings(manifest=path, label="label", attribute=("sex",), unit="lesion_id"))
    split = draw_splits(cohort, (0.6, 0.2, 0.2), 0)
    assert leaks(cohort, split) == 0
    drawn = cohort.with_split(split)
    whole = cohort.counts()
    for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        part = drawn.subset(name).counts()
        assert part.sum() / whole.sum() == pytest.approx(share, abs=0.005)
        np.testing.assert_allclose(part[:2] / whole[:2], share, atol=0.03)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from equiprune.data.cohort import SPLITS, Cohort
from equiprune.data.facts import gather


def _cohort(
    label: np.ndarray,
    group: np.ndarray,
    *,
    classes: tuple[str, ...] = ("nevus", "melanoma"),
    unit: np.ndarray | None = None,
    split: np.ndarray | None = None,
) -> Cohort:
    n = len(group)
    return Cohort(
        root=Path(),
        image=np.array([f"{row}.png" for row in range(n)]),
        label=label,
        classes=classes,
        group=group,
        groups=("dark", "light"),
        attribute="skin",
        unit=None if unit is None else unit.astype(str),
        split=split,
        row=np.arange(2, n + 2),
        sha256="",
        unit_name=None if unit is None else "patient",
    )


def test_counts_by_group_label_and_split() -> None:
    split = np.array(["train", "train", "train", "validation", "test", "test"])
    cohort = _cohort(
        np.array([0, 1, 1, 0, 0, 1]), np.array([0, 0, -1, 1, 1, 0]), unit=np.array([1, 1, 2, 3, 2, 4]), split=split
    )
    facts = gather(cohort)
    told = facts.to_dict()
    assert list(told["parts"]) == ["all", *SPLITS]
    assert told["parts"]["train"] == {
        "images": 3,
        "units": 2,
        "groups": {
            "dark": {"images": 2, "classes": {"nevus": 1, "melanoma": 1}},
            "light": {"images": 0, "classes": {"nevus": 0, "melanoma": 0}},
        },
        "unknown": {"images": 1, "classes": {"nevus": 0, "melanoma": 1}},
    }
    assert told["units_in_several_splits"] == 1
    assert [part.missing for part in facts.parts] == [1, 1, 0, 0]
    whole = facts.parts[0].counts
    assert (np.sum([part.counts for part in facts.parts[1:]], axis=0) == whole).all()
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_missing_at_random_is_not_told_and_missing_by_label_is() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(2000) < 0.3).astype(int)
    group = rng.integers(2, size=2000)
    at_random = np.where(rng.random(2000) < 0.05, -1, group)
    by_label = np.where(rng.random(2000) < np.where(label == 1, 0.12, 0.01), -1, group)
    assert not gather(_cohort(label, at_random)).notices("m.csv")
    (notice,) = gather(_cohort(label, by_label)).notices("m.csv")
    assert "missing more often for 'melanoma' (1" in str(notice)
    assert "permuting rows" in str(notice)
    assert notice.file == "m.csv"


def test_a_group_that_goes_with_the_label_is_told() -> None:
    rng = np.random.default_rng(1)
    group = rng.integers(2, size=1000)
    label = (rng.random(1000) < np.where(group == 0, 0.5, 0.2)).astype(int)
    cohort = _cohort(label, group)
    (notice,) = gather(cohort).notices("m.csv")
    dark, light = (label[group == index].mean() for index in (0, 1))
    assert f"'melanoma' is {dark:.1%} of 'dark' and {light:.1%} of 'light'" in str(notice)
    assert gather(cohort).group[0].cramers_v == pytest.approx(0.3, abs=0.06)


def test_findings_are_tested_one_by_one_among_known_rows() -> None:
    rng = np.random.default_rng(2)
    group = rng.integers(2, size=1500)
    label = (rng.random((1500, 3)) < 0.3).astype(np.float32)
    label[:, 1] = rng.random(1500) < np.where(group == 0, 0.5, 0.2)
    label[rng.random(1500) < 0.4, 0] = np.nan
    facts = gather(_cohort(label, group, classes=("edema", "fracture", "cyst")))
    assert [one.what for one in facts.group] == ["edema", "fracture", "cyst"]
    assert facts.group[0].rows == (~np.isnan(label[:, 0])).sum()
    assert facts.group[1].p_holm == pytest.approx(3 * 0.001)
    assert facts.group[1].p_value == 0.001
    (notice,) = facts.notices("m.csv")
    assert "goes with 1 of 3 findings: 'fracture' is" in str(notice)
    assert "after Holm's correction" in str(notice)


def test_with_units_the_units_are_permuted() -> None:
    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(12), 100)
    facts = gather(_cohort(rng.integers(2, size=12)[unit], rng.integers(2, size=12)[unit], unit=unit))
    assert facts.group[0].units == 12
    assert facts.group[0].p_value is not None
    assert facts.group[0].p_value > 0.01
    assert gather(_cohort(np.array([0, 1]), np.array([0, 1]))).to_dict()["unit"] is None


def test_the_same_seed_gives_the_same_facts() -> None:
    rng = np.random.default_rng(4)
    cohort = _cohort(rng.integers(2, size=300), rng.integers(-1, 2, size=300), unit=rng.integers(90, size=300))
    assert gather(cohort, seed=5).to_dict() == gather(cohort, seed=5).to_dict()


def test_pad_skin_type_is_not_missing_at_random(shared_data: Path) -> None:
    """Lesions that were not biopsied have no skin type: no carcinoma lacks it, most keratoses do."""
    from equiprune.data.manifest import read_manifest
    from equiprune.data.settings import DataSettings

    path = str(shared_data / "pad_ufes20/manifest.csv")
    settings = DataSettings(
        manifest=path, label="label", attribute=("skin_type",), unit="patient_id", groups="light=1,2;dark=3,4,5,6"
    )
    told = [str(notice) for notice in gather(read_manifest(settings)).notices("m.csv")]
    assert len(told) == 1
    assert "'SEK' (78.7%) than overall (37.2%)" in told[0]

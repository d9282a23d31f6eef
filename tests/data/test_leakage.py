from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from equiprune.data.cohort import Cohort
from equiprune.data.duplicates import Duplicates
from equiprune.data.leakage import find_leakage


def _cohort(label: np.ndarray, split: list[str] | None = None, unit: list[str] | None = None) -> Cohort:
    n = len(label)
    return Cohort(
        root=Path(),
        image=np.array([f"{row}.png" for row in range(n)]),
        label=label,
        classes=("a", "b"),
        group=np.zeros(n, int),
        groups=("f", "m"),
        attribute="sex",
        unit=None if unit is None else np.array(unit),
        split=None if split is None else np.array(split),
        row=np.arange(2, n + 2),
        sha256="",
        unit_name=None if unit is None else "patient",
    )


def _duplicates(content: list[int], near: list[list[int]] | None = None) -> Duplicates:
    pairs = None if near is None else np.array(near, dtype=int).reshape(-1, 2)
    return Duplicates(np.array(content), pairs, np.ones(0 if near is None else len(near)))


def test_test_images_that_are_in_train_are_counted_once() -> None:
    split = ["train", "train", "test", "test", "test", "validation"]
    found = find_leakage(_cohort(np.zeros(6, int), split), _duplicates([0, 0, 0, 0, 1, 1]))
    told = found.to_dict()["identical"]
    assert [(one["split"], one["also_in"], one["images"], one["rows"]) for one in told["crossing"]] == [
        ("test", "train", 2, [4, 5]),
        ("validation", "train", 0, []),
        ("test", "validation", 1, [6]),
    ]
    assert (told["pairs"], told["across_splits"], told["within_a_split"]) == (4, 3, 1)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    first, second = map(str, found.notices("m.csv"))
    assert "2 test images are also in train (identical files): rows 4-5" in first
    assert "1 test image is also in validation" in second


def test_near_duplicates_reach_every_copy_of_a_file() -> None:
    split = ["train", "test", "test", "test"]
    found = find_leakage(_cohort(np.zeros(4, int), split), _duplicates([0, 1, 1, 2], [[0, 1]]))
    assert found.kinds[1].crossing[0].tolist() == [1, 2]
    assert found.to_dict()["near"]["pairs"] == 1
    assert any("2 test images are also in train (the same picture saved again" in str(n) for n in found.notices("m"))


def test_one_picture_with_two_labels_is_told() -> None:
    found = find_leakage(_cohort(np.array([0, 1, 0])), _duplicates([0, 0, 1], [[0, 2]]))
    told = [str(notice) for notice in found.notices("m.csv")]
    assert any("1 picture is listed with different labels (identical files): rows 2 and 3" in line for line in told)
    assert found.to_dict()["near"]["of_different_labels"] == 0


def test_findings_differ_only_where_both_are_known() -> None:
    label = np.array([[1, np.nan], [1, 0], [0, 0]], np.float32)
    found = find_leakage(_cohort(label), _duplicates([0, 0, 0]))
    assert found.kinds[0].relabelled.tolist() == [False, True]


def test_without_splits_what_would_leak_is_told() -> None:
    (notice,) = find_leakage(_cohort(np.zeros(3, int)), _duplicates([0, 0, 1])).notices("m.csv")
    assert "1 image is in the manifest twice (identical files): row 3" in str(notice)
    assert "would leak if split apart" in str(notice)
    assert "give a --unit" in str(notice)


def test_a_shared_unit_keeps_copies_together() -> None:
    same = find_leakage(_cohort(np.zeros(2, int), unit=["p", "p"]), _duplicates([0, 0]))
    assert same.notices("m.csv") == []
    (notice,) = find_leakage(_cohort(np.zeros(2, int), unit=["p", "q"]), _duplicates([0, 0])).notices("m.csv")
    assert "under another patient" in str(notice)


def test_an_unfinished_search_is_told() -> None:
    unfinished = Duplicates(np.array([0, 1]), np.zeros((0, 2), int), np.zeros(0), complete=False)
    found = find_leakage(_cohort(np.zeros(2, int)), unfinished)
    assert "more duplicates" in str(found.notices("m.csv")[0])
    assert found.to_dict()["complete"] is False


def test_no_duplicates_are_no_notices() -> None:
    found = find_leakage(_cohort(np.zeros(3, int), ["train", "validation", "test"]), _duplicates([0, 1, 2], []))
    assert found.notices("m.csv") == []
    assert found.to_dict()["identical"]["images"] == 0
    assert find_leakage(_cohort(np.zeros(2, int)), _duplicates([0, 1])).to_dict()["near"] is None

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from equiprune.data.cohort import Cohort
from equiprune.data.inspection import inspect_cohort


@pytest.fixture
def cohort() -> Cohort:
    return Cohort(
        root=Path("images"),
        image=np.array(list("abcdef")),
        label=np.array([0, 1, 2, 0, 1, 2]),
        classes=("x", "y", "z"),
        group=np.array([0, 0, 1, 1, -1, -1]),
        groups=("dark", "light"),
        attribute="skin",
        unit=np.array(["p", "p", "q", "r", "s", "t"]),
        split=np.array(["train", "train", "train", "validation", "test", "test"]),
        row=np.arange(2, 8),
        sha256="0",
    )


def test_rows_are_taken_by_mask_and_by_index_in_every_array(cohort: Cohort) -> None:
    part = cohort.take(np.array([5, 0]))
    assert part.image.tolist() == ["f", "a"]
    assert part.label.tolist() == [2, 0]
    assert part.row.tolist() == [7, 2]
    assert part.unit is not None
    assert part.unit.tolist() == ["t", "p"]
    assert cohort.take(cohort.group < 0).image.tolist() == ["e", "f"]
    assert (len(part), part.classes, part.groups) == (2, cohort.classes, cohort.groups)


def test_subsets_cover_the_cohort_once(cohort: Cohort) -> None:
    parts = [cohort.subset(name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [3, 1, 2]
    assert "".join("".join(part.image) for part in parts) == "abcdef"


def test_wrong_splits_are_refused(cohort: Cohort) -> None:
    with pytest.raises(ValueError, match="no split is called 'val'"):
        cohort.subset("val")
    with pytest.raises(ValueError, match="not split"):
        replace(cohort, split=None).subset("test")
    with pytest.raises(ValueError, match=r"\['dev'\]"):
        cohort.with_split(np.array(["dev"] * 6))
    with pytest.raises(ValueError, match="one length"):
        cohort.with_split(np.array(["test"] * 5))


def test_counts_have_one_line_a_group_and_one_for_the_unknown(cohort: Cohort) -> None:
    assert cohort.counts().tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    assert cohort.counts().sum() == len(cohort)
    assert cohort.subset("train").counts().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_counts_of_findings_are_their_positive_rows(cohort: Cohort) -> None:
    label = np.array([[1, np.nan], [1, 0], [0, 1], [np.nan, 1], [1, 1], [0, 0]], dtype=np.float32)
    several = replace(cohort, label=label, classes=("edema", "mass"))
    assert several.task == "multilabel"
    assert several.counts().tolist() == [[2, 0], [0, 2], [1, 1]]


def test_the_checks_of_a_split_name_what_is_absent(cohort: Cohort) -> None:
    problems, notices = inspect_cohort(cohort, "m.csv")
    told = "\n".join(map(str, problems))
    assert "no row of group 'dark' is in the validation split" in told
    assert "no row of group 'light' is in the test split" in told
    assert "never in train" not in told
    assert "2 of 6 rows have no known skin" in "\n".join(map(str, notices))
    problems, _ = inspect_cohort(replace(cohort, split=None), "m.csv")
    assert problems == []

"""Tables of predictions: their columns, thresholds, splits and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from equiprune.errors import DataError, UsageError
from equiprune.predictions import Predictions

HEAD = "label,sex,split,score_mel,score_nev\n"
ROWS = "mel,female,test,0.7,0.3\nnev,male,test,0.2,0.8\nnev,,train,0.4,0.6\nmel,male,test,0.9,0.1\n"


def read(tmp_path: Path, text: str, **options: object) -> Predictions:
    table = tmp_path / "p.csv"
    table.write_text(text, encoding="utf-8")
    return Predictions.read(table, **({"attribute": "sex"} | options))  # type: ignore[arg-type]


def refusal(tmp_path: Path, text: str, **options: object) -> str:
    with pytest.raises(DataError) as told:
        read(tmp_path, text, **options)
    return str(told.value)


def test_the_threshold_of_one_of_two_classes_says_that_of_the_other(tmp_path: Path) -> None:
    for name, cut, expected in (("b", "0.3", [0.7, 0.3]), ("a", "0.6", [0.6, 0.4])):
        text = f"label,sex,score_a,score_b,threshold_{name}\na,f,0.5,0.5,{cut}\nb,m,0.1,0.9,{cut}\n"
        found = read(tmp_path, text).threshold
        assert found is not None
        assert found.tolist() == pytest.approx(expected)
    text = "label,sex,score_a,score_b,threshold_a,threshold_b\na,f,0.5,0.5,0.5,0.3\nb,m,0.1,0.9,0.5,0.3\n"
    assert "must sum to 1; these are 0.5 and 0.3" in refusal(tmp_path, text)
    text = "label,sex,score_a,score_b,score_c,threshold_a\na,f,0.5,0.5,0,0.5\nb,m,0.1,0.9,0,0.5\n"
    assert "thresholds are for findings or for two classes, not for 3" in refusal(tmp_path, text)


def test_splits_have_several_spellings(tmp_path: Path) -> None:
    table = HEAD + ROWS.replace("test", "Testing")
    assert len(read(tmp_path, table, split="test")) == 3
    told = refusal(tmp_path, table, split="validation")
    assert "no row of the split 'validation'; the column holds 'Testing', 'train'" in told


def test_scores_with_three_decimals_may_be_off_by_one_of_them(tmp_path: Path) -> None:
    text = "label,sex,score_a,score_b,score_c\na,f,0.333,0.333,0.333\nb,m,0.1,0.8,0.101\n"
    assert len(read(tmp_path, text)) == 2
    told = refusal(tmp_path, text.replace("0.101", "0.102"))
    assert "row 3, column 'score_*': the scores sum to 1.002, not 1" in told
    assert "if they were rounded, with more decimals" in told


def test_numbers_are_plain_and_columns_have_one_role(tmp_path: Path) -> None:
    told = refusal(tmp_path, "label,sex,score_a,score_b\na,f,0.1_5,0.85\nb,m,٠.9,0.1\n")
    assert "row 2, column 'score_a': '0.1_5' is no number" in told
    assert "row 3, column 'score_a': '٠.9' is no number" in told
    assert "column 'label': is the label, and cannot be the attribute too" in refusal(
        tmp_path, HEAD + ROWS, attribute="label"
    )
    assert "column 'sex': is named twice as an attribute" in refusal(tmp_path, HEAD + ROWS, attribute=("sex", "sex"))


def test_what_is_no_data_frame_is_refused() -> None:
    with pytest.raises(UsageError, match="a data frame is needed, such as pandas'; this is a Table"):
        Predictions.from_frame(pa.table({"label": ["a"], "sex": ["f"]}), attribute="sex")


def test_several_attributes_make_intersections(tmp_path: Path) -> None:
    text = "label,sex,skin,score_a,score_b\na,f,1,1,0\nb,m,,1,0\nb,f,2,0,1\n"
    p = read(tmp_path, text, attribute=("sex", "skin"))
    assert (p.attribute, p.groups, p.group.tolist()) == ("sex & skin", ("f & 1", "f & 2"), [0, -1, 1])
    p.write(tmp_path / "again.csv")
    again = Predictions.read(tmp_path / "again.csv", attribute=("sex", "skin"))
    assert again.group.tolist() == p.group.tolist()
    with pytest.raises(DataError, match="column 'sex & skin': is an intersection already"):
        Predictions.read(tmp_path / "again.csv", attribute=("sex", "skin"), groups="skin: a=1; b=2")


def test_uncertain_findings_are_minus_one_as_a_whole_number_or_not(tmp_path: Path) -> None:
    text = "label_a,label_b,sex,score_a,score_b\n1.0,-1.0,f,0.5,0.5\n0,-1,m,0.1,0.9\n,0.0,m,0.1,0.9\n"
    assert np.isnan(read(tmp_path, text).label).tolist() == [[False, True], [False, True], [True, False]]
    assert "-10.0 is not 0, 1 or missing" in refusal(tmp_path, text.replace("-1.0", "-10"))


def test_what_looks_like_another_mistake_is_told_as_what_it_is(tmp_path: Path) -> None:
    told = refusal(tmp_path, HEAD.replace("label", "label_truth") + ROWS)
    assert "column 'label_mel': there is no such column. Without a column 'label' every label_* is a finding" in told
    percent = "label,sex,score_a,score_b\n" + "a,f,70.5,29.5\nb,m,20,80\n" * 4
    assert "the scores run from 20 to 80: these are no probabilities. Are they per cent? Then divide by 100" in refusal(
        tmp_path, percent
    )
    assert "Are they logits" in refusal(tmp_path, percent.replace("20", "-20"))
    told = refusal(tmp_path, HEAD + ROWS, groups="f=female;m=mail")
    assert "value 'male' belongs to no group (2 rows: 3, 5). Did you mean 'mail'? List it in a group" in told
    one = "label,sex,score_yes\nyes,f,0.7\nyes,m,0.2\n"
    assert "give the other one's scores too, 1 - score; or call the truth label_CLASS" in refusal(tmp_path, one)

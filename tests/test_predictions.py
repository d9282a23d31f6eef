from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from equiprune.errors import DataError, UsageError
from equiprune.predictions import Predictions

HEAD = "image,label,sex,patient,split,score_mel,score_nev\n"
ROWS = (
    "a.png,mel,female,p1,test,0.7,0.3\n"
    "b.png,nev,male,p1,test,0.2,0.8\n"
    "c.png,nev,,p2,train,0.4,0.6\n"
    "d.png,mel,NA,,test,0.9,0.1\n"
)


def written(tmp_path: Path, text: str, name: str = "p.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        Predictions.read(path, **({"attribute": "sex"} | options))  # type: ignore[arg-type]
    return str(caught.value)


def test_names_and_indices_say_the_same() -> None:
    by_name = Predictions(["nev", "mel"], [[0.4, 0.6], [1, 0]], ["m", None], ["mel", "nev"], ["f", "m"])
    by_index = Predictions(np.array([1, 0]), [[0.4, 0.6], [1, 0]], [1, -1], ["mel", "nev"], ["f", "m"])
    assert by_name.label.tolist() == by_index.label.tolist() == [1, 0]
    assert by_name.group.tolist() == by_index.group.tolist() == [1, -1]
    assert Predictions([1.0, 0.0], [[0, 1]] * 2, [np.nan, 0], ["a", "b"], ["f"]).group.tolist() == [-1, 0]
    assert Predictions([1, 0], [[0, 1]] * 2, np.array([None, 1]), ["a", "b"], ["f", "m"]).group.tolist() == [-1, 1]


def test_the_first_of_equal_scores_is_predicted_and_thresholds_count() -> None:
    assert Predictions([0], [[0.5, 0.5]], [0], ["a", "b"], ["f"]).predicted.tolist() == [0]
    p = Predictions([[0, 1], [np.nan, 1]], [[0.3, 0.5], [0.1, 0.2]], [0, 0], ["a", "b"], ["f"])
    assert p.task == "multilabel"
    assert p.predicted.tolist() == [[False, True], [False, False]]
    low = Predictions(p.label, p.score, p.group, p.classes, p.groups, threshold=[0.3, 0.9])
    assert low.predicted.tolist() == [[True, False], [False, False]]


def test_all_that_is_wrong_with_arrays_is_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        Predictions(["mel", "nevus"], [[0.7, 0.2], [np.nan, -1]], ["x", "f"], ["mel", "nev"], ["f", "m"])
    text = str(caught.value)
    assert "row 1, column 'label': 'nevus' is unknown" in text
    assert "row 1, column 'score_mel': nan is no probability" in text
    assert "Did you mean 'nev'?" in text
    assert "row 0, column 'group': 'x' is unknown" in text
    with pytest.raises(DataError) as caught:
        Predictions([0, 1], [[0.7, 0.2], [np.nan, -1]], [0, 0], ["mel", "nev"], ["f"])
    text = str(caught.value)
    assert "row 0, column 'score_*': the scores sum to 0.9, not 1" in text
    assert "row 1, column 'score_mel': nan is no probability" in text
    assert "row 1, column 'score_nev': -1.0 is no probability" in text


@pytest.mark.parametrize(
    ("label", "score", "group", "classes", "told"),
    [
        ([0, 1], [[1, 0]], [0, 0], ["a", "b"], r"score has the shape \(1, 2\), expected \(2, 2\)"),
        ([0, 1], [[1, 0]] * 2, [0], ["a", "b"], "group has the shape"),
        ([0, 5], [[1, 0]] * 2, [0, 0], ["a", "b"], "5 is no index into 2 names"),
        ([0, -1], [[1, 0]] * 2, [0, 0], ["a", "b"], "-1 is no index"),
        ([0, 0.5], [[1, 0]] * 2, [0, 0], ["a", "b"], "0.5 is no index"),
        (["a", ""], [[1, 0]] * 2, [0, 0], ["a", "b"], "is missing"),
        ([0, 1], [[1, 0]] * 2, [0, -2], ["a", "b"], "-2 is no index"),
        ([0, 0], [[1], [1]], [0, 0], ["a"], "there is 1 class"),
        ([0, 0], [[1, 0]] * 2, [0, 0], ["a", "a"], "class 'a' is named twice"),
        ([0, 0], [[1, 0]] * 2, [0, 0], ["a", " "], "a class has a blank name"),
        ([], np.zeros((0, 2)), [], ["a", "b"], "there are no rows"),
        ([[0, 2]], [[1, 0]], [0], ["a", "b"], "2.0 is not 0, 1 or missing"),
        ([0, 0], [["x", 0]] * 2, [0, 0], ["a", "b"], "must be an array of numbers"),
    ],
)
def test_unusable_arrays(label: object, score: object, group: object, classes: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Predictions(label, score, group, classes, ["f"])  # type: ignore[arg-type]


def test_a_thousand_faults_of_one_kind_stay_readable() -> None:
    with pytest.raises(DataError) as caught:
        Predictions([0] * 1000, [[0.7, 0.7]] * 1000, [0] * 1000, ["a", "b"], ["f"])
    assert len(caught.value.problems) == 6
    assert "995 more rows" in str(caught.value)


def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    p = Predictions.read(written(tmp_path, HEAD + ROWS), attribute="sex", unit="patient")
    assert p.groups == ("NA", "female", "male")  # nothing is missing unless blank or listed
    assert p.group.tolist() == [1, 2, -1, 0]
    assert (p.classes, p.label.tolist(), p.attribute) == (("mel", "nev"), [0, 1, 1, 0], "sex")
    assert p.unit is not None
    assert p.image is not None
    assert (p.unit.tolist(), p.image.tolist()) == (["p1", "p1", "p2", ""], ["a.png", "b.png", "c.png", "d.png"])
    test = Predictions.read(written(tmp_path, HEAD + ROWS), attribute="sex", split="test", missing=("NA",))
    assert (len(test), test.groups, test.group.tolist(), test.unit) == (3, ("female", "male"), [0, 1, -1], None)


def random_predictions(*, multilabel: bool) -> Predictions:
    rng = np.random.default_rng(0)
    score = rng.dirichlet(np.ones(3), 50)
    label = rng.integers(0, 2, (50, 3)).astype(float) if multilabel else rng.integers(0, 3, 50)
    if multilabel:
        label[3, 1] = np.nan
    return Predictions(
        label,
        score,
        rng.integers(-1, 2, 50),
        ["a, b", 'the "c"', "naïve"],
        ["female", "male"],
        "sex",
        unit=rng.integers(0, 9, 50).astype(str),
        image=[f"{i}.png" for i in range(50)],
        threshold=[0.1, 0.25, 1 / 3] if multilabel else None,
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_what_is_written_is_read_bit_equal(suffix: str, multilabel: bool, tmp_path: Path) -> None:
    p = random_predictions(multilabel=multilabel)
    p.write(tmp_path / f"p{suffix}")
    q = Predictions.read(tmp_path / f"p{suffix}", attribute="sex")
    for name in ("label", "score", "group", "unit", "image", "threshold"):
        first, second = getattr(p, name), getattr(q, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert np.array_equal(first, second, equal_nan=first.dtype.kind == "f"), name
    assert (p.classes, p.groups, p.attribute) == (q.classes, q.groups, q.attribute)


def test_a_parquet_file_of_another_tool(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [7, 8, 9],
            "label": pd.Categorical(["1", "2", "1"]),
            "skin": [1.0, np.nan, 2.0],
            "score_1": np.array([0.5, 0.25, 1.0], dtype=np.float32),
            "score_2": np.array([0.5, 0.75, 0.0], dtype=np.float32),
        }
    )
    frame.to_parquet(tmp_path / "p.parquet")
    p = Predictions.read(tmp_path / "p.parquet", attribute="skin")
    assert (p.groups, p.group.tolist(), p.label.tolist()) == (("1", "2"), [0, -1, 1], [0, 1, 0])
    assert p.image is not None
    assert p.image.tolist() == ["7", "8", "9"]


def test_findings_may_be_uncertain(tmp_path: Path) -> None:
    text = "label_a,label_b,sex,score_a,score_b\n1,0,f,0.2,0.9\n-1,,m,0.5,0.5\n0.0,1.0,m,0.1,1\n"
    p = Predictions.read(written(tmp_path, text), attribute="sex")
    assert p.task == "multilabel"
    assert np.array_equal(p.label, np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]]), equal_nan=True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("a.png,mel,", "a.png,mle,", "row 2, column 'label': 'mle' is unknown: no score column or name stands for it"),
        ("a.png,mel,", "a.png,,", "row 2, column 'label': is missing"),
        ("0.2,0.8", "0.2,0.7", "row 3, column 'score_*': the scores sum to 0.9, not 1"),
        ("0.2,0.8", "0.2,nan", "row 3, column 'score_nev': nan is no probability"),
        ("0.2,0.8", "-0.2,1.2", "row 3, column 'score_mel': -0.2 is no probability"),
        ("0.2,0.8", "0.2,high", "row 3, column 'score_nev': 'high' is no number"),
        ("0.2,0.8", "0.2,", "row 3, column 'score_nev': is blank"),
        ("0.2,0.8", "0.2,0.8,1", "row 3: the row has 8 fields, the header 7"),
        (",sex,", ",gender,", "column 'sex': there is no such column"),
        (",score_nev", ",nev", "'nev' is unknown"),
        (",label,", ",diagnosis,", "column 'label': there is no such column"),
        ("score_", "prob_", "there is no column of scores"),
        ("image,label", "label,label", "stands twice"),
        (ROWS, "", "header but no rows"),
        (HEAD + ROWS, "", "the file is empty"),
        (",", ";", "semicolon"),
    ],
)
def test_a_wrong_table_is_told_with_line_and_column(old: str, new: str, told: str, tmp_path: Path) -> None:
    path = written(tmp_path, (HEAD + ROWS).replace(old, new))
    text = problems(path)
    assert told in text
    assert "p.csv" in text


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    text = problems(written(tmp_path, HEAD + ROWS.replace("a.png,mel", "a.png,x").replace("0.2,0.8", "0.2,0.2")))
    assert "row 2" in text
    assert "row 3" in text
    text = problems(written(tmp_path, HEAD + ROWS.replace("a.png,mel", "a.png,x").replace("0.2,0.8", "0.2,?")))
    assert "row 2, column 'label': 'x' is unknown" in text
    assert "row 3, column 'score_nev': '?' is no number" in text
    text = problems(written(tmp_path, HEAD + ROWS), attribute="sexx", split="tset", unit="patien")
    assert "Did you mean 'sex'?" in text
    assert "Did you mean 'patient'?" in text


def test_a_split_without_rows(tmp_path: Path) -> None:
    assert "no row of the split 'valid'" in problems(written(tmp_path, HEAD + ROWS), split="valid")


def test_a_finding_without_scores(tmp_path: Path) -> None:
    text = problems(written(tmp_path, "label_a,label_b,sex,score_a\n1,0,f,0.5\n"))
    assert "column 'score_b': there is no such column" in text
    text = problems(written(tmp_path, "label_a,sex,score_a\n7,f,0.5\n"))
    assert "row 2, column 'label_a': 7.0 is not 0, 1 or missing" in text
    text = problems(written(tmp_path, "label_a,sex,score_a,threshold_a\n1,f,0.5,0.1\n0,f,0.5,0.2\n"))
    assert "must be one number" in text
    text = problems(written(tmp_path, "label_a,sex,score_a,threshold_a\n?,f,0.5,half\n"))
    assert "row 2, column 'label_a': '?' is no number" in text
    assert "thresholds must be numbers from 0 to 1" in text


def test_files_that_are_no_table(tmp_path: Path) -> None:
    assert "folder" in problems(tmp_path)
    assert "no such file" in problems(tmp_path / "absent.csv")
    assert "no such file" in problems(tmp_path / "absent.parquet")
    assert "no readable Parquet file" in problems(written(tmp_path, "text", "bad.parquet"))
    (tmp_path / "utf16.csv").write_bytes((HEAD + ROWS).encode("utf-16"))
    assert "UTF-16" in problems(tmp_path / "utf16.csv")
    assert "fewer than two columns" in problems(written(tmp_path, "label\na\n"))


def test_a_parquet_file_without_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"label": ["a"], "score_a": [1.0]}).to_parquet(tmp_path / "p.parquet")
    assert "column 'sex': there is no such column" in problems(tmp_path / "p.parquet")


def test_another_suffix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="written as"):
        random_predictions(multilabel=False).write(tmp_path / "p.xlsx")


def test_five_thousand_rows_are_read_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    score = rng.dirichlet(np.ones(8), 5000)
    names = [f"c{k}" for k in range(8)]
    p = Predictions(rng.integers(0, 8, 5000), score, rng.integers(0, 2, 5000), names, ["f", "m"], "sex")
    p.write(tmp_path / "p.csv")
    start = time.process_time()
    Predictions.read(tmp_path / "p.csv", attribute="sex")
    assert time.process_time() - start < 1


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": ["a", "b", "c", "d"],
            "label": pd.Categorical(["mel", "nev", "nev", "mel"]),
            "age": [31, 64, None, 47],
            "sex": ["f", "m", None, "f"],
            "patient": [1, 2, 2, 3],
            "score_mel": [0.7, 0.2, 0.4, 0.9],
            "score_nev": [0.3, 0.8, 0.6, 0.1],
        }
    )


def test_a_data_frame_is_what_its_csv_is(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "p.csv", index=False)
    direct = Predictions.from_frame(frame(), attribute="sex", unit="patient")
    read = Predictions.read(tmp_path / "p.csv", attribute="sex", unit="patient")
    assert direct.unit is not None
    assert read.unit is not None
    assert direct.score.tolist() == read.score.tolist()
    for name in ("label", "group", "unit", "image"):
        assert getattr(direct, name).tolist() == getattr(read, name).tolist(), name
    assert (direct.classes, direct.groups) == (read.classes, read.groups) == (("mel", "nev"), ("f", "m"))


def test_a_frames_faults_are_told_with_rows_from_0() -> None:
    wrong = frame()
    wrong["label"] = ["mel", "nev", "naevus", "mel"]
    wrong["score_nev"] = np.array([0.3, 0.8, 0.6, "x"], dtype=object)
    with pytest.raises(DataError) as caught:
        Predictions.from_frame(wrong, attribute="sex")
    assert "the data frame, row 2, column 'label': 'naevus' is unknown" in str(caught.value)
    assert "the data frame, row 3, column 'score_nev': 'x' is no number" in str(caught.value)
    with pytest.raises(DataError, match="column 'gender': there is no such column"):
        Predictions.from_frame(frame(), attribute="gender")


def test_an_attribute_is_regrouped_by_values_and_by_ranges() -> None:
    p = Predictions.from_frame(frame(), attribute="age", groups="young=0-45;old=46-120")
    assert p.groups == ("young", "old")
    assert p.group.tolist() == [0, 1, -1, 1]
    with pytest.raises(DataError, match="value '64' belongs to no group"):
        Predictions.from_frame(frame(), attribute="age", groups="young=0-45;old=46-60")


def test_attributes_of_an_intersection_are_regrouped_each() -> None:
    table = frame()
    table["skin"], table["sex"] = ["1", "6", "2", "5"], ["m", "f", "m", "f"]

    def read(groups: str | None, *attribute: str) -> Predictions:
        return Predictions.from_frame(table, attribute=attribute, groups=groups)

    p = read("skin: dark=4-6; light=1-3", "sex", "skin")
    assert (p.groups, p.group.tolist()) == (("f & dark", "m & light"), [1, 0, 1, 0])
    p = read("skin: light=1-3; dark=4-6 | sex: women=f; men=m", "skin", "sex")
    assert p.groups == ("light & men", "dark & women")
    assert read(None, "skin", "sex").groups == ("1 & m", "2 & m", "5 & f", "6 & f")
    assert read("skin: light=1-3; dark=4-6", "skin").groups == ("light", "dark")
    with pytest.raises(UsageError) as caught:
        read("light=1-3; dark=4-6 | skim: a=1; b=2 | sex: a=f | sex: a=f; b=m | sex: a=f; b=m", "skin", "sex")
    told = str(caught.value)
    assert "'light=1-3; dark=4-6' does not say which attribute it regroups" in told
    assert "there is no attribute 'skim' to regroup. Did you mean 'skin'?" in told
    assert "fewer than two groups are named" in told
    assert "the attribute 'sex' is regrouped twice" in told


def test_groups_that_are_numbers_are_in_their_order() -> None:
    table = frame()
    table["age"] = ["10", "9", "9", "100"]
    assert Predictions.from_frame(table, attribute="age").groups == ("9", "10", "100")


def test_logits_are_told_in_one_line() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 40)) * 4
    told = r"no probabilities. Are they logits\? Then give their softmax"
    with pytest.raises(DataError, match=told) as caught:
        Predictions(rng.integers(40, size=500), logits, [0, 1] * 250, [f"c{k}" for k in range(40)], ["f", "m"])
    assert len(caught.value.problems) == 1


def test_a_class_without_a_score_column_is_told_once() -> None:
    with pytest.raises(DataError) as caught:
        Predictions(["a", "b", "x"] * 50, [[0.5, 0.5]] * 150, ["f"] * 150, ["a", "b"])
    assert len(caught.value.problems) == 1
    assert "'x' is unknown: no score column or name stands for it (50 rows, this is the first)" in str(caught.value)


def test_two_classes_may_have_a_threshold(tmp_path: Path) -> None:
    p = Predictions([0, 1, 1], [[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 1, 1], ["no", "yes"], ["f", "m"])
    assert p.predicted.tolist() == [0, 0, 1]
    lower = p.called_at([0.7, 0.3])
    assert lower.predicted.tolist() == [0, 1, 1]
    assert p.predicted.tolist() == [0, 0, 1]
    lower.write(tmp_path / "p.csv")
    again = Predictions.read(tmp_path / "p.csv", attribute="group")
    assert again.predicted.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="not for 3"):
        Predictions([0, 1], [[0.2, 0.3, 0.5]] * 2, [0, 1], ["a", "b", "c"], threshold=[0.1, 0.2, 0.3])


def test_nan_among_group_codes_is_unknown() -> None:
    p = Predictions([0, 1, 1], [[0.8, 0.2]] * 3, [1.0, np.nan, 0.0], ["a", "b"])
    assert (p.groups, p.group.tolist()) == (("0", "1"), [1, -1, 0])


def test_missing_may_be_one_string(tmp_path: Path) -> None:
    table = frame()
    table["sex"] = ["f", "unknown", "n/a", "m"]
    for missing in ("unknown, n/a", ["unknown", "n/a"]):
        assert Predictions.from_frame(table, attribute="sex", missing=missing).groups == ("f", "m")
    table.to_csv(tmp_path / "p.csv", index=False)
    assert Predictions.read(tmp_path / "p.csv", attribute="sex", missing="unknown,n/a").groups == ("f", "m")


def test_ages_written_with_a_point_are_in_their_range() -> None:
    as_text = frame()
    as_text["age"] = ["31.0", "64", "", "47.0"]
    for table in (frame(), as_text):
        p = Predictions.from_frame(table, attribute="age", groups="young=0-39;old=40-120")
        assert p.group.tolist() == [0, 1, -1, 1]


def test_values_of_no_group_are_told_a_few_at_a_time() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": ["a", "b"] * 50, "age": rng.random(100), "score_a": 0.5, "score_b": 0.5})
    with pytest.raises(DataError) as caught:
        Predictions.from_frame(table, attribute="age", groups="young=0-39;old=40-120")
    assert len(caught.value.problems) == 6
    assert "95 more values belong to no group. Ranges hold whole numbers" in str(caught.value)


def test_one_threshold_for_all() -> None:
    p = Predictions([0, 1, 1], [[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 1, 1], ["no", "yes"], ["f", "m"])
    assert p.called_at(0.3).predicted.tolist() == [0, 1, 1]
    findings = Predictions([[1.0, 0.0]], [[0.4, 0.2]], [0], ["x", "y"], ["f"])
    assert findings.called_at(0.3).predicted.tolist() == [[True, False]]

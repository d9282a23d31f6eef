"""CheXpert, NIH ChestX-ray14 and MIMIC-CXR-JPG in small folders of their official layout."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.data.sources.conftest import LayOut

from equiprune.data.manifest import inspect_manifest
from equiprune.data.sources import SOURCES, Converted, Wishes, convert_source
from equiprune.data.sources.radiology import CHEXPERT_FINDINGS
from equiprune.errors import DataError

SMALL = "CheXpert-v1.0-small"
NUMBERS = ["1.0", "0.0", "-1.0", "", "0.0", "1.0", "0.0", "1.0", "0.0", "1.0", "0.0", "", "1.0", ""]
OTHERS = ["", "1.0", "0.0", "1.0", "1.0", "0.0", "1.0", "0.0", "1.0", "0.0", "1.0", "", "0.0", "1.0"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def converted(name: str, raw: Path, wishes: Wishes = Wishes()) -> tuple[Converted, list[dict[str, str]]]:  # noqa: B008
    done = convert_source(SOURCES[name], raw, raw / "m.csv", wishes)
    cohort, problems = inspect_manifest(done.settings)
    assert problems == ()
    assert cohort is not None
    return done, rows_of(raw / "m.csv")


def refused(name: str, raw: Path, wishes: Wishes = Wishes()) -> list[str]:  # noqa: B008
    with pytest.raises(DataError) as error:
        convert_source(SOURCES[name], raw, raw / "m.csv", wishes)
    return [str(problem) for problem in error.value.problems]


def joined(header: list[str], rows: list[list[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in [header, *rows])


def chexpert_table(prefix: str, part: str, patients: Mapping[int, str]) -> tuple[str, list[str]]:
    """Two images a patient, one of them lateral; the findings of every other patient differ."""
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]
    rows = []
    for number, sex in patients.items():
        study = f"{prefix}/{part}/patient{number:05}/study1"
        cells = NUMBERS if number % 2 else OTHERS
        rows.append([f"{study}/view1_frontal.jpg", sex, "0" if number == 1 else "68", "Frontal", "AP", *cells])
        rows.append([f"{study}/view2_lateral.jpg", sex, "68", "Lateral", "", *cells])
    return joined(header, rows), [row[0] for row in rows]


SEXES = {1: "Female", 2: "Male", 3: "Unknown", 4: "Male"} | {n: ("Female", "Male")[n % 4 > 1] for n in range(5, 21)}


def chexpert(root: Path, lay_out: LayOut, prefix: str = SMALL, *, test: bool = False) -> Path:
    train, images = chexpert_table(prefix, "train", SEXES)
    held: dict[int, str] = dict.fromkeys((101, 102), "Female") | dict.fromkeys((103, 104), "Male")
    tables = {f"{prefix}/train.csv": train}
    for part, shift in (("valid", 0), *([("test", 100)] if test else [])):
        tables[f"{prefix}/{part}.csv"], more = chexpert_table(prefix, part, {n + shift: s for n, s in held.items()})
        images += more
    return lay_out(root, tables, images)


@pytest.mark.parametrize("prefix", [SMALL, "CheXpert-v1.0"])
@pytest.mark.parametrize("inside", [False, True])
def test_chexpert(tmp_path: Path, lay_out: LayOut, prefix: str, inside: bool) -> None:
    raw = chexpert(tmp_path, lay_out, prefix)
    done, rows = converted("chexpert", raw / prefix if inside else raw)
    start = "" if inside else f"{prefix}/"
    assert done.rows == 48
    assert {
        name: rows[0][name] for name in ("image", "sex", "age", "view", "projection", "patient_id", "Lung Opacity")
    } == {
        "image": f"{start}train/patient00001/study1/view1_frontal.jpg", "sex": "female", "age": "", "view": "Frontal",
        "projection": "AP", "patient_id": "patient00001", "Lung Opacity": "",
    }  # fmt: skip
    assert [rows[0][name] for name in CHEXPERT_FINDINGS] == [cell.removesuffix(".0") for cell in NUMBERS]
    assert (rows[4]["sex"], rows[4]["age"], rows[5]["view"]) == ("", "68", "Lateral")
    assert len(done.settings.labels) == 9  # cardiomegaly is never positive here, and opacity never negative
    notices = "\n".join(done.notices)
    assert "finding 'Cardiomegaly' is not both positive and negative in some row (24 negative, 24 uncertain)" in notices
    assert "1 ages of 0 or above 120 mean missing" in notices
    assert "all views are in the manifest" in notices
    assert "a blank finding" in notices
    assert done.findings["Cardiomegaly"] == {"positive": 0, "negative": 24, "uncertain": 24, "blank": 0}
    assert done.groups["sex"][""] == 2


def test_blank_findings_may_be_zeros(tmp_path: Path, lay_out: LayOut) -> None:
    done, rows = converted("chexpert", chexpert(tmp_path, lay_out), Wishes(blanks="zeros"))
    assert [rows[0][name] for name in CHEXPERT_FINDINGS] == [cell.removesuffix(".0") or "0" for cell in NUMBERS]
    assert done.findings["Cardiomegaly"]["uncertain"] == 24
    assert "is written as 0" in "\n".join(done.notices)


def test_chexpert_frontal_views(tmp_path: Path, lay_out: LayOut) -> None:
    done, rows = converted("chexpert", chexpert(tmp_path, lay_out), Wishes(views="frontal"))
    assert done.rows == 24
    assert {row["view"] for row in rows} == {"Frontal"}
    assert done.left_out == {"not frontal": 24}


def test_chexpert_published_split(tmp_path: Path, lay_out: LayOut) -> None:
    raw = chexpert(tmp_path, lay_out)
    done = convert_source(SOURCES["chexpert"], raw, raw / "m.csv", Wishes(published_split=True))
    assert done.splits == {"train": 36, "validation": 4, "test": 8}
    placed = {(row["patient_id"], row["split"]) for row in rows_of(raw / "m.csv")}
    assert len(placed) == len({patient for patient, _ in placed}) == 24
    notices = "\n".join(done.notices)
    assert "valid.csv is the test split, as in most works" in notices
    assert "one patient in 8 of train was drawn for it, seed 0" in notices
    other = convert_source(SOURCES["chexpert"], raw, raw / "o.csv", Wishes(published_split=True, seed=3))
    assert done.splits == other.splits
    assert (raw / "m.csv").read_text() != (raw / "o.csv").read_text()


def test_chexpert_with_its_test_table_and_a_patient_in_two_splits(tmp_path: Path, lay_out: LayOut) -> None:
    raw = chexpert(tmp_path, lay_out, test=True)
    done, rows = converted("chexpert", raw, Wishes(published_split=True))
    assert done.splits == {"train": 40, "validation": 8, "test": 8}
    assert rows[-1]["patient_id"] == "patient00204"
    assert not any("more than one split" in notice for notice in done.notices)
    path = raw / SMALL / "test.csv"
    path.write_text(path.read_text().replace("patient00201", "patient00002"))
    (raw / SMALL / "test" / "patient00201").rename(raw / SMALL / "test" / "patient00002")
    done, _ = converted("chexpert", raw, Wishes(published_split=True))
    assert any("1 of 27 units are in more than one split ('patient00002')" in notice for notice in done.notices)


def test_chexpert_in_the_folders_of_its_archives(tmp_path: Path, lay_out: LayOut) -> None:
    """The full set is handed out as archives whose folders leave `train/` out."""
    raw = chexpert(tmp_path, lay_out, "CheXpert-v1.0")
    first = raw / "CheXpert-v1.0 batch 1 (validate & csv)"
    (raw / "CheXpert-v1.0").rename(first)
    (first / "train").rename(raw / "CheXpert-v1.0 batch 2 (train 1)")
    done, rows = converted("chexpert", raw)
    assert (done.rows, done.missing.images) == (48, 0)
    assert rows[0]["image"].startswith("CheXpert-v1.0 batch 2 (train 1)/patient00001")


def test_chexpert_with_impossible_entries(tmp_path: Path, lay_out: LayOut) -> None:
    raw = chexpert(tmp_path, lay_out)
    train, valid = raw / SMALL / "train.csv", raw / SMALL / "valid.csv"
    text = train.read_text()
    lines = text.splitlines()
    bad = [lines[1], lines[2].replace("68", "x").replace("Lateral", "Side"), lines[3].replace(",1.0", ",2.0", 1)]
    bad += ["images/a.jpg" + lines[4][lines[4].index(",") :]]
    train.write_text(text + "\n".join(bad) + "\n")
    valid.write_text(valid.read_text().replace(SMALL, "CheXpert-v1.0").replace(",Male,", ",1,"))
    told = refused("chexpert", raw)
    for line in (
        f"{SMALL}/train.csv, row 42, column 'Path': '{SMALL}/train/patient00001/study1/view1_frontal.jpg' is already",
        "row 43, column 'Age': 'x' is not possible",
        "row 43, column 'Frontal/Lateral': 'Side' is not possible here. Expected Frontal or Lateral",
        "row 44, column 'Enlarged Cardiomediastinum': '2.0' is not possible here. Expected 1, 0, -1 (uncertain)",
        "row 45, column 'Path': 'images/a.jpg' is no path of CheXpert. Expected CheXpert-v1.0-small/train/",
        f"{SMALL}/valid.csv, row 2, column 'Path': 'CheXpert-v1.0/valid/patient00101/study1/view1_frontal.jpg' is of",
        f"{SMALL}/valid.csv, row 6, column 'Sex': '1' is not possible here",
    ):
        assert any(line in problem for problem in told), line


def test_of_two_chexpert_sets_one_has_to_be_named(tmp_path: Path, lay_out: LayOut) -> None:
    raw = chexpert(tmp_path, lay_out)
    chexpert(tmp_path, lay_out, "CheXpert-v1.0")
    (told,) = refused("chexpert", raw)
    assert "There are 'CheXpert-v1.0/train.csv', 'CheXpert-v1.0-small/train.csv'" in told
    assert "Name the folder that holds the one you want" in told
    assert converted("chexpert", raw / SMALL)[0].rows == 48


NEW = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Sex", "View Position"]
NEW += ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
NIH = [
    ["00000001_000.png", "Cardiomegaly", "0", "1", "057Y", "M", "PA"],
    ["00000001_001.png", "Cardiomegaly|Pleural_Thickening", "1", "1", "058Y", "M", "AP"],
    ["00000002_000.png", "No Finding", "0", "2", "414Y", "F", "PA"],
    ["00000003_000.png", "Hernia|Pleural Thickening", "0", "3", "011D", "F", "PA"],
    ["00000004_000.png", "No Finding", "0", "4", "0", "F", "PA"],
]


def nih(root: Path, lay_out: LayOut, *, old: bool, lists: bool = False) -> Path:
    size = ["2682", "2749", "0.143", "0.143"]
    header = [*(name.replace("Sex", "Gender") for name in NEW), ""] if old else NEW
    rows = [[*row, *size, *([""] if old else [])] for row in NIH]
    tables = {"Data_Entry_2017.csv" if old else "Data_Entry_2017_v2020.csv": joined(header, rows)}
    if lists:
        tables["train_val_list.txt"] = "\n".join(row[0] for row in NIH[:3])
        tables["test_list.txt"] = NIH[3][0] + "\n"
    images = [f"images_00{place + 1}/images/{row[0]}" if old else f"images/{row[0]}" for place, row in enumerate(NIH)]
    return lay_out(root, tables, images)


@pytest.mark.parametrize("old", [True, False])
def test_nih_of_both_years(tmp_path: Path, lay_out: LayOut, old: bool) -> None:
    done, rows = converted("nih-cxr14", nih(tmp_path, lay_out, old=old))
    assert [row["age"] for row in rows] == ["57", "58", "", "0", ""]
    assert [row["Pleural_Thickening"] for row in rows] == ["0", "1", "0", "1", "0"]
    assert {row[name] for row in rows[2::2] for name in done.labels} == {"0"}
    assert [row["sex"] for row in rows] == ["male", "male", "female", "female", "female"]
    assert (rows[1]["view"], rows[1]["follow_up"], rows[1]["patient_id"]) == ("AP", "1", "1")
    assert rows[0]["image"] == ("images_001/images/00000001_000.png" if old else "images/00000001_000.png")
    assert done.settings.labels == ("Cardiomegaly", "Hernia", "Pleural_Thickening")
    assert "2 ages of 0 or above 120 mean missing, and are blank" in done.notices


def test_a_header_without_the_last_comma_of_its_rows_and_gzip(tmp_path: Path, lay_out: LayOut) -> None:
    raw = nih(tmp_path, lay_out, old=True)
    path = raw / "Data_Entry_2017.csv"
    text = path.read_text().replace(",\n", "\n", 1)
    path.unlink()
    (raw / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    assert converted("nih-cxr14", raw)[0].rows == 5


def test_a_damaged_archive(tmp_path: Path, lay_out: LayOut) -> None:
    raw = nih(tmp_path, lay_out, old=False)
    path = raw / "Data_Entry_2017_v2020.csv"
    (raw / "Data_Entry_2017_v2020.csv.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()
    (told,) = refused("nih-cxr14", raw)
    assert told.startswith("Data_Entry_2017_v2020.csv.gz: the gzip archive is damaged")


def test_nih_published_lists(tmp_path: Path, lay_out: LayOut) -> None:
    raw = nih(tmp_path, lay_out, old=False, lists=True)
    done = convert_source(SOURCES["nih-cxr14"], raw, raw / "m.csv", Wishes(published_split=True))
    rows = rows_of(raw / "m.csv")
    assert len(rows) == 4
    assert rows[0]["split"] == rows[1]["split"] != rows[2]["split"]  # drawn by patient
    assert rows[3]["split"] == "test"
    assert done.left_out == {"in no split": 1}
    assert any("no row of group 'male' is in" in notice for notice in done.notices)  # told, and not refused
    (raw / "test_list.txt").write_text(" \n")
    assert refused("nih-cxr14", raw, Wishes(published_split=True)) == [
        "test_list.txt: the list is empty. Download it again"
    ]
    (raw / "test_list.txt").write_bytes(b"\xff\xfe1")
    assert refused("nih-cxr14", raw, Wishes(published_split=True)) == [
        "test_list.txt: cannot be read (it is not UTF-8)"
    ]
    (raw / "test_list.txt").unlink()
    assert "there is no table 'test_list.txt'" in refused("nih-cxr14", raw, Wishes(published_split=True))[0]


def test_nih_with_impossible_findings(tmp_path: Path, lay_out: LayOut) -> None:
    raw = nih(tmp_path, lay_out, old=False)
    path = raw / "Data_Entry_2017_v2020.csv"
    text = (
        path.read_text().replace("No Finding", "No Finding|Mass", 1).replace("Hernia|", "Hernai|").replace("AP", "LL")
    )
    path.write_text(text.replace("No Finding,", ","))
    told = refused("nih-cxr14", raw)
    for line in (
        "row 4, column 'Finding Labels': 'No Finding|Mass' says both that there is a finding and none. Expected 'No F",
        "row 5, column 'Finding Labels': 'Hernai' is no finding. Did you mean 'Hernia'?",
        "row 6, column 'Finding Labels': '' is no finding",
        "row 3, column 'View Position': 'LL' is not possible here. Expected PA or AP",
    ):
        assert any(line in problem for problem in told), line


SUBJECTS = ("10000032", "10000764", "11000898", "11000935")


def mimic(root: Path, lay_out: LayOut, labeler: str = "chexpert") -> Path:
    metadata, split, labels, images = [], [], [], []
    for index, subject in enumerate(SUBJECTS):
        study = f"5041426{index}"
        for view in ("PA", "LATERAL"):
            dicom = f"{index}a-{view.lower()}"
            metadata.append([dicom, subject, study, view, "21800506"])
            split.append([dicom, study, subject, ("train", "train", "validate", "test")[index]])
            images.append(f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg")
        if index:
            labels.append([subject, study, *(NUMBERS if index % 2 else OTHERS)])
    tables = {
        "mimic-cxr-2.0.0-metadata.csv": joined(
            ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate"], metadata
        ),
        "mimic-cxr-2.0.0-split.csv": joined(["dicom_id", "study_id", "subject_id", "split"], split),
        f"mimic-cxr-2.0.0-{labeler}.csv": joined(["subject_id", "study_id", *CHEXPERT_FINDINGS], labels),
        "patients.csv": "subject_id,gender,anchor_age,anchor_year\n10000764,M,60,2175\n11000898,F,0,2175\n",
    }
    return lay_out(root, tables, images)


def test_mimic_cxr(tmp_path: Path, lay_out: LayOut) -> None:
    raw = mimic(tmp_path, lay_out)
    (raw / "patients.csv").write_text(
        "subject_id,gender,anchor_age,anchor_year\n10000764,M,60,2175\n11000898,F,30,2190\n11000935,F,0,2175\n"
    )
    done, rows = converted("mimic-cxr", raw)
    assert done.rows == 6
    assert done.left_out == {"of studies without findings in mimic-cxr-2.0.0-chexpert.csv": 2}
    assert rows[0]["image"] == "files/p10/p10000764/s50414261/1a-pa.jpg"
    assert [rows[0][name] for name in CHEXPERT_FINDINGS] == [cell.removesuffix(".0") for cell in NUMBERS]
    assert (rows[0]["sex"], rows[0]["age"], rows[0]["view"], rows[0]["study_id"]) == ("male", "65", "PA", "50414261")
    assert (rows[2]["sex"], rows[2]["age"], rows[4]["age"]) == ("female", "20", "")


def test_mimic_cxr_in_part_with_all_that_can_be_chosen(tmp_path: Path, lay_out: LayOut) -> None:
    raw = mimic(tmp_path, lay_out, "negbio")
    for name in ("patients.csv", "mimic-cxr-2.0.0-metadata.csv"):
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes()))
        (raw / name).unlink()
    (raw / "hosp").mkdir()
    (raw / "patients.csv.gz").rename(raw / "hosp" / "patients.csv.gz")
    picture = next((raw / "files").rglob("3a-pa.jpg"))
    picture.rename(picture.with_suffix(".dcm"))
    split = raw / "mimic-cxr-2.0.0-split.csv"
    split.write_text("\n".join(split.read_text().splitlines()[:-3]) + "\n")
    wishes = Wishes(views="frontal", labeler="negbio", published_split=True)
    done = convert_source(SOURCES["mimic-cxr"], raw, raw / "m.csv", wishes)
    assert done.left_out == {
        "of studies without findings in mimic-cxr-2.0.0-negbio.csv": 2, "in no split": 3, "not frontal": 1
    }  # fmt: skip
    assert [row["split"] for row in rows_of(raw / "m.csv")] == ["train", "validation"]
    assert any("2 patients are not in hosp/patients.csv.gz: sex and age are blank" in one for one in done.notices)
    done = convert_source(SOURCES["mimic-cxr"], raw, raw / "m.csv", Wishes(labeler="negbio"))
    assert rows_of(raw / "m.csv")[4]["image"].endswith("3a-pa.dcm")


def test_mimic_cxr_without_a_year_has_no_ages(tmp_path: Path, lay_out: LayOut) -> None:
    raw = mimic(tmp_path, lay_out)
    (raw / "patients.csv").write_text("subject_id,gender\n10000764,M\n11000898,F\n")
    assert {row["age"] for row in converted("mimic-cxr", raw)[1]} == {""}


def test_mimic_cxr_needs_the_patients(tmp_path: Path, lay_out: LayOut) -> None:
    raw = mimic(tmp_path, lay_out)
    (raw / "patients.csv").unlink()
    (told,) = refused("mimic-cxr", raw)
    assert "sex is not in MIMIC-CXR-JPG: put patients.csv.gz of MIMIC-IV (folder hosp) beside its tables" in told


def test_mimic_cxr_with_impossible_entries(tmp_path: Path, lay_out: LayOut) -> None:
    raw = mimic(tmp_path, lay_out)
    for name, before, after in (
        ("metadata", "0a-pa,10000032", "0a-lateral,p10000032"),
        ("split", "validate", "held out"),
        ("chexpert", "50414263", "50414262"),
    ):
        path = raw / f"mimic-cxr-2.0.0-{name}.csv"
        path.write_text(path.read_text().replace(before, after))
    (raw / "patients.csv").write_text("subject_id,gender,anchor_age,anchor_year\n1,M,x,now\n1,2,60,2175\n")
    told = refused("mimic-cxr", raw, Wishes(published_split=True))
    for line in (
        "metadata.csv, row 2, column 'subject_id': 'p10000032' is not possible here. Expected a whole number",
        "metadata.csv, row 3, column 'dicom_id': '0a-lateral' is already in row 2",
        "split.csv, row 6, column 'split': 'held out' is not possible here. Expected train, validate or test",
        "chexpert.csv, row 4, column 'study_id': '50414262' is already in row 3",
        "patients.csv, row 3, column 'subject_id': '1' is already in row 2",
        "patients.csv, row 3, column 'gender': '2' is not possible",
        "patients.csv, row 2, column 'anchor_age': 'x' is not possible",
        "patients.csv, row 2, column 'anchor_year': 'now' is not possible here. Expected a year",
    ):
        assert any(line in problem for problem in told), line

"""The skin sets in small folders of their official layout."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.data.sources.conftest import LayOut

from equiprune.data.manifest import inspect_manifest
from equiprune.data.sources import SOURCES, Converted, Wishes, convert_source
from equiprune.errors import DataError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def converted(name: str, raw: Path, wishes: Wishes = Wishes()) -> tuple[Converted, list[dict[str, str]]]:  # noqa: B008
    done = convert_source(SOURCES[name], raw, raw / "m.csv", wishes)
    cohort, problems = inspect_manifest(done.settings)
    assert problems == ()
    assert cohort is not None
    assert len(cohort) == done.rows
    return done, rows_of(raw / "m.csv")


def refused(name: str, raw: Path, wishes: Wishes = Wishes()) -> list[str]:  # noqa: B008
    with pytest.raises(DataError) as error:
        convert_source(SOURCES[name], raw, raw / "m.csv", wishes)
    assert not (raw / "m.csv").exists()
    return [str(problem) for problem in error.value.problems]


def test_ham10000_without_an_ending(skin: Path) -> None:
    done, rows = converted("ham10000", skin)
    assert done.rows == 8
    assert rows[0] == {
        "image": "HAM10000_images_part_1/ISIC_1.jpg", "label": "nv", "sex": "male", "age": "80", "lesion_id": "L1",
        "site": "back", "dx_type": "histo", "dataset": "vidir",
    }  # fmt: skip
    assert rows[2]["age"] == "0"  # the youngest bin of ages
    assert (rows[2]["site"], rows[3]["age"], rows[4]["sex"]) == ("", "", "")
    assert rows[7]["image"].endswith("ISIC_8.JPG")
    assert done.groups["sex"] == {"female": 4, "male": 3, "": 1}
    assert done.missing.images == 0
    assert not (skin / "m.missing.csv").exists()


def test_ham10000_as_a_table_with_tabs_is_told(skin: Path) -> None:
    text = (skin / "HAM10000_metadata").read_text()
    (skin / "HAM10000_metadata").unlink()
    (skin / "HAM10000_metadata.tab").write_text(text.replace(",", "\t"))
    assert refused("ham10000", skin) == [
        "HAM10000_metadata.tab, row 1: the columns are separated by tabs, not commas. Save it with commas"
    ]


def test_every_impossible_entry_is_told_at_once(skin: Path) -> None:
    path = skin / "HAM10000_metadata"
    bad = "L1,ISIC_1,nv,histo,300,2,back,vidir\n,ISIC_9,,histo,old,male,back,vidir\nL9,,nv,histo,4,male,back,vidir\n"
    path.write_text(path.read_text() + bad)
    told = refused("ham10000", skin)
    for line in (
        "HAM10000_metadata, row 10, column 'image_id': 'ISIC_1' is already in row 2. An id has one row: delete one",
        "row 10, column 'age': '300' is not possible here. Expected years from 0 to 120, or blank",
        "row 11, column 'age': 'old' is not possible here",
        "row 10, column 'sex': '2' is not possible here. Expected male, female, M, F, unknown or blank. Numbers have",
        "row 11, column 'dx': the cell is blank",
        "row 11, column 'lesion_id': the cell is blank",
        "row 12, column 'image_id': the cell is blank",
    ):
        assert any(line in problem for problem in told), line


def test_numbers_for_sexes_need_their_meaning(skin: Path) -> None:
    path = skin / "HAM10000_metadata"
    path.write_text(path.read_text().replace("unknown,face", "9,face").replace(",male", ",1").replace(",female", ",2"))
    assert any('--sex-codes "1=male;2=female"' in problem for problem in refused("ham10000", skin))
    done, rows = converted("ham10000", skin, Wishes(sex_codes="1=male; 2=F; 9=unknown"))
    assert done.groups["sex"] == {"female": 4, "male": 3, "": 1}
    assert rows[0]["sex"] == "male"


TRUTH = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
FACTS = "image,age_approx,anatom_site_general,lesion_id,sex"


def isic(root: Path, lay_out: LayOut, truth: list[str], facts: list[str]) -> Path:
    tables = {
        "ISIC_2019_Training_GroundTruth.csv": "\n".join([TRUTH, *truth]) + "\n",
        "ISIC_2019_Training_Metadata.csv": "\n".join([FACTS, *facts]) + "\n",
    }
    names = [row.partition(",")[0] for row in truth]
    return lay_out(root, tables, [f"ISIC_2019_Training_Input/{name}.jpg" for name in names])


def one_hot(name: str, place: int) -> str:
    return ",".join([name, *("1.0" if index == place else "0.0" for index in range(9))])


def test_isic2019(tmp_path: Path, lay_out: LayOut) -> None:
    truth = [one_hot("ISIC_1", 0), one_hot("ISIC_2_downsampled", 1), one_hot("ISIC_3", 1), one_hot("ISIC_4", 0)]
    facts = [
        "ISIC_4,0.0,,,",
        "ISIC_3,45,head/neck,L3,male",
        "ISIC_2_downsampled,,torso,L2,female",
        "ISIC_1,55,,L1,male",
    ]
    raw = isic(tmp_path, lay_out, truth, [*facts, "ISIC_5,1,,,male", "ISIC_6,1,,,female"])
    done, rows = converted("isic2019", raw)
    assert [row["label"] for row in rows] == ["MEL", "NV", "NV", "MEL"]
    assert [row["sex"] for row in rows] == ["male", "female", "male", ""]
    assert rows[1]["image"] == "ISIC_2019_Training_Input/ISIC_2_downsampled.jpg"
    assert rows[3]["age"] == "0"
    assert any(notice.startswith("2 images of ISIC_2019_Training_Metadata.csv are not in") for notice in done.notices)


def test_isic2019_with_impossible_entries(tmp_path: Path, lay_out: LayOut) -> None:
    truth = [one_hot("ISIC_1", 0), one_hot("ISIC_1", 1), one_hot("ISIC_2", 99), one_hot("ISIC_3", 8)]
    truth += [one_hot("ISIC_4", 0).replace("0.0", "1.0", 1), one_hot("ISIC_5", 0).replace("0.0", "x", 1)]
    facts = [f"ISIC_{number},5,,,male" for number in (1, 2, 3, 4, 4)]
    told = refused("isic2019", isic(tmp_path, lay_out, truth, facts))
    for line in (
        "GroundTruth.csv, row 3, column 'image': 'ISIC_1' is already in row 2",
        "row 4, column 'image': the row has no class. Expected a 1 in one column of classes",
        "row 6, column 'image': the row has 2 classes (MEL, NV)",
        "row 7, column 'NV': 'x' is not possible here. Expected 0 or 1",
        "row 7, column 'image': 'ISIC_5' is not in ISIC_2019_Training_Metadata.csv. Both tables must be of one release",
        "Metadata.csv, row 6, column 'image': 'ISIC_4' is already in row 5",
    ):
        assert any(line in problem for problem in told), line


@pytest.mark.parametrize(("name", "scale"), [("md5hash", "fitzpatrick_scale"), ("hasher", "fitzpatrick")])
def test_fitzpatrick17k_in_both_spellings_and_in_part(tmp_path: Path, lay_out: LayOut, name: str, scale: str) -> None:
    lines = ["aa,1,acne", "bb,6.0,acne", "cc,-1,lupus", "dd,,lupus", "ee,4,lupus", "ff,2,lupus"]
    table = "\n".join([f"{name},{scale},label", *lines])
    raw = lay_out(
        tmp_path, {"fitzpatrick17k.csv": table}, [f"pictures/{n}.jpg" for n in ("aa", "bb", "cc", "ee", "ff")]
    )
    done, rows = converted("fitzpatrick17k", raw)
    assert [row["skin_type"] for row in rows] == ["1", "6", "", "4", "2"]
    assert rows[0]["image"] == "pictures/aa.jpg"
    assert done.missing.images == 1
    assert done.missing.by_label == {"lupus": 1}
    assert done.missing.by_group == {"skin_type": {"": 1}}
    assert done.missing.list == raw / "m.missing.csv"
    assert rows_of(raw / "m.missing.csv") == [
        {"image": "dd", "table": "fitzpatrick17k.csv", "row": "5", "label": "lupus", "skin_type": ""}
    ]
    assert done.settings.groups == "light=1-3;dark=4-6"
    assert "qc" in rows[0]


def test_fitzpatrick17k_with_an_impossible_type(tmp_path: Path, lay_out: LayOut) -> None:
    raw = lay_out(tmp_path, {"fitzpatrick17k.csv": "md5hash,fitzpatrick_scale,label\naa,7,acne\n"}, ["aa.jpg"])
    assert "row 2, column 'fitzpatrick_scale': '7' is not possible" in refused("fitzpatrick17k", raw)[0]
    (raw / "fitzpatrick17k.csv").write_text("md5hash,fitzpatrick_scal,label\naa,7,acne\n")
    (told,) = refused("fitzpatrick17k", raw)
    assert "there is no column 'fitzpatrick_scale' or 'fitzpatrick'. Did you mean 'fitzpatrick_scal'?" in told


@pytest.mark.parametrize("folders", [("images",), ("imgs_part_1", "imgs_part_2/imgs_part_2")])
def test_pad_ufes_20(tmp_path: Path, lay_out: LayOut, folders: tuple[str, ...]) -> None:
    lines = [
        "PAT_1,10,55,FEMALE,3.0,NECK,BCC,PAT_1_10_1.png,True",
        "PAT_2,20,8,,,ARM,NEV,PAT_2_20_2.png,False",
        "PAT_3,30,60,MALE,1.0,ARM,NEV,PAT_3_30_3.png,False",
        "PAT_4,40,60,MALE,1.0,ARM,BCC,PAT_4_40_4.png,False",
    ]
    header = "patient_id,lesion_id,age,gender,fitspatrick,region,diagnostic,img_id,biopsed"
    images = [f"{folders[index % len(folders)]}/{line.split(',')[7]}" for index, line in enumerate(lines)]
    raw = lay_out(tmp_path, {"metadata.csv": "\n".join([header, *lines])}, images)
    done, rows = converted("pad-ufes-20", raw)
    assert rows[0] == {
        "image": images[0], "label": "BCC", "sex": "female", "age": "55", "skin_type": "3", "patient_id": "PAT_1",
        "lesion_id": "10", "site": "NECK", "biopsied": "true",
    }  # fmt: skip
    assert (rows[1]["sex"], rows[1]["skin_type"]) == ("", "")
    assert done.groups == {"sex": {"female": 1, "male": 2, "": 1}, "skin_type": {"1": 2, "3": 1, "": 1}}


def test_ddi(tmp_path: Path, lay_out: LayOut) -> None:
    lines = [",DDI_ID,DDI_file,skin_tone,malignant,disease"]
    lines += [
        f"{n},{n},00000{n}.png,{tone},{bad},nevus" for n, tone, bad in ((1, 12, True), (2, 56, False), (3, 34, True))
    ]
    raw = lay_out(tmp_path, {"ddi_metadata.csv": "\n".join(lines)}, [f"00000{n}.png" for n in (1, 2, 3)])
    done, rows = converted("ddi", raw)
    assert rows[0] == {"image": "000001.png", "label": "malignant", "skin_tone": "12", "disease": "nevus"}
    assert done.counts["skin_tone"]["56"] == {"benign": 1, "malignant": 0}
    (raw / "m.csv").unlink()
    (raw / "ddi_metadata.csv").write_text("DDI_file,skin_tone,malignant\n000001.png,13,yes\n000002.png,,\n")
    told = refused("ddi", raw)
    for line in (
        "row 2, column 'malignant': 'yes' is not possible here. Expected True or False",
        "row 3, column 'malignant': the cell is blank",
        "row 2, column 'skin_tone': '13' is not possible here. Expected 12, 34 or 56",
        "row 3, column 'skin_tone': the cell is blank",
    ):
        assert any(line in problem for problem in told), line

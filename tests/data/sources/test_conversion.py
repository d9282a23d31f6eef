"""What holds for every set: missing images, places, wrong folders, splits from tables, wishes that mean nothing."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from tests.data.sources.conftest import LayOut

from equiprune.data.manifest import inspect_manifest
from equiprune.data.sources import SOURCES, Converted, Wishes, convert_source, source_named
from equiprune.errors import DataError, EquipruneError, UsageError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def converted(raw: Path, out: Path | None = None, **wishes: object) -> Converted:
    return convert_source(SOURCES["ham10000"], raw, out or raw / "m.csv", Wishes(**wishes))  # type: ignore[arg-type]


def refused(error: type[EquipruneError], raw: Path, out: Path | None = None, **wishes: object) -> str:
    with pytest.raises(error) as raised:
        converted(raw, out, **wishes)
    return "\n".join(str(problem) for problem in raised.value.problems)


def test_missing_images_are_left_out_counted_and_listed(skin: Path) -> None:
    for name in ("part_1/ISIC_1.jpg", "part_1/ISIC_3.jpg", "part_2/ISIC_5.JPG"):
        (skin / f"HAM10000_images_{name}").unlink()
    done = converted(skin)
    assert (done.rows, done.missing.images) == (5, 3)
    assert done.missing.by_label == {"mel": 1, "nv": 2}
    assert done.missing.by_group == {"sex": {"female": 1, "male": 1, "": 1}}
    assert [row["row"] for row in rows_of(skin / "m.missing.csv")] == ["2", "4", "6"]
    assert any("3 images are not there; their rows are left out, and listed in" in one for one in done.notices)
    kept = converted(skin, keep_missing=True)
    assert (kept.rows, kept.missing.images) == (8, 3)
    assert kept.options()[-2:] == ["--on-bad-image", "skip"]
    assert inspect_manifest(kept.settings)[1] == ()
    for image in ("ISIC_1.png", "ISIC_3.jpeg", "ISIC_5.dcm"):
        (skin / image).write_bytes(b"")
    assert converted(skin).missing.list is None
    assert not (skin / "m.missing.csv").exists()


def test_a_folder_of_another_set_says_what_was_expected_and_what_was_found(skin: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        convert_source(SOURCES["chexpert"], skin, skin / "m.csv", Wishes())
    told = str(raised.value)
    assert "this is not CheXpert as it is published: there is no table 'train.csv'" in told
    assert "train.csv, valid.csv    Path, Sex, Age" in told
    assert "Found: HAM10000_images_part_1/, HAM10000_images_part_2/, HAM10000_metadata" in told
    (tmp_path / "empty").mkdir()
    assert "Found: nothing" in refused(DataError, tmp_path / "empty")
    for number in range(10):
        (tmp_path / "empty" / f"{number}.txt").touch()
    assert "7.txt and 2 more" in refused(DataError, tmp_path / "empty")


def test_no_image_at_all(skin: Path) -> None:
    for folder in ("part_1", "part_2"):
        (skin / f"HAM10000_images_{folder}").rename(skin.parent / folder)
    told = refused(DataError, skin)
    assert "none of its 8 images is there, the first 'images/ISIC_1.jpg'" in told
    assert "Expected:" in told
    assert converted(skin, keep_missing=True).rows == 8


def test_places_that_are_no_folder(skin: Path) -> None:
    assert "there is no such folder. Name the folder that HAM10000 was unpacked to" in refused(DataError, skin / "no")
    assert "this is a file, not a folder" in refused(DataError, skin / "HAM10000_metadata")
    assert "Give --out a name that ends in .csv" in refused(UsageError, skin, skin / "m.txt")
    assert "cannot be written" in refused(UsageError, skin, skin / "HAM10000_metadata" / "m.csv")


def test_an_official_table_is_never_replaced(skin: Path) -> None:
    (skin / "HAM10000_metadata").rename(skin / "HAM10000_metadata.csv")
    before = (skin / "HAM10000_metadata.csv").read_bytes()
    assert "would replace a table that it is made from" in refused(UsageError, skin, skin / "HAM10000_metadata.csv")
    assert (skin / "HAM10000_metadata.csv").read_bytes() == before


def test_a_folder_that_cannot_be_read(skin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # chmod does not stop the administrator
    assert "cannot be read (Permission denied)" in refused(DataError, skin)


def test_a_manifest_above_the_images_and_one_elsewhere(skin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = converted(skin, skin.parent / "above.csv")
    assert rows_of(skin.parent / "above.csv")[0]["image"] == "ham/HAM10000_images_part_1/ISIC_1.jpg"
    assert "--allow-outside" not in done.options()
    done = converted(skin, skin.parent / "else" / "where.csv")
    assert rows_of(skin.parent / "else" / "where.csv")[0]["image"].startswith("../../ham/") is False
    assert rows_of(skin.parent / "else" / "where.csv")[0]["image"].startswith("../ham/")
    assert "--allow-outside" in done.options()
    assert any("pass --allow-outside" in notice for notice in done.notices)
    assert inspect_manifest(done.settings)[1] == ()
    monkeypatch.chdir(skin)
    done = converted(Path(), Path("m.csv"))
    assert rows_of(skin / "m.csv")[0]["image"] == "HAM10000_images_part_1/ISIC_1.jpg"


def test_links_are_followed_once_and_images_in_two_places_told(skin: Path) -> None:
    away = skin.parent / "away"
    (skin / "HAM10000_images_part_2").rename(away)
    (skin / "HAM10000_images_part_2").symlink_to(away)
    (skin / "again").symlink_to(away)
    (away / "up").symlink_to(skin)
    (skin / "here").symlink_to(skin)
    (skin / ".hidden").mkdir()
    (skin / "isic_1.jpg").write_bytes((skin / "HAM10000_images_part_1" / "ISIC_1.jpg").read_bytes())
    done = converted(skin)
    assert done.missing.images == 0
    assert any("1 images lie in several places" in notice and "isic_1.jpg" in notice for notice in done.notices)
    assert rows_of(skin / "m.csv")[0]["image"] == "isic_1.jpg"
    assert any("leaves the manifest's folder" in notice for notice in done.notices)  # told, and the manifest is there


def splits(skin: Path, **tables: str) -> tuple[Path, ...]:
    paths = []
    for name, images in tables.items():
        path = skin.parent / f"my_{name}.csv"
        path.write_text(
            "".join(f"{line}\n" for line in ["number,image_id", *(f",{image}" for image in images.split())])
        )
        paths.append(path)
    return tuple(paths)


def test_splits_from_three_tables_and_the_lesion_they_share(skin: Path) -> None:
    files = splits(skin, train="ISIC_1 ISIC_3 ISIC_4 ISIC_6.jpg", vali="isic_2", TestSet="ISIC_7 ISIC_99")
    done = converted(skin, split_tables=files)
    assert done.splits == {"train": 4, "validation": 1, "test": 1}
    assert done.left_out == {"in no split": 2}
    told = "\n".join(done.notices)
    assert "2 images are left out: in no split" in told
    assert "1 of 5 units are in more than one split ('L1')" in told
    assert f"1 images of {files[2]} are not in the official table" in told
    assert "no row of group 'male' is in the test split" in told
    assert [row["split"] for row in rows_of(skin / "m.csv")] == ["train", "validation", *["train"] * 3, "test"]


def test_splits_from_two_tables_leave_the_third_to_the_rest(skin: Path) -> None:
    done = converted(skin, split_tables=splits(skin, train="ISIC_1 ISIC_3", val="ISIC_4"))
    assert done.splits == {"train": 2, "validation": 1, "test": 5}
    assert "no table gives the test split: every image that is in no table is in it" in done.notices


def test_split_tables_that_tell_no_split(skin: Path) -> None:
    (train,) = splits(skin, train="ISIC_1 ISIC_3")
    assert "one split alone, train, tells nothing of the others" in refused(UsageError, skin, split_tables=(train,))
    others = splits(skin, fold1="ISIC_1", train_test="ISIC_1", training="ISIC_1")
    told = refused(UsageError, skin, split_tables=(train, *others))
    assert "my_fold1.csv: the name says no split. Name each table after one of train, val and test" in told
    assert "my_train_test.csv: the name says test and train" in told
    assert f"my_training.csv: {train} gives the train split too" in told


def test_split_tables_that_contradict_each_other_or_are_of_another_set(skin: Path) -> None:
    files = splits(skin, train="ISIC_1 ISIC_1 ISIC_3", val="ISIC_3", test="X Y")
    told = refused(DataError, skin, split_tables=files)
    assert f"{files[0]}, row 3, column 'image_id': 'ISIC_1' is already in row 2. An image is in one split" in told
    assert f"{files[1]}, row 2, column 'image_id': 'ISIC_3' is already in {files[0]}, row 4" in told
    assert "none of its 2 images is in the official table (for example 'X'). Is it a split of another set?" in told
    files[0].write_text("picture\nISIC_1\n")
    files[1].unlink()
    told = refused(DataError, skin, split_tables=files)
    assert f"{files[0]}, row 1: there is no column 'image_id'. Allowed: 'picture'" in told
    assert f"{files[1]}: no such file" in told
    files[0].write_text(",".join([f"c{number}" for number in range(20)]) + "\n")
    assert "It has 'c0'" in refused(DataError, skin, split_tables=files)


def test_no_row_in_any_split(skin: Path) -> None:
    files = splits(skin, train="ISIC_1", val="ISIC_2", test="ISIC_3")
    for number in (1, 2, 3):
        (skin / "HAM10000_images_part_1" / f"ISIC_{number}.jpg").unlink()
    assert "none of its 3 images is there" in refused(DataError, skin, split_tables=files)


def test_no_row_is_left(tmp_path: Path, lay_out: LayOut) -> None:
    header = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender"
    tables = {
        "Data_Entry_2017.csv": f"{header}\na.png,Mass,1,4,M\n",
        "test_list.txt": "b.png",
        "train_val_list.txt": "c",
    }
    raw = lay_out(tmp_path, tables, ["images/a.png"])
    with pytest.raises(DataError, match="no row is left: 1 in no split"):
        convert_source(SOURCES["nih-cxr14"], raw, raw / "m.csv", Wishes(published_split=True))


def test_chexpert_split_tables_name_whole_paths(tmp_path: Path, lay_out: LayOut) -> None:
    from tests.data.sources.test_radiographs import chexpert

    raw = chexpert(tmp_path / "raw", lay_out)
    files = []
    for part, numbers in (("train", (1, 2, 5, 6)), ("test", (3, 4, 7, 8))):
        paths = [f"CheXpert-v1.0-small/train/patient{n:05}/study1/view1_frontal.jpg" for n in numbers]
        files.append(lay_out(tmp_path, {f"{part}.csv": "\n".join(["Path", *paths])}, []) / f"{part}.csv")
    done = convert_source(SOURCES["chexpert"], raw, raw / "m.csv", Wishes(split_tables=tuple(files)))
    assert done.splits == {"train": 4, "validation": 40, "test": 4}


def test_wishes_that_mean_nothing_are_refused_at_once(skin: Path) -> None:
    told = refused(UsageError, skin, skin / "m", views="frontal", labeler="negbio", published_split=True,
                   split_tables=(skin,))  # fmt: skip
    for line in (
        "--views means nothing for HAM10000",
        "--labeler means nothing for HAM10000",
        "--published-split means nothing for HAM10000. Use --split-tables with tables of your own",
        "--published-split and --split-tables both give the split",
        "Give --out a name that ends in .csv",
    ):
        assert line in told
    with pytest.raises(UsageError, match=r"--views 'front' does not exist. Did you mean 'frontal'"):
        convert_source(SOURCES["chexpert"], skin, skin / "m.csv", Wishes(views="front"))
    with pytest.raises(UsageError, match=r"there is no source 'isic'. Did you mean 'isic2019'"):
        source_named("isic")


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ("1=male;2=x;3", ("'2=x' is not CODE=male", "'3' is not CODE=male")),
        ("1=male;1=female", ("the code '1' stands twice",)),
        (" ; ", ("no code is given",)),
    ],
)
def test_codes_that_say_nothing(skin: Path, codes: str, told: tuple[str, ...]) -> None:
    found = refused(UsageError, skin, sex_codes=codes)
    assert all(line in found for line in told)


def test_every_source_is_whole() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert (source.label is None) == bool(source.labels)
        assert source.layout.strip()

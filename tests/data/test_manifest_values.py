from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from equiprune.data.manifest import inspect_manifest, read_manifest
from equiprune.data.settings import DataSettings
from equiprune.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images a.png ... z.png and sub/a.png."""
    home = tmp_path_factory.mktemp("home")
    (home / "sub").mkdir()
    for name in [f"{letter}.png" for letter in "abcdefghijklmnopqrstuvwxyz"] + ["sub/a.png"]:
        (home / name).write_bytes(b"")
    return home


def made(folder: Path, content: str, **changes: Any) -> DataSettings:  # noqa: ANN401
    path = folder / "m.csv"
    path.write_text(content, encoding="utf-8", newline="")
    values: dict[str, Any] = {"manifest": str(path), "label": "dx", "attribute": ("sex",)}
    return DataSettings(**(values | changes))


def split(*rows: str) -> str:
    header = "image,dx,sex,split"
    names = [f"{letter}.png" for letter in "abcdefghijklmnop"]
    return "\n".join([header, *(f"{name},{row}" for name, row in zip(names, rows, strict=False))]) + "\n"


EVEN = [f"{dx},{sex},{part}" for part in ("train", "val", "test") for dx in ("n", "m") for sex in ("f", "m")]


def test_a_good_file_reads_as_written(folder: Path) -> None:
    content = (
        '\ufeff image ,dx, sex,note\n a.png , nevus,female,"two\nlines"\nsub/a.png,melanoma,NA,\n\nb.png,nevus, ,x\n'
    )
    cohort = read_manifest(made(folder, content))
    assert cohort.image.tolist() == ["a.png", "sub/a.png", "b.png"]
    assert cohort.classes == ("melanoma", "nevus")
    assert cohort.label.tolist() == [1, 0, 1]
    assert cohort.groups == ("NA", "female")  # nothing is missing unless listed
    assert cohort.group.tolist() == [1, 0, -1]
    assert cohort.row.tolist() == [2, 4, 6]
    assert (cohort.unit, cohort.split, cohort.task, cohort.root) == (None, None, "multiclass", folder)
    told = "\n".join(map(str, cohort.notices))
    assert "1 of 3 rows have no known sex" in told
    assert "'NA' counts as a group" in told
    assert "group 'NA' has no row of 'nevus'" in told


def test_values_listed_as_missing_match_exactly(folder: Path) -> None:
    content = "image,dx,sex\na.png,nevus,female\nb.png,melanoma,male\ne.png,nevus,NA\nf.png,nevus,na\n"
    cohort = read_manifest(made(folder, content, missing=(" NA ",)))
    assert cohort.groups == ("female", "male", "na")
    assert cohort.group[-2:].tolist() == [-1, 2]


@pytest.mark.parametrize(("policy", "value"), [("ignore", np.nan), ("zeros", 0.0), ("ones", 1.0)])
def test_findings_and_what_uncertain_means(folder: Path, policy: str, value: float) -> None:
    content = "image,edema,mass,sex\na.png,1,0.0,f\nb.png,0,1.0,m\nc.png,-1,-1.0,f\nd.png,,,m\n"
    cohort = read_manifest(made(folder, content, label=None, labels=("mass", "edema"), uncertain=policy))
    assert (cohort.task, cohort.classes) == ("multilabel", ("mass", "edema"))
    assert cohort.label.dtype == np.float32
    np.testing.assert_array_equal(cohort.label, [[0, 1], [1, 0], [value, value], [np.nan, np.nan]])


def test_classes_and_groups_are_in_natural_order(folder: Path) -> None:
    content = "image,dx,sex\na.png,10,2\nb.png,9,10\nc.png,9,2\n"
    cohort = read_manifest(made(folder, content))
    assert (cohort.classes, cohort.groups) == (("9", "10"), ("2", "10"))


def test_several_attributes_make_intersections(folder: Path) -> None:
    content = "image,dx,sex,skin\na.png,n,f,dark\nb.png,m,f,\nc.png,n,m,light\nd.png,m,m,dark\n"
    cohort = read_manifest(made(folder, content, attribute=("sex", "skin")))
    assert cohort.attribute == "sex & skin"
    assert cohort.groups == ("f & dark", "m & dark", "m & light")
    assert cohort.group.tolist() == [0, -1, 2, 1]


def test_splits_are_read_in_every_usual_spelling(folder: Path) -> None:
    spelt = dict(
        zip(range(12), ["train", "Training", "TRAIN", "train", "val", "Valid", "validation", "VAL"], strict=False)
    )
    rows = [f"{'nm'[i % 2]},{'fm'[i // 2 % 2]},{spelt.get(i, 'Testing')}" for i in range(12)]
    cohort = read_manifest(made(folder, split(*rows)))
    assert cohort.split is not None
    assert cohort.split.tolist() == ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    assert read_manifest(made(folder, split(*rows), split=None)).split is None


def test_units_that_are_blank_stand_alone_and_leaks_are_told(folder: Path) -> None:
    header, *rows = split(*EVEN).splitlines()
    units = ["p1", "p2", "", "row 4", "p1", "", "", "", "", "", "", ""]
    content = "\n".join([f"{header},patient", *(f"{row},{unit}" for row, unit in zip(rows, units, strict=True))])
    cohort = read_manifest(made(folder, content, unit="patient"))
    assert cohort.unit is not None
    assert len(set(cohort.unit.tolist())) == 11
    assert cohort.unit[3] == "row 4"
    told = "\n".join(map(str, cohort.notices))
    assert "column 'patient': 1 of 11 units are in more than one split ('p1')" in told
    assert "more than one group" not in told
    swapped = read_manifest(made(folder, content.replace("a.png,n,f", "a.png,n,m"), unit="patient"))
    assert "1 of 11 units are in more than one group of sex ('p1')" in "\n".join(map(str, swapped.notices))


def test_look_alike_names_and_many_groups_are_told(folder: Path) -> None:
    content = "image,dx,sex\n" + "".join(f"{chr(97 + i)}.png,{'Nn'[i % 2]}evus,{i}\n" for i in range(20))
    told = "\n".join(map(str, read_manifest(made(folder, content)).notices))
    assert "classes 'Nevus', 'nevus' differ only in case" in told
    assert "the attribute has 20 groups" in told


# "1-1" is a range, which stands for 1 as well.
names = (
    st.text("abcxyz19. -", min_size=1, max_size=6)
    .map(str.strip)
    .filter(lambda name: bool(name) and not re.fullmatch(r"\d+-\d+", name))
)


@configure(max_examples=60, deadline=None)
@given(values=st.lists(names, min_size=3, max_size=8, unique=True), data=st.data())
def test_regrouping_puts_each_value_where_it_is_listed(folder: Path, values: list[str], data: st.DataObject) -> None:
    group_of = {value: data.draw(st.sampled_from(["g2", "g1", "g3"])) for value in values}
    used = list(dict.fromkeys(group_of.values()))
    if len(used) < 2:
        return
    rows = [*values, "", "gone"]
    content = "image,dx,sex\n" + "".join(f"{chr(97 + i)}.png,c{i % 2},{value}\n" for i, value in enumerate(rows))
    text = ";".join(f"{name} = " + " , ".join(v for v in values if group_of[v] == name) for name in used)
    cohort = read_manifest(made(folder, content, groups=text, missing=("gone",)))
    assert cohort.groups == tuple(used)
    found = ["" if code < 0 else cohort.groups[code] for code in cohort.group]
    assert found == [*(group_of[value] for value in values), "", ""]


def test_two_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    rows = 50_000
    (tmp_path / "images").mkdir()
    lines = [f"images/{i}.png,{'nm'[i % 2]},{'fm'[i // 2 % 2]},p{i // 3}" + ",0.0" * 16 for i in range(rows)]
    content = "image,dx,sex,patient," + ",".join(f"f{i}" for i in range(16)) + "\n" + "\n".join(lines)
    settings = made(tmp_path, content, unit="patient", on_bad_image="skip")
    start = time.process_time()
    assert len(read_manifest(settings)) == rows
    assert time.process_time() - start < 4  # 0.5 s on an idle machine


def test_isic(shared_data: Path) -> None:
    path = str(shared_data / "isic2019/manifest.csv")
    cohort = read_manifest(DataSettings(manifest=path, label="label", attribute=("sex",), unit="lesion_id"))
    assert len(cohort) == 12_608
    assert cohort.classes == ("AK", "BCC", "BKL", "DF", "MEL", "NV", "SCC", "VASC")
    assert cohort.groups == ("female", "male")
    assert int((cohort.group < 0).sum()) == 297
    assert cohort.unit is not None
    assert len(set(cohort.unit.tolist())) == 8163 + 1885
    assert int(cohort.counts()[:, cohort.classes.index("NV")].sum()) == 8571


def test_isic_published_split_is_blank_for_some(shared_data: Path) -> None:
    path = str(shared_data / "isic2019/manifest.csv")
    settings = DataSettings(manifest=path, label="label", attribute=("sex",), unit="lesion_id", split="paper_split")
    cohort, problems = inspect_manifest(settings)
    assert cohort is not None
    assert len(cohort) == 12_608 - 373
    assert len(problems) == 6
    assert "the same in 368 more rows" in problems[-1].what
    told = "\n".join(map(str, cohort.notices))
    assert "more than one split" not in told  # not before the blanks are mended


def test_pad_regrouped_and_crossed(shared_data: Path) -> None:
    path = str(shared_data / "pad_ufes20/manifest.csv")
    common: dict[str, Any] = {"manifest": path, "label": "label", "unit": "patient_id"}
    regrouped = read_manifest(DataSettings(attribute=("skin_type",), groups="light=1,2,3;dark=4,5,6", **common))
    assert regrouped.groups == ("light", "dark")
    assert regrouped.counts().sum(axis=1).tolist() == [550, 34, 346]
    crossed = read_manifest(DataSettings(attribute=("sex", "skin_type"), **common))
    assert crossed.attribute == "sex & skin_type"
    assert int((crossed.group >= 0).sum()) == 584
    with pytest.raises(DataError, match=r"value '6' belongs to no group \(1 row: "):
        read_manifest(DataSettings(attribute=("skin_type",), groups="light=1,2,3;dark=4,5", **common))


def test_nih(shared_data: Path) -> None:
    path = str(shared_data / "nih_cxr_1000/manifest.csv")
    cohort = read_manifest(DataSettings(manifest=path, label="label", attribute=("sex",), unit="patient_id"))
    assert cohort.counts().sum(axis=0).tolist() == [501, 499]
    assert len(np.unique(np.asarray(cohort.unit))) == 264

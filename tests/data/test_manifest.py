from __future__ import annotations

import gzip
import io
import os
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configure
from hypothesis import strategies as st

from equiprune.data.manifest import inspect_manifest, read_manifest
from equiprune.data.settings import DataSettings
from equiprune.errors import DataError, UsageError

GOOD = "image,dx,sex\na.png,nevus,female\nb.png,melanoma,male\nc.png,nevus,male\nd.png,melanoma,female\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images a.png ... z.png, sub/a.png, a folder, and links that stay in and that lead out."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes(b"")
    home = tmp_path_factory.mktemp("home")
    (home / "sub").mkdir()
    for name in [f"{letter}.png" for letter in "abcdefghijklmnopqrstuvwxyz"] + ["sub/a.png", "Upper.PNG"]:
        (home / name).write_bytes(b"")
    (home / "inner.png").symlink_to(home / "a.png")
    (home / "broken.png").symlink_to(home / "nowhere.png")
    (home / "outer.png").symlink_to(outside / "secret.png")
    (home / "away").symlink_to(outside)
    (home / "near").symlink_to(home / "sub")
    os.mkfifo(home / "pipe.png")
    return home


def made(folder: Path, content: str | bytes, **changes: Any) -> DataSettings:  # noqa: ANN401
    path = folder / "m.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    values: dict[str, Any] = {"manifest": str(path), "label": "dx", "attribute": ("sex",)}
    return DataSettings(**(values | changes))


class Hostile(NamedTuple):
    name: str
    content: str | bytes
    expected: tuple[str, ...]  # each must stand in one line of the message
    changes: dict[str, Any] = {}  # noqa: RUF012 - never written to


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return buffer.getvalue()


def plus(*rows: str, header: str = "image,dx,sex") -> str:
    """The good manifest with more rows, the first of them row 6."""
    return GOOD.replace("image,dx,sex", header, 1) + "".join(row + "\n" for row in rows)


def split(*rows: str) -> str:
    header = "image,dx,sex,split"
    names = [f"{letter}.png" for letter in "abcdefghijklmnop"]
    return "\n".join([header, *(f"{name},{row}" for name, row in zip(names, rows, strict=False))]) + "\n"


EVEN = [f"{dx},{sex},{part}" for part in ("train", "val", "test") for dx in ("n", "m") for sex in ("f", "m")]
MULTI: dict[str, Any] = {"label": None, "labels": ("edema", "mass")}

HOSTILE = [
    Hostile("empty", b"", ("m.csv: the file is empty",)),
    Hostile("only white space", b"\n\r\n  \n", ("the file is empty",)),
    Hostile("only a byte order mark", b"\xef\xbb\xbf", ("the file is empty",)),
    Hostile("header only", "image,dx,sex\n", ("a header but no rows",)),
    Hostile("utf-16", GOOD.encode("utf-16"), ("UTF-16", "Save it as UTF-8")),
    Hostile("utf-16 big endian", b"\xfe\xff" + GOOD.encode("utf-16-be"), ("UTF-16",)),
    Hostile("utf-16 without mark", GOOD.encode("utf-16-le"), ("UTF-16 or UTF-32",)),
    Hostile("excel", zipped(), ("Excel workbook or a zip",)),
    Hostile("old excel", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 50, ("old Excel workbook",)),
    Hostile("gzip", gzip.compress(GOOD.encode()), ("gzip",)),
    Hostile("parquet", b"PAR1" + b"x" * 50, ("Parquet",)),
    Hostile("semicolons", GOOD.replace(",", ";"), ("row 1: the columns are separated by semicolons",)),
    Hostile("tabs", GOOD.replace(",", "\t"), ("separated by tabs",)),
    Hostile("bars", GOOD.replace(",", "|"), ("separated by vertical bars",)),
    Hostile("excel's sep line", "sep=,\n" + GOOD, ("row 1: the first line is no header",)),
    Hostile("NUL byte", plus("e.png,ne\0vus,male"), ("row 6: a NUL byte",)),
    Hostile("invalid utf-8", plus("e.png,n\xe9vus,male").encode("latin-1"), ("row 6, column 'dx': 'n\ufffdvus' is not",)),
    Hostile(
        "invalid utf-8 among others",
        plus("e.png,n\xe9vus,male", "f.png,,male").encode("latin-1"),
        ("row 6, column 'dx': 'n\ufffdvus'", "row 7, column 'dx': the label is blank"),
    ),
    Hostile("duplicate header", GOOD.replace("sex", "dx", 1), ("row 1, column 'dx': the name stands twice", "'sex': no")),
    Hostile("no header name", GOOD.replace("image", "", 1), ("row 1: column 1 has no name", "index=False", "'image': no")),
    Hostile("unknown column", GOOD.replace("dx", "dxx", 1), ("column 'dx': no such column", "Did you mean 'dxx'?")),
    Hostile("column in other case", GOOD.replace("sex", "Sex", 1), ("column 'sex': no such", "Did you mean 'Sex'?")),
    Hostile(
        "several unknown columns with a bad row",
        plus("nowhere.png,nevus,male"),
        ("column 'gender': no such", "column 'lesion': no such", "row 6, column 'image': 'nowhere.png' does not exist"),
        {"attribute": ("gender",), "unit": "lesion"},
    ),
    Hostile("named split column absent", GOOD, ("column 'fold': no such column",), {"split": "fold"}),
    Hostile("unterminated quote", plus('e.png,"nevus,male', "f.png,nevus,male"), ("row 6: a quote is never closed",)),
    Hostile("text after quote", plus('e.png,"nevus"x,male'), ("row 6: text follows a closing quote",)),
    Hostile("field too many", plus("e.png,nevus,male,"), ("row 6: the row has 4 fields, the header 3",)),
    Hostile("field too few", plus("e.png,nevus"), ("row 6: the row has 2 fields, the header 3",)),
    Hostile("comma not quoted", plus("e.png,nevus, blue,male"), ("row 6: the row has 4 fields", "double quotes")),
    Hostile(
        "rows after a quoted line break",
        GOOD.replace("image,dx,sex", "image,dx,sex,note").replace("male\n", 'male,"two\nlines"\n') + "e.png,nevus,male\n",
        ("row 10: the row has 3 fields, the header 4",),
    ),
    Hostile("old Mac line ends", plus("e.png,,male").replace("\n", "\r"), ("row 6, column 'dx': the label is blank",)),
    Hostile("Windows line ends", plus("e.png,,male").replace("\n", "\r\n"), ("row 6, column 'dx': the label is blank",)),
    Hostile("blank lines count", plus("", "", "e.png,,male"), ("row 8, column 'dx': the label is blank",)),
    Hostile("blank label of spaces", plus("e.png,  ,male"), ("row 6, column 'dx': the label is blank",)),
    Hostile("swallowed line in label", plus('e.png,"nevus\nf.png",male'), ("row 6, column 'dx'", "line break")),
    Hostile("blank path", plus(",nevus,male"), ("row 6, column 'image': the image path is blank",)),
    Hostile("missing image", plus("e1.png,nevus,male"), ("row 6, column 'image': 'e1.png' does not exist",)),
    Hostile("image in other case", plus("upper.png,nevus,male"), ("row 6", "Did you mean 'Upper.PNG'?")),
    Hostile("image without ending", plus("sub/a,nevus,male"), ("row 6", "Did you mean 'sub/a.png'?")),
    Hostile("backslashes", plus(r"sub\a.png,nevus,male"), ("row 6", "Use forward slashes")),
    Hostile("image is a folder", plus("sub,nevus,male"), ("row 6, column 'image': 'sub' is a folder",)),
    Hostile("image is a pipe", plus("pipe.png,nevus,male"), ("row 6, column 'image': 'pipe.png' is a special file",)),
    Hostile("image through a file", plus("a.png/b.png,nevus,male"), ("row 6, column 'image': 'a.png/b.png' does not",)),
    Hostile("name too long", plus("x" * 300 + ".png,nevus,male"), ("row 6, column 'image'", "cannot be read")),
    Hostile("absolute", plus("/etc/hostname,nevus,male"), ("row 6, column 'image': '/etc/hostname' is an absolute",)),
    Hostile("drive letter", plus(r"C:\a.png,nevus,male"), ("row 6, column 'image'", "absolute")),
    Hostile("leaves by dots", plus("../x.png,nevus,male"), ("row 6, column 'image': '../x.png' leaves",)),
    Hostile("leaves by dots inside", plus("sub/../../x.png,nevus,male"), ("row 6", "leaves the manifest's folder")),
    Hostile("leaves by a link", plus("outer.png,nevus,male"), ("row 6, column 'image': 'outer.png' leaves",)),
    Hostile("leaves by a linked folder", plus("away/secret.png,nevus,male"), ("row 6", "'away/secret.png' leaves")),
    Hostile("leaves by dots behind a link", plus("away/../x.png,nevus,male"), ("row 6", "leaves the manifest's folder")),
    Hostile("broken link", plus("broken.png,nevus,male"), ("row 6, column 'image': 'broken.png' does not exist",)),
    Hostile("duplicate image", plus("a.png,nevus,male"), ("row 6, column 'image': 'a.png' is already in row 2",)),
    Hostile("duplicate spelt otherwise", plus("./a.png,nevus,male"), ("row 6", "'./a.png' is already in row 2")),
    Hostile("one class", GOOD.replace("melanoma", "nevus"), ("every row has the one label 'nevus'",)),
    Hostile("one group", GOOD.replace("female", "male"), ("column 'sex': the attribute has one known group, 'male'",)),
    Hostile("no group", GOOD, ("column 'sex': the attribute has no known group",), {"missing": ("male", "female")}),
    Hostile("one class and one group", GOOD.replace("female", "male").replace("melanoma", "nevus"), ("one label", "one known")),
    Hostile(
        "stray values of a regrouping",
        plus("e.png,nevus,Femal", "f.png,nevus,Femal", "g.png,nevus,x"),
        ("row 6, column 'sex': value 'Femal' belongs to no group (2 rows: 6-7)", "'female'?", "value 'x' belongs to no"),
        {"groups": "w=female;m=male"},
    ),
    Hostile("group without rows", GOOD, ("no row is in group 'other'",), {"groups": "w=female;m=male;other=x"}),
    Hostile("float codes", GOOD.replace("female", "1.0"), ("value '1.0' belongs to no",), {"groups": "a=1;b=male"}),
    Hostile("bad split", split(*EVEN, "n,f,tset"), ("row 14, column 'split': 'tset' is no split", "Did you mean 'test'?")),
    Hostile("blank split", split(*EVEN, "n,f,"), ("row 14, column 'split': the split is blank",)),
    Hostile("no validation rows", split(*EVEN[:4], *EVEN[8:]), ("no row is in the validation split",)),
    Hostile(
        "class never in train",
        split(*EVEN, "odd,f,test", "odd,m,val"),
        ("row 14: class 'odd' is in the test split but never in train (rows 14)", "row 15: class 'odd' is in the valid"),
    ),
    Hostile("split without a group", split(*EVEN[:8], "n,f,test", "m,f,test"), ("no row of group 'm' is in the test split",)),
    Hostile(
        "bad findings",
        "image,edema,mass,sex\na.png,1,0,f\nb.png,yes,2,m\nc.png,0,1,f\n",
        ("row 3, column 'edema': 'yes' is no finding", "row 3, column 'mass': '2' is no finding", "Allowed: 0, 1"),
        MULTI,
    ),
    Hostile(
        "finding never positive",
        "image,edema,mass,sex\na.png,1,0,f\nb.png,0,,m\nc.png,0,-1,f\n",
        ("column 'mass': no row is positive",),
        MULTI,
    ),
    Hostile(
        "everything at once",
        "image,dx,sex,split\na.png,nevus,female,train\na.png,,female,train\nq1.png,nevus,?,tain\nb.png,nevus\n"
        "../c.png,nevus,male,train\n",
        (
            "row 5: the row has 2 fields",
            "row 3, column 'image': 'a.png' is already in row 2",
            "row 4, column 'image': 'q1.png' does not",
            "row 6, column 'image': '../c.png' leaves",
            "row 3, column 'dx': the label is blank",
            "row 4, column 'sex': value '?' belongs",
            "row 4, column 'split': 'tain' is no split",
            "every row has the one label",
        ),
        {"groups": "w=female;m=male"},
    ),
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused_with_every_problem_and_its_place(folder: Path, hostile: Hostile) -> None:
    settings = made(folder, hostile.content, **hostile.changes)
    with pytest.raises(DataError) as caught:
        read_manifest(settings)
    message = str(caught.value)
    assert [part for part in hostile.expected if part not in message] == [], message
    assert all(problem.file == settings.manifest for problem in caught.value.problems)
    assert inspect_manifest(settings)[1] == caught.value.problems
    message.encode()  # can be printed: no lone surrogates


def test_there_are_forty_hostile_files() -> None:
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 40


def test_a_fault_has_no_followers_that_mislead(folder: Path) -> None:
    content = split(*[row.replace("test", "tets") for row in EVEN])
    _, problems = inspect_manifest(made(folder, content))
    assert {problem.column for problem in problems} == {"split"}


def test_a_missing_file_a_folder_and_an_unreadable_one(folder: Path) -> None:
    made(folder, GOOD)
    for name, expected in (
        ("none.csv", "no such file"),
        (".", "a folder, not a CSV file. Name the file in it: 'm.csv'"),
    ):
        with pytest.raises(DataError, match=expected):
            read_manifest(DataSettings(manifest=str(folder / name), label="dx", attribute=("sex",)))
    with pytest.raises(DataError, match="Not a directory"):
        read_manifest(DataSettings(manifest=str(folder / "a.png/m.csv"), label="dx", attribute=("sex",)))


def test_a_thousand_problems_of_one_kind_do_not_hide_another(folder: Path) -> None:
    content = GOOD + "".join(f"x{i}.png,nevus,male\n" for i in range(1000)) + "e.png,,male\n"
    with pytest.raises(DataError) as caught:
        read_manifest(made(folder, content))
    message = str(caught.value)
    assert "column 'image': the same in 995 more rows: 11-1005" in message
    assert "row 1006, column 'dx': the label is blank" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"groups": "light"}, "'light' is not NAME=VALUE,VALUE. Write it as"),
        ({"groups": ""}, "fewer than two groups"),
        ({"groups": "light=1"}, "fewer than two groups"),
        ({"groups": "light=1,;dark=2"}, "not NAME=VALUE"),
        ({"groups": "=1;dark=2"}, "not NAME=VALUE"),
        ({"groups": "light=1;light=2"}, "group 'light' is named twice"),
        ({"groups": "light=1,2;dark=2"}, "value '2' is listed twice, in 'light' and 'dark'"),
        ({"groups": "light=1;dark=-1", "missing": ("-1",)}, "'-1' is both in a group and missing"),
        ({"groups": "a=1;b=2", "attribute": ("sex", "skin")}, "a regrouping applies to one attribute"),
        ({"attribute": ("sex", "sex")}, "'sex' is named twice"),
        ({"label": None, "labels": ("x", "x")}, "'x' is named twice"),
    ],
)
def test_settings_that_contradict_themselves(folder: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        read_manifest(made(folder, GOOD, **changes))


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
    cohort = read_manifest(made(folder, plus("e.png,nevus,NA", "f.png,nevus,na"), missing=(" NA ",)))
    assert cohort.groups == ("female", "male", "na")
    assert cohort.group[-2:].tolist() == [-1, 2]


def test_links_and_dots_that_stay_inside_are_fine_and_outside_can_be_allowed(folder: Path) -> None:
    inside = plus("inner.png,nevus,male", "near/a.png,nevus,male", "sub/../e.png,nevus,male")
    assert len(read_manifest(made(folder, inside))) == 7
    outside = plus("outer.png,nevus,male", f"{folder}/e.png,nevus,male", "away/secret.png,nevus,male")
    assert len(read_manifest(made(folder, outside, allow_outside=True))) == 7


def test_bad_images_to_be_skipped_stay_in_the_cohort_but_escapes_do_not(folder: Path) -> None:
    content = plus("nowhere.png,nevus,male", "sub,nevus,male")
    assert len(read_manifest(made(folder, content, on_bad_image="skip"))) == 6
    with pytest.raises(DataError, match="leaves"):
        read_manifest(made(folder, plus("outer.png,nevus,male"), on_bad_image="skip"))


@pytest.mark.parametrize(("policy", "value"), [("ignore", np.nan), ("zeros", 0.0), ("ones", 1.0)])
def test_findings_and_what_uncertain_means(folder: Path, policy: str, value: float) -> None:
    content = "image,edema,mass,sex\na.png,1,0.0,f\nb.png,0,1.0,m\nc.png,-1,-1.0,f\nd.png,,,m\n"
    cohort = read_manifest(made(folder, content, label=None, labels=("mass", "edema"), uncertain=policy))
    assert (cohort.task, cohort.classes, cohort.label.dtype) == ("multilabel", ("mass", "edema"), np.float32)
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


names = st.text("abcxyz19. -", min_size=1, max_size=6).map(str.strip).filter(bool)


@configure(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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

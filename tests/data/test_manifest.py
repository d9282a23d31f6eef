from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

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
    Hostile(
        "invalid utf-8", plus("e.png,n\xe9vus,male").encode("latin-1"), ("row 6, column 'dx': 'n\ufffdvus' is not",)
    ),
    Hostile(
        "invalid utf-8 among others",
        plus("e.png,n\xe9vus,male", "f.png,,male").encode("latin-1"),
        ("row 6, column 'dx': 'n\ufffdvus'", "row 7, column 'dx': the label is blank"),
    ),
    Hostile(
        "duplicate header", GOOD.replace("sex", "dx", 1), ("row 1, column 'dx': the name stands twice", "'sex': no")
    ),
    Hostile(
        "no header name", GOOD.replace("image", "", 1), ("row 1: column 1 has no name", "index=False", "'image': no")
    ),
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
        GOOD.replace("image,dx,sex", "image,dx,sex,note").replace("male\n", 'male,"two\nlines"\n')
        + "e.png,nevus,male\n",
        ("row 10: the row has 3 fields, the header 4",),
    ),
    Hostile("old Mac line ends", plus("e.png,,male").replace("\n", "\r"), ("row 6, column 'dx': the label is blank",)),
    Hostile(
        "Windows line ends", plus("e.png,,male").replace("\n", "\r\n"), ("row 6, column 'dx': the label is blank",)
    ),
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
    Hostile(
        "leaves by dots behind a link", plus("away/../x.png,nevus,male"), ("row 6", "leaves the manifest's folder")
    ),
    Hostile("broken link", plus("broken.png,nevus,male"), ("row 6, column 'image': 'broken.png' does not exist",)),
    Hostile("duplicate image", plus("a.png,nevus,male"), ("row 6, column 'image': 'a.png' is already in row 2",)),
    Hostile("duplicate spelt otherwise", plus("./a.png,nevus,male"), ("row 6", "'./a.png' is already in row 2")),
    Hostile("one class", GOOD.replace("melanoma", "nevus"), ("every row has the one label 'nevus'",)),
    Hostile("one group", GOOD.replace("female", "male"), ("column 'sex': the attribute has one known group, 'male'",)),
    Hostile("no group", GOOD, ("column 'sex': the attribute has no known group",), {"missing": ("male", "female")}),
    Hostile(
        "one class and one group",
        GOOD.replace("female", "male").replace("melanoma", "nevus"),
        ("one label", "one known"),
    ),
    Hostile(
        "stray values of a regrouping",
        plus("e.png,nevus,Femal", "f.png,nevus,Femal", "g.png,nevus,x"),
        (
            "row 6, column 'sex': value 'Femal' belongs to no group (2 rows: 6-7)",
            "'female'?",
            "value 'x' belongs to no",
        ),
        {"groups": "w=female;m=male"},
    ),
    Hostile("group without rows", GOOD, ("no row is in group 'other'",), {"groups": "w=female;m=male;other=x"}),
    Hostile("float codes", GOOD.replace("female", "1.0"), ("value '1.0' belongs to no",), {"groups": "a=1;b=male"}),
    Hostile(
        "bad split", split(*EVEN, "n,f,tset"), ("row 14, column 'split': 'tset' is no split", "Did you mean 'test'?")
    ),
    Hostile("blank split", split(*EVEN, "n,f,"), ("row 14, column 'split': the split is blank",)),
    Hostile("no validation rows", split(*EVEN[:4], *EVEN[8:]), ("no row is in the validation split",)),
    Hostile(
        "class never in train",
        split(*EVEN, "odd,f,test", "odd,m,val"),
        (
            "row 14: class 'odd' is in the test split but never in train (rows 14)",
            "row 15: class 'odd' is in the valid",
        ),
    ),
    Hostile(
        "split without a group", split(*EVEN[:8], "n,f,test", "m,f,test"), ("no row of group 'm' is in the test split",)
    ),
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
]


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
        ({"groups": "light=1,2;dark=2"}, "value '2' is listed twice"),
        ({"groups": "old=39-0;young=40"}, "the range 39-0 runs backwards"),
        ({"groups": "light=1;dark=-1", "missing": ("-1",)}, "'-1' is both in a group and missing"),
        ({"groups": "a=1;b=2", "attribute": ("sex", "skin")}, "does not say which attribute it regroups"),
        ({"attribute": ("sex", "sex")}, "'sex' is named twice"),
        ({"label": None, "labels": ("x", "x")}, "'x' is named twice"),
    ],
)
def test_settings_that_contradict_themselves(folder: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        read_manifest(made(folder, GOOD, **changes))


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


FINDINGS = "image,mass,edema,hernia,sex\na.png,1,1,0,f\nb.png,1,0,-1,m\nc.png,0,1,1,m\nd.png,,0,0,f\n"


def test_rare_findings_are_left_out_and_named(folder: Path) -> None:
    labels = {"label": None, "labels": ("mass", "edema", "hernia"), "attribute": ("sex",)}
    cohort = read_manifest(made(folder, FINDINGS, **labels, min_positives=2))
    assert cohort.classes == ("mass", "edema")
    assert cohort.label[:3].tolist() == [[1, 1], [1, 0], [0, 1]]
    assert "findings with fewer than 2 positive rows are left out: hernia (1)" in "\n".join(map(str, cohort.notices))
    assert read_manifest(made(folder, FINDINGS, **labels, min_positives=1)).classes == ("mass", "edema", "hernia")
    with pytest.raises(DataError, match=r"no finding has 9 positive rows: mass \(2\), edema \(2\), hernia \(1\)"):
        read_manifest(made(folder, FINDINGS, **labels, min_positives=9))
    assert len(read_manifest(made(folder, GOOD, min_positives=9)).classes) == 2

"""CheXpert (Irvin et al. 2019): chest radiographs with 14 findings, uncertain ones among them, sex, age and patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.radiology import (
    BLANKS,
    CHEXPERT_FINDINGS,
    FRONTAL,
    NOT_FRONTAL,
    SUGGESTED,
    age_notice,
    ages_of,
    findings_of,
    one_of,
)
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import SEXES, parse_codes, sex_of
from equiprune.data.sources.splitting import draw_validation, drawn_notice
from equiprune.data.sources.tables import Official, Wanted, read_official, refuse

LAYOUT = """
CheXpert-v1.0-small/ or CheXpert-v1.0/ (or give that folder itself) with
    train.csv, valid.csv    Path, Sex, Age, Frontal/Lateral, AP/PA, and 14 findings as 1.0, 0.0, -1.0 or blank
    test.csv                if you have it
    train/patient00001/study1/view1_frontal.jpg, ... as in the column Path
"""
IDS = ("Path",)

_PATH = re.compile(r"(CheXpert-v1\.0(?:-small)?)/((?:train|valid|test)/(patient\d+)/study\d+/[^/]+)")
_EXPECTED = "Expected CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg, or the same with CheXpert-v1.0/"
_BATCHES = "CheXpert-v1.0 batch*"  # the full set comes as zip archives of such names, train/ left out in them


def read(folder: RawFolder, wishes: Wishes) -> Entries:
    """Reads `train.csv`, `valid.csv` and, where it is there, `test.csv`.

    Raises:
        DataError: a table is not there, or has impossible entries.
    """
    codes = parse_codes(wishes.sex_codes)
    files = [folder.table("train.csv"), folder.table("valid.csv")]
    test = folder.find("test.csv")
    files += [test] if test is not None else []
    needed = {"image": IDS, "sex": ("Sex",), "age": ("Age",), "view": ("Frontal/Lateral",), "projection": ("AP/PA",)}
    needed |= {name: (name,) for name in CHEXPERT_FINDINGS}
    tables = read_official([Wanted(path, folder.shown(path), needed) for path in files])
    paths = _paths(tables)
    parts = [
        {
            **findings_of(table, wishes.blanks),
            "sex": table.read("sex", sex_of(codes), SEXES),
            "age": ages_of(table),
            "view": table.read("view", one_of("Frontal", "Lateral"), "Expected Frontal or Lateral"),
            "projection": table.text("projection"),
        }
        for table in tables
    ]
    refuse(*tables)
    columns = {name: [cell for part in parts for cell in part[name]] for name in parts[0]}
    columns["patient_id"] = [path[2] for path in paths]
    image, present = folder.first_there(_places(folder, files[0].parent, [path[1] for path in paths], paths[0][0]))
    written = [cell for table in tables for cell in table.cells["age"]]
    entries = Entries(
        table=[table.file for table in tables for _ in table.row],
        row=[row for table in tables for row in table.row],
        name=[cell for table in tables for cell in table.cells["image"]],
        image=image,
        present=present,
        columns=columns,
        notices=(BLANKS[wishes.blanks], *age_notice(written, columns["age"])),
    )
    if wishes.published_split:
        entries = _split(entries, [table.file for table in tables], wishes.seed)
    if wishes.views == FRONTAL:
        entries = entries.without([view == "Frontal" for view in entries.columns["view"]], NOT_FRONTAL)
    return entries


def _paths(tables: Sequence[Official]) -> list[tuple[str, str, str]]:
    """Prefix, path below it, and patient of every row."""
    found: list[tuple[str, str, str]] = []
    prefix = ""
    for table in tables:
        table.once("image")
        for cell, row in zip(table.cells["image"], table.row, strict=True):
            match = _PATH.fullmatch(cell)
            if match is None:
                table.fault("image", row, f"{cell!r} is no path of CheXpert", _EXPECTED)
                continue
            prefix = prefix or match[1]
            if match[1] != prefix:
                hint = "The small and the full set are two sets: take the tables of one"
                table.fault("image", row, f"{cell!r} is of another set than the rows above, {prefix}/", hint)
            found.append((match[1], match[2], match[3]))
    return found


def _places(folder: RawFolder, home: Path, paths: Sequence[str], prefix: str) -> list[list[str]]:
    """Where each image may be: beside its table, in the folder named as in the table, or in the archives' folders."""
    below = folder.shown(home)
    start = "" if below == "." else f"{below}/"
    batches = [f"{path.name}/" for path in sorted(folder.path.glob(_BATCHES)) if path.is_dir()]
    return [
        [start + path, f"{start}{prefix}/{path}", *(batch + path.partition("/")[2] for batch in batches)]
        for path in paths
    ]


def _split(entries: Entries, files: Sequence[str], seed: int) -> Entries:
    """The published split: valid.csv is test where there is no test.csv, and validation is drawn from train."""
    names = ("train", "validation", "test") if len(files) > 2 else ("train", "test")
    of = dict(zip(files, names, strict=True))
    split = [of[table] for table in entries.table]
    if len(files) > 2:
        return replace(entries, split=split)
    split = draw_validation(entries.columns["patient_id"], split, seed)
    told = (f"{files[1]} is the test split, as in most works: there is no test.csv", drawn_notice(seed))
    return replace(entries, split=split, notices=(*entries.notices, *told))


CHEXPERT = Source(
    name="chexpert",
    title="CheXpert",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    label=None,
    labels=SUGGESTED,
    unit="patient_id",
    channels=1,
    knows=frozenset({"sex_codes", "views", "blanks", "published_split"}),
)

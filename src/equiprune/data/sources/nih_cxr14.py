"""NIH ChestX-ray14 (Wang et al. 2017): chest radiographs with 14 findings, sex, age and patient."""

from __future__ import annotations

from dataclasses import replace

from equiprune.data.sources.folder import RawFolder, stem
from equiprune.data.sources.radiology import age_notice, ages_of, one_of
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import SEXES, parse_codes, sex_of
from equiprune.data.sources.splitting import IN_NO_SPLIT, draw_validation, drawn_notice, listed_names
from equiprune.data.sources.tables import Official, Wanted, read_official, refuse
from equiprune.errors import nearest

LAYOUT = """
Data_Entry_2017_v2020.csv or Data_Entry_2017.csv    Image Index, Finding Labels, Patient ID, Patient Age, ...
images/00000001_000.png, or images_001/images/, ... images_012/images/ (any folders)
train_val_list.txt, test_list.txt                   for --published-split only
"""
IDS = ("Image Index",)
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
NONE = "No Finding"


def read(folder: RawFolder, wishes: Wishes) -> Entries:
    """Reads the table of either year; the older one ends its rows in a comma and writes ages as 060Y.

    Raises:
        DataError: the table is not there or has impossible entries, or a list of the published split is not there.
    """
    codes = parse_codes(wishes.sex_codes)
    path = folder.table("data_entry*.csv", "*data_entry*.csv")
    needed = {
        "image": IDS,
        "findings": ("Finding Labels",),
        "patient_id": ("Patient ID",),
        "age": ("Patient Age",),
        "sex": ("Patient Sex", "Patient Gender"),
    }
    optional = {"view": ("View Position",), "follow_up": ("Follow-up #",)}
    (table,) = read_official([Wanted(path, folder.shown(path), needed, optional)])
    name = table.names("image")
    table.once("image")
    columns = {
        **_findings(table),
        "sex": table.read("sex", sex_of(codes), SEXES),
        "age": ages_of(table),
        "patient_id": table.names("patient_id"),
        "view": table.read("view", one_of("PA", "AP"), "Expected PA or AP"),
        "follow_up": table.text("follow_up"),
    }
    refuse(table)
    image, present = folder.located(name, "images/{}")
    notices = (*age_notice(table.cells["age"], columns["age"]), *folder.twice)
    entries = Entries([table.file] * len(name), table.row, name, image, present, columns, notices=notices)
    return _split(entries, folder, wishes.seed) if wishes.published_split else entries


def _findings(table: Official) -> dict[str, list[str]]:
    """A column of 1 and 0 for each finding; "No Finding" is 0 in all."""
    of: dict[str, frozenset[str]] = {}
    for cell in set(table.cells["findings"]):
        names = [name.strip().replace(" ", "_") for name in cell.split("|")]
        alone = [name for name in names if name != NONE.replace(" ", "_")]
        if not set(alone) <= set(FINDINGS) or (alone and len(alone) < len(names)):
            continue
        of[cell] = frozenset(alone)
    if len(of) < len(set(table.cells["findings"])):
        _fault_findings(table, of)
    return {name: ["01"[name in of.get(cell, ())] for cell in table.cells["findings"]] for name in FINDINGS}


def _fault_findings(table: Official, of: dict[str, frozenset[str]]) -> None:
    expected = f"Expected {NONE!r}, or findings with | between them"
    for cell, row in zip(table.cells["findings"], table.row, strict=True):
        if cell in of:
            continue
        strays = [name for name in cell.split("|") if name.replace(" ", "_") not in FINDINGS and name != NONE]
        what = f"{strays[0]!r} is no finding" if strays else f"{cell!r} says both that there is a finding and none"
        near = f"{nearest(strays[0], FINDINGS)}. " if strays and "mean" in nearest(strays[0], FINDINGS) else ""
        table.fault("findings", row, what, near + expected)


def _split(entries: Entries, folder: RawFolder, seed: int) -> Entries:
    """The published lists; validation is drawn from the first by patient, and what is in neither is left out."""
    files = {split: folder.table(name) for split, name in (("train", "train_val_list.txt"), ("test", "test_list.txt"))}
    split_of = {
        name: split for split, path in files.items() for name in listed_names(path, folder.shown(path))
    }  # fmt: skip
    split = [split_of.get(stem(name), "") for name in entries.name]
    split = draw_validation(entries.columns["patient_id"], split, seed)
    told = replace(entries, split=split, notices=(*entries.notices, drawn_notice(seed)))
    return told.without([bool(name) for name in split], IN_NO_SPLIT)


NIH_CXR14 = Source(
    name="nih-cxr14",
    title="NIH ChestX-ray14",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    label=None,
    labels=FINDINGS,
    unit="patient_id",
    channels=1,
    knows=frozenset({"sex_codes", "published_split"}),
)

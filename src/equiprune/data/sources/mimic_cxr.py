"""MIMIC-CXR-JPG (Johnson et al. 2019): chest radiographs with 14 findings; sex and age come from MIMIC-IV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.radiology import (
    BLANKS,
    CHEXPERT_FINDINGS,
    FRONTAL,
    NOT_FRONTAL,
    SUGGESTED,
    age_notice,
    findings_of,
)
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import AGES, SEXES, age_in_radiology, parse_codes, sex_of
from equiprune.data.sources.splitting import IN_NO_SPLIT
from equiprune.data.sources.tables import Official, Wanted, read_official, refuse
from equiprune.reading.splits import SPLITS

LAYOUT = """
mimic-cxr-2.0.0-metadata.csv.gz    dicom_id, subject_id, study_id, ViewPosition, StudyDate, ... (.csv too)
mimic-cxr-2.0.0-chexpert.csv.gz    subject_id, study_id and 14 findings (or ...-negbio with --labeler negbio)
patients.csv.gz                    of MIMIC-IV, folder hosp: subject_id, gender, anchor_age, anchor_year
mimic-cxr-2.0.0-split.csv.gz       for --published-split only
files/p10/p10000032/s50414267/<dicom_id>.jpg
"""
IDS = ("dicom_id",)
LABELERS = ("chexpert", "negbio")

_SPLITS = {**SPLITS, "validate": "validation"}
_ENDINGS = (".jpg", ".png", ".dcm")
_FRONTAL = ("PA", "AP")


def read(folder: RawFolder, wishes: Wishes) -> Entries:
    """Joins metadata, findings and patients by study and subject; images of studies without findings are left out.

    Raises:
        DataError: a table is not there or has impossible entries.
    """
    codes = parse_codes(wishes.sex_codes)
    images, studies, patients, *splits = read_official(_wanted(folder, wishes))
    images.once("image")
    ids = {name: images.read(name, _number, "Expected a whole number") for name in ("subject", "study")}
    study = studies.once("study")
    findings = findings_of(studies, wishes.blanks)
    patient = patients.once("subject")
    sexes = patients.read("sex", sex_of(codes), SEXES)
    born = _born(patients)
    split_of = _splits_of(*splits)
    name = images.names("image")
    refuse(images, studies, patients, *splits)

    of_study = [study.get(number, -1) for number in ids["study"]]
    of_patient = [patient.get(number, -1) for number in ids["subject"]]
    ages = _ages(images, born, of_patient)
    columns = {
        **{title: [cells[place] if place >= 0 else "" for place in of_study] for title, cells in findings.items()},
        "sex": [sexes[place] if place >= 0 else "" for place in of_patient],
        "age": [age_in_radiology(cell) or "" for cell in ages],
        "patient_id": ids["subject"],
        "study_id": ids["study"],
        "view": images.text("view"),
    }
    places = [
        [f"files/p{subject[:2]}/p{subject}/s{number}/{image}{ending}" for ending in _ENDINGS]
        for image, subject, number in zip(name, ids["subject"], ids["study"], strict=True)
    ]
    paths, present = folder.first_there(places)
    strange = len({subject for subject, place in zip(ids["subject"], of_patient, strict=True) if place < 0})
    told = (f"{strange:,} patients are not in {patients.file}: sex and age are blank",) if strange else ()
    entries = Entries(
        [images.file] * len(name), images.row, name, paths, present, columns,
        notices=(BLANKS[wishes.blanks], *age_notice(ages, columns["age"]), *told),
    )  # fmt: skip
    if wishes.published_split:
        entries = replace(entries, split=[split_of.get(image, "") for image in name])
    entries = entries.without([place >= 0 for place in of_study], f"of studies without findings in {studies.file}")
    if entries.split is not None:
        entries = entries.without([bool(split) for split in entries.split], IN_NO_SPLIT)
    if wishes.views == FRONTAL:
        entries = entries.without([view in _FRONTAL for view in entries.columns["view"]], NOT_FRONTAL)
    return entries


def _wanted(folder: RawFolder, wishes: Wishes) -> list[Wanted]:
    """The tables that are needed, in the order metadata, findings, patients, split."""
    subject, study = {"subject": ("subject_id",)}, {"study": ("study_id",)}
    patients = folder.find("patients.csv")
    if patients is None:
        raise folder.unlike(
            "sex is not in MIMIC-CXR-JPG: put patients.csv.gz of MIMIC-IV (folder hosp) beside its tables"
        )
    columns = [
        ("metadata", {"image": IDS, **subject, **study}, {"view": ("ViewPosition",), "date": ("StudyDate",)}),
        (wishes.labeler, {**study, **{name: (name,) for name in CHEXPERT_FINDINGS}}, {}),
        ("patients", {**subject, "sex": ("gender",)}, {"age": ("anchor_age",), "year": ("anchor_year",)}),
    ]
    if wishes.published_split:
        columns.append(("split", {"image": IDS, "split": ("split",)}, {}))
    found = []
    for what, needed, optional in columns:
        path = patients if what == "patients" else folder.table(f"mimic-cxr-2.*-{what}.csv")
        found.append(Wanted(path, folder.shown(path), needed, optional))
    return found


def _number(cell: str) -> str | None:
    return cell if cell.isdecimal() else None


def _born(patients: Official) -> list[int | None]:
    """The year in which each patient was 0, on the shifted time line of MIMIC; None where the table does not say."""
    if not {"age", "year"} <= patients.cells.keys():
        return [None] * len(patients.row)
    ages = patients.read("age", lambda cell: cell if age_in_radiology(cell) is not None else None, AGES)
    years = patients.read("year", lambda cell: cell if not cell or cell.isdecimal() else None, "Expected a year")
    return [
        int(year) - int(float(age)) if year and age_in_radiology(age) else None
        for age, year in zip(ages, years, strict=True)
    ]


def _ages(images: Official, born: list[int | None], of_patient: list[int]) -> list[str]:
    """The age at each study, blank where it cannot be known."""
    found = []
    for date, place in zip(images.text("date"), of_patient, strict=True):
        birth = born[place] if place >= 0 else None
        year = date[:4]
        found.append(str(max(0, int(year) - birth)) if birth is not None and year.isdecimal() else "")
    return found


def _splits_of(*tables: Official) -> Mapping[str, str]:
    """The split of each image, where its table was read."""
    found: dict[str, str] = {}
    for table in tables:
        table.once("image")
        split = table.read("split", lambda cell: _SPLITS.get(cell.casefold()), "Expected train, validate or test")
        found.update(zip(table.cells["image"], split, strict=True))
    return found


MIMIC_CXR = Source(
    name="mimic-cxr",
    title="MIMIC-CXR-JPG",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    label=None,
    labels=SUGGESTED,
    unit="patient_id",
    channels=1,
    knows=frozenset({"sex_codes", "views", "published_split", "labeler", "blanks"}),
)

"""PAD-UFES-20 (Pacheco et al. 2020): smartphone photographs of six classes, with sex, skin type, age and patient."""

from __future__ import annotations

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import AGES, FLAGS, SEXES, SKIN_TYPES, age, flag, parse_codes, sex_of, skin_type
from equiprune.data.sources.tables import Wanted, read_official, refuse

LAYOUT = """
metadata.csv    patient_id, lesion_id, age, gender, fitspatrick, region, diagnostic, img_id, biopsed, ...
images/<img_id> or imgs_part_1/, imgs_part_2/, imgs_part_3/ (any folders)
"""
IDS = ("img_id",)


def read(folder: RawFolder, wishes: Wishes) -> Entries:
    """Reads the metadata. The official spelling of its column of skin types is "fitspatrick".

    Raises:
        DataError: the table is not there or has impossible entries.
    """
    codes = parse_codes(wishes.sex_codes)
    path = folder.table("metadata.csv", "pad*ufes*metadata*.csv")
    needed = {
        "image": IDS,
        "label": ("diagnostic",),
        "sex": ("gender", "sex"),
        "age": ("age",),
        "skin_type": ("fitspatrick", "fitzpatrick"),
        "patient_id": ("patient_id",),
        "lesion_id": ("lesion_id",),
    }
    optional = {"site": ("region",), "biopsied": ("biopsed", "biopsied")}
    (table,) = read_official([Wanted(path, folder.shown(path), needed, optional)])
    name = table.names("image")
    table.once("image")
    columns = {
        "label": table.names("label"),
        "sex": table.read("sex", sex_of(codes), SEXES),
        "age": table.read("age", age, AGES),
        "skin_type": table.read("skin_type", skin_type, SKIN_TYPES),
        "patient_id": table.names("patient_id"),
        "lesion_id": table.names("lesion_id"),
        "site": table.text("site"),
        "biopsied": table.read("biopsied", flag, FLAGS),
    }
    refuse(table)
    image, present = folder.located(name, "images/{}")
    return Entries([table.file] * len(name), table.row, name, image, present, columns, notices=folder.twice)


PAD_UFES_20 = Source(
    name="pad-ufes-20",
    title="PAD-UFES-20",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    attributes=("sex", "skin_type"),
    unit="patient_id",
    knows=frozenset({"sex_codes"}),
)

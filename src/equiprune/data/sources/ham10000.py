"""HAM10000 (Tschandl et al. 2018): dermoscopy of seven classes, with sex, age and lesion."""

from __future__ import annotations

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import AGES, SEXES, age, parse_codes, place, sex_of
from equiprune.data.sources.tables import Wanted, read_official, refuse

LAYOUT = """
HAM10000_metadata.csv (or HAM10000_metadata)    lesion_id, image_id, dx, dx_type, age, sex, localization
HAM10000_images_part_1/<image_id>.jpg           any folders
HAM10000_images_part_2/<image_id>.jpg
"""
IDS = ("image_id",)


def read(folder: RawFolder, wishes: Wishes) -> Entries:
    """Reads the metadata.

    Raises:
        DataError: the table is not there or has impossible entries.
    """
    codes = parse_codes(wishes.sex_codes)
    # A repository that hosts the set turns the table into tabs: then the reader says what to do.
    path = folder.table("ham10000_metadata.csv", "ham10000_metadata", "ham10000_metadata.tab")
    needed = {name: (name,) for name in ("lesion_id", "sex", "age")}
    needed |= {"image": IDS, "label": ("dx",), "site": ("localization",)}
    optional = {"dx_type": ("dx_type",), "dataset": ("dataset",)}
    (table,) = read_official([Wanted(path, folder.shown(path), needed, optional)])
    name = table.names("image")
    table.once("image")
    columns = {
        "label": table.names("label"),
        "sex": table.read("sex", sex_of(codes), SEXES),
        "age": table.read("age", age, AGES),
        "lesion_id": table.names("lesion_id"),
        "site": table.read("site", place, ""),
        **{ours: table.text(ours) for ours in optional if ours in table.cells},
    }
    refuse(table)
    image, present = folder.located(name, "images/{}.jpg")
    return Entries([table.file] * len(name), table.row, name, image, present, columns, notices=folder.twice)


HAM10000 = Source(
    name="ham10000",
    title="HAM10000",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    unit="lesion_id",
    knows=frozenset({"sex_codes"}),
)

"""Diverse Dermatology Images (Daneshjou et al. 2022): malignant or benign, by skin tone."""

from __future__ import annotations

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import flag
from equiprune.data.sources.tables import Wanted, read_official, refuse

LAYOUT = """
ddi_metadata.csv    DDI_file, skin_tone (12, 34 or 56), malignant (True or False), disease
<DDI_file>          000001.png, ... beside it or in any folder
"""
IDS = ("DDI_file",)
TONES = ("12", "34", "56")


def read(folder: RawFolder, _wishes: Wishes) -> Entries:
    """Reads `ddi_metadata.csv`.

    Raises:
        DataError: the table is not there or has impossible entries.
    """
    path = folder.table("ddi_metadata.csv")
    needed = {"image": IDS, "skin_tone": ("skin_tone",), "malignant": ("malignant",)}
    (table,) = read_official([Wanted(path, folder.shown(path), needed, {"disease": ("disease",)})])
    name = table.names("image")
    table.once("image")
    columns = {
        "label": table.read("malignant", _label, "Expected True or False"),
        "skin_tone": table.read("skin_tone", _tone, "Expected 12, 34 or 56 (types I and II, III and IV, V and VI)"),
        "disease": table.text("disease"),
    }
    refuse(table)
    image, present = folder.located(name, "{}")
    return Entries([table.file] * len(name), table.row, name, image, present, columns, notices=folder.twice)


def _label(cell: str) -> str | None:
    return {"true": "malignant", "false": "benign"}.get(flag(cell) or "")


def _tone(cell: str) -> str | None:
    bare = cell.removesuffix(".0")
    return bare if bare in TONES else None


DDI = Source(
    name="ddi",
    title="Diverse Dermatology Images",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    attributes=("skin_tone",),
)

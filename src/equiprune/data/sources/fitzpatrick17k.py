"""Fitzpatrick-17k (Groh et al. 2021): photographs of 114 skin conditions, by Fitzpatrick skin type."""

from __future__ import annotations

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import SKIN_TYPES, skin_type
from equiprune.data.sources.tables import Wanted, read_official, refuse

LAYOUT = """
fitzpatrick17k.csv        md5hash, fitzpatrick_scale, label, ... (older copies: hasher, fitzpatrick)
ANY FOLDER/<md5hash>.jpg
"""
IDS = ("md5hash", "hasher")


def read(folder: RawFolder, _wishes: Wishes) -> Entries:
    """Reads `fitzpatrick17k.csv`.

    Raises:
        DataError: the table is not there or has impossible entries.
    """
    path = folder.table("fitzpatrick17k.csv", "*fitzpatrick*17k*.csv")
    needed = {"image": IDS, "skin_type": ("fitzpatrick_scale", "fitzpatrick"), "label": ("label",)}
    kept = {name: (name,) for name in ("three_partition_label", "nine_partition_label", "qc")}
    optional = {**kept, "skin_type_centaur": ("fitzpatrick_centaur",)}
    (table,) = read_official([Wanted(path, folder.shown(path), needed, optional)])
    name = table.names("image")
    table.once("image")
    columns = {
        "label": table.names("label"),
        "skin_type": table.read("skin_type", skin_type, SKIN_TYPES),
        "skin_type_centaur": table.read("skin_type_centaur", skin_type, SKIN_TYPES),
        **{ours: table.text(ours) for ours in kept},
    }
    refuse(table)
    image, present = folder.located(name, "images/{}.jpg")
    return Entries([table.file] * len(name), table.row, name, image, present, columns, notices=folder.twice)


FITZPATRICK17K = Source(
    name="fitzpatrick17k",
    title="Fitzpatrick-17k",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    attributes=("skin_type",),
    groups="light=1-3;dark=4-6",
)

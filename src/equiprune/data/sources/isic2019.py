"""ISIC 2019 (training part): dermoscopy of eight classes, with sex, age and lesion."""

from __future__ import annotations

from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.spellings import AGES, SEXES, age, parse_codes, place, sex_of
from equiprune.data.sources.tables import Official, Wanted, read_official, refuse

LAYOUT = """
ISIC_2019_Training_GroundTruth.csv    image, MEL, NV, BCC, AK, BKL, DF, VASC, SCC, UNK
ISIC_2019_Training_Metadata.csv       image, age_approx, anatom_site_general, lesion_id, sex
ISIC_2019_Training_Input/<image>.jpg
"""
IDS = ("image",)
CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
UNKNOWN = "UNK"

_ONE_HOT = {"0": False, "0.0": False, "1": True, "1.0": True}


def read(folder: RawFolder, wishes: Wishes) -> Entries:
    """Reads the ground truth and the metadata, joined by image.

    Raises:
        DataError: a table is not there, the two do not fit together, or an entry is impossible.
    """
    codes = parse_codes(wishes.sex_codes)
    paths = [folder.table(f"isic_2019_training_{what}.csv") for what in ("groundtruth", "metadata")]
    classes = {name: (name,) for name in CLASSES}
    about = {"sex": ("sex",), "age": ("age_approx",), "lesion_id": ("lesion_id",), "site": ("anatom_site_general",)}
    truth, facts = read_official(
        [
            Wanted(paths[0], folder.shown(paths[0]), {"image": IDS, **classes}, {UNKNOWN: (UNKNOWN,)}),
            Wanted(paths[1], folder.shown(paths[1]), {"image": IDS, **about}),
        ]
    )
    name = truth.names("image")
    truth.once("image")
    facts.names("image")
    known = {
        "sex": facts.read("sex", sex_of(codes), SEXES),
        "age": facts.read("age", age, AGES),
        "lesion_id": facts.text("lesion_id"),
        "site": facts.read("site", place, ""),
    }
    line = facts.once("image")
    for one, row in zip(name, truth.row, strict=True):
        if one not in line:
            truth.fault("image", row, f"{one!r} is not in {facts.file}", "Both tables must be of one release")
    label = _labels(truth)
    refuse(truth, facts)
    rows = [line[one] for one in name]
    columns = {"label": label, **{ours: [cells[row] for row in rows] for ours, cells in known.items()}}
    image, present = folder.located(name, "ISIC_2019_Training_Input/{}.jpg")
    spare = len(facts.row) - len(name)
    notices = (f"{spare:,} images of {facts.file} are not in {truth.file}",) if spare else ()
    return Entries(
        [truth.file] * len(name), truth.row, name, image, present, columns, notices=(*notices, *folder.twice)
    )


def _labels(truth: Official) -> list[str]:
    """The one class of each row."""
    classes = tuple(name for name in (*CLASSES, UNKNOWN) if name in truth.cells)
    labels: list[str] = []
    for row, *cells in zip(truth.row, *(truth.cells[name] for name in classes), strict=True):
        strange = [(name, cell) for name, cell in zip(classes, cells, strict=True) if cell not in _ONE_HOT]
        for name, cell in strange:
            truth.fault(name, row, f"{cell!r} is not possible here", "Expected 0 or 1")
        true = [name for name, cell in zip(classes, cells, strict=True) if _ONE_HOT.get(cell)]
        if len(true) != 1 and not strange:
            what = f"the row has {len(true)} classes ({', '.join(true)})" if true else "the row has no class"
            truth.fault("image", row, what, "Expected a 1 in one column of classes, 0 in the others")
        labels.append(true[0] if true else "")
    return labels


ISIC2019 = Source(
    name="isic2019",
    title="ISIC 2019",
    layout=LAYOUT,
    read=read,
    ids=IDS,
    unit="lesion_id",
    knows=frozenset({"sex_codes"}),
)

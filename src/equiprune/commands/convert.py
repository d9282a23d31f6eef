"""`equiprune data convert`: a public data set becomes a manifest. Heavy parts are imported where they are used."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from equiprune.commands.options import WORK
from equiprune.progress import bar

READING = Group("How the tables are read", sort_key=1)
SPLIT = Group("Split", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True)
class ConvertOptions:
    """What is chosen where a set leaves a choice; docs/sources.md tells which set knows which."""

    sex_codes: Annotated[
        str | None, Parameter(help='What numbers mean in the column of sexes: "1=male;2=female".', group=READING)
    ] = None
    views: Annotated[
        Literal["all", "frontal"], Parameter(help="chexpert, mimic-cxr: which radiographs.", group=READING)
    ] = "all"
    labeler: Annotated[Literal["chexpert", "negbio"], Parameter(help="mimic-cxr: whose findings.", group=READING)] = (
        "chexpert"
    )
    blanks: Annotated[
        Literal["unknown", "zeros"],
        Parameter(help="chexpert, mimic-cxr: what a finding is that the report does not mention.", group=READING),
    ] = "unknown"
    keep_missing: Annotated[
        bool, Parameter(help="Keeps rows whose image is not there.", group=READING, negative=())
    ] = False
    published_split: Annotated[
        bool, Parameter(help="chexpert, nih-cxr14, mimic-cxr: writes the published split.", group=SPLIT, negative=())
    ] = False
    split_tables: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Tables whose names say train, val or test, with the images of each.",
            group=SPLIT,
            negative=(),
            consume_multiple=True,
        ),
    ] = ()
    seed: Annotated[int, Parameter(help="Of validation, where it is not published but drawn.", group=SPLIT)] = 0
    json: Annotated[bool, Parameter(help="Prints the result as JSON.", group=WORK, negative=())] = False


def convert(source: str, raw: Path, *, out: Path, options: ConvertOptions = ConvertOptions()) -> None:
    """Writes the manifest of a public data set, from the folder it was unpacked to.

    Args:
        source: fitzpatrick17k isic2019 ham10000 chexpert nih-cxr14 pad-ufes-20 mimic-cxr ddi
        raw: the folder, in the layout the set is published in; see docs/sources.md.
        out: the manifest to write, best in that folder: its image paths are relative to it.
        options: see there.
    """
    from equiprune.commands.convert_tables import conversion_tables, next_commands
    from equiprune.data.sources import Wishes, convert_source, source_named

    chosen = {key: value for key, value in asdict(options).items() if key != "json"}
    with bar("converting") as progress:
        done = convert_source(source_named(source), raw, out, Wishes(**chosen), progress)
    if options.json:
        print(json.dumps({**done.to_dict(), "next": next_commands(done)}, ensure_ascii=False))
    else:
        conversion_tables(done)

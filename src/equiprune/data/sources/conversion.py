"""From the folder of a public data set to a manifest beside it, and what that manifest holds."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.data.manifest import inspect_manifest
from equiprune.data.settings import DataSettings
from equiprune.data.sources.folder import RawFolder
from equiprune.data.sources.radiology import FRONTAL
from equiprune.data.sources.source import Entries, Source, Wishes
from equiprune.data.sources.splitting import split_by_tables
from equiprune.data.sources.tally import by_group, by_group_and_label, by_label, by_value, labels_of, positives
from equiprune.errors import DataError, Problem, UsageError, nearest
from equiprune.files import replacing

SCHEMA = "equiprune-conversion/1"
STAGES = 3

_OPTIONS = {"sex_codes": "--sex-codes", "views": "--views", "labeler": "--labeler",
            "published_split": "--published-split"}  # fmt: skip
_ALLOWED = {"views": ("all", FRONTAL), "labeler": ("chexpert", "negbio")}


@dataclass(frozen=True)
class Missing:
    """Entries whose image is not there.

    Args:
        images: how many.
        list: the table that names them; None where there are none.
        by_label: of each class; of each finding, those where it is positive.
        by_group: of each group of each attribute, "" the unknown one.
    """

    images: int
    list: Path | None
    by_label: Mapping[str, int]
    by_group: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Converted:
    """What was written.

    Args:
        source: the set.
        settings: how the manifest is read, as is suggested.
        rows: of the manifest.
        labels: classes, or all findings, in order.
        counts: of each attribute, by group ("" where unknown), the rows of each class (positive rows of a finding).
        groups: of each attribute, the rows of each group.
        findings: of each finding, the rows where it is 1, 0, -1 and blank; empty where there are classes.
        splits: rows of each split, None where none was asked for.
        missing: entries without an image.
        left_out: other entries that are not in the manifest, by the reason.
        notices: what the user should know.
    """

    source: Source
    settings: DataSettings
    rows: int
    labels: tuple[str, ...]
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]
    groups: Mapping[str, Mapping[str, int]]
    findings: Mapping[str, Mapping[str, int]]
    splits: Mapping[str, int] | None
    missing: Missing
    left_out: Mapping[str, int]
    notices: tuple[str, ...]

    def options(self) -> list[str]:
        """The options by which a command reads the manifest as is suggested."""
        given = self.settings
        found = ["--label", given.label] if given.label else ["--labels", ",".join(given.labels)]
        found += ["--attribute", given.attribute[0]]
        for option, value in (("--groups", given.groups), ("--unit", given.unit)):
            found += [option, value] if value else []
        found += ["--channels", str(given.channels)] if given.channels != 3 else []
        found += ["--allow-outside"] if given.allow_outside else []
        return found + (["--on-bad-image", "skip"] if given.on_bad_image == "skip" else [])

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the unknown group is called "unknown"."""

        def named(groups: Mapping[str, Any]) -> dict[str, Any]:
            return {name or "unknown": value for name, value in groups.items()}

        return {
            "schema": SCHEMA,
            "source": self.source.name,
            "manifest": self.settings.manifest,
            "rows": self.rows,
            "labels": list(self.labels),
            "groups": {name: named(groups) for name, groups in self.groups.items()},
            "counts": {name: named(groups) for name, groups in self.counts.items()},
            "findings": self.findings or None,
            "splits": self.splits,
            "missing": {
                "images": self.missing.images,
                "list": None if self.missing.list is None else str(self.missing.list),
                "by_label": self.missing.by_label,
                "by_group": {name: named(groups) for name, groups in self.missing.by_group.items()},
            },
            "left_out": self.left_out,
            "notices": list(self.notices),
            "options": self.options(),
        }


def convert_source(
    source: Source,
    raw: Path,
    out: Path,
    wishes: Wishes,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Converted:
    r"""Writes the manifest of a public data set.

    Entries whose image is not there are left out (unless `wishes.keep_missing`), counted, and listed in
    `<out>.missing.csv` beside the manifest. The manifest is read again as the next command would read it:
    what that finds is among the notices.

    Args:
        source: which set.
        raw: the folder it was unpacked to.
        out: the manifest, a .csv; best in `raw`, so that its paths stay below it.
        wishes: what is chosen.
        progress: told how many of the stages are done, and how many there are.

    Raises:
        UsageError: a wish means nothing for this set, or `out` cannot be written.
        DataError: the folder is not in the set's layout, or its tables have impossible entries, all of them named.

    Example:
        >>> import tempfile
        >>> from equiprune.data.sources import SOURCES
        >>> with tempfile.TemporaryDirectory() as raw:
        ...     lines = ["DDI_file,skin_tone,malignant", "1.png,12,True", "2.png,56,False"]
        ...     _ = Path(raw, "ddi_metadata.csv").write_text("\n".join(lines))
        ...     found = convert_source(SOURCES["ddi"], Path(raw), Path(raw, "m.csv"), Wishes(keep_missing=True))
        >>> found.rows, found.groups["skin_tone"], found.missing.images
        (2, {'12': 1, '56': 1}, 2)
    """
    _refuse(source, raw, out, wishes)
    folder = RawFolder(raw, source.title, source.layout)
    entries = source.read(folder, wishes)
    if wishes.split_tables:
        entries = split_by_tables(entries, wishes.split_tables, source.ids)
    _refuse_overwriting(out, (*folder.used, *wishes.split_tables))
    _refuse_empty(entries, folder, wishes)
    progress(1, STAGES)
    absent = entries.take([not there for there in entries.present])
    missing = _list_missing(source, absent, out)
    kept = entries if wishes.keep_missing else entries.take(entries.present)
    prefix, outside = _way(raw, out.parent)
    with replacing(out) as part, part.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(_lines(kept, prefix))
    progress(2, STAGES)
    settings = DataSettings(
        manifest=str(out),
        label=source.label,
        labels=_telling(source, kept),
        attribute=source.attributes[:1],
        groups=source.groups,
        unit=source.unit,
        channels=1 if source.channels == 1 else 3,
        on_bad_image="skip" if wishes.keep_missing and missing.images else "stop",
        allow_outside=outside,
    )
    told = (*kept.notices, *_notices(source, kept, missing, settings, wishes), *_read_again(settings))
    progress(3, STAGES)
    return Converted(
        source=source,
        settings=settings,
        rows=len(kept),
        labels=labels_of(source, kept),
        counts={name: by_group_and_label(source, kept, name) for name in source.attributes},
        groups={name: by_group(kept.columns[name]) for name in source.attributes},
        findings={} if source.label else {name: by_value(kept.columns[name]) for name in labels_of(source, kept)},
        splits=None if kept.split is None else dict(Counter(kept.split)),
        missing=missing,
        left_out=kept.left_out,
        notices=told,
    )


def _refuse(source: Source, raw: Path, out: Path, wishes: Wishes) -> None:
    problems = list(_strange_wishes(source, wishes))
    if wishes.published_split and wishes.split_tables:
        problems.append(Problem("--published-split and --split-tables both give the split", hint="Choose one"))
    if out.suffix.lower() != ".csv":
        problems.append(Problem("a manifest is a CSV", file=str(out), hint="Give --out a name that ends in .csv"))
    if problems:
        raise UsageError(problems)
    if not raw.is_dir():
        what = "this is a file, not a folder" if raw.exists() else "there is no such folder"
        raise DataError(Problem(what, file=str(raw), hint=f"Name the folder that {source.title} was unpacked to"))


def _strange_wishes(source: Source, wishes: Wishes) -> Iterator[Problem]:
    for name, option in _OPTIONS.items():
        value = getattr(wishes, name)
        if value == getattr(Wishes(), name):
            continue
        if name not in source.knows:
            hint = "Use --split-tables with tables of your own" if name == "published_split" else "Leave it out"
            yield Problem(f"{option} means nothing for {source.title}", hint=hint)
        elif name in _ALLOWED and value not in _ALLOWED[name]:
            yield Problem(f"{option} {value!r} does not exist", hint=nearest(value, _ALLOWED[name]))


def _refuse_overwriting(out: Path, used: Iterable[Path]) -> None:
    if out.resolve() in [path.resolve() for path in used]:
        raise UsageError(Problem("the manifest would replace a table that it is made from", file=str(out),
                                 hint="Give --out another name"))  # fmt: skip


def _refuse_empty(entries: Entries, folder: RawFolder, wishes: Wishes) -> None:
    if not len(entries):
        reasons = "; ".join(f"{many:,} {reason}" for reason, many in entries.left_out.items())
        raise DataError(Problem(f"no row is left: {reasons}", file=str(folder.path)))
    if not any(entries.present) and not wishes.keep_missing:
        what = f"none of its {len(entries):,} images is there, the first {entries.image[0]!r} (see --keep-missing)"
        raise folder.unlike(what)


def _way(raw: Path, home: Path) -> tuple[str, bool]:
    """The way from the manifest's folder to the images', and whether it leaves the former."""
    real, start = Path(os.path.realpath(raw)), Path(os.path.realpath(home))
    outside = not real.is_relative_to(start)
    inner = raw.absolute()
    if inner.is_relative_to(home.absolute()):
        inner = inner.relative_to(home.absolute())
    else:
        inner = Path(os.path.relpath(real, start))
    way = inner.as_posix()
    return ("" if way == "." else f"{way}/"), outside


def _lines(entries: Entries, prefix: str) -> Iterator[Sequence[str]]:
    """The manifest's header and rows."""
    split = {} if entries.split is None else {"split": entries.split}
    columns = {"image": [prefix + image for image in entries.image], **entries.columns, **split}
    yield tuple(columns)
    yield from zip(*columns.values(), strict=True)


def _list_missing(source: Source, absent: Entries, out: Path) -> Missing:
    """Writes which entries have no image; an older list is removed where all have one."""
    path = out.with_name(f"{out.stem}.missing.csv")
    labels = {name: many for name, many in by_label(source, absent).items() if many}
    groups = {name: by_group(absent.columns[name]) for name in source.attributes}
    if not len(absent):
        if path.exists():
            path.unlink()
        return Missing(0, None, labels, groups)
    spoken = absent.columns[source.label] if source.label else positives(source, absent)
    attributes = {name: absent.columns[name] for name in source.attributes}
    columns = {"image": absent.name, "table": absent.table, "row": absent.row, "label": spoken, **attributes}
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return Missing(len(absent), path, labels, groups)


def _telling(source: Source, entries: Entries) -> tuple[str, ...]:
    """The suggested findings that are positive in a row and negative in another; all, where none is."""
    telling = tuple(name for name in source.labels if {"0", "1"} <= set(entries.columns[name]))
    return telling or source.labels


def _notices(source: Source, kept: Entries, missing: Missing, settings: DataSettings, wishes: Wishes) -> Iterator[str]:
    for reason, many in kept.left_out.items():
        yield f"{many:,} images are left out: {reason}"
    if missing.images:
        done = "their rows are kept" if wishes.keep_missing else "their rows are left out"
        yield f"{missing.images:,} images are not there; {done}, and listed in {missing.list}"
    for name in source.labels:
        values = by_value(kept.columns[name])
        if not (values["positive"] and values["negative"]):
            found = ", ".join(f"{many:,} {value}" for value, many in values.items() if many)
            yield f"finding {name!r} is not both positive and negative in some row ({found}); leave it out of --labels"
    if "views" in source.knows and wishes.views == "all":
        yield f"all views are in the manifest; --views {FRONTAL} leaves out the others"
    if settings.allow_outside:
        yield "the images lie outside the manifest's folder: put --out into their folder, or pass --allow-outside"


def _read_again(settings: DataSettings) -> Iterator[str]:
    """What reading the manifest as suggested finds: leaks between splits, groups without a class, ..."""
    cohort, problems = inspect_manifest(settings)
    yield from map(str, problems)
    yield from map(str, () if cohort is None else cohort.notices)

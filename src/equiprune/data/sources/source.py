"""What a public data set is to us: the layout it comes in, how it is read, and what to do with it next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

from equiprune.data.sources.folder import RawFolder


@dataclass(frozen=True)
class Wishes:
    """What the user may choose; a choice that a source does not know is refused.

    Args:
        sex_codes: what numbers mean in a column of sexes, "1=male;2=female".
        views: all radiographs, or the frontal ones only.
        labeler: which of the two automatic labellings of MIMIC-CXR.
        blanks: whether findings that a report does not mention are unknown, or zeros.
        published_split: writes the split that the makers of the set published.
        split_tables: tables whose names say train, val or test, with the ids of the images in each.
        keep_missing: keeps rows whose image is not there.
        seed: of what is drawn, where the makers publish no validation split.
    """

    sex_codes: str | None = None
    views: str = "all"
    labeler: str = "chexpert"
    blanks: str = "unknown"
    published_split: bool = False
    split_tables: tuple[Path, ...] = ()
    keep_missing: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Entries:
    """What the official tables say, one entry an image; all lists have one length.

    Args:
        table: the table each entry stands in, as shown to the user.
        row: its line there.
        name: the image as the table names it.
        image: its path relative to the raw folder, with slashes; where it is not there, where it was expected.
        present: whether it is there.
        columns: the columns of the manifest, in order.
        split: train, validation or test; "" for entries in none, None where no split was asked for.
        left_out: entries that are in a table and not here, counted by the reason.
        notices: facts worth telling.
    """

    table: list[str]
    row: list[int]
    name: list[str]
    image: list[str]
    present: list[bool]
    columns: Mapping[str, list[str]]
    split: list[str] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.name)

    def take(self, kept: Sequence[bool]) -> Entries:
        """The entries whose place in `kept` is True.

        Example:
            >>> entries = Entries(["t"] * 2, [2, 3], ["a", "b"], ["a.png", "b.png"], [True, False], {"sex": ["m", "f"]})
            >>> entries.take(entries.present).columns
            {'sex': ['m']}
        """
        return replace(
            self,
            table=list(compress(self.table, kept)),
            row=list(compress(self.row, kept)),
            name=list(compress(self.name, kept)),
            image=list(compress(self.image, kept)),
            present=list(compress(self.present, kept)),
            columns={name: list(compress(cells, kept)) for name, cells in self.columns.items()},
            split=None if self.split is None else list(compress(self.split, kept)),
        )

    def without(self, kept: Sequence[bool], reason: str) -> Entries:
        """As `take`, with what is left out counted under a reason."""
        lost = len(self) - sum(kept)
        return replace(self.take(kept), left_out={**self.left_out, reason: lost}) if lost else self


@dataclass(frozen=True)
class Source:
    """One public data set.

    Args:
        name: as the command takes it.
        title: as people say it.
        layout: what its folder holds, one line each.
        read: from the folder to the entries of its tables.
        ids: the columns by which other tables name its images.
        label: the column of class names; None where there are findings.
        labels: the findings that are suggested.
        attributes: the columns that may be sensitive, the suggested one first.
        groups: a regrouping of the suggested attribute.
        unit: the column of patients or lesions.
        channels: 1 for radiographs.
        knows: the fields of `Wishes` that mean something here, besides those that always do.
    """

    name: str
    title: str
    layout: str
    read: Callable[[RawFolder, Wishes], Entries]
    ids: tuple[str, ...]
    label: str | None = "label"
    labels: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ("sex",)
    groups: str | None = None
    unit: str | None = None
    channels: int = 3
    knows: frozenset[str] = frozenset()

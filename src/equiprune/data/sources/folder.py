"""The folder a user unpacked a public data set into: its tables, and its images by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from equiprune.errors import DataError, Problem

ENDINGS = (".jpg", ".jpeg", ".png", ".dcm")
"""Of images, in any case. Other files are not looked at."""

_NAMED = 8


def stem(name: str) -> str:
    """An image's name by which it is looked up: without folder and ending, in lower case.

    Example:
        >>> stem("imgs/PAT_8_15_820.PNG"), stem("ISIC_0000013_downsampled")
        ('pat_8_15_820', 'isic_0000013_downsampled')
    """
    last = name.rpartition("/")[2].casefold()
    bare, dot, ending = last.rpartition(".")
    return bare if dot + ending in ENDINGS else last


@dataclass(frozen=True)
class RawFolder:
    """A folder in the layout in which a set is published, or not.

    Args:
        path: the folder.
        title: the set as people say it.
        layout: what the folder should hold, one line each.
        used: the tables that were found so far.
    """

    path: Path
    title: str
    layout: str
    used: list[Path] = field(default_factory=list)

    def table(self, *patterns: str) -> Path:
        """The one table with such a name, in the folder or in a folder of it, also as `.gz`.

        Args:
            patterns: names in lower case, `*` standing for anything; the first that is there counts.

        Raises:
            DataError: there is none, or more than one.
        """
        found = self.find(*patterns)
        if found is None:
            raise self.unlike(f"there is no table {_either(patterns)}")
        return found

    def find(self, *patterns: str) -> Path | None:
        """As `table`, but None where there is none.

        Raises:
            DataError: there is more than one.
        """
        for pattern in patterns:
            for ending in ("", ".gz"):
                named = [path for path in self._files if fnmatchcase(path.name.casefold(), pattern + ending)]
                highest = min((len(path.parts) for path in named), default=0)
                there = [path for path in named if len(path.parts) == highest]
                if len(there) > 1:
                    listed = ", ".join(repr(self.shown(path)) for path in there[:_NAMED])
                    hint = "Name the folder that holds the one you want, or move the other away"
                    raise DataError(
                        Problem(f"which table is meant? There are {listed}", file=str(self.path), hint=hint)
                    )
                if there:
                    self.used.append(there[0])
                    return there[0]
        return None

    def shown(self, path: Path) -> str:
        """A path below the folder, as it is shown to the user."""
        return path.relative_to(self.path).as_posix()

    def unlike(self, what: str) -> DataError:
        """The error that says which layout was expected and what was found."""
        return DataError(Problem(f"this is not {self.title} as it is published: {what}. {self.described()}",
                                 file=str(self.path)))  # fmt: skip

    def described(self) -> str:
        """Which layout is expected, and what the folder holds."""
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in _scanned(self.path))
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        expected = "".join(f"\n    {line}" for line in self.layout.strip().splitlines())
        return f"Expected:{expected}\n  Found: {', '.join(names[:_NAMED]) or 'nothing'}{more}"

    def located(self, names: Sequence[str], expected: str) -> tuple[list[str], list[bool]]:
        """Where images named in a table are, whatever folder and ending they have, and whether they are there.

        Args:
            names: as in the table, with or without an ending.
            expected: where an image is that is not there; "{}" stands for its name.
        """
        places = [self._images[0].get(stem(name)) for name in names]
        return [place or expected.format(name) for place, name in zip(places, names, strict=True)], [
            place is not None for place in places
        ]

    def first_there(self, choices: Iterable[Sequence[str]]) -> tuple[list[str], list[bool]]:
        """Of the places where each image may be the first at which it is, or else the first; and whether it is there.

        For sets whose tables give paths: one look a file is quicker than listing as many folders as there are studies.
        """
        paths: list[str] = []
        present: list[bool] = []
        for places in choices:
            # A Path each would take longer than the look itself.
            there = next((place for place in places if os.path.isfile(f"{self.path}/{place}")), None)  # noqa: PTH113
            paths.append(there or places[0])
            present.append(there is not None)
        return paths, present

    @property
    def twice(self) -> tuple[str, ...]:
        """A notice on images that lie in several places."""
        several, example = self._images[1:]
        if not several:
            return ()
        what = (
            f"{several:,} images lie in several places below {self.path}; the topmost, then the first by name, is taken"
        )
        return (f"{what} (for example {example})",)

    @cached_property
    def _files(self) -> list[Path]:
        """What lies in the folder and in its folders, in order."""
        top = sorted(_scanned(self.path), key=lambda entry: entry.name)
        below = [entry for folder in top if folder.is_dir() for entry in _scanned(Path(folder.path))]
        return sorted(Path(entry.path) for entry in (*top, *below) if not entry.is_dir())

    @cached_property
    def _images(self) -> tuple[dict[str, str], int, str]:
        """Path by name of all images below the folder; how many names lie in several places, and one of them."""
        found: dict[str, str] = {}
        several: set[str] = set()
        for image in _images_below(self.path):
            key = stem(image)
            if key in found:
                several.add(key)
            found[key] = min(found.get(key, image), image, key=lambda path: (path.count("/"), path))
        return found, len(several), found[min(several)] if several else ""


def _either(patterns: Sequence[str]) -> str:
    return " or ".join(repr(pattern) for pattern in patterns)


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, but for hidden things."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(Problem(f"cannot be read ({error.strerror})", file=str(folder))) from error


def _images_below(root: Path) -> Iterator[str]:
    """Every image below a folder, relative to it. Links to folders are followed, each once."""
    start = os.path.realpath(root)
    linked: set[str] = set()
    waiting = [("", root)]
    while waiting:
        inside, folder = waiting.pop()
        for entry in _scanned(folder):
            if entry.name.casefold().endswith(ENDINGS):
                yield inside + entry.name
            elif entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else ""
                if real in linked or (real and (start + "/").startswith(real + "/")):
                    continue  # else a link to a folder above would be followed without end
                linked |= {real} - {""}
                waiting.append((f"{inside}{entry.name}/", Path(entry.path)))

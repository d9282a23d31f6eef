"""Image paths of a manifest: whether each stays in its folder and names a file."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class PathFault(NamedTuple):
    """What is wrong with one path; `absent` where skipping bad images covers it."""

    kind: str
    what: str
    hint: str | None = None
    absent: bool = False


@dataclass
class ImagePaths:
    """Answers for one manifest folder, remembering what it learned of each sub-folder.

    One `lstat` a file and one a folder. Listing folders instead is twice as quick where all images lie
    in one, and six times as slow where every study has its own, as in CheXpert.

    Args:
        root: the manifest's folder.
        allow_outside: whether paths may leave it.
    """

    root: str
    allow_outside: bool
    _leaves: dict[str, bool] = field(default_factory=lambda: {"": False, ".": False})
    _names: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = str(Path(self.root).absolute())
        self._real = os.path.realpath(self.root)

    def fault(self, image: str) -> PathFault | None:
        """The first thing wrong with a path as written in the manifest, or None."""
        if not image:
            return PathFault("blank", "the image path is blank")
        if not self.allow_outside and (image.startswith("/") or _DRIVE.match(image)):
            hint = "Write it relative to the manifest, or pass --allow-outside"
            return PathFault("absolute", f"{image!r} is an absolute path", hint)
        path = image if image.startswith("/") else f"{self.root}/{image}"
        try:
            mode = self._mode(image, path)
        except (FileNotFoundError, NotADirectoryError):
            return PathFault("missing", f"{image!r} does not exist", self._hint(image), absent=True)
        except OSError as error:
            return PathFault("unreadable", f"{image!r} cannot be read ({error.strerror})", absent=True)
        if mode is None:
            hint = "Put the images beside the manifest, or pass --allow-outside"
            return PathFault("outside", f"{image!r} leaves the manifest's folder", hint)
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "special file"
            return PathFault("folder", f"{image!r} is a {kind}, not an image", absent=True)
        return None

    def plain(self, image: str) -> str:
        """One spelling for paths that name one place, so that "./a.png" and "a.png" are duplicates."""
        return os.path.normpath(image)

    def _mode(self, image: str, path: str) -> int | None:
        """The kind of file, or None where it lies outside."""
        if not self.allow_outside and self._leaves_by_folders(image, path):
            return None
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode):
            return mode
        if not self.allow_outside and self._real_is_outside(path):
            return None
        return Path(path).stat().st_mode

    def _leaves_by_folders(self, image: str, path: str) -> bool:
        # With '..' behind a link only the file system knows where a path ends.
        return self._real_is_outside(path) if ".." in image else self._folder_leaves(image.rpartition("/")[0])

    def _folder_leaves(self, folder: str) -> bool:
        known = self._leaves.get(folder)
        if known is None:
            path = f"{self.root}/{folder}"
            known = self._folder_leaves(folder.rpartition("/")[0])
            # One of 200,000 in a set like CheXpert, where a Path would take longer than the check.
            known = known or (os.path.islink(path) and self._real_is_outside(path))  # noqa: PTH114
            self._leaves[folder] = known
        return known

    def _real_is_outside(self, path: str) -> bool:
        return os.path.commonpath((self._real, os.path.realpath(path))) != self._real

    def _hint(self, image: str) -> str | None:
        """What the path may have meant: other slashes, other case, or a missing ending."""
        if "\\" in image:
            return "Use forward slashes"
        folder, slash, name = image.rpartition("/")
        if folder not in self._names:
            self._names[folder] = _spellings(f"{self.root}/{folder}")
        found = self._names[folder].get(name.casefold())
        return f"Did you mean {folder + slash + found!r}?" if found else None


def _spellings(folder: str) -> dict[str, str]:
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError:
        return {}
    stems = {name.rpartition(".")[0].casefold(): name for name in names if "." in name}
    return stems | {name.casefold(): name for name in names}

"""The cache of a cohort's pixels: one plain `.npy` file, mapped into memory, and an index beside it.

`pixels-RECIPE-STATE.npy` holds the images as uint8 (image, size, size, channel).
RECIPE is a digest of the image names, the decoder's settings and its versions; STATE of size,
times and inode of every image file. `pixels-RECIPE-STATE.json` holds for every image these
stamps, the SHA-256 of its bytes, and why it could not be read where it could not.

Opening stats every image. Where nothing changed, the cache is mapped and that is all. Otherwise
images with a new stamp are read and hashed; those whose content is known from an earlier cache
of the same recipe are copied, the others decoded, and a new cache is written.

Rules for several processes and for crashes:

- All writing is done under one lock per folder. Of two processes one builds; the other waits,
  and then finds the cache there. Opening a cache that is there takes no lock and writes nothing.
- Array and index are each written beside their place and renamed, the index last: a cache with
  an index is whole. Leftovers of a killed build are removed by the next one.
- Who maps a cache holds a shared lock on it. A superseded cache of the same images is removed by
  the next build that finds it unlocked; before that it stays.
- The folder belongs to the cache. It may be deleted whenever no run is on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import filelock
import numpy as np
import PIL
from jaxtyping import Int64, UInt8
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from equiprune.data.cohort import Cohort
from equiprune.data.images import DECODER, ImageError, prepare, read
from equiprune.data.settings import DataSettings
from equiprune.errors import DataError, Problem
from equiprune.files import clear_parts, explained, replacing, write_text

CHUNK = 64
"""Images a thread has in hand: what is decoded but not yet written stays this small."""

Progress = Callable[[int, int], None]
Stamp = tuple[int, int, int, int]
Pixel = UInt8[np.ndarray, "size size channel"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of a set of images.

    Reading rows copies only these rows; the rest stays in the file and in the page cache. A
    copy sent to another process maps the same file anew.

    Args:
        array: uint8 (image, size, size, channel), read-only where it is a cache.
        image: names as the manifest has them, sorted, one a row.
        file: the `.npy` that is mapped, or None where the array lives in memory.

    Example:
        >>> pixels = Pixels(np.zeros((2, 8, 8, 3), np.uint8), np.array(["a.png", "b.png"]))
        >>> pixels.rows(np.array(["b.png", "a.png", "b.png"]))
        array([1, 0, 1])
    """

    array: UInt8[np.ndarray, "image size size channel"]
    image: NDArray[np.str_]
    file: Path | None = None

    def rows(self, images: NDArray[np.str_]) -> Int64[np.ndarray, " image"]:
        """Where these images stand in `array`.

        Raises:
            DataError: an image is not among them.
        """
        row = np.searchsorted(self.image, images)
        found = np.zeros(len(images), bool)
        within = row < len(self.image)
        found[within] = self.image[row[within]] == np.asarray(images)[within]
        if not found.all():
            raise DataError([Problem("has no pixels in this cache", file=str(name)) for name in images[~found]])
        return row.astype(np.int64)

    def sha256(self) -> NDArray[np.str_]:
        """The SHA-256 of each image file's bytes, as they were when the image was decoded; one a row.

        Raises:
            ValueError: the pixels are no cache, so nothing is known of their files.
        """
        if self.file is None:
            raise ValueError("these pixels are not from a cache, so their files are not known")
        return _read_index(self.file).digests()

    def __reduce__(self) -> tuple[object, ...]:
        if self.file is None:
            return Pixels, (self.array, self.image)
        return _pixels, (self.file, self.image)


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    image: tuple[str, ...]
    stamp: tuple[Stamp | None, ...]
    sha256: tuple[str | None, ...]
    reason: tuple[str | None, ...]  # None: the image has a row in the array

    def good(self) -> NDArray[np.str_]:
        return np.array([name for name, why in zip(self.image, self.reason, strict=True) if why is None], dtype=str)

    def digests(self) -> NDArray[np.str_]:
        return np.array([hash_ for hash_, why in zip(self.sha256, self.reason, strict=True) if why is None], dtype=str)


@dataclass(frozen=True)
class _Plan:
    """Which cache is wanted, and of what."""

    root: Path
    names: tuple[str, ...]
    stamps: tuple[Stamp | None, ...]
    settings: DataSettings
    folder: Path

    @property
    def recipe(self) -> str:
        chosen = self.settings
        decoder = (DECODER, PIL.__version__, chosen.image_size, chosen.channels, chosen.fit, chosen.decode)
        return _digest(decoder, self.names)

    @property
    def path(self) -> Path:
        return self.folder / f"pixels-{self.recipe}-{_digest(self.stamps)}.npy"

    def others(self) -> list[Path]:
        """Caches of the same recipe and another state of the images."""
        return [path for path in self.folder.glob(f"pixels-{self.recipe}-*.npy") if path != self.path]


@dataclass(frozen=True)
class _Known:
    """What earlier caches of the recipe tell: digests by name and stamp, pixels or reason by digest."""

    digest: dict[tuple[str, Stamp | None], str]
    outcome: dict[str, Pixel | str]


def open_pixels(
    cohort: Cohort,
    settings: DataSettings,
    folder: Path,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> tuple[Cohort, Pixels]:
    """The pixels of a cohort, from the cache in `folder`, built there first where need be.

    Args:
        cohort: whose images; a path is relative to `cohort.root`.
        settings: `image_size`, `channels`, `fit`, `decode` and `on_bad_image` are heeded.
        folder: the cache's own folder; made where it is missing.
        progress: called with (images done, images in all) while the cache is built.
        workers: threads that decode; by default one a core.

    Returns:
        The cohort and its pixels. With `on_bad_image="skip"` the cohort is without the rows
        whose image cannot be read, and has a notice with their number for every group.

    Raises:
        DataError: images cannot be read (all of them are listed, with their manifest row and
            the reason) and are not to be skipped, or none is left; or the disk is full.
        UsageError: the folder cannot be written to.
    """
    names = tuple(str(name) for name in np.unique(cohort.image))
    stamps = tuple(_stamp(cohort.root / name) for name in names)
    plan = _Plan(cohort.root, names, stamps, settings, folder)
    path = plan.path
    opened = _opened(path)
    if opened is None:
        with _locked(folder):
            opened = _opened(path)  # built by another process while this one waited
            if opened is None:
                clear_parts(folder)
                index = _built(plan, progress, workers)
                opened = index, _pixels(path, index.good())
                _remove_superseded(plan)
    index, pixels = opened
    return _readable(cohort, index, settings), pixels


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _stamp(path: Path) -> Stamp | None:
    """Changes with every change of the file, also one that keeps size and modification time."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # missing or unreachable: the reason is found on reading
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / "pixels.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise explained(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def _pixels(path: Path, image: NDArray[np.str_]) -> Pixels:
    """Maps the array and holds a shared lock on it for as long as the map lives."""
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)  # kept by the map, which duplicates the handle
        npy.read_magic(stream)
        shape, _, dtype = npy.read_array_header_1_0(stream)
        array = np.memmap(stream, dtype=dtype, mode="r", offset=stream.tell(), shape=shape)
    if not path.exists() or len(array) != len(image):
        raise FileNotFoundError(path)  # removed before the lock was taken, or of another index
    return Pixels(array, image, path)


def _read_index(path: Path) -> _Index:
    return _Index.model_validate_json(path.with_suffix(".json").read_bytes())


def _opened(path: Path) -> tuple[_Index, Pixels] | None:
    """The cache at this path, or None where it is absent or damaged."""
    try:
        index = _read_index(path)
        return index, _pixels(path, index.good())
    except (OSError, ValueError):
        return None


def _built(plan: _Plan, progress: Progress | None, workers: int | None) -> _Index:
    known = _known(plan)

    def fetch(item: tuple[str, Stamp | None]) -> tuple[str | None, Pixel | str]:
        return _fetched(plan.root / item[0], known.digest.get(item), known, plan.settings)

    digests: list[str | None] = []
    reasons: list[str | None] = []
    shape = (plan.settings.image_size, plan.settings.image_size, plan.settings.channels)
    path = plan.path
    with replacing(path) as part, part.open("r+b") as stream:
        _reserve(stream, (sum(stamp is not None for stamp in plan.stamps), *shape))
        for digest, outcome in _each(fetch, list(zip(plan.names, plan.stamps, strict=True)), workers):
            digests.append(digest)
            reasons.append(outcome if isinstance(outcome, str) else None)
            if not isinstance(outcome, str):
                stream.write(outcome.tobytes())
            if progress is not None:
                progress(len(digests), len(plan.names))
        stream.truncate()
        _write_header(stream, (reasons.count(None), *shape))
    index = _Index(
        root=str(plan.root), image=plan.names, stamp=plan.stamps, sha256=tuple(digests), reason=tuple(reasons)
    )
    write_text(path.with_suffix(".json"), index.model_dump_json())
    return index


def _each(
    fetch: Callable[[tuple[str, Stamp | None]], tuple[str | None, Pixel | str]],
    items: list[tuple[str, Stamp | None]],
    workers: int | None,
) -> Iterator[tuple[str | None, Pixel | str]]:
    threads = workers or os.cpu_count() or 1
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # remarks on metadata; what matters is raised as an error
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for start in range(0, len(items), CHUNK * threads):
            yield from pool.map(fetch, items[start : start + CHUNK * threads])


def _fetched(path: Path, digest: str | None, known: _Known, settings: DataSettings) -> tuple[str | None, Pixel | str]:
    """The digest of a file's bytes, and its pixels or why there are none."""
    try:
        data = b"" if digest else read(path)
        digest = digest or hashlib.sha256(data).hexdigest()
        if digest in known.outcome:
            return digest, known.outcome[digest]
        return digest, prepare(
            data, size=settings.image_size, channels=settings.channels, fit=settings.fit, decode=settings.decode
        )
    except ImageError as error:
        return digest, str(error)


def _known(plan: _Plan) -> _Known:
    known = _Known({}, {})
    for path in plan.others():
        opened = _opened(path)
        if opened is not None:
            _remember(*opened, known)
    return known


def _remember(index: _Index, pixels: Pixels, known: _Known) -> None:
    rows = iter(pixels.array)
    for name, stamp, digest, reason in zip(index.image, index.stamp, index.sha256, index.reason, strict=True):
        outcome = next(rows) if reason is None else reason
        if digest is not None:
            known.digest[name, stamp] = digest
            known.outcome[digest] = outcome


def _reserve(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """Takes the room on the disk at once, so that a full one is told before the work, not after."""
    _write_header(stream, shape)
    if hasattr(os, "posix_fallocate") and shape[0]:
        os.posix_fallocate(stream.fileno(), stream.tell(), int(np.prod(shape)))


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """The header of an `.npy`; numpy pads it so that its length does not depend on the row count."""
    stream.seek(0)
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _remove_superseded(plan: _Plan) -> None:
    for path in plan.others():
        if _same_root(path, plan.root) and _unused(path):
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink()


def _same_root(path: Path, root: Path) -> bool:
    opened = _opened(path)
    return opened is None or opened[0].root == str(root)


def _unused(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _readable(cohort: Cohort, index: _Index, settings: DataSettings) -> Cohort:
    """The cohort without unreadable images, if that is allowed."""
    reasons = {name: why for name, why in zip(index.image, index.reason, strict=True) if why is not None}
    bad = np.isin(cohort.image, list(reasons))
    if not bad.any():
        return cohort
    if settings.on_bad_image == "stop" or bad.all():
        raise DataError(_unreadable(cohort.take(bad), len(cohort), reasons, settings))
    counts = Counter(cohort.group[bad].tolist())
    by_group = [f"{name} {counts[code]}" for code, name in enumerate(cohort.groups)]
    what = f"left out {bad.sum()} of {len(cohort)} images that cannot be read"
    notice = Problem(f"{what} ({', '.join([*by_group, f'unknown {counts[-1]}'])})", file=settings.manifest)
    kept = cohort.take(~bad)
    return replace(kept, notices=(*kept.notices, notice))


def _unreadable(bad: Cohort, total: int, reasons: dict[str, str], settings: DataSettings) -> list[Problem]:
    hint = "Mend them, or leave them out with --on-bad-image skip" if len(bad) < total else "Check the paths"
    first = Problem(f"{len(bad)} of {total} images cannot be read", file=settings.manifest, hint=hint)
    rest = [
        Problem(f"{name} {reasons[str(name)]}", file=settings.manifest, row=int(row), column=settings.image)
        for name, row in zip(bad.image, bad.row, strict=True)
    ]
    return [first, *rest]

"""Files that are either whole or absent: written beside their place, then renamed.

A crash or a full disk in the middle leaves the old file as it was and at most a
`tmp-*.part` beside it, which the next start clears.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equiprune.errors import DataError, Problem, UsageError

PART = "tmp-*.part"
_withheld: list[bool] = []
UNWRITABLE = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT),
    *(errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP),
)


class DiskFull(DataError):  # noqa: N818 - no fault of anybody
    """No space is left: nothing that is written can go on, whatever it is for."""


@contextmanager
def withheld() -> Iterator[None]:
    """Nothing is written, as long as the context lasts: another process does the same work and writes it down."""
    _withheld.append(True)
    try:
        yield
    finally:
        _withheld.pop()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to; on leaving without an error it becomes `path`.

    The new file is flushed to disk before the rename and the folder after it, so that
    after a power cut `path` holds either the old content or the new.

    Raises:
        DiskFull: no space is left.
        UsageError: the folder cannot be written to.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a.txt") as part:
        ...         _ = part.write_text("whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    if _withheld:
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere) / path.name
        return
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="tmp-", suffix=".part", dir=path.parent)
        part = Path(name)
        os.close(handle)
        yield part
        part.chmod(0o666 & ~_umask())  # now: a library may have put a file of its own in its place
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def explained(error: OSError, path: Path) -> Exception:
    """What to raise where writing failed: told in words where the user can do something about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            Problem(
                "the disk is full; nothing was changed",
                file=str(path),
                hint="Free some space and run the same command again: it carries on",
            )
        )
    if error.errno in UNWRITABLE:
        return UsageError(
            Problem(f"cannot be written ({error.strerror})", file=str(path), hint="Choose another folder")
        )
    return error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_parts(folder: Path) -> None:
    """Removes what an interrupted write left in the folder."""
    for part in folder.glob(PART):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever json takes
    """Writes JSON, whole or not at all. NaN is refused: undefined is `null`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file with one JSON object a line; none where there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_missing(paths: Iterable[Path], what: str) -> None:
    """Refuses paths where nothing is.

    Raises:
        DataError: names all of them.
    """
    missing = [Problem(f"there is no such {what}", file=str(path)) for path in paths if not path.exists()]
    if missing:
        raise DataError(missing)

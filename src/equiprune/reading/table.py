"""A CSV file read strictly: every row as wide as the header, nothing guessed, every fault with its line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from equiprune.errors import Problem

ALIKE = 5
"""Problems of one kind that are listed each; the rest of that kind share one line."""

_PIECES = 12
_CHUNK = 300  # rows at a time that stay in the processor's cache: four times as quick as 10,000

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe", "this is UTF-16 text, not UTF-8", "Save it as UTF-8 (in Excel: 'CSV UTF-8')"),
    (b"\xfe\xff", "this is UTF-16 text, not UTF-8", "Save it as UTF-8 (in Excel: 'CSV UTF-8')"),
    (b"PK", "this is an Excel workbook or a zip archive, not CSV", "Save the sheet as 'CSV UTF-8', or unzip it"),
    (b"\xd0\xcf\x11\xe0", "this is an old Excel workbook, not CSV", "Save the sheet as 'CSV UTF-8'"),
    (b"\x1f\x8b", "this is a gzip archive, not CSV", "Unpack it with gunzip"),
    (b"PAR1", "this is a Parquet file, not CSV", "Write it as CSV"),
)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass
class Faults:
    """Collects problems of one file, by kind, so that a thousand of one kind do not hide the other kinds.

    Args:
        file: the file as the user named it.

    Example:
        >>> faults = Faults("m.csv")
        >>> for row in range(2, 10):
        ...     faults.add("blank", "the label is blank", row=row, column="dx")
        >>> print(faults.problems()[-1])
        m.csv, column 'dx': the same in 3 more rows: 7-9
    """

    file: str
    _kinds: dict[tuple[str, str | None], list[Problem]] = field(default_factory=dict)

    def add(
        self, kind: str, what: str, *, row: int | None = None, column: str | None = None, hint: str | None = None
    ) -> None:
        """Notes one problem; problems of the same kind and column are counted together."""
        problem = Problem(what, file=self.file, row=row, column=column, hint=hint)
        self._kinds.setdefault((kind, column), []).append(problem)

    def problems(self) -> list[Problem]:
        """Every kind that was found, in the order in which the kinds first turned up."""
        found: list[Problem] = []
        for (_, column), alike in self._kinds.items():
            found += alike[:ALIKE]
            if more := alike[ALIKE:]:
                rows = [problem.row for problem in more if problem.row is not None]
                what = f"the same in {len(more):,} more {'row' if len(more) == 1 else 'rows'}: {ranges(rows)}"
                found.append(Problem(what, file=self.file, column=column))
        return found


def ranges(rows: list[int]) -> str:
    """Row numbers in a few characters.

    Example:
        >>> ranges([2, 3, 4, 9])
        '2-4, 9'
    """
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    pieces = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_PIECES]]
    return ", ".join(pieces) + (", ..." if len(runs) > _PIECES else "")


@dataclass(frozen=True, eq=False)
class Table:
    """The cells of the wanted columns, surrounding white space stripped.

    Args:
        header: every column name of the file, in order.
        columns: cells by column name, for those wanted columns that the file has.
        row: the line on which each row starts; the header is line 1.
        sha256: of the file's bytes.
    """

    header: tuple[str, ...]
    columns: dict[str, list[str]]
    row: list[int]
    sha256: str


def read_table(path: Path, wanted: Collection[str], faults: Faults, *, official: bool = False) -> Table | None:
    """Reads a comma-separated UTF-8 file; what is wrong with it goes to `faults`.

    Rows of another width than the header are reported and left out. Blank lines are skipped.

    Args:
        path: the file.
        wanted: the columns to keep; a name that the file lacks is left to the caller.
        faults: where problems are noted.
        official: takes what the makers of data sets publish, which the user cannot be asked to mend: gzip archives,
            columns without a name, and blank fields beyond the header's last.

    Returns:
        The table, or None where the file is no table at all.
    """
    data = _bytes(path, faults, official=official)
    if data is None or not _is_text(data, faults):
        return None
    lines = _lines(data, faults)
    header = _header(lines, faults, official=official)
    if header is None:
        return None
    if official:
        lines = _trimmed(lines, len(header))
    if not _is_utf8(data):
        lines = _mended(lines, header, faults)
    places = {name: header.index(name) for name in dict.fromkeys(wanted) if name in header}
    columns: dict[str, list[str]] = {name: [] for name in places}
    rows: list[int] = []
    stripped: dict[str, str] = {}  # equal cells share one string: a fifth of the memory
    while part := list(islice(lines, _CHUNK)):
        whole = [(line, cells) for line, cells in part if _is_wide(line, cells, header, faults)]
        rows += [line for line, _ in whole]
        across = list(zip(*(cells for _, cells in whole), strict=True))
        for name, place in places.items() if across else ():
            stripped.update((cell, cell.strip()) for cell in set(across[place]).difference(stripped))
            columns[name] += map(stripped.__getitem__, across[place])
    if not rows and not faults.problems():
        faults.add("empty", "the file has a header but no rows", hint="Add one row an image")
    return Table(header, columns, rows, hashlib.sha256(data).hexdigest())


def _is_wide(line: int, cells: list[str], header: tuple[str, ...], faults: Faults) -> bool:
    if len(cells) == len(header):
        return True
    what = f"the row has {len(cells)} {'field' if len(cells) == 1 else 'fields'}, the header {len(header)}"
    faults.add("width", what, row=line, hint="A field with a comma in it must be in double quotes")
    return False


def _bytes(path: Path, faults: Faults, *, official: bool) -> bytes | None:
    if path.is_dir():
        tables = sorted(p.name for p in path.glob("*.csv"))
        hint = f"Name the file in it: {', '.join(map(repr, tables[:3]))}" if tables else "Name a CSV file"
        faults.add("file", "this is a folder, not a CSV file", hint=hint)
        return None
    try:
        data = path.read_bytes()
        return _unpacked(data, faults) if official else data
    except FileNotFoundError:
        faults.add("file", "no such file", hint="A relative path counts from the folder you are in")
    except OSError as error:
        faults.add("file", f"cannot be read ({error.strerror})")
    return None


def _unpacked(data: bytes, faults: Faults) -> bytes | None:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        faults.add("file", f"the gzip archive is damaged ({error})", hint="Download it again")
        return None


def _trimmed(lines: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    """Rows without the blank fields that lie beyond the header's last."""
    for line, cells in lines:
        yield line, cells if any(cells[width:]) else cells[:width]


def _is_text(data: bytes, faults: Faults) -> bool:
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        faults.add("file", "the file is empty", hint="A table has a header and one row an image")
        return False
    for start, what, hint in _SIGNATURES:
        if data.startswith(start):
            faults.add("file", what, hint=hint)
            return False
    place = data.find(b"\0")
    if 0 <= place < 4:
        faults.add("file", "this is UTF-16 or UTF-32 text, not UTF-8", hint="Save it as UTF-8")
        return False
    if place >= 0:
        row = len(re.findall(rb"\r\n|\r|\n", data[:place])) + 1
        faults.add("file", "a NUL byte: this is no text, or the file is damaged", row=row, hint="Write it again")
        return False
    return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _lines(data: bytes, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line it starts on (a quoted field may hold line breaks)."""
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(stream, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "text follows a closing quote" if "expected after" in str(error) else "a quote is never closed"
            hint = 'Quotes inside a quoted field are doubled (""). Nothing after this row could be read'
            faults.add("quote", what, row=line, hint=hint)
            return
        if cells:
            yield line, cells


def _header(lines: Iterator[tuple[int, list[str]]], faults: Faults, *, official: bool) -> tuple[str, ...] | None:
    line, cells = next(lines, (1, []))
    names = tuple(_readable(cell).strip() for cell in cells)
    if not names:
        return None
    if cells[0].lower().startswith("sep="):
        faults.add("header", "the first line is no header", row=line, hint="Delete the 'sep=' line")
        return None
    if len(names) == 1:
        for separator, spoken in _SEPARATORS.items():
            if separator in names[0]:
                what = f"the columns are separated by {spoken}, not commas"
                faults.add("header", what, row=line, hint="Save it with commas")
                return None
    _check_names(names, line, faults, official=official)
    return names


def _check_names(names: tuple[str, ...], line: int, faults: Faults, *, official: bool) -> None:
    for place, name in enumerate(names):
        if not name and official:
            continue
        if not name:
            hint = "If pandas wrote it, use to_csv(..., index=False)" if place == 0 else "Name it or delete it"
            faults.add("header", f"column {place + 1} has no name", row=line, hint=hint)
        elif name in names[:place]:
            what = f"the name stands twice, in columns {names.index(name) + 1} and {place + 1}"
            faults.add("header", what, row=line, column=name, hint="Rename or delete one")


def _mended(
    lines: Iterator[tuple[int, list[str]]], header: tuple[str, ...], faults: Faults
) -> Iterator[tuple[int, list[str]]]:
    """Reports cells that are no UTF-8, and goes on with their readable part."""
    for line, cells in lines:
        readable = [_readable(cell) for cell in cells]
        for place, (before, after) in enumerate(zip(cells, readable, strict=True)):
            if before != after:
                column = header[place] if place < len(header) else None
                faults.add("utf8", f"{after!r} is not UTF-8", row=line, column=column, hint="Save the file as UTF-8")
        yield line, readable


def _readable(cell: str) -> str:
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

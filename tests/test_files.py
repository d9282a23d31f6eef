from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from equiprune.errors import DataError, UsageError
from equiprune.files import clear_parts, read_json_lines, replacing, sha256, write_json, write_text


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def half() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(DataError, match="disk is full"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: the write itself fails, half way."""
    script = (
        "import resource, signal, sys; from pathlib import Path; from equiprune.files import write_text\n"
        "from equiprune.errors import EquipruneError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: write_text(Path(sys.argv[1]), 'x' * 1000)\n"
        "except OSError as error: print('OSError', error.errno)\n"
    )
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["OSError", str(errno.EFBIG)]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_stale_parts_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "tmp-abc.part").write_text("half")
    (tmp_path / "kept.txt").write_text("whole")
    clear_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_json_lines_and_hash(tmp_path: Path) -> None:
    write_text(tmp_path / "log.jsonl", '{"a": 1}\n{"a": 2}\n')
    assert read_json_lines(tmp_path / "log.jsonl") == [{"a": 1}, {"a": 2}]
    assert read_json_lines(tmp_path / "absent.jsonl") == []
    write_text(tmp_path / "abc", "abc")
    # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

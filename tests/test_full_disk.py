"""A disk that is really full: a small file system of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # this process may still have a database open


def test_a_full_disk_ends_with_words_and_the_same_command_carries_on(
    lesions: Path, small_disk: Path, tmp_path: Path
) -> None:
    columns = ["--label", "label", "--attribute", "skin_tone", "--image-size", "32", "--cache", str(tmp_path / "cache")]
    settings = ["--backbone", "simple_cnn", "--set", "epochs=1", "--set", "batch_size=64"]
    out = small_disk / "run"
    command = [sys.executable, "-m", "equiprune", "train", str(lesions), *columns, *settings, "--out", str(out)]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 3, first.stderr
    assert "the disk is full" in first.stderr
    assert "Traceback" not in first.stderr
    assert not list(out.rglob("*.part"))
    assert not (out / "audit.json").exists()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert (out / "audit.json").exists()


def test_a_cache_that_does_not_fit(lesions: Path, small_disk: Path, tmp_path: Path) -> None:
    columns = ["--label", "label", "--attribute", "skin_tone", "--image-size", "64", "--cache", str(small_disk / "c")]
    command = [sys.executable, "-m", "equiprune", "train", str(lesions), *columns, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "the disk is full" in done.stderr
    assert [path.name for path in (small_disk / "c").iterdir()] in ([], ["pixels.lock"])

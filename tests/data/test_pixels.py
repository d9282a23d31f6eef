from __future__ import annotations

import errno
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from equiprune.data import pixels as pixels_module
from equiprune.data.cohort import Cohort
from equiprune.data.images import prepare
from equiprune.data.pixels import Pixels, open_pixels
from equiprune.data.settings import DataSettings
from equiprune.errors import DataError, UsageError

SIZE = 16
SETTINGS = DataSettings(manifest="m.csv", label="dx", attribute=("sex",), image_size=SIZE)


def draw(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG" if path.suffix == ".jpg" else "PNG")


def cohort_of(root: Path, names: Sequence[str]) -> Cohort:
    n = len(names)
    return Cohort(
        root=root,
        image=np.array(names, dtype=str),
        label=np.arange(n) % 2,
        classes=("nevus", "melanoma"),
        group=np.arange(n) % 3 - 1,
        groups=("female", "male"),
        attribute="sex",
        unit=None,
        split=None,
        row=np.arange(n) + 2,
        sha256="",
    )


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    root = tmp_path / "images"
    root.mkdir()
    names = [f"{number:02d}.{'jpg' if number % 2 else 'png'}" for number in range(12)]
    for number, name in enumerate(names):
        draw(root / name, number)
    return cohort_of(root, names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def expected(cohort: Cohort, settings: DataSettings = SETTINGS) -> NDArray[np.uint8]:
    size, channels, fit = settings.image_size, settings.channels, settings.fit
    return np.stack([prepare(cohort.root / name, size=size, channels=channels, fit=fit) for name in cohort.image])


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    calls: list[object] = []
    true = getattr(pixels_module, name)

    def counting(first: object, **rest: object) -> object:
        calls.append(first)
        return true(first, **rest)

    monkeypatch.setattr(pixels_module, name, counting)
    return calls


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("change", [{}, {"channels": 1}, {"fit": "pad"}, {"image_size": 24}])
def test_the_cache_holds_what_prepare_gives(
    cohort: Cohort, folder: Path, change: dict[str, object], workers: int
) -> None:
    settings = SETTINGS.model_copy(update=change)
    same, pixels = open_pixels(cohort, settings, folder, workers=workers)
    assert same is cohort
    np.testing.assert_array_equal(pixels.array[pixels.rows(cohort.image)], expected(cohort, settings))
    assert isinstance(pixels.array, np.memmap)
    assert not pixels.array.flags.writeable
    np.testing.assert_array_equal(np.load(next(folder.glob("*.npy")), mmap_mode="r"), pixels.array)
    assert files(folder) == [".json", ".lock", ".npy"]


def test_a_second_opening_decodes_and_reads_nothing(
    cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    open_pixels(cohort, SETTINGS, folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number + 1, 12) for number in range(12)]
    read, decoded = counted(monkeypatch, "read"), counted(monkeypatch, "prepare")
    open_pixels(cohort.take(np.arange(12)[::-1]), SETTINGS, folder)
    open_pixels(cohort.take(np.repeat(np.arange(12), 2)), SETTINGS, folder)
    assert not read
    assert not decoded
    assert files(folder) == [".json", ".lock", ".npy"]


@pytest.mark.parametrize("settings", [{"image_size": 8}, {"channels": 1}, {"fit": "stretch"}, {"decode": "fast"}])
def test_other_settings_are_another_cache_and_both_stay(
    cohort: Cohort, folder: Path, settings: dict[str, object]
) -> None:
    open_pixels(cohort, SETTINGS, folder)
    open_pixels(cohort, SETTINGS.model_copy(update=settings), folder)
    assert files(folder) == [".json", ".json", ".lock", ".npy", ".npy"]


@pytest.mark.parametrize("name", ["PIL", "DECODER"])
def test_another_version_of_a_decoder_is_another_cache(
    cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    open_pixels(cohort, SETTINGS, folder)
    if name == "PIL":
        monkeypatch.setattr("PIL.__version__", "0.0")
    else:
        monkeypatch.setattr(pixels_module, "DECODER", 0)
    decoded = counted(monkeypatch, "prepare")
    open_pixels(cohort, SETTINGS, folder)
    assert len(decoded) == 12


def test_a_changed_image_is_noticed_and_only_it_is_decoded(
    cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = open_pixels(cohort, SETTINGS, folder)[1]
    before = old.array.copy()
    path = cohort.root / "03.jpg"
    size, times = path.stat().st_size, path.stat()
    replacement = Image.open(cohort.root / "05.jpg")
    with replacement:
        replacement.save(path, "JPEG", quality=60)
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == size  # same size and times: only the inode's change time tells
    decoded = counted(monkeypatch, "prepare")
    new = open_pixels(cohort, SETTINGS, folder)[1]
    assert len(decoded) == 1
    np.testing.assert_array_equal(new.array[new.rows(cohort.image)], expected(cohort))
    assert (new.array[3] != before[3]).any()
    np.testing.assert_array_equal(old.array, before)  # who has the old one open keeps it


def test_touched_or_moved_images_are_read_but_not_decoded(
    cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pixels(cohort, SETTINGS, folder)
    decoded = counted(monkeypatch, "prepare")
    (cohort.root / "03.jpg").touch()
    open_pixels(cohort, SETTINGS, folder)
    moved = replace(cohort, root=cohort.root.rename(cohort.root.parent / "elsewhere"))
    os.utime(moved.root / "00.png")
    pixels = open_pixels(moved, SETTINGS, folder)[1]
    assert not decoded
    np.testing.assert_array_equal(pixels.array, expected(moved))


def test_a_superseded_cache_goes_once_nobody_has_it_open(cohort: Cohort, folder: Path) -> None:
    held = open_pixels(cohort, SETTINGS, folder)[1]
    kept = held.file
    assert kept is not None
    (cohort.root / "00.png").touch()
    open_pixels(cohort, SETTINGS, folder)
    assert kept.exists()
    again = pickle.loads(pickle.dumps(held))
    np.testing.assert_array_equal(again.array, held.array)
    del held, again
    (cohort.root / "00.png").touch()
    open_pixels(cohort, SETTINGS, folder)
    assert files(folder) == [".json", ".lock", ".npy"]


@pytest.mark.parametrize("harm", ["cut", "index", "empty", "no index", "no array"])
def test_a_damaged_cache_is_built_anew(cohort: Cohort, folder: Path, harm: str) -> None:
    open_pixels(cohort, SETTINGS, folder)
    array, index = next(folder.glob("*.npy")), next(folder.glob("*.json"))
    if harm == "cut":
        os.truncate(array, 1000)
    elif harm == "index":
        index.write_text(index.read_text()[:-20])
    elif harm == "empty":
        array.write_bytes(b"")
    else:
        (index if harm == "no index" else array).unlink()
    pixels = open_pixels(cohort, SETTINGS, folder)[1]
    np.testing.assert_array_equal(pixels.array, expected(cohort))
    assert files(folder) == [".json", ".lock", ".npy"]


def spoil(cohort: Cohort) -> None:
    (cohort.root / "01.jpg").unlink()
    (cohort.root / "02.png").write_bytes((cohort.root / "02.png").read_bytes()[:300])
    (cohort.root / "03.jpg").write_bytes(b"")
    (cohort.root / "06.png").write_text("no image")


def test_all_bad_images_are_listed_with_row_and_reason(cohort: Cohort, folder: Path) -> None:
    spoil(cohort)
    for _ in range(2):  # the second time out of the cache
        with pytest.raises(DataError) as caught:
            open_pixels(cohort, SETTINGS, folder)
        first, *rest = map(str, caught.value.problems)
        assert first.startswith("m.csv: 4 of 12 images cannot be read. Mend them")
        patterns = ["row 3.*01.jpg does not exist", "row 4.*02.png is damaged", "row 5.*03.jpg is empty"]
        for text, pattern in zip(rest, [*patterns, "row 8.*06.png is no image of a known"], strict=True):
            assert re.search(pattern, text), text


def test_skipping_counts_what_is_left_out_for_every_group(cohort: Cohort, folder: Path) -> None:
    spoil(cohort)
    twice = cohort.take(np.array([*range(12), 6]))
    kept, pixels = open_pixels(twice, SETTINGS.model_copy(update={"on_bad_image": "skip"}), folder)
    assert len(kept) == 8
    assert len(pixels.array) == 8
    np.testing.assert_array_equal(pixels.array[pixels.rows(kept.image)], expected(kept))
    assert [str(notice) for notice in kept.notices] == [
        "m.csv: left out 5 of 13 images that cannot be read (female 1, male 1, unknown 3)"
    ]
    with pytest.raises(DataError, match=r"01.jpg: has no pixels"):
        pixels.rows(np.array(["00.png", "01.jpg"]))


def test_a_mended_image_is_taken_in(cohort: Cohort, folder: Path) -> None:
    spoil(cohort)
    skipping = SETTINGS.model_copy(update={"on_bad_image": "skip"})
    open_pixels(cohort, skipping, folder)
    for number in (1, 2, 3, 6):
        draw(cohort.root / str(cohort.image[number]), number)
    same, pixels = open_pixels(cohort, skipping, folder)
    assert len(same) == 12
    np.testing.assert_array_equal(pixels.array, expected(cohort))
    assert files(folder) == [".json", ".lock", ".npy"]


@pytest.mark.parametrize("on_bad_image", ["stop", "skip"])
def test_nothing_left_is_an_error_either_way(tmp_path: Path, folder: Path, on_bad_image: str) -> None:
    settings = SETTINGS.model_copy(update={"on_bad_image": on_bad_image})
    for _ in range(2):
        with pytest.raises(DataError, match=r"3 of 3 images cannot be read\. Check the paths"):
            open_pixels(cohort_of(tmp_path, ["a.png", "b.png", "c\0.png"]), settings, folder)


@pytest.mark.parametrize("where", ["posix_fallocate", "write"])
def test_a_full_disk_is_told_and_leaves_nothing(
    cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "posix_fallocate":
        monkeypatch.setattr(os, "posix_fallocate", full)
        decoded = counted(monkeypatch, "prepare")
    else:
        monkeypatch.setattr(pixels_module, "_each", full)
        decoded = []
    with pytest.raises(DataError, match="the disk is full; nothing was changed"):
        open_pixels(cohort, SETTINGS, folder)
    assert not decoded
    assert files(folder) == [".lock"]


def test_a_folder_that_is_a_file_is_wrong_use(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        open_pixels(cohort, SETTINGS, tmp_path / "cache")


def test_an_existing_cache_is_opened_without_writing(
    cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pixels(cohort, SETTINGS, folder)
    (folder / "pixels.lock").unlink()

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(pixels_module, "_locked", refuse)
    open_pixels(cohort, SETTINGS, folder)
    assert files(folder) == [".json", ".npy"]


def test_rows_are_found_for_any_order_and_names_beyond_the_end() -> None:
    pixels = Pixels(np.zeros((2, 4, 4, 1), np.uint8), np.array(["b", "d"]))
    assert pixels.rows(np.array(["d", "b", "d"])).tolist() == [1, 0, 1]
    assert pixels.rows(np.array([], dtype=str)).tolist() == []
    with pytest.raises(DataError) as caught:
        pixels.rows(np.array(["a", "b", "c", "z"]))
    assert [problem.file for problem in caught.value.problems] == ["a", "c", "z"]
    copy = pickle.loads(pickle.dumps(pixels))
    np.testing.assert_array_equal(copy.image, pixels.image)


BUILD = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    import numpy as np
    from equiprune.data import pixels
    from equiprune.data.cohort import Cohort
    from equiprune.data.settings import DataSettings
    root, folder, delay = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    image = np.array(sorted(path.name for path in root.iterdir()))
    zero = np.zeros(len(image), int)
    cohort = Cohort(root, image, zero, ("a",), zero, ("x",), "sex", None, None, zero, "")
    true, count = pixels.prepare, 0
    def slow(data, **rest):
        global count
        count += 1
        time.sleep(delay)
        return true(data, **rest)
    pixels.prepare = slow
    settings = DataSettings(manifest="m.csv", label="dx", attribute=("sex",), image_size=16)
    opened = pixels.open_pixels(cohort, settings, folder, workers=1)[1]
    print(count, int(opened.array.astype(int).sum()), flush=True)
""")


def start(cohort: Cohort, folder: Path, delay: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(cohort.root), str(folder), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_one_builds_and_the_other_waits(cohort: Cohort, folder: Path) -> None:
    both = [start(cohort, folder, 0.1) for _ in range(2)]
    told = sorted(tuple(map(int, process.communicate()[0].split())) for process in both)
    total = int(expected(cohort).astype(int).sum())
    assert told == [(0, total), (12, total)]
    assert files(folder) == [".json", ".lock", ".npy"]


def test_a_killed_build_leaves_nothing_half_and_the_next_one_clears_up(cohort: Cohort, folder: Path) -> None:
    with start(cohort, folder, 0.5) as process:
        while not any(folder.glob("tmp-*.part")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert files(folder) == [".lock", ".part"]
    pixels = open_pixels(cohort, SETTINGS, folder)[1]
    np.testing.assert_array_equal(pixels.array, expected(cohort))
    assert files(folder) == [".json", ".lock", ".npy"]


READ_ALL = """
import sys
import numpy as np
from pathlib import Path
from equiprune.data import pixels

def anonymous():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))

opened = pixels._pixels(Path(sys.argv[1]), np.arange(4096).astype(str))
opened.array[:64].copy()
before, total = anonymous(), 0
for rows in np.split(np.random.default_rng(0).permutation(4096), 64):
    total += int(opened.array[rows].max())
print(anonymous() - before, opened.array.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is told by Linux only")
def test_going_through_a_cache_holds_one_batch_and_not_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "pixels-a-b.npy"
    np.save(file, np.random.default_rng(0).integers(0, 255, (4096, 96, 96, 3), dtype=np.uint8))
    done = subprocess.run([sys.executable, "-c", READ_ALL, file], capture_output=True, text=True, check=True)
    growth, size = map(int, done.stdout.split())
    assert size > 110e6
    assert growth < 0.1 * size


def test_a_real_cohort_opens_from_its_cache_and_decodes_nothing(
    shared_data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shared_data / "isic2019"
    names = sorted(f"images/{path.name}" for path in (root / "images").iterdir())
    cohort = cohort_of(root, names)
    settings = SETTINGS.model_copy(update={"image_size": 8, "decode": "fast"})
    open_pixels(cohort, settings, folder)
    monkeypatch.delattr(pixels_module, "prepare")
    same, _ = open_pixels(cohort, settings, folder)
    assert len(same) == 12_608

from __future__ import annotations

import csv
import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int8
from PIL import Image, ImageEnhance

from equiprune.data import duplicates
from equiprune.data.duplicates import SAME, find_duplicates, fingerprints, likeness, near_pairs
from equiprune.data.images import prepare
from equiprune.data.manifest import read_manifest
from equiprune.data.pixels import Pixels, open_pixels
from equiprune.data.settings import DataSettings
from equiprune.files import sha256


def _pictures(many: int, size: int = 96, seed: int = 0) -> np.ndarray:
    """Smooth random pictures: no two share their detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 230, (many, 12, 12, 3)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in coarse])


def _prints(pixels: np.ndarray) -> Int8[np.ndarray, "image 1024"]:
    found = fingerprints(pixels)
    assert found is not None
    return found


def _saved(image: Image.Image, kind: str) -> bytes:
    stream = BytesIO()
    if kind == "quality 60":
        image.save(stream, "JPEG", quality=60)
    elif kind == "resized by 0.8":
        image.resize((round(image.width * 0.8), round(image.height * 0.8))).save(stream, "JPEG", quality=90)
    elif kind == "brightness + 5 %":
        ImageEnhance.Brightness(image).enhance(1.05).save(stream, "PNG")
    else:
        small = image.resize((round(image.width * 0.8), round(image.height * 0.8)))
        ImageEnhance.Brightness(small).enhance(1.05).save(stream, "JPEG", quality=60)
    return stream.getvalue()


KINDS = ("quality 60", "resized by 0.8", "brightness + 5 %", "all three")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_saved_again_are_found_and_others_are_not(kind: str) -> None:
    pictures = _pictures(40)
    again = [prepare(_saved(Image.fromarray(one), kind), size=96) for one in pictures[:10]]
    pairs, likes = near_pairs(_prints(np.concatenate([pictures, np.stack(again)])))
    assert pairs.tolist() == [[row, 40 + row] for row in range(10)]
    assert (likes >= SAME).all()


@pytest.mark.parametrize(("folder", "least"), [("isic2019", 0.97), ("nih_cxr_1000", 1.0), ("pad_ufes20", 0.95)])
@pytest.mark.parametrize("kind", KINDS)
def test_real_images_saved_again_are_found(folder: str, least: float, kind: str, shared_data: Path) -> None:
    """150 images of each set. Missed are photographs nearly without detail, of which JPEG blocks are most."""
    root = shared_data / folder
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        names = [row["image"] for row in csv.DictReader(stream)]
    chosen = np.random.default_rng(0).choice(names, 150, replace=False)
    opened = [Image.open(root / name).convert("RGB") for name in chosen]
    size = 64 if folder == "nih_cxr_1000" else 128
    first = _prints(np.stack([prepare(root / name, size=size) for name in chosen]))
    again = _prints(np.stack([prepare(_saved(image, kind), size=size) for image in opened]))
    assert (likeness(first, again) >= SAME).mean() >= least
    other = likeness(first, np.roll(first, 1, axis=0))
    assert other.max() < 0.75, "different images are far below the threshold"


def test_chest_radiographs_look_alike_and_are_not_taken_for_one(shared_data: Path) -> None:
    """1,000 radiographs of 264 patients, up to 100 of one patient: thumbnails correlate by up to 0.98."""
    root = shared_data / "nih_cxr_1000"
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        names = [row["image"] for row in csv.DictReader(stream)]
    prints = _prints(np.stack([prepare(root / name, size=64, channels=1) for name in names]))
    assert len(near_pairs(prints)[0]) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(0.05, 0.95), st.integers(3, 50))
def test_the_search_finds_what_comparing_all_finds(seed: int, rows: int, same: float, block: int) -> None:
    rng = np.random.default_rng(seed)
    prints = _prints(_pictures(rows, 32, seed))
    copied = rng.integers(rows, size=rows // 2)
    noise = rng.normal(0, 12, (len(copied), 1024))
    prints = np.concatenate([prints, np.clip(prints[copied] + noise, -127, 127).astype(np.int8)])
    every = likeness(prints[:, None], prints[None])
    expected = [[a, b] for a, b in np.argwhere(every >= same).tolist() if a < b]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        patch.setattr(duplicates, "_SHORT", 15)
        pairs, likes = near_pairs(prints, same=same)
    assert pairs.tolist() == expected
    assert likes == pytest.approx(every[tuple(pairs.T)], abs=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(-30, 30), st.sampled_from((32, 33, 64, 100)))
@settings(max_examples=30, deadline=None)
def test_brightness_and_contrast_do_not_matter(seed: int, add: int, size: int) -> None:
    picture = _pictures(1, size, seed).astype(int) // 2 + 40
    other = np.rint(picture * 0.8) + add
    first, second = (_prints(np.clip(one, 0, 255).astype(np.uint8)) for one in (picture, other))
    assert likeness(first, second)[0] > 0.97
    assert likeness(first, first)[0] == pytest.approx(1, abs=1e-6)


def test_pictures_of_one_colour_are_like_nothing() -> None:
    prints = _prints(np.stack([np.full((40, 40, 3), level, np.uint8) for level in (0, 0, 200)]))
    assert not prints.any()
    assert len(near_pairs(prints)[0]) == 0


def test_small_pictures_are_not_compared() -> None:
    assert fingerprints(np.zeros((3, 31, 31, 3), np.uint8)) is None
    assert find_duplicates(np.array(["a", "b", "a"]), None).near is None


def test_no_pictures_at_all() -> None:
    prints = _prints(np.zeros((0, 64, 64, 1), np.uint8))
    assert prints.shape == (0, 1024)
    assert near_pairs(prints)[0].shape == (0, 2)


def test_of_identical_files_only_the_first_stands_in_near_pairs() -> None:
    picture = _pictures(2)
    again = prepare(_saved(Image.fromarray(picture[0]), "quality 60"), size=96)
    prints = _prints(np.stack([picture[1], picture[0], picture[0], again]))
    found = find_duplicates(np.array(["z", "a", "a", "b"]), prints)
    assert found.content.tolist() == [0, 1, 1, 2]
    assert found.near is not None
    assert found.near.tolist() == [[1, 3]]
    assert found.complete


def test_the_search_ends_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = np.repeat(_prints(_pictures(1)), 50, axis=0)
    pairs, _ = near_pairs(prints, most=100)
    assert len(pairs) == 100
    monkeypatch.setattr(duplicates, "near_pairs", lambda _: (pairs, np.ones(100)))
    monkeypatch.setattr(duplicates, "MOST", 100)
    assert not find_duplicates(np.arange(50).astype(str), prints).complete


def test_the_cache_tells_the_hash_of_each_file(lesions: Path, tmp_path: Path) -> None:
    """Also where some images cannot be read, and in a copy sent to another process."""
    settings = DataSettings(
        manifest=str(lesions), label="label", attribute=("skin_tone",), image_size=16, on_bad_image="skip"
    )
    cohort = read_manifest(settings).take(np.arange(20))
    for name in cohort.image.tolist():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((lesions.parent / name).read_bytes())
    (tmp_path / str(cohort.image[3])).write_bytes(b"no image")
    kept, pixels = open_pixels(replace(cohort, root=tmp_path), settings, tmp_path / "cache")
    told = pickle.loads(pickle.dumps(pixels)).sha256()[pixels.rows(kept.image)]
    assert told.tolist() == [sha256(tmp_path / name) for name in kept.image.tolist()]
    assert len(told) == 19
    with pytest.raises(ValueError, match="not from a cache"):
        Pixels(np.zeros((1, 8, 8, 3), np.uint8), np.array(["a"])).sha256()

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from equiprune.data.images import LARGEST, ImageError, decode, prepare
from equiprune.data.settings import Fit

RAMP = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)

UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def saved(image: Image.Image, kind: str = "PNG", exif: Image.Exif | None = None) -> bytes:
    stream = BytesIO()
    if exif is None:
        image.save(stream, kind)
    else:
        image.save(stream, kind, exif=exif)
    return stream.getvalue()


def picture(height: int = 45, width: int = 60) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / a + y / b) for a, b in ((9, 7), (5, 11), (13, 6))]
    return np.stack(waves, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_a_16_bit_ramp_is_scaled_linearly_and_nothing_saturates(kind: str) -> None:
    got = decode(saved(Image.fromarray(RAMP), kind), channels=1)[:, :, 0]
    np.testing.assert_array_equal(got, np.rint(RAMP / 257).astype(np.uint8))
    assert (got == 255).mean() < 0.01


def test_big_endian_16_bit_tiff_equals_little_endian() -> None:
    big, little = (decode(saved(Image.fromarray(RAMP.astype(order)), "TIFF"), channels=1) for order in (">u2", "<u2"))
    np.testing.assert_array_equal(big, little)


def tiff(values: NDArray[np.uint16], bits: int, photometric: int) -> bytes:
    """A single-strip TIFF by hand, since Pillow writes neither 12 bits nor white-is-zero."""
    height, width = values.shape
    data = values.astype("<u2").tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
        data = packed.astype(np.uint8).tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, 1), (278, height), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in {273, 279} else 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("bits", "photometric"), [(12, 1), (16, 1), (16, 0)])
def test_tiff_is_scaled_by_its_own_bit_depth_and_white_is_zero_is_heeded(bits: int, photometric: int) -> None:
    full = 2**bits - 1
    values = np.linspace(0, full, 256).round().astype(np.uint16).reshape(16, 16)
    want = np.rint(values * (255 / full))
    got = decode(tiff(values, bits, photometric), channels=1)[:, :, 0]
    np.testing.assert_array_equal(got, want if photometric else 255 - want)


@pytest.mark.parametrize("values", [RAMP.astype(np.int32), RAMP.astype(np.float32)])
def test_32_bit_pixels_are_refused(values: NDArray[np.int32] | NDArray[np.float32]) -> None:
    with pytest.raises(ImageError, match="no fixed range; save it with 8 or 16 bits"):
        decode(saved(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_gives_the_upright_image(orientation: int, kind: str) -> None:
    stored = picture(16, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(stored)
    want = UPRIGHT[orientation](decode(saved(image, kind)))
    np.testing.assert_array_equal(decode(saved(image, kind, exif)), want)


def test_a_broken_exif_block_does_not_hide_whole_pixels() -> None:
    data = saved(Image.fromarray(picture()), "JPEG")
    block = b"Exif\0\0MM\0\x63\xff\xff\xff\xff" + bytes(20)
    broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    np.testing.assert_array_equal(decode(broken), decode(data))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_black_and_opaque_ones_stay(mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (200, 200, 200, 255))
    image.paste((255, 255, 255, 0), (0, 0, 2, 2))
    got = decode(saved(image.convert(mode)))
    assert got[:, :2].max() == 0
    np.testing.assert_array_equal(got[:, 2:], 200)


def test_half_transparent_is_half_as_bright() -> None:
    got = decode(saved(Image.new("RGBA", (1, 1), (200, 100, 50, 128))))
    np.testing.assert_allclose(got[0, 0], np.array([200, 100, 50]) * 128 / 255, atol=1)


def test_palette_one_bit_and_cmyk_images() -> None:
    image = Image.fromarray(picture())
    palette = image.quantize(16)
    np.testing.assert_array_equal(decode(saved(palette)), np.asarray(palette.convert("RGB")))
    assert set(np.unique(decode(saved(image.convert("1")), channels=1))) == {0, 255}
    cmyk = decode(saved(image.convert("CMYK"), "TIFF"))
    np.testing.assert_allclose(cmyk.astype(int), picture(), atol=1)


def test_grey_is_repeated_and_colour_becomes_luma() -> None:
    grey = Image.fromarray(picture()[:, :, 0])
    three = decode(saved(grey))
    assert three.shape == (45, 60, 3)
    np.testing.assert_array_equal(three, np.repeat(picture()[:, :, :1], 3, axis=2))
    luma = decode(saved(Image.fromarray(picture())), channels=1)[:, :, 0]
    np.testing.assert_allclose(luma, picture() @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_crop_is_the_centre_of_the_scaled_image() -> None:
    wide = picture(20, 60)
    whole = Image.fromarray(wide).resize((30, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(prepare(saved(Image.fromarray(wide)), size=10), np.asarray(whole)[:, 10:20])
    tall = Image.fromarray(wide.transpose(1, 0, 2).copy())
    np.testing.assert_array_equal(prepare(saved(tall), size=10), np.asarray(whole)[:, 10:20].transpose(1, 0, 2))


def test_stretch_shows_the_whole_image() -> None:
    half = np.zeros((4, 40), np.uint8)
    half[:, 20:] = 255
    got = prepare(saved(Image.fromarray(half)), size=4, channels=1, fit="stretch")[:, :, 0]
    np.testing.assert_array_equal(got[:, [0, 3]], [[0, 255]] * 4)


def test_scaling_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    got = prepare(saved(Image.fromarray(stripes)), size=16, channels=1)
    assert np.ptp(got[:, 1:-1]) <= 2
    np.testing.assert_allclose(got.mean(), 127.5, atol=2)


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.sampled_from(["crop", "pad", "stretch"]),
    st.sampled_from([1, 3]),
)  # fmt: skip
def test_any_size_and_fit_gives_a_full_square(height: int, width: int, size: int, fit: Fit, channels: int) -> None:
    data = saved(Image.new("L", (width, height), 255))
    got = prepare(data, size=size, channels=1 if channels == 1 else 3, fit=fit)
    assert got.shape == (size, size, channels)
    assert got.dtype == np.uint8
    if fit == "pad":
        want = (max(1, round(height * size / max(height, width))), max(1, round(width * size / max(height, width))))
        rows, columns = np.nonzero(got[:, :, 0])
        assert (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1) == want
        assert (got[:, :, 0] > 0).sum() == want[0] * want[1]
    else:
        assert got.min() == 255


def test_fast_decoding_is_close_on_smooth_images_and_exact_is_exact() -> None:
    y, x = np.mgrid[:450, :600]
    disc = 200 * np.exp(-((x - 200) ** 2 + (y - 150) ** 2) / 2e4)
    image = Image.fromarray(np.stack([disc + 40, disc + 20, disc], axis=-1).astype(np.uint8))
    data = saved(image, "JPEG")
    exact, fast = (prepare(data, size=64, decode=way) for way in ("exact", "fast"))
    assert np.ptp(exact) > 150
    assert 0 < np.abs(exact.astype(int) - fast).max() <= 3
    with Image.open(BytesIO(data)) as opened:
        np.testing.assert_array_equal(decode(data), np.asarray(opened))
    assert decode(data, at_least=100).shape == (113, 150, 3)


def png_bomb(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("1", (8, 8))))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize("action", ["error", "default"])
@pytest.mark.parametrize("side", [9_500, 50_000])
def test_decompression_bombs_are_refused_whatever_the_warning_filter(side: int, action: str) -> None:
    with warnings.catch_warnings(record=action == "default"):
        warnings.simplefilter(action)  # type: ignore[arg-type]
        with pytest.raises(ImageError, match=f"too large.*at most {LARGEST:,} pixels"):
            decode(png_bomb(side, side))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_truncated_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match=r"damaged|known format"):
            decode(data[: int(len(data) * share)])


def test_truncated_at_every_byte_never_raises_anything_else() -> None:
    data = saved(Image.fromarray(picture(16, 16)), "JPEG")
    for end in range(1, len(data), 7):
        with pytest.raises(ImageError):
            decode(data[:end])


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.parent.mkdir(exist_ok=True), "does not exist"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "is a folder or a device"),
        (pipe, "is a folder or a device"),
        (lambda path: path.write_text("not an image"), "is no image of a known format"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "known format"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(ImageError, match=reason):
        prepare(tmp_path / "x.png", size=8)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "x.png").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)  # chmod does not stop the administrator
    with pytest.raises(ImageError, match=r"cannot be read \(Permission denied\)"):
        prepare(tmp_path / "x.png", size=8)

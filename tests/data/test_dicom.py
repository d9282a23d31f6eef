"""Radiographs as DICOM files, made here with pydicom."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, RLELossless, generate_uid

from equiprune.data.images import LARGEST, ImageError, decode, prepare
from equiprune.data.settings import Fit

RAMP = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
Values = NDArray[np.uint16] | NDArray[np.int16] | NDArray[np.uint8]


def made(values: Values, *, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:  # noqa: ANN401
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(BytesIO(), {}, file_meta=meta, preamble=bytes(128))
    frames = values if values.ndim == 3 else values[None]
    file.Rows, file.Columns = frames.shape[1:3]
    if len(frames) > 1:
        file.NumberOfFrames = len(frames)
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.BitsAllocated = 8 * values.itemsize
    file.BitsStored = tags.pop("bits", file.BitsAllocated)
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    file["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    stream = BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shown(values: Values, **tags: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    return decode(made(values, **tags), channels=1)[:, :, 0]


def test_without_a_window_the_smallest_value_is_black_and_the_largest_white() -> None:
    values = RAMP[1:, :] + np.uint16(500)
    low, high = int(values.min()), int(values.max())
    np.testing.assert_array_equal(shown(values), np.rint((values.astype(float) - low) * 255 / (high - low)))
    assert shown(np.full((4, 4), 7, np.uint16)).max() == 0


def test_the_first_window_is_heeded_after_slope_and_intercept() -> None:
    values = RAMP.astype(float) * 2 - 100
    want = np.clip((values - 1999.5) / 999 + 0.5, 0, 1) * 255
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": [2000, 5], "WindowWidth": [1000, 9]}
    got = shown(RAMP, bits=12, **tags)
    np.testing.assert_allclose(got, want, atol=0.51)
    assert {0, 255} <= set(got.ravel().tolist())


@pytest.mark.parametrize(
    ("function", "want"),
    [
        ("LINEAR_EXACT", np.clip((RAMP - 2000.0) / 1000 + 0.5, 0, 1) * 255),
        ("SIGMOID", 255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))),
    ],
)
def test_other_functions_of_a_window(function: str, want: NDArray[np.float64]) -> None:
    got = shown(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)
    np.testing.assert_allclose(got, want, atol=0.51)


def test_a_window_of_width_one_is_a_threshold_and_none_of_width_zero() -> None:
    assert set(shown(RAMP, WindowCenter=2000, WindowWidth=1).ravel().tolist()) == {0, 255}
    assert set(shown(RAMP, WindowCenter=2000, WindowWidth=1e-3, VOILUTFunction="SIGMOID").ravel().tolist()) == {0, 255}
    with pytest.raises(ImageError, match="a window of width 0"):
        shown(RAMP, WindowCenter=2000, WindowWidth=0)


def test_monochrome1_is_inverted() -> None:
    tags = {"WindowCenter": 2000, "WindowWidth": 1000}
    np.testing.assert_array_equal(
        shown(RAMP, PhotometricInterpretation="MONOCHROME1", **tags), 255 - shown(RAMP, **tags)
    )


def test_signed_values() -> None:
    values = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_array_equal(shown(values), shown(RAMP))
    got = shown(values, WindowCenter=0, WindowWidth=2)
    assert got[0, 0] == 0
    assert got[-1, -1] == 255


def test_8_bits_implicit_and_run_length_encoded() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(shown(values), values)
    np.testing.assert_array_equal(shown(values, syntax=ImplicitVRLittleEndian), values)
    plain = BytesIO(made(RAMP))
    from pydicom import dcmread

    file = dcmread(plain)
    file.compress(RLELossless)
    stream = BytesIO()
    file.save_as(stream)
    np.testing.assert_array_equal(decode(stream.getvalue(), channels=1)[:, :, 0], shown(RAMP))


def test_a_table_of_interest() -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table["LUTDescriptor"].VR = "US"
    table.LUTData = (np.arange(256) * 257)[::-1].astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(shown(values, VOILUTSequence=[table]), 255 - values)


def test_the_first_frame_is_taken() -> None:
    np.testing.assert_array_equal(shown(np.stack([RAMP, RAMP[::-1]])), shown(RAMP))


def test_the_rest_is_as_with_other_images(tmp_path: Path) -> None:
    wide = np.tile(np.arange(60, dtype=np.uint8) * 4, (20, 1))
    path = tmp_path / "x.dcm"
    path.write_bytes(made(wide, WindowCenter=128, WindowWidth=256))
    stream = BytesIO()
    Image.fromarray(wide).save(stream, "PNG")
    fits: tuple[Fit, ...] = ("crop", "pad", "stretch")
    for fit in fits:
        got = prepare(path, size=10, fit=fit)
        np.testing.assert_array_equal(got, prepare(stream.getvalue(), size=10, fit=fit))
    assert decode(path).shape == (20, 60, 3)


def test_what_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(RAMP)
    compressed = encapsulate([b"\xff\xd8\xff\xd9"])
    refused: list[tuple[bytes, str]] = [
        (
            made(RAMP, syntax=JPEGLosslessSV1, PixelData=compressed),
            "stored as JPEG Lossless.*which cannot be read here; install pylibjpeg",
        ),
        (made(RAMP, PhotometricInterpretation="RGB"), r"in colour \(RGB\).*save it as PNG or JPEG"),
        (made(RAMP, Rows=20_000, Columns=20_000), f"too large .20000 x 20000.; at most {LARGEST:,} pixels"),
        (whole[:-100], "is a damaged DICOM file"),
        (made(RAMP, BitsAllocated=17), "is a damaged DICOM file"),
        (whole[:132] + b"nonsense", "is a damaged DICOM file|without an image"),
    ]
    for data, reason in refused:
        with pytest.raises(ImageError, match=reason):
            decode(data)
    without = whole[: whole.index(b"\xe0\x7f\x10\x00")]
    with pytest.raises(ImageError, match="without an image"):
        decode(without)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("pydicom.dcmread", refuse)
        with pytest.raises(MemoryError):
            decode(whole)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"install the extra: pip install 'equiprune\[dicom\]'"):
        decode(whole)


def test_a_truncated_file_never_raises_anything_else() -> None:
    whole = made(RAMP)
    for end in range(1, len(whole) - 1, 41):
        with pytest.raises(ImageError):
            decode(whole[:end])


def test_images_that_are_no_dicom_do_not_load_pydicom() -> None:
    script = "import sys, equiprune.data.images; sys.exit('pydicom' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png_of_8_and_16_bits_agree(dtype: type) -> None:
    values = np.arange(256).reshape(16, 16)
    stream = BytesIO()
    Image.fromarray((values * (257 if dtype is np.uint16 else 1)).astype(dtype)).save(stream, "PNG")
    np.testing.assert_array_equal(decode(stream.getvalue(), channels=1)[:, :, 0], values)
    assert prepare(stream.getvalue(), size=8, channels=3).shape == (8, 8, 3)

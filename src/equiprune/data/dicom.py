"""A DICOM radiograph as 8 bits of grey. Needs pydicom: the extra `equiprune[dicom]`.

What is done, in this order: the first frame; rescale slope and intercept; the file's first window
of interest, else its first table of interest, else its own smallest to largest value, to 0 to 255;
MONOCHROME1 (where low values are bright) inverted. Padding and overlays are not looked at.
"""

from __future__ import annotations

import importlib.util
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MARK, _PLACE = b"DICM", 128
_GREY = {"MONOCHROME1", "MONOCHROME2"}


class DicomError(Exception):
    """The file is no usable radiograph. The message is the reason, fit to follow the file's name."""


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a DICOM file: its mark stands at byte 128.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"DICM")
        (True, False)
    """
    return data[_PLACE : _PLACE + len(_MARK)] == _MARK


def grey(data: bytes, *, largest: int) -> UInt8[np.ndarray, "height width"]:
    """The first frame.

    Args:
        data: of a DICOM file.
        largest: pixels that a frame may have.

    Raises:
        DicomError: pydicom is not installed, or the file is in colour, too large, compressed in a way that
            cannot be read here, or damaged.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise DicomError("is a DICOM file; to read it, install the extra: pip install 'equiprune[dicom]'")
    from pydicom import dcmread

    try:
        file = dcmread(BytesIO(data))
        _refuse(file, largest)
        values = _frame(file)
        shown = _windowed(file, values)
    except (DicomError, MemoryError):
        raise
    except Exception as error:  # a broken file makes pydicom raise nearly anything
        raise DicomError(f"is a damaged DICOM file ({error or type(error).__name__})") from error
    if file.PhotometricInterpretation == "MONOCHROME1":
        shown = 255 - shown
    return np.asarray(np.rint(shown), dtype=np.uint8)


def _refuse(file: Dataset, largest: int) -> None:
    if "PixelData" not in file:
        raise DicomError("is a DICOM file without an image")
    if file.Rows * file.Columns > largest:
        raise DicomError(f"is too large ({file.Columns} x {file.Rows}); at most {largest:,} pixels are read")
    if file.PhotometricInterpretation not in _GREY or file.get("SamplesPerPixel", 1) != 1:
        what = f"is a DICOM file in colour ({file.PhotometricInterpretation}), of which only grey ones are read"
        raise DicomError(f"{what}; save it as PNG or JPEG")


def _frame(file: Dataset) -> Float[np.ndarray, "height width"]:
    """The first frame after slope and intercept (or a table in their place)."""
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    try:
        stored = pixel_array(file, index=0)
    except (RuntimeError, NotImplementedError) as error:
        how = file.file_meta.TransferSyntaxUID.name
        hint = "install pylibjpeg, pylibjpeg-libjpeg and pylibjpeg-openjpeg, or save it uncompressed"
        raise DicomError(f"is a DICOM file stored as {how}, which cannot be read here; {hint}") from error
    return np.asarray(apply_modality_lut(stored, file), dtype=np.float64)


def _windowed(file: Dataset, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Values from 0 to 255."""
    from pydicom.pixels.processing import apply_voi

    if _first(file.get("WindowWidth")) is not None and _first(file.get("WindowCenter")) is not None:
        return _by_window(file, values)
    if file.get("VOILUTSequence"):
        bits = int(file.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = apply_voi(np.rint(values).astype(np.int64), file, index=0)
        return np.asarray(np.clip(looked_up * (255 / (2**bits - 1)), 0, 255))
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - low) * (255 / (high - low) if high > low else 0.0))


def _by_window(file: Dataset, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """The three functions of the standard, part 3, C.11.2.1."""
    centre, width = float(_first(file.WindowCenter)), float(_first(file.WindowWidth))
    function = str(file.get("VOILUTFunction") or "LINEAR").upper()
    if width <= 0:
        raise DicomError(f"is a DICOM file with a window of width {width:g}")
    if function == "SIGMOID":
        steep = np.clip(-4 * (values - centre) / width, -50, 50)  # beyond, a byte does not tell
        return np.asarray(255 / (1 + np.exp(steep)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1) * 255
    if width == 1:
        return np.where(values > centre - 0.5, 255.0, 0.0)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def _first(value: Any) -> Any:  # noqa: ANN401 - a number, several, or nothing
    from pydicom.multival import MultiValue

    return (value[0] if value else None) if isinstance(value, MultiValue) else value

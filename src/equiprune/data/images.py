"""From the bytes of an image file to a square of uint8 pixels. Needs Pillow and no torch.

What is done, in this order: decode; bring to 8 bits; lay transparent pixels on black; make grey
or colour; scale with antialiasing to a square; turn it as the EXIF orientation says.

- 16-bit grey (PNG, PGM, TIFF, JPEG 2000) is scaled linearly by the file's bit depth: 65535
  becomes 255. Nothing saturates and nothing is stretched to the image's own range.
- 32-bit integers and floats have no fixed range, so they are refused.
- Transparent pixels become black, as the borders of `pad` are. What colour lies hidden under
  them is arbitrary, and white would read as skin.
- Of a file with several frames or pages the first is taken. Colour profiles are not applied.
- A truncated file is refused, as is one with more pixels than `LARGEST`.
- A DICOM file is made 8 bits of grey by `dicom.grey`, whatever its name ends in; the rest is the same.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from equiprune.data.dicom import DicomError, grey, is_dicom
from equiprune.data.settings import Fit

DECODER = 1
"""Raised by one whenever the same file would give other pixels: caches are keyed by it."""

LARGEST = 89_478_485
"""Pixels. Pillow only warns from here on, and a file of 18 kB can ask for 432 MB."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""Formats that are tried. Named, since Pillow would start other programs for some."""

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC = 0x0106
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """The file is no usable image. The message is the reason, fit to follow the file's name."""


def read(path: Path) -> bytes:
    """The bytes of a plain file.

    Raises:
        ImageError: it is missing, empty, no plain file, or may not be read.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise ImageError("is a folder or a device, not a file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("does not exist") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not data:
        raise ImageError("is empty")
    return data


def decode(
    source: Path | bytes, *, channels: Literal[1, 3] = 3, at_least: int | None = None
) -> UInt8[np.ndarray, "height width channel"]:
    """The whole image at its own size, upright, 8 bits.

    Args:
        source: a file or its bytes.
        channels: 3 for colour (grey is repeated), 1 for grey (ITU-R 601 luma).
        at_least: lets the JPEG decoder scale by 1/2, 1/4 or 1/8 as long as no side falls
            below this many pixels. Quicker, not exact. Other formats are not touched.

    Raises:
        ImageError: the file is no usable image.

    Example:
        >>> stream = BytesIO()
        >>> Image.new("L", (3, 2), 7).save(stream, "PNG")
        >>> decode(stream.getvalue()).shape
        (2, 3, 3)
    """
    image = _decoded(source, channels, at_least)
    return _array(image.upright(image.stored), channels)


def prepare(
    source: Path | bytes,
    *,
    size: int,
    channels: Literal[1, 3] = 3,
    fit: Fit = "crop",
    decode: Literal["exact", "fast"] = "exact",
) -> UInt8[np.ndarray, "size size channel"]:
    """A square of `size` pixels a side, as a model sees it.

    Args:
        source: a file or its bytes.
        size: side of the result in pixels.
        channels: 3 for colour, 1 for grey.
        fit: `crop` scales the shorter side to `size` and keeps the centre; `pad` keeps the
            whole image, centred between black borders; `stretch` ignores the aspect ratio.
        decode: `fast` is `decode(at_least=size)`.

    Returns:
        uint8, scaled with Pillow's antialiased bilinear filter.

    Raises:
        ImageError: the file is no usable image.

    Example:
        >>> stream = BytesIO()
        >>> Image.new("L", (40, 20), 255).save(stream, "PNG")
        >>> prepare(stream.getvalue(), size=4, channels=1, fit="pad")[:, :, 0]
        array([[  0,   0,   0,   0],
               [255, 255, 255, 255],
               [255, 255, 255, 255],
               [  0,   0,   0,   0]], dtype=uint8)
    """
    image = _decoded(source, channels, size if decode == "fast" else None)
    return _array(image.upright(_fitted(image, size, fit)), channels)


class _Decoded(NamedTuple):
    stored: Image.Image  # as it lies in the file, not yet turned
    width: float  # a JPEG scaled while decoding may have a last column that is only partly image
    height: float
    orientation: int

    def upright(self, image: Image.Image) -> Image.Image:
        turn = _TURNS.get(self.orientation)
        return image if turn is None else image.transpose(turn)


def _array(image: Image.Image, channels: int) -> UInt8[np.ndarray, "height width channel"]:
    return np.asarray(image).reshape(image.height, image.width, channels)


def _decoded(source: Path | bytes, channels: int, at_least: int | None) -> _Decoded:
    data = source if isinstance(source, bytes) else read(source)
    if is_dicom(data):
        return _radiograph(data, channels)
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _refuse_large(image)
            scaled = None if at_least is None else image.draft(None, (at_least, at_least))
            image.load()
            width, height = scaled[1][2:] if scaled else image.size
            return _Decoded(_flat(image, "L" if channels == 1 else "RGB"), width, height, _orientation(image))
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"is no image of a known format ({', '.join((*FORMATS, 'DICOM'))})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"is too large; at most {LARGEST:,} pixels are read") from error
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        raise ImageError(f"is damaged ({error or type(error).__name__})") from error


def _radiograph(data: bytes, channels: int) -> _Decoded:
    try:
        image = Image.fromarray(grey(data, largest=LARGEST))
    except DicomError as error:
        raise ImageError(str(error)) from error
    return _Decoded(image if channels == 1 else image.convert("RGB"), image.width, image.height, 1)


def _refuse_large(image: Image.Image) -> None:
    if image.width * image.height > LARGEST:
        raise ImageError(f"is too large ({image.width} x {image.height}); at most {LARGEST:,} pixels are read")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block tells nothing of the orientation; the pixels are whole
        return 1


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """8 bits, opaque, in `mode` ("L" or "RGB")."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        image = _eight_bits(image)
    elif image.mode not in _MODES:
        raise ImageError(f"has pixels of mode {image.mode}, which has no fixed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})  # TIFF only
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    values = np.asarray(image).astype(np.float32) * (255 / (2**bits - 1))
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow heeds it for 8 bits only
        values = 255 - values
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _fitted(image: _Decoded, size: int, fit: Fit) -> Image.Image:
    width, height = image.width, image.height
    box = (0.0, 0.0, width, height)
    shape = (size, size)
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    elif fit == "pad":
        scale = size / max(width, height)
        shape = max(1, round(width * scale)), max(1, round(height * scale))
    inner = image.stored.resize(shape, Image.Resampling.BILINEAR, box=box)
    if shape == (size, size):
        return inner
    square = Image.new(inner.mode, (size, size))
    square.paste(inner, ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return square

"""What the images of a set look like as a whole: all grey, or hardly using the range they are stored in."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from equiprune.errors import Problem

FAINT = 16
"""An image without a pixel above this is told of: a sixteenth of the range."""

_PART = 256  # images at a time

Images = UInt8[np.ndarray, "image size size channel"]


def notices(images: Images, file: str) -> list[Problem]:
    """What is told of the pixels of a set: that they are grey where the network reads three channels, or faint.

    Example:
        >>> [str(one)[:34] for one in notices(np.full((2, 8, 8, 3), 9, np.uint8), "m.csv")]
        ['m.csv: 2 images use at most a sixt', 'm.csv: the images are grey, and th']
    """
    told = faint_notice(faint(images), file)
    if grey(images):
        what = "the images are grey, and the network reads three channels: their one is repeated"
        told.append(Problem(what, file=file, hint="channels = 1 builds a network for one"))
    return told


def grey(images: Images) -> bool:
    """Whether images of three channels have one, three times; the first colourful ones end the search."""
    return images.shape[3] == 3 and all(
        (part[..., 0] == part[..., channel]).all()
        for part in (images[at : at + _PART] for at in range(0, len(images), _PART))
        for channel in (1, 2)
    )


def faint(images: Images) -> int:
    """How many images have no pixel above a sixteenth of the range: 12 bits that were stored as 16, perhaps."""
    parts = (images[at : at + _PART] for at in range(0, len(images), _PART))
    return sum(int((part.max(axis=(1, 2, 3)) <= FAINT).sum()) for part in parts)


def faint_notice(many: int, file: str) -> list[Problem]:
    """A notice where images are faint; nothing where none are."""
    if not many:
        return []
    what = f"{many:,} {'image uses' if many == 1 else 'images use'} at most a sixteenth of the range"
    hint = "12 bits stored as 16, perhaps: scale them to their range first, or give DICOM, which has its window"
    return [Problem(what, file=file, hint=hint)]

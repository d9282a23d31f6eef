"""The same picture twice: files of equal bytes, and pictures saved again (re-encoded, resized, brightened).

Two pictures are compared by their *detail*: a 32 x 32 grey thumbnail, less its blur, with the local
contrast made even. Every chest radiograph is bright in the same places, so thumbnails alone, or a
difference hash of them, are alike for all; the detail is not. Measured figures are in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Int, Int8, UInt8
from numpy.typing import NDArray

SIDE = 32
"""Side of the thumbnail. Smaller images hold too little detail to tell two apart, and are not compared."""

SAME = 0.9
"""Likeness from which two pictures are taken for one. See docs/data.md for what lies on either side."""

MOST = 200_000
"""Pairs after which the search ends: a thousand copies of one frame would otherwise be half a million."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLUR, _CONTRAST = 5, 7  # widths of the windows, in pixels of the thumbnail
_FAINTEST = 0.02  # of 255: below this contrast there is only rounding
_STEP = 32  # of the int8 fingerprint: 1 is a 32nd of the root mean square
_SHORT = 63
_SAMPLE = 4096
_BLOCK = 4096
_BATCH = 256
_SLACK = 1e-3  # more than float32 can be off by
_DENSE = 0.01  # candidates in a block from which comparing everything is quicker


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Which of n rows show the same picture.

    Args:
        content: rows whose files have the same bytes share a number; numbers count from 0 by first row.
        near: pairs of rows, the earlier first, whose pictures are the same and whose bytes are not. Of rows
            with the same bytes only the first stands here. None where pictures were too small to compare.
        likeness: of each pair in `near`, `SAME` to 1.
        complete: False where there are more than `MOST` pairs, and the rest was not searched.
    """

    content: Int[np.ndarray, " row"]
    near: Int[np.ndarray, "pair 2"] | None
    likeness: Float[np.ndarray, " pair"]
    complete: bool = True


def find_duplicates(sha256: NDArray[np.str_], prints: Int8[np.ndarray, "row 1024"] | None) -> Duplicates:
    """Rows that show the same picture.

    Args:
        sha256: of the bytes of each row's file.
        prints: `fingerprints` of each row, or None to look at bytes only.

    Example:
        >>> find_duplicates(np.array(["b", "a", "b"]), None).content.tolist()
        [0, 1, 0]
    """
    _, first, inverse = np.unique(sha256, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    content = rank[inverse.ravel()]
    if prints is None:
        return Duplicates(content, None, np.zeros(0))
    distinct = first[order]
    pairs, likeness = near_pairs(prints[distinct])
    return Duplicates(content, distinct[pairs], likeness, len(pairs) < MOST)


def fingerprints(pixels: UInt8[np.ndarray, "image size size channel"]) -> Int8[np.ndarray, "image 1024"] | None:
    """The detail of each image: what is left of its 32 x 32 grey thumbnail without blur and contrast.

    The thumbnail is averaged over area. A 5 x 5 mean is taken from it; what is left is divided by its
    root mean square over 7 x 7 plus that over the whole image, so that a black border or a text mark
    counts no more than any other edge. Then it is scaled to a root mean square of 32 and rounded.

    Args:
        pixels: as `prepare` gives them, or as the cache holds them.

    Returns:
        One row an image; zeros where the image is of one colour. None for images smaller than 32 pixels.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 200, (2, 64, 64, 1)).astype(np.uint8)
        >>> a, b = fingerprints(noise)
        >>> c, = fingerprints(noise[:1] + 20)
        >>> float(likeness(a, c).round(2)), float(likeness(a, b)) < 0.2
        (1.0, True)
    """
    size = pixels.shape[1]
    if size < SIDE:
        return None
    batches = [_detail(pixels[start : start + _BATCH], _area(size)) for start in range(0, len(pixels), _BATCH)]
    return np.concatenate([np.zeros((0, SIDE * SIDE), np.int8), *batches])


def likeness(one: Int8[np.ndarray, "*pair 1024"], other: Int8[np.ndarray, "*pair 1024"]) -> Float[np.ndarray, "*pair"]:
    """The cosine between fingerprints: 1 for the same detail, about 0 for unrelated; 0 where either has none."""
    return np.asarray((_unit(one) * _unit(other)).sum(axis=-1))


def near_pairs(
    prints: Int8[np.ndarray, "row 1024"], *, same: float = SAME, most: int = MOST
) -> tuple[Int[np.ndarray, "pair 2"], Float[np.ndarray, " pair"]]:
    """Every pair of rows whose likeness is at least `same`; none is missed.

    A row is shortened to 63 principal coordinates and the length of what they leave out. The product of
    two such short rows is never below that of the whole ones (Cauchy-Schwarz), so only pairs that pass
    with these are compared in full. Blocks of 4,096 x 4,096 bound the memory: about 0.3 kB a row and 0.2 GB.

    Args:
        prints: fingerprints.
        same: the least likeness of a pair.
        most: pairs after which the search ends.

    Returns:
        Rows of each pair, the earlier first, in order; and the likeness of each.
    """
    short = _shortened(prints)
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    total = 0
    for rows, columns in _blocks(len(prints)):
        pairs, likes = _within(prints, short, rows, columns, same)
        found.append((pairs, likes))
        total += len(pairs)
        if total >= most:
            break
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(part for part, _ in found)])
    likes = np.concatenate([np.zeros(0), *(part for _, part in found)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))[:most]
    return pairs[order], likes[order]


def _blocks(rows: int) -> Iterator[tuple[slice, slice]]:
    starts = range(0, rows, _BLOCK)
    for first in starts:
        for second in starts[first // _BLOCK :]:
            yield slice(first, first + _BLOCK), slice(second, second + _BLOCK)


def _within(
    prints: Int8[np.ndarray, "row 1024"],
    short: Float32[np.ndarray, "row short"],
    rows: slice,
    columns: slice,
    same: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs of a block."""
    alike = short[rows] @ short[columns].T >= same - _SLACK
    if np.count_nonzero(alike) > _DENSE * alike.size:
        alike = _unit(prints[rows]) @ _unit(prints[columns]).T >= same - _SLACK
    flat = np.flatnonzero(alike)  # a quarter of the time of argwhere
    first, second = np.divmod(flat, alike.shape[1])
    pairs = np.stack([first + rows.start, second + columns.start], axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    parts = [pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK)]
    likes = np.concatenate([np.zeros(0), *(likeness(prints[part[:, 0]], prints[part[:, 1]]) for part in parts)])
    return pairs[likes >= same], likes[likes >= same]


def _shortened(prints: Int8[np.ndarray, "row 1024"]) -> Float32[np.ndarray, "row short"]:
    sample = _unit(prints[:: max(1, len(prints) // _SAMPLE)])
    _, axes = np.linalg.eigh(sample.T @ sample)
    axes = axes[:, -_SHORT:]
    short = np.zeros((len(prints), _SHORT + 1), np.float32)
    for start in range(0, len(prints), _BLOCK):
        whole = _unit(prints[start : start + _BLOCK])
        part = short[start : start + _BLOCK]
        part[:, :-1] = whole @ axes
        left = (whole**2).sum(axis=1) - (part[:, :-1] ** 2).sum(axis=1)
        part[:, -1] = np.sqrt(np.maximum(left, 0))
    return short


def _unit(prints: Int8[np.ndarray, "*row 1024"]) -> Float32[np.ndarray, "*row 1024"]:
    values = prints.astype(np.float32)
    length = np.sqrt((values**2).sum(axis=-1, keepdims=True))
    return np.asarray(values / np.maximum(length, 1))


def _detail(
    pixels: UInt8[np.ndarray, "image size size channel"], area: Float32[np.ndarray, "32 size"]
) -> Int8[np.ndarray, "image 1024"]:
    colours = pixels.astype(np.float32)
    grey = colours @ _LUMA if pixels.shape[-1] == 3 else colours[..., 0]
    thumbnail = area @ grey @ area.T
    blur, spread = _mean(_BLUR), _mean(_CONTRAST)
    detail = thumbnail - blur @ thumbnail @ blur.T
    local = np.sqrt(np.maximum(spread @ detail**2 @ spread.T, 0))
    overall = np.sqrt((detail**2).mean(axis=(1, 2), keepdims=True))
    even = detail / (local + np.maximum(overall, _FAINTEST))
    strength = np.sqrt((even**2).mean(axis=(1, 2), keepdims=True))
    scaled = np.where(overall > _FAINTEST, even / np.maximum(strength, 1e-9), 0) * _STEP
    return np.asarray(np.clip(np.rint(scaled), -127, 127).astype(np.int8).reshape(len(pixels), -1))


@cache
def _area(size: int) -> Float32[np.ndarray, "32 size"]:
    """Averages `size` pixels into 32, each by the share of it that falls within."""
    edge = np.arange(SIDE + 1) * size / SIDE
    pixel = np.arange(size)
    inside = np.minimum(edge[1:, None], pixel + 1) - np.maximum(edge[:-1, None], pixel)
    inside = np.maximum(inside, 0)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True), dtype=np.float32)


@cache
def _mean(width: int) -> Float32[np.ndarray, "32 32"]:
    """A running mean over `width` pixels; beyond the border the last pixel goes on."""
    around = np.arange(SIDE)[:, None] + np.arange(width) - width // 2
    weight = np.zeros((SIDE, SIDE), np.float32)
    np.add.at(weight, (np.arange(SIDE)[:, None], np.clip(around, 0, SIDE - 1)), 1 / width)
    return weight

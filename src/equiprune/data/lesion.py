"""One skin-lesion-like image, drawn from a handful of traits. Not medical data.

Colour follows the optics of skin in the simplest form: melanin and blood take light away
by the law of Beer and Lambert, `rgb = paper · exp(-(melanin · m + blood · b))`, so that a
brown spot on dark skin stands out less than on light skin without being told to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

Plane = Float[np.ndarray, "size size"]
AROUND = 721  # directions in which a border is laid out


def _colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], dtype=np.float32)[:, None, None]  # channels first: planes stay whole


PAPER = _colour(0.98, 0.90, 0.84)
MELANIN = _colour(0.62, 0.95, 1.28)
BLOOD = _colour(0.16, 0.92, 0.70)
VEIL = _colour(0.45, 0.51, 0.64)
CREAM = _colour(0.96, 0.91, 0.76)
WAX = _colour(0.66, 0.50, 0.33)
CRUST = _colour(0.42, 0.15, 0.08)
SCAR = _colour(0.95, 0.85, 0.80)


class Look(NamedTuple):
    """The traits of a lesion, each from 0 (absent) to 1 (marked)."""

    irregularity: float  # of the border
    asymmetry: float  # stretched and heavier on one side
    softness: float  # of the border: 0 cut out, 1 fading away
    pigment: float  # brown
    blood: float  # red
    network: float  # brown mesh
    globules: float  # dark dots
    streaks: float  # radial spikes at the border
    veil: float  # blue-white haze
    cysts: float  # small cream dots
    furrows: float  # waxy surface with dark folds
    vessels: float  # branching red lines
    ulcer: float  # a crusted sore
    lacunae: float  # red to purple lakes
    scar: float  # pale centre


LOOKS = {
    "nevus": Look(0.15, 0.15, 0.55, 0.60, 0.10, 0.80, 0.30, 0.05, 0.00, 0.05, 0.00, 0.00, 0.00, 0.00, 0.05),
    "melanoma": Look(0.90, 0.85, 0.25, 0.95, 0.20, 0.30, 0.50, 0.70, 0.75, 0.00, 0.05, 0.10, 0.10, 0.05, 0.15),
    "keratosis": Look(0.40, 0.30, 0.00, 0.50, 0.05, 0.05, 0.05, 0.00, 0.05, 0.90, 0.90, 0.00, 0.05, 0.00, 0.00),
    "carcinoma": Look(0.40, 0.40, 0.60, 0.12, 0.45, 0.00, 0.10, 0.00, 0.10, 0.05, 0.05, 0.95, 0.75, 0.05, 0.10),
    "vascular": Look(0.25, 0.25, 0.20, 0.10, 0.75, 0.00, 0.00, 0.00, 0.10, 0.00, 0.00, 0.15, 0.05, 0.95, 0.00),
    "dermatofibroma": Look(0.20, 0.15, 0.90, 0.40, 0.25, 0.45, 0.05, 0.05, 0.00, 0.00, 0.00, 0.05, 0.00, 0.00, 0.95),
}


@dataclass(frozen=True)
class Skin:
    """The skin a lesion lies on.

    Args:
        melanin: 0 the palest, 1 the darkest.
        blood: redness, 0 to 1.
        contrast: how strongly the lesion stands out, 1 in full.
    """

    melanin: float
    blood: float
    contrast: float = 1.0


def draw(look: Look, skin: Skin, size: int, rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """Draws a lesion on skin, seen through a dermatoscope.

    The generator is used in the same order whatever look and skin are, so that the same
    generator gives the same pose, hairs and light to any lesion.

    Args:
        look: the traits of the lesion.
        skin: what it lies on.
        size: side of the square image, in pixels.
        rng: what all chance comes from.

    Returns:
        An RGB image, 0 to 255.

    Example:
        >>> image = draw(LOOKS["nevus"], Skin(0.1, 0.3), 32, np.random.default_rng(0))
        >>> image.shape, bool(image[16, 16].sum() < image[2, 16].sum())
        ((32, 32, 3), True)
    """
    shape = Shape.of(look, size, rng)
    rgb = _densities(look, skin, shape, size, rng)
    rgb = _surface(rgb, look, skin, shape, size, rng)
    rgb = _camera(rgb, size, rng)
    return np.ascontiguousarray(np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0))


@dataclass(frozen=True, eq=False)
class Shape:
    """Where the lesion is.

    Args:
        depth: how far inside the border a pixel lies, in radii; negative outside.
        mask: 1 inside, 0 outside, soft at the border.
        spikes: how much of a streak runs in the pixel's direction, 0 to 1.
        centre: of the lesion, in half image sides from the middle (x, y).
        radius: mean radius, in half image sides.
    """

    depth: Plane
    mask: Plane
    spikes: Plane
    centre: tuple[float, float]
    radius: float

    @classmethod
    def of(cls, look: Look, size: int, rng: np.random.Generator) -> Shape:
        """Places and turns a lesion, and cuts out its border."""
        centre = rng.normal(0, 0.09, 2).tolist()
        radius = float(rng.uniform(0.42, 0.66))
        turn = float(rng.uniform(0, 2 * np.pi))
        y, x = _grid(size)
        x, y = x - centre[0], y - centre[1]
        along = x * math.cos(turn) + y * math.sin(turn)
        across = y * math.cos(turn) - x * math.sin(turn)
        stretch = math.sqrt(1.05 + 0.35 * look.asymmetry)
        along, across = along / stretch, across * stretch
        angle = np.arctan2(across, along)
        around = np.linspace(-np.pi, np.pi, AROUND)
        waves = np.arange(2, 10)[:, None]
        phases = rng.uniform(0, 2 * np.pi, waves.shape)
        sizes = rng.uniform(0.4, 1.0, waves.shape) * (0.015 + 0.16 * look.irregularity) / np.sqrt(waves)
        outline = 1 + 0.22 * look.asymmetry * np.cos(around) + (sizes * np.cos(waves * around + phases)).sum(0)
        direction = np.rint((angle + np.pi) * ((AROUND - 1) / (2 * np.pi))).astype(np.intp)
        border, spikes = outline.astype(np.float32)[direction], _rays(around, rng).astype(np.float32)[direction]
        ragged = _field(size, 0.05, rng)
        depth = border - np.hypot(along, across) / radius
        depth = depth + 0.28 * look.streaks * (spikes - 0.3) + (0.015 + 0.05 * look.irregularity) * ragged
        mask = 1 / (1 + np.exp(-np.clip(depth / (0.022 + 0.13 * look.softness**1.5), -30, 30)))
        return cls(depth, mask, spikes, (centre[0], centre[1]), radius)


def _densities(look: Look, skin: Skin, shape: Shape, size: int, rng: np.random.Generator) -> np.ndarray:
    """What melanin and blood leave of the light."""
    inside = shape.mask
    rim = np.exp(-((shape.depth / 0.16) ** 2))
    blotch, patch, grain = _field(size, 0.09, rng), _field(size, 0.14, rng), _field(size, 0.008, rng)
    mesh, dots, lakes = _mesh(size, 0.013, rng), _dots(size, 70, 0.017, rng), _dots(size, 34, 0.05, rng)
    tree = _tree(size, shape, rng)
    uneven = 1 + (0.12 + 0.45 * look.asymmetry) * blotch
    brown = look.pigment * 1.10 * np.clip(uneven, 0.25, 2)
    brown = brown + look.network * 0.60 * (mesh - 0.35) + look.globules * 0.9 * dots
    brown = brown + look.streaks * 0.9 * rim * shape.spikes
    brown = brown * (1 - 0.85 * look.scar * np.exp(-(((1 - shape.depth) / 0.5) ** 2)))
    red = look.blood * 0.62 * (1 + 0.18 * patch) + look.lacunae * 1.35 * lakes
    red = red + look.vessels * 1.05 * tree
    melanin = 0.08 + 1.20 * skin.melanin + 0.025 * grain + 0.03 * patch
    melanin = melanin + skin.contrast * inside * brown + skin.contrast * look.lacunae * 0.35 * inside * lakes
    blood = 0.04 + 0.20 * skin.blood + 0.02 * blotch + skin.contrast * inside * red
    flush = np.exp(-((shape.depth / 0.35) ** 2)) * (1 - inside)
    blood = blood + skin.contrast * 0.22 * (look.blood + look.vessels) * flush
    return np.asarray(PAPER * np.exp(-(np.maximum(melanin, 0) * MELANIN + np.maximum(blood, 0) * BLOOD)))


def _surface(rgb: np.ndarray, look: Look, skin: Skin, shape: Shape, size: int, rng: np.random.Generator) -> np.ndarray:
    """What lies on top and scatters light back: veil, wax, cysts, crust, scar."""
    haze, folds, sore = _field(size, 0.10, rng), _mesh(size, 0.032, rng), _field(size, 0.06, rng)
    cysts = _dots(size, 46, 0.014, rng)
    deep = np.clip(shape.depth / 0.25, 0, 1)
    centre = np.exp(-(((1 - shape.depth) / 0.42) ** 2))
    light = 0.35 + 0.65 * math.exp(-0.9 * skin.melanin)  # what is seen through the skin above dims with it
    layers = (
        (WAX, 0.60 * look.furrows * shape.mask * (1 - folds)),
        (CRUST * 0.7, 0.50 * look.furrows * shape.mask * folds),
        (VEIL, 0.90 * look.veil * deep * np.clip(0.15 + 0.8 * haze, 0, 0.9)),
        (CREAM, 0.95 * look.cysts * deep * cysts),
        (CRUST, 0.95 * look.ulcer * deep * np.clip(1.5 * centre + 0.7 * sore - 0.45, 0, 1)),
        (SCAR, 0.75 * look.scar * centre * np.clip(0.85 + 0.2 * haze, 0, 1)),
    )
    for colour, share in layers:
        rgb += (skin.contrast * np.clip(share, 0, 1)) * (colour * light - rgb)
    return rgb


def _camera(rgb: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Hairs, ruler, uneven light, the dark ring of the instrument, blur and noise: nothing here knows the class."""
    hairs, ink = _hairs(size, rng), _ruler(size, rng)
    rgb = rgb * ((1 - 0.80 * hairs) * (1 - 0.85 * ink))
    y, x = _grid(size)
    turn, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.14)
    far, ring = rng.uniform(0.04, 0.20), rng.uniform(1.12, 1.75)
    tint = 1 + rng.normal(0, 0.025, (3, 1, 1)).astype(np.float32)
    light = rng.uniform(0.90, 1.08) * (1 + slope * (x * math.cos(turn) + y * math.sin(turn)))
    distance = np.hypot(x, y)
    light = light * (1 - far * distance**2) / (1 + np.exp(np.clip((distance - ring) / 0.025, -30, 30)))
    rgb = rgb * light * tint
    blur = rng.uniform(0.002, 0.007) * size
    rgb = ndimage.gaussian_filter(rgb, (0, blur, blur), truncate=2.5)
    return np.asarray(rgb + rng.uniform(0.006, 0.018) * rng.standard_normal(rgb.shape, dtype=np.float32))


def _grid(size: int) -> tuple[Plane, Plane]:
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    return line[:, None] + np.zeros_like(line), line + np.zeros_like(line)[:, None]


def _coarse(size: int, scale: float) -> int:
    """Side of the grid on which detail of this scale is laid out: as fine as it needs, no finer than the image."""
    return min(size, math.ceil(1.5 / scale))


def _enlarged(plane: Plane, size: int) -> Plane:
    if len(plane) == size:
        return plane
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC))


def _smooth(plane: Plane, width: float) -> Plane:
    return np.asarray(ndimage.gaussian_filter(plane, width, mode="wrap", truncate=3))


def _field(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """Smooth noise of mean 0 and deviation 1; `scale` is its grain as a share of the side."""
    side = _coarse(size, scale)
    field = _smooth(rng.standard_normal((side, side), dtype=np.float32), max(scale * side, 0.5))
    return _enlarged((field - field.mean()) / field.std(), size)


def _mesh(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """A net of lines, 0 to 1: the zero lines of band-passed noise."""
    side = _coarse(size, scale)
    width = max(scale * side, 0.7)
    fine = _smooth(rng.standard_normal((side, side), dtype=np.float32), width)
    band = fine - _smooth(fine, 1.37 * width)  # two blurs in a row: 1.7 widths
    return np.asarray(np.exp(-np.square(_enlarged(band / (0.55 * band.std()), size))))


def _dots(size: int, number: int, radius: float, rng: np.random.Generator) -> Plane:
    """Round soft dots, 0 to 1, strewn over the whole image."""
    side = _coarse(size, radius)
    at = (rng.random((2, number)) * side).astype(np.intp)
    plane = np.zeros((side, side), dtype=np.float32)
    plane[at[0], at[1]] = rng.uniform(0.35, 1.0, number)
    width = max(radius * side, 0.6)
    return np.asarray(np.clip(_enlarged(_smooth(plane, width) * (3 * np.pi * width**2), size), 0, 1))


def _rays(angle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Narrow rays of uneven strength around the lesion, 0 to 1 by direction."""
    number = int(rng.integers(17, 26))
    strength = rng.uniform(0, 1, number) ** 1.5
    phase = (angle / (2 * np.pi) + 1 + rng.random()) * number
    ray = np.cos(np.pi * phase) ** 4
    return np.asarray(ray * strength[np.floor(phase + 0.5).astype(np.intp) % number])


def _strokes(size: int, paths: np.ndarray, width: float) -> Plane:
    """Lines through points (path, point, 2) in half image sides; `width` is a share of the side. 0 to 1, smoothed."""
    fine = 2 if size >= 64 else 4
    canvas = Image.new("L", (size * fine, size * fine))
    pen = ImageDraw.Draw(canvas)
    for path in (paths + 1) * (size * fine / 2):
        pen.line(path.ravel().tolist(), fill=255, width=max(1, round(width * size * fine)))
    return np.asarray(canvas.reduce(fine), dtype=np.float32) / 255


def _wander(heading: np.ndarray, steps: int, stride: float, bend: float, rng: np.random.Generator) -> np.ndarray:
    """Crooked paths that set out in the given directions, shape (path, step, 2)."""
    headings = heading[:, None] + np.cumsum(rng.normal(0, bend, (len(heading), steps)), axis=1)
    return np.cumsum(stride * np.stack([np.cos(headings), np.sin(headings)], axis=2), axis=1)


def _tree(size: int, shape: Shape, rng: np.random.Generator) -> Plane:
    """Vessels that enter from the border, wander across and branch."""
    start = rng.uniform(0, 2 * np.pi, 5)
    trunks = _wander(start + np.pi, 14, 0.16 * shape.radius, 0.38, rng)
    trunks += (shape.centre + shape.radius * np.stack([np.cos(start), np.sin(start)], axis=1))[:, None]
    trunk, place = np.repeat(np.arange(5), 3), rng.integers(3, 12, 15)
    twigs = _wander(start[trunk] + np.pi + rng.choice([-0.9, 0.9], 15), 7, 0.11 * shape.radius, 0.45, rng)
    twigs += trunks[trunk, place][:, None]
    return np.asarray(np.maximum(_strokes(size, trunks, 0.016), 0.8 * _strokes(size, twigs, 0.009)))


def _hairs(size: int, rng: np.random.Generator) -> Plane:
    """No hair on more than half of the images, up to eight on the others."""
    number = max(0, int(rng.integers(-10, 9)))
    lean, stride = rng.uniform(0, np.pi), rng.uniform(0.04, 0.11)
    paths = _wander(lean + rng.normal(0, 0.5, number), 16, stride, 0.09, rng)
    paths += rng.uniform(-0.9, 0.9, (number, 1, 2)) - paths[:, 8:9]
    return rng.uniform(0.5, 1.0) * _strokes(size, paths, rng.uniform(0.005, 0.011))


def _ruler(size: int, rng: np.random.Generator) -> Plane:
    """Tick marks along one side, on one image in eight."""
    shown, side, step = rng.random() < 0.125, int(rng.integers(4)), rng.uniform(0.09, 0.16)
    if not shown:
        return np.zeros((size, size), dtype=np.float32)
    along = np.arange(-1.2, 1.2, step)
    end = np.where(np.arange(len(along)) % 5, -0.86, -0.78)
    ticks = np.stack([np.stack([along, np.full_like(along, -1.1)], 1), np.stack([along, end], 1)], axis=1)
    return np.rot90(_strokes(size, ticks, 0.009), side)

"""A synthetic skin-lesion set with a known unfairness, for the demo and the tests. Not medical data.

A folder with `images/*.jpg`, `synthetic.json` (what it was made with) and `manifest.csv`
(image, label, skin_tone, sex, age, patient_id), the manifest written last.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from json import loads
from pathlib import Path

import numpy as np
from PIL import Image

from equiprune.data.lesion import LOOKS, Look, Skin, draw
from equiprune.errors import Problem, UsageError
from equiprune.files import PART, clear_parts, replacing, write_json

CLASSES = tuple(LOOKS)
GROUPS = ("light", "dark")
COLUMNS = ("image", "label", "skin_tone", "sex", "age", "patient_id")
DRAWING = 1  # goes up with every change that alters a pixel, so that old folders are told apart

PREVALENCE = np.array([0.28, 0.21, 0.19, 0.17, 0.15, 0.13])
TILT = np.array([0.5, -0.4, 0.3, -0.5, 0.1, 0.2])  # log-odds of a class in the dark group at difficulty 1
AGE = np.array([42.0, 59.0, 63.0, 67.0, 48.0, 45.0])  # mean age in years

MELANIN_SHIFT = 0.65
EVIDENCE_LOSS = 0.20
CONTRAST_LOSS = 0.30
SAME_CLASS = 0.8
TRAIT_NOISE = 0.10


@dataclass(frozen=True)
class SyntheticSettings:
    """What a synthetic set is made with.

    Args:
        images: how many, at least 1. The first n are the same whatever the number is.
        size: side of the square images, in pixels, 16 to 1024.
        classes: how many of the classes nevus, melanoma, keratosis, carcinoma, vascular and
            dermatofibroma are used, 2 to 6, in this order.
        difficulty: 0 to 1, how much harder the dark group is; see `synthesize`.
        seed: what all chance comes from, at least 0.
        shares: of the patients, light and dark; positive, sum 1.

    Raises:
        UsageError: a value is out of its range; all of them are named.

    Example:
        >>> SyntheticSettings(images=100).size
        96
        >>> SyntheticSettings(difficulty=2)
        Traceback (most recent call last):
        equiprune.errors.UsageError: column 'difficulty': must be from 0 to 1, not 2
    """

    images: int = 3000
    size: int = 96
    classes: int = 5
    difficulty: float = 0.6
    seed: int = 0
    shares: tuple[float, float] = (0.7, 0.3)

    def __post_init__(self) -> None:
        checks = {
            "images": (self.images >= 1, "at least 1"),
            "size": (16 <= self.size <= 1024, "from 16 to 1024"),
            "classes": (2 <= self.classes <= len(CLASSES), f"from 2 to {len(CLASSES)}"),
            "difficulty": (0 <= self.difficulty <= 1, "from 0 to 1"),
            "seed": (self.seed >= 0, "at least 0"),
            "shares": (
                len(self.shares) == 2 and min(self.shares) > 0 and abs(sum(self.shares) - 1) < 1e-9,
                "two positive shares that sum to 1",
            ),
        }
        problems = [
            Problem(f"must be {allowed}, not {getattr(self, name)}", column=name)
            for name, (fine, allowed) in checks.items()
            if not fine
        ]
        if problems:
            raise UsageError(problems)


@dataclass(frozen=True)
class Case:
    """One image's row, and what is needed to draw it: the same draw for the same case and settings."""

    number: int
    label: int
    group: int
    sex: str
    age: int
    patient: int
    melanin: float
    blood: float

    @property
    def image(self) -> str:
        """Path of the image relative to the manifest."""
        return f"images/{self.number:06d}.jpg"

    @property
    def row(self) -> tuple[str, ...]:
        """The manifest's row, in the order of `COLUMNS`."""
        return (self.image, CLASSES[self.label], GROUPS[self.group], self.sex, str(self.age), f"P{self.patient:05d}")


def synthesize(
    out: Path,
    settings: SyntheticSettings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws a synthetic set and returns the path of its manifest.

    Patients have 1 to 4 images, one skin tone, sex and age, and mostly one class. The
    class is in the lesion's shape, colour and texture: every image mixes the look of its
    class with that of another class, `look = e · own + (1 - e) · other + noise`, where the
    *evidence* e is drawn per image between 0.60 and 1.

    **The known unfairness.** `difficulty` d scales four things of the dark group, and
    nothing else in a set depends on the group:

    - evidence: e is multiplied by 1 - 0.20 d;
    - contrast of lesion against skin: multiplied by 1 - 0.30 d;
    - skin melanin (0 palest, 1 darkest): raised by 0.65 d above the light group's, which is
      uniform on 0 to 0.3;
    - prevalence: the odds of class k are multiplied by exp(d · TILT[k]).

    At d = 0 the groups are exchangeable: image, label, patient, sex and age are independent
    of the group, which is then a coin thrown for each patient and no more. The skin tones
    are one distribution too.

    Chance is seeded by (seed, patient) and (seed, image): an image does not depend on how
    many are drawn or in which order. The same settings and versions of numpy, scipy
    and Pillow give the same bytes.

    Args:
        out: a folder; made where it is missing.
        settings: what to draw.
        progress: called as `progress(done, total)` after every image.

    Returns:
        `out / "manifest.csv"`, written last. A set that was begun with the same settings is
        finished; a finished one is left as it is.

    Raises:
        UsageError: `out` is a file, or holds anything but a set of the same settings.
        DataError: the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = synthesize(Path(folder), SyntheticSettings(images=2, size=16))
        ...     manifest.read_text().splitlines()[0]
        'image,label,skin_tone,sex,age,patient_id'
    """
    settings = settings or SyntheticSettings()
    manifest = out / "manifest.csv"
    _claim(out, settings)
    cases = population(settings)
    missing = [case for case in cases if not (manifest.exists() and (out / case.image).exists())]
    if not missing:
        return manifest
    with replacing(manifest) as part:  # around the drawing too: a full disk is then told in words
        for done, case in enumerate(missing, start=len(cases) - len(missing) + 1):
            _save(out, case, settings)
            if progress is not None:
                progress(done, len(cases))
        with part.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(case.row for case in cases)
    return manifest


def population(settings: SyntheticSettings) -> list[Case]:
    """Everybody in the set, without pixels.

    Example:
        >>> people = population(SyntheticSettings(images=3))
        >>> [case.number for case in people]
        [0, 1, 2]
    """
    cases: list[Case] = []
    patient = 0
    while len(cases) < settings.images:
        cases.extend(_patient(patient, len(cases), settings))
        patient += 1
    return cases[: settings.images]


def prevalence(settings: SyntheticSettings, group: int) -> np.ndarray:
    """Probability of each class in a group (0 light, 1 dark), shape (class,), sum 1."""
    odds = PREVALENCE[: settings.classes] * np.exp(_hardship(settings, group) * TILT[: settings.classes])
    return np.asarray(odds / odds.sum())


def picture(case: Case, settings: SyntheticSettings) -> np.ndarray:
    """The pixels of a case, uint8 (size, size, 3), before JPEG."""
    rng = np.random.default_rng([settings.seed, 1, case.number])
    hard = _hardship(settings, case.group)
    evidence = rng.uniform(0.60, 1.0) * (1 - EVIDENCE_LOSS * hard)
    other = (case.label + int(rng.integers(1, settings.classes))) % settings.classes
    own, mixed = np.array(LOOKS[CLASSES[case.label]]), np.array(LOOKS[CLASSES[other]])
    traits = evidence * own + (1 - evidence) * mixed + rng.normal(0, TRAIT_NOISE, len(own))
    skin = Skin(case.melanin + MELANIN_SHIFT * hard, case.blood, rng.uniform(0.75, 1.0) * (1 - CONTRAST_LOSS * hard))
    return draw(Look(*np.clip(traits, 0, 1).tolist()), skin, settings.size, rng)


def _hardship(settings: SyntheticSettings, group: int) -> float:
    """The only door through which the group reaches anything."""
    return settings.difficulty * group


def _patient(patient: int, first: int, settings: SyntheticSettings) -> Iterator[Case]:
    rng = np.random.default_rng([settings.seed, 0, patient])
    group = int(rng.random() >= settings.shares[0])
    cumulative = np.cumsum(prevalence(settings, group))[:-1]
    main = int(np.searchsorted(cumulative, rng.random(), side="right"))
    sex = "female" if rng.random() < 0.5 else "male"
    age = int(np.clip(np.rint(rng.normal(AGE[main], 13)), 18, 90))
    melanin, blood = float(rng.uniform(0, 0.3)), float(rng.random())
    for number in range(first, first + int(rng.integers(1, 5))):
        keeps, draws = rng.random(2)
        label = main if keeps < SAME_CLASS else int(np.searchsorted(cumulative, draws, side="right"))
        yield Case(number, label, group, sex, age, patient, melanin, blood)


def _claim(out: Path, settings: SyntheticSettings) -> None:
    """Makes the folder this set's own, or refuses."""
    if out.exists() and not out.is_dir():
        raise UsageError(Problem("is a file; a folder was expected", file=str(out), hint="Choose another folder"))
    stamp = out / "synthetic.json"
    asked = {"drawing": DRAWING, **asdict(settings), "shares": list(settings.shares)}
    if out.exists() and any(not path.match(PART) for path in out.iterdir()) and _stamped(stamp) != asked:
        what = "holds a set of other settings" if stamp.exists() else "holds other files"
        raise UsageError(Problem(what, file=str(out), hint="Choose an empty folder"))
    if not stamp.exists():
        write_json(stamp, asked)  # before the images: from here on the folder is known as ours
    (out / "images").mkdir(exist_ok=True)
    clear_parts(out)
    clear_parts(out / "images")


def _stamped(stamp: Path) -> object:
    try:
        return loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # no stamp or a foreign one: not ours


def _save(out: Path, case: Case, settings: SyntheticSettings) -> None:
    """Renamed into place but not flushed to disk one by one, which would take longer than the drawing."""
    path = out / case.image
    part = path.with_name(f"tmp-{case.number:06d}.part")
    try:
        Image.fromarray(picture(case, settings)).save(part, format="JPEG", quality=90)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

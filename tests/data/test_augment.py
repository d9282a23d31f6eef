from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from equiprune.data.augment import Augment

NOTHING = Augment(flip=False, rotate=0, scale=(1, 1), auto=False)


def picture(channels: int = 3, size: int = 32) -> Tensor:
    y, x = np.mgrid[:size, :size]
    waves = np.stack([127 + 120 * np.sin(x / (3 + k) + y / (5 - k)) for k in range(channels)])
    return torch.from_numpy(waves.astype(np.uint8))


def drawn(augment: Augment, image: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return augment(image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strides", ["contiguous", "channels last"])
def test_shape_kind_and_input_are_kept(channels: int, strides: str) -> None:
    image = picture(channels)
    if strides == "channels last":
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    before = image.clone()
    for seed in range(40):  # enough to meet every AutoAugment operation
        changed = drawn(Augment(), image, seed)
        assert changed.shape == image.shape
        assert changed.dtype == torch.uint8
    assert torch.equal(image, before)


def test_nothing_asked_is_nothing_done() -> None:
    assert torch.equal(drawn(NOTHING, picture(), 0), picture())


def test_flips_are_the_four_mirror_images_about_equally_often() -> None:
    image = picture()
    mirrors = [image, image.flip(2), image.flip(1), image.flip(1, 2)]
    counts = [0, 0, 0, 0]
    flips = Augment(rotate=0, scale=(1, 1), auto=False)
    for seed in range(400):
        same = [torch.equal(drawn(flips, image, seed), mirror) for mirror in mirrors]
        counts[same.index(True)] += 1
    assert min(counts) > 70  # 100 expected, standard deviation 8.7


def test_rotation_stays_within_its_range() -> None:
    # the angle is read off a bright dot right of the centre
    image = torch.zeros(1, 65, 65, dtype=torch.uint8)
    image[0, 31:34, 60:63] = 255
    turns = Augment(flip=False, rotate=20, scale=(1, 1), auto=False)
    angles = []
    for seed in range(60):
        weight = drawn(turns, image, seed)[0].numpy().astype(float)
        y, x = np.mgrid[-32:33, -32:33]
        angles.append(float(np.degrees(np.arctan2((weight * y).sum(), (weight * x).sum()))))
    assert -21 < min(angles) < -15
    assert 15 < max(angles) < 21


def test_scaling_stays_within_its_range() -> None:
    image = torch.zeros(1, 64, 64, dtype=torch.uint8)
    image[0, 22:42, 22:42] = 255
    scales = Augment(flip=False, rotate=0, scale=(0.5, 1.5), auto=False)
    factors = [(drawn(scales, image, seed).double().sum().item() / 255 / 400) ** 0.5 for seed in range(60)]
    assert 0.48 < min(factors) < 0.6
    assert 1.4 < max(factors) < 1.52


def test_the_same_seed_gives_the_same_image_and_another_seed_another() -> None:
    augment = Augment()
    assert torch.equal(drawn(augment, picture(), 1), drawn(Augment(), picture(), 1))
    different = {drawn(augment, picture(), seed).numpy().tobytes() for seed in range(20)}
    assert len(different) == 20


def test_it_is_a_record() -> None:
    augment = Augment()
    drawn(augment, picture(), 0)  # the transform made on first use is no part of the value
    assert augment == Augment()
    assert Augment.model_validate(augment.model_dump()) == augment
    with pytest.raises(ValidationError):
        Augment(rotate=-1)
    with pytest.raises(ValidationError):
        augment.flip = False  # type: ignore[misc]

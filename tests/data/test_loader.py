from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equiprune.data.augment import Augment
from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch, batches
from equiprune.data.pixels import Pixels
from equiprune.errors import DataError, UsageError

CLASSES = 3


def made(n: int, *, size: int = 8, channels: int = 3, findings: int | None = None) -> tuple[Cohort, Pixels]:
    """A cohort whose every image is told by its first pixel; names are not in the order of the cache."""
    generator = np.random.default_rng(n)
    names = np.array([f"{(number * 7919) % 10_007:05d}.png" for number in range(n)], dtype=str)
    label = np.minimum(np.arange(n) // max(1, n // 10), CLASSES - 1)
    several = generator.choice([0, 1, np.nan], (n, findings or 1)).astype(np.float32)
    cohort = Cohort(
        root=Path(),
        image=names,
        label=label if findings is None else several,
        classes=tuple("abc"[: findings or CLASSES]),
        group=np.arange(n) % 3 - 1,
        groups=("x", "y"),
        attribute="sex",
        unit=None,
        split=None,
        row=np.arange(n) + 2,
        sha256="",
    )
    order = np.argsort(names)
    array = generator.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    array[:, 0, 0, 0], array[:, 0, 1, 0] = order % 256, order // 256
    return cohort, Pixels(array, names[order])


def rows(told: list[Batch]) -> list[int]:
    return torch.cat([batch.index for batch in told]).tolist() if told else []


def equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.nan_to_num(-9), b.nan_to_num(-9))
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


@given(st.integers(0, 60), st.integers(1, 20))
def test_in_order_every_row_comes_once_with_its_own_pixels(n: int, batch_size: int) -> None:
    cohort, pixels = made(n)
    loader = batches(cohort, pixels, batch_size=batch_size)
    told = list(loader)
    assert len(told) == len(loader) == -(-n // batch_size)
    assert rows(told) == list(range(n))
    for batch in told:
        assert len(batch.image) <= batch_size
        first = batch.image[:, 0, 0, 0].long() + 256 * batch.image[:, 0, 0, 1].long()
        assert first.tolist() == batch.index.tolist()
        assert batch.label.tolist() == cohort.label[batch.index.numpy()].tolist()
        assert batch.group.tolist() == cohort.group[batch.index.numpy()].tolist()


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_shuffled_every_row_comes_once_and_no_batch_is_a_single_row(n: int, batch_size: int, epoch: int) -> None:
    cohort, pixels = made(n)
    loader = batches(cohort, pixels, batch_size=batch_size, epoch=epoch)
    told = list(loader)
    assert len(told) == len(loader)
    assert sorted(rows(told)) == list(range(n))
    sizes = [len(batch.image) for batch in told]
    assert max(sizes) <= batch_size + 1
    if batch_size > 1 and n > 1:
        assert min(sizes) > 1
    for batch in told:
        first = batch.image[:, 0, 0, 0].long() + 256 * batch.image[:, 0, 0, 1].long()
        assert first.tolist() == batch.index.tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_kinds_and_strides(channels: int) -> None:
    cohort, pixels = made(10, channels=channels)
    batch = next(iter(batches(cohort, pixels, batch_size=4)))
    assert batch.image.shape == (4, channels, 8, 8)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert (batch.image.dtype, batch.label.dtype, batch.group.dtype) == (torch.uint8, torch.int64, torch.int64)
    several, pixels = made(10, findings=2)
    batch = next(iter(batches(several, pixels, batch_size=4)))
    assert batch.label.dtype == torch.float32
    np.testing.assert_array_equal(batch.label, several.label[:4])


def test_batches_are_copies() -> None:
    cohort, pixels = made(6)
    before = pixels.array.copy()
    for batch in batches(cohort, pixels, batch_size=2):
        batch.image.zero_()
    np.testing.assert_array_equal(pixels.array, before)


def test_order_depends_on_seed_and_epoch_only() -> None:
    cohort, pixels = made(50)
    orders = {
        (seed, epoch): tuple(rows(list(batches(cohort, pixels, batch_size=size, seed=seed, epoch=epoch))))
        for seed in (0, 1)
        for epoch in (0, 1)
        for size in (7, 50)
    }
    assert len(set(orders.values())) == 4
    again = rows(list(batches(cohort, pixels, batch_size=7, seed=1, epoch=1)))
    assert orders[1, 1] == tuple(again)


def test_augmentation_does_not_depend_on_batch_size_or_on_what_was_drawn_before() -> None:
    cohort, pixels = made(9, size=16)
    told = []
    for size, seed in ((2, 5), (9, 6)):
        torch.manual_seed(seed)
        found = list(batches(cohort, pixels, batch_size=size, epoch=3, augment=Augment()))
        told.append(torch.cat([batch.image for batch in found]))
    assert torch.equal(told[0], told[1])
    other = next(iter(batches(cohort, pixels, batch_size=9, epoch=4, augment=Augment())))
    plain = next(iter(batches(cohort, pixels, batch_size=9, epoch=4)))
    assert torch.equal(other.index, plain.index)
    assert not torch.equal(other.image, plain.image)


@pytest.mark.parametrize("augment", [None, Augment()])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_state_is_left_alone(augment: Augment | None, workers: int) -> None:
    cohort, pixels = made(5, size=16)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(batches(cohort, pixels, batch_size=2, epoch=0, augment=augment, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_two_workers_give_the_same_bits_as_none(tmp_path: Path) -> None:
    cohort, pixels = made(40, size=16)
    file = tmp_path / "pixels.npy"
    np.save(file, pixels.array)
    mapped = Pixels(np.load(file, mmap_mode="r"), pixels.image, file)
    for epoch in (0, 1):
        one, other = (
            list(batches(cohort, mapped, batch_size=6, seed=2, epoch=epoch, augment=Augment(), workers=workers))
            for workers in (0, 2)
        )
        assert equal(one, other)
        assert other[0].image.is_contiguous(memory_format=torch.channels_last)


def test_balanced_draws_every_class_alike_and_changes_a_repeated_row_in_several_ways() -> None:
    cohort, pixels = made(3000)
    share = np.bincount(cohort.label) / 3000
    assert share.min() < 0.15
    drawn = rows(list(batches(cohort, pixels, batch_size=100, epoch=0, balanced=True)))
    assert len(drawn) == 3000
    counts = np.bincount(cohort.label[drawn], minlength=CLASSES)
    np.testing.assert_allclose(counts, 1000, atol=110)  # 4 standard deviations
    few, pixels = made(12, size=16)
    batch = next(iter(batches(few, pixels, batch_size=12, epoch=0, balanced=True, augment=Augment(auto=False))))
    assert len(set(batch.index.tolist())) < 12
    assert len({image.numpy().tobytes() for image in batch.image}) == 12


def test_balanced_leaves_out_classes_without_rows() -> None:
    cohort, pixels = made(30)
    part = cohort.take(cohort.label != 1)
    drawn = rows(list(batches(part, pixels, batch_size=100, epoch=0, balanced=True)))
    assert set(part.label[drawn]) == {0, 2}


def test_what_makes_no_sense_is_refused() -> None:
    cohort, pixels = made(10)
    with pytest.raises(UsageError, match="give an epoch"):
        batches(cohort, pixels, batch_size=2, balanced=True)
    with pytest.raises(UsageError, match="give an epoch"):
        batches(cohort, pixels, batch_size=2, augment=Augment())
    with pytest.raises(UsageError, match="one label an image"):
        batches(*made(10, findings=2), batch_size=2, epoch=0, balanced=True)
    with pytest.raises(DataError, match="has no pixels"):
        batches(cohort, Pixels(pixels.array[1:], pixels.image[1:]), batch_size=2)

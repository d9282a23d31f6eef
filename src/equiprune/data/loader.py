"""From cached pixels to batches: in order for evaluation, shuffled or balanced for training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from equiprune.data.augment import Augment
from equiprune.data.cohort import Cohort
from equiprune.data.pixels import Pixels
from equiprune.errors import UsageError
from equiprune.processes import share


class Batch(NamedTuple):
    """What a model is trained on or asked about.

    Where several processes train one model, each has the images of its own rows and the rest of all.

    Args:
        image: 0 to 255; strides are those of `torch.channels_last`.
        label: class index, or 0/1/nan for every finding (nan = not known).
        group: group index, -1 = unknown.
        index: row in the cohort the batches were made of.
    """

    image: UInt8[Tensor, "sample channel height width"]
    label: Int64[Tensor, " sample"] | Float32[Tensor, "sample class"]
    group: Int64[Tensor, " sample"]
    index: Int64[Tensor, " sample"]  # type: ignore[assignment]  # hides tuple.index, which no one needs here


def batches(
    cohort: Cohort,
    pixels: Pixels,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int | None = None,
    augment: Augment | None = None,
    balanced: bool = False,
    together: int = 1,
    workers: int = 0,
    place: tuple[int, int] = (0, 1),
) -> DataLoader[Batch]:
    """The batches of one pass over a cohort; `len()` is their number.

    The same arguments give the same batches, bit for bit and for any number of workers, and
    the global random state of torch is left as it was.

    Args:
        cohort: rows to go through.
        pixels: from `open_pixels`, of these rows or more.
        batch_size: images a batch.
        seed: of order and augmentation, together with `epoch`.
        epoch: None goes through the rows in order, each once. A number shuffles them. If then
            a single row were left for the last batch, it joins the batch before, since batch
            norm cannot train on one sample.
        augment: applied to every image by itself. Its draws depend on seed, epoch and place in
            the epoch, so a row that is drawn twice is changed in two ways.
        balanced: draws as many rows as the cohort has, with replacement, each class that is
            present equally likely. For multi-class labels.
        together: so many rows of a class stand side by side in the shuffled order, where a class has so many, so that
            a batch has several of the classes it has. Several findings are shuffled as usual.
        workers: processes that prepare batches; 0 prepares them in this one.
        place: of this process among those that train one model: batches have the images of its own rows alone.

    Raises:
        UsageError: `balanced` with multi-label data; `augment` or `balanced` without an epoch.
        DataError: a row has no pixels.
    """
    if epoch is None and (augment is not None or balanced):
        raise UsageError("augment and balanced are for training: give an epoch")
    order = np.arange(len(cohort)) if epoch is None else _order(cohort, (seed, epoch), balanced, together)
    dataset = _Batches(
        pixels=pixels,
        row=pixels.rows(cohort.image),
        label=cohort.label,
        group=cohort.group,
        order=order,
        starts=_starts(len(order), batch_size, training=epoch is not None),
        augment=augment,
        seed=(seed, epoch or 0),
        place=place,
    )
    return DataLoader(
        dataset,
        batch_size=None,  # an item of the dataset is a whole batch already
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=torch.Generator(),  # else the loader draws from the global one
        multiprocessing_context=_context() if workers else None,
    )


@dataclass(frozen=True, eq=False)
class _Batches(Dataset[Batch]):
    pixels: Pixels
    row: NDArray[np.int64]
    label: NDArray[np.int64] | NDArray[np.float32]
    group: NDArray[np.int64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]  # one more than there are batches
    augment: Augment | None
    seed: tuple[int, int]
    place: tuple[int, int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Batch:
        if number >= len(self):
            raise IndexError(number)
        first, last = int(self.starts[number]), int(self.starts[number + 1])
        index = self.order[first:last]
        own = share(len(index), self.place)
        image = _gathered(self.pixels.array, self.row[index[own]])
        if self.augment is not None:
            _augmented(image, self.augment, (*self.seed, first + own.start))
        return Batch(
            torch.from_numpy(image).permute(0, 3, 1, 2),
            torch.from_numpy(self.label[index]),
            torch.from_numpy(self.group[index]),
            torch.tensor(index),
        )


def _gathered(
    array: UInt8[np.ndarray, "image size size channel"], rows: NDArray[np.int64]
) -> UInt8[np.ndarray, "sample size size channel"]:
    """Copies the rows, in the order of the file, each to its place in the batch."""
    batch = np.empty((len(rows), *array.shape[1:]), np.uint8)
    for place in np.argsort(rows):
        batch[place] = array[rows[place]]
    return batch


def _augmented(
    batch: UInt8[np.ndarray, "sample size size channel"], augment: Augment, seed: tuple[int, int, int]
) -> None:
    """Changes each image in place, seeded by (seed, epoch, place in the epoch)."""
    with _generator_kept():
        for place, image in enumerate(batch, seed[2]):
            drawn = np.random.SeedSequence((*seed[:2], place)).generate_state(1, np.uint64)
            torch.default_generator.manual_seed(int(drawn[0]))
            changed = augment(torch.from_numpy(image).permute(2, 0, 1))
            image[:] = changed.permute(1, 2, 0).numpy()  # numpy copies without torch's threads


@contextmanager
def _generator_kept() -> Iterator[None]:
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _order(cohort: Cohort, seed: tuple[int, int], balanced: bool, together: int) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    if not balanced:
        order = generator.permutation(len(cohort))
    else:
        if cohort.task != "multiclass":
            raise UsageError("balanced sampling is for one label an image; with several findings leave it out")
        weight = 1 / np.bincount(cohort.label)[cohort.label]
        order = generator.choice(len(cohort), len(cohort), p=weight / weight.sum())
    if together > 1 and cohort.task == "multiclass":
        order = order[_side_by_side(cohort.label[order], together, generator)]
    return order


def _side_by_side(label: NDArray[np.int64], together: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places in an order such that runs of `together` of one class follow one another; the runs are shuffled."""
    by_class = np.argsort(label, kind="stable")
    ordered = label[by_class]
    within = np.arange(len(label)) - np.searchsorted(ordered, ordered)
    run = np.cumsum(within % together == 0) - 1
    return by_class[np.argsort(generator.permutation(run[-1] + 1)[run], kind="stable")]


def _starts(rows: int, batch_size: int, training: bool) -> NDArray[np.int64]:
    starts = np.arange(0, rows, batch_size)
    if training and batch_size > 1 and len(starts) > 1 and rows - starts[-1] == 1:
        starts = starts[:-1]
    return np.append(starts, rows)


def _context() -> BaseContext:
    """Workers are forked from a server that has only imported this module.

    Forking the training process itself, with its threads, can deadlock and is warned of from
    Python 3.12 on; starting each worker from nothing would import torch anew every epoch.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - torch types this as a function of a list
    return batch

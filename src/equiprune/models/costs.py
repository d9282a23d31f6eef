"""What a classifier costs to run: arithmetic, and time as measured here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from equiprune.models.classifier import Classifier, evaluating

BATCHES = (1, 32)
ROUNDS = 7
SECONDS = 0.2  # a batch of a slow network is timed once a round, one of a fast network for this long


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Args:
        flops: floating-point operations of convolutions and matrix products, a multiplication and an addition each.
        latency_ms: of a whole batch, the median over rounds, by its size.
    """

    flops: int
    latency_ms: dict[int, float]


def flops(classifier: Classifier) -> int:
    """Floating-point operations of one image; weights that are zero are counted like any other.

    Example:
        >>> from equiprune.models.design import Design
        >>> net = Classifier.build(Design(backbone="simple_cnn", classes=("no", "yes"), channels=1, image_size=8))
        >>> flops(net)
        1741312
    """
    counter = FlopCounterMode(display=False)
    with evaluating(classifier), counter:
        classifier(_images(classifier, 1), _group(classifier, 1))
    return int(counter.get_total_flops())


def costs(classifiers: Sequence[Classifier], batches: Sequence[int] = BATCHES) -> list[Cost]:
    """The costs of several models that are to be compared, measured in turns so that a slow moment hits all alike."""
    times: dict[tuple[int, int], list[float]] = {(m, b): [] for m in range(len(classifiers)) for b in batches}
    for size in batches:
        for _ in range(ROUNDS + 1):
            for number, classifier in enumerate(classifiers):
                times[number, size].append(_once(classifier, size))
    return [
        Cost(flops(classifier), {size: 1e3 * float(np.median(times[number, size][1:])) for size in batches})
        for number, classifier in enumerate(classifiers)
    ]


def _once(classifier: Classifier, size: int) -> float:
    """Seconds a batch, the mean over as many as fit into the time."""
    images, group = _images(classifier, size), _group(classifier, size)
    cuda = images.device.type == "cuda"
    done = 0
    with evaluating(classifier):
        started = time.perf_counter()
        while True:
            classifier(images, group)
            done += 1
            if cuda:
                torch.cuda.synchronize(images.device)
            seconds = time.perf_counter() - started
            if seconds > SECONDS / ROUNDS:
                return seconds / done


def _group(classifier: Classifier, size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.long, device=classifier.mean.device)


def _images(classifier: Classifier, size: int) -> torch.Tensor:
    design = classifier.design
    shape = (size, design.channels, design.image_size, design.image_size)
    blank = torch.zeros(shape, dtype=torch.uint8, device=classifier.mean.device)
    return blank.contiguous(memory_format=torch.channels_last)

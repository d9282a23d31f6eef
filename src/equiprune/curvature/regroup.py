"""Samples put together anew, by how many columns they have, whatever batches they came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equiprune.curvature.meter import Meter, Samples


class Queue:
    """Collects samples with about as many columns each, so that a pass wastes little on those with fewer."""

    def __init__(self, meter: Meter, progress: Callable[[int], None]) -> None:
        self.meter, self.progress = meter, progress
        self.waiting: dict[tuple[int, tuple[int, ...]], list[Samples]] = {}

    def put(self, samples: Samples) -> None:
        """Takes planned samples; what makes a full chunk goes through the model at once."""
        counts = samples.kept + samples.mixed.sum(1)
        self.progress(int((counts == 0).sum()))
        shape = tuple(samples.image.shape[1:])
        steps = _steps(counts)
        for step in steps[counts > 0].unique().tolist():
            own = (steps == step).nonzero().squeeze(1)
            key = (step, shape)
            self.waiting.setdefault(key, []).append(samples.take(own))
            self._go(key, least=self.meter.most(int(counts[own].max())))

    def finish(self) -> None:
        """The rest, those with most columns first."""
        for shape in {shape for _, shape in self.waiting}:
            rest = [
                each for (_, own), parts in sorted(self.waiting.items(), reverse=True) for each in parts if own == shape
            ]
            self.waiting[0, shape] = rest
        for key in [key for key in self.waiting if key[0] == 0]:
            whole = _joined(self.waiting[key])
            while len(whole):
                step = int(_steps(whole.kept + whole.mixed.sum(1)).max())
                size = min(len(whole), self.meter.most(step))
                self._add(whole.take(torch.arange(size)))
                whole = whole.take(torch.arange(size, len(whole)))

    def _go(self, key: tuple[int, tuple[int, ...]], least: int) -> None:
        while sum(map(len, self.waiting[key])) >= least:
            whole = _joined(self.waiting[key])
            self._add(whole.take(torch.arange(least)))
            self.waiting[key] = [whole.take(torch.arange(least, len(whole)))]

    def _add(self, samples: Samples) -> None:
        self.meter.add(samples)
        self.progress(len(samples))


def _steps(counts: Tensor) -> Tensor:
    """Numbers of columns rounded up to one of few: at most a third more."""
    exponent = (counts.clamp_min(1).double().log2() * 2.5).ceil() / 2.5
    return torch.where(counts <= 4, counts, torch.exp2(exponent).ceil().long())


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})

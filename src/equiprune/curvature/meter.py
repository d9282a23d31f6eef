"""The passes over chunks of samples: rows arranged, one pass forwards, then one backwards for each turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiprune.curvature import passes
from equiprune.curvature.columns import Columns
from equiprune.curvature.estimators import signs
from equiprune.curvature.jobs import Chunk, Job, Turn, job
from equiprune.curvature.losses import Curved
from equiprune.curvature.squares import Workspace
from equiprune.curvature.sums import Sums
from equiprune.errors import DataError, ModelError, Problem

ROWS = {"cpu": 8, "cuda": 128}  # rows of a pass: more are no faster
START = 2  # a pass costs as much as this many rows, and then some for every row
HELD = 4  # times the layers' outputs that one row of a pass takes, its graph and gradients together
SAME = 0.5  # by how much of itself a row's trace may differ from one reading to the next: rounding, at most
TINY = 1e-9
RANDOM = 1e-3  # of the largest output: copies of an image differ less by rounding
SPARSE = 0.1  # share of the outputs that waits to be squared when many columns do


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows of the data that go through the model together, with what is to be formed of them.

    Args:
        image: on the model's device.
        label: as the loss wants it.
        group: index of the group, at least 0.
        row: place in the data.
        batch: number of the batch, from 1, that they came in.
        kept: columns formed as they are.
        mixed: (sample, draw) mixtures of the rest.
        scale: of a mixture.
        trace: of the second derivative at the logits, as a first reading found it; nan where there was none.
    """

    image: Tensor
    label: Tensor
    group: Int[Tensor, " sample"]
    row: Int[Tensor, " sample"]
    batch: Int[Tensor, " sample"]
    kept: Int[Tensor, " sample"]
    mixed: Int[Tensor, "sample draw"]
    scale: Float[Tensor, " sample"]
    trace: Float[Tensor, " sample"]

    def __len__(self) -> int:
        return len(self.group)

    def take(self, at: Int[Tensor, " some"]) -> Samples:
        """The rows at these places."""
        return Samples(**{name: value[at.to(value.device)] for name, value in vars(self).items()})


class Meter:
    """Adds the squares of samples to sums, within a bound on memory.

    Args:
        model: as given.
        curved: the loss.
        factor: (loss, logits, label) to the columns of a batch.
        groups: how many there are.
        differences: whether sums for the error are kept too.
        seed: of signs.
        max_bytes: see `diagonal`.
        bfloat16: of the passes with a graph.
    """

    def __init__(
        self,
        model: nn.Module,
        curved: Curved,
        factor: Callable[[Curved, Tensor, Tensor], Columns],
        *,
        groups: int,
        differences: bool,
        seed: int,
        max_bytes: int,
        bfloat16: bool,
    ) -> None:
        self.model, self.curved, self.factor = model, curved, factor
        self.groups, self.differences, self.seed = groups, differences, seed
        self.max_bytes, self.bfloat16 = max_bytes, bfloat16
        self.device = next(model.parameters()).device
        self.sums = Sums(model, groups * (2 if differences else 1))
        self.work = Workspace()
        self.row_bytes = 0
        self.by_row: frozenset[str] = frozenset()
        self.shape: tuple[int, int] | None = None
        self.columns = 0

    def room(self) -> int:
        """How many rows go through the model at once."""
        return max(1, min(ROWS.get(self.device.type, 16), self.max_bytes // (HELD * max(1, self.row_bytes))))

    def most(self, columns: int) -> int:
        """How many samples of so many columns a chunk should hold."""
        waiting = max(1, int(SPARSE * columns * self.row_bytes))
        return max(1, min(self.room(), self.max_bytes // 2 // waiting))

    def probe(self, samples: Samples) -> tuple[int, int]:
        """The numbers of exits and classes, found at the first call by an image shown twice, and three times.

        It also tells the memory of a row, which layers read one row a sample, and that nothing is drawn at random.

        Raises:
            ModelError: copies of one image get other logits, or a pass changes the model.
        """
        if self.shape is None:
            kept = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            two, three = (self._copies(samples, count) for count in (2, 3))
            self._refuse_changed(kept)
            self._checked(
                three.logits, samples.image[:1].expand(3, *samples.image.shape[1:]), samples.batch[:1].expand(3)
            )
            _refuse_random(torch.cat([two.logits, three.logits]).detach(), bfloat16=self.bfloat16)
            self.by_row = passes.row_layers(two, three)
            self.row_bytes = sum(call.size for call in two.calls if call.name in self.by_row) // 2
            self.shape = two.logits.shape[1], two.logits.shape[2]
        return self.shape

    def _copies(self, samples: Samples, count: int) -> passes.Pass:
        image = samples.image[:1].to(self.device)
        copies = image.expand(count, *image.shape[1:]).contiguous()
        return passes.forward(self.model, copies, bfloat16=self.bfloat16)

    def _refuse_changed(self, before: dict[str, Tensor]) -> None:
        """Puts buffers back to what they were, and tells which a pass has changed."""
        changed = []
        for name, buffer in self.model.named_buffers():
            if not torch.equal(buffer.nan_to_num(), before[name].nan_to_num()):
                buffer.copy_(before[name])
                changed.append(Problem(f"a pass through the model changes its buffer {name!r}; call eval()"))
        if changed:
            raise ModelError(changed)

    def label(self, samples: Samples) -> Tensor:
        """The label on the model's device. Raises `DataError` where it does not fit, the batch named."""
        label = samples.label.to(self.device)
        try:
            self.curved.check_label(label, self.probe(samples)[1])
        except DataError as error:
            batch = int(samples.batch[0])
            raise DataError([replace(each, what=f"batch {batch}: {each.what}") for each in error.problems]) from None
        return label

    @torch.no_grad()
    def logits(self, image: Tensor, batch: Tensor) -> Float[Tensor, "sample exit class"]:
        """What the model says, without a graph. Raises `ModelError` where it is not finite."""
        given = passes.stacked(self.model(passes.laid_out(image.to(self.device))), len(image))
        return self._checked(given, image, batch)

    def _checked(self, logits: Tensor, image: Tensor, batch: Tensor) -> Tensor:
        classes = logits.shape[2]
        if classes < (2 if self.curved.softmax else 1):
            least = "cross_entropy needs 2" if self.curved.softmax else "bce needs 1"
            raise ModelError(f"the model gives {classes} classes; {least}")
        if self.curved.exits and len(self.curved.exits) != logits.shape[1]:
            raise ModelError(f"the loss weighs {len(self.curved.exits)} exits, and the model has {logits.shape[1]}")
        bad = (~logits.isfinite()).flatten(1).any(1).nonzero().squeeze(1)
        if len(bad):
            first = int(bad[0])
            layer = passes.first_bad_layer(self.model, image[first : first + 1].to(self.device))
            where = "" if layer is None else f", first in layer {layer!r}"
            raise ModelError(Problem(f"batch {int(batch[first])}: the model's output is nan or infinite{where}"))
        return logits

    def add(self, samples: Samples) -> None:
        """Forms the columns of these samples and adds their squares."""
        counts = samples.kept + samples.mixed.sum(1)
        chosen = counts.argsort(descending=True, stable=True)
        sample, start, turns = arranged(counts[chosen].tolist(), self.room())
        of = chosen[sample]  # the sample of each row
        first = torch.tensor(start)
        image = samples.image[of.to(samples.image.device)].to(self.device)
        label = samples.label[of.to(samples.label.device)].to(self.device)
        found = passes.forward(self.model, image, by_row=self.by_row, bfloat16=self.bfloat16)
        # Probabilities near 0 and 1 follow the last digits of the logits, which bfloat16 has not.
        logits = self.logits(image, samples.batch[of]) if self.bfloat16 else found.logits
        factor = self.factor(self.curved, self._checked(logits, image, samples.batch[of]), label)
        self._check_again(factor.masses.sum(1).cpu(), samples, of)
        chunk = Chunk(sample, samples.group[chosen].tolist(), int(counts.max()), self.groups)
        jobs = [job(call, chunk, self.sums, self.work) for call in found.calls]
        member = torch.nn.functional.one_hot(samples.group[of], self.groups).double().T
        for turn in range(turns):
            rank = first + turn
            rank[rank >= counts[of]] = -1
            column, sign = self._column(factor, samples, of, rank)
            share = torch.cat([member, member * sign]) if self.differences else member
            signed = sign.long().tolist() if self.differences else None
            self._turn(found, jobs, column, Turn(signed, (rank >= 0).tolist(), share))
        for each in jobs:
            each.flush()
        self.columns += int(counts.sum())

    def _check_again(self, trace: Tensor, samples: Samples, of: Tensor) -> None:
        """A row must be what it was at the first reading, or its columns were chosen for another image."""
        before = samples.trace[of]
        other = ((trace - before).abs() > SAME * before + TINY).nonzero().squeeze(1)
        if len(other):
            batch = int(samples.batch[of[other[0]]])
            raise DataError(other_rows(batch))

    def _column(self, factor: Columns, samples: Samples, of: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
        """The column of each row, and its sign in the difference of two draws."""
        kept, mixed = samples.kept[of], samples.mixed[of]
        own = torch.where(rank < kept, rank, -1)
        column = factor.ranked(own.to(self.device))
        sign = torch.zeros(len(rank), dtype=torch.float64)
        random = (rank >= kept).nonzero().squeeze(1)
        if len(random):
            shape = (column.shape[1], column.shape[2])
            drawn = torch.zeros(column.shape, dtype=torch.float64)
            for row in random.tolist():
                number = int(rank[row] - kept[row])
                drawn[row] = signs(self.seed, int(samples.row[of[row]]), number, shape) * samples.scale[of[row]]
                sign[row] = 1.0 if number < int(mixed[row, 0]) else -1.0
            column = column + factor.mixture(kept.to(self.device), drawn.to(self.device))
        return column, sign

    def _turn(self, found: passes.Pass, jobs: list[Job], column: Tensor, turn: Turn) -> None:
        gradients = passes.backward(found, column)
        for each, gradient in zip(jobs, gradients, strict=True):
            each.add(gradient, turn)
        del gradients
        if found.others:
            for row, active in enumerate(turn.active):
                if active:
                    for name, gradient in passes.row_gradients(found, column, row).items():
                        self.sums.add_own(name, gradient.square(), turn.share[:, row].tolist())
        while sum(each.held for each in jobs) > 5 * self.max_bytes // 8:
            max(jobs, key=lambda each: each.held).flush()


def other_rows(batch: int) -> Problem:
    """That a batch was not the same at the second reading."""
    what = f"batch {batch} held other rows when the batches were read again"
    hint = "They must not be shuffled or augmented anew; a list or an iterator of batches is read as it is"
    return Problem(what, hint=hint)


def _refuse_random(logits: Tensor, *, bfloat16: bool) -> None:
    """Refuses a model that gives copies of one image other logits than each other."""
    digits = torch.finfo(torch.bfloat16 if bfloat16 else logits.dtype).eps
    apart = float((logits - logits[:1]).abs().max())
    if apart > max(RANDOM, 30 * digits) * float(logits.abs().max()):
        what = f"the model gives copies of one image other outputs, by {apart:.2g}"
        hint = "Something in it draws at random or mixes the samples of a batch; call eval()"
        raise ModelError(Problem(what, hint=hint))


def arranged(counts: list[int], room: int) -> tuple[list[int], list[int], int]:
    """Which sample each row of a pass is, from which of its columns on, and how many turns there are.

    Few samples with many columns are repeated, and each copy takes a part of the columns: passes of a few rows are
    slow, and one pass forwards costs little beside many backwards.

    Args:
        counts: columns of each sample, falling; at most `room` of them.
        room: rows there may be.

    Example:
        >>> arranged([9, 3], room=4)
        ([0, 0, 0, 1], [0, 3, 6, 0], 3)
    """
    best, turns = float("inf"), max(counts, default=0)
    for each in range(1, turns + 1):
        rows = sum(-(-count // each) for count in counts)
        cost = (1 + 2 * each) * (rows + START)
        if rows <= max(room, len(counts)) and cost < best:
            best, turns = cost, each
    sample = [index for index, count in enumerate(counts) for _ in range(-(-count // turns))]
    start = [begin for count in counts for begin in range(0, count, turns)]
    return sample, start, turns

"""Which columns of which sample are formed: all, those that carry a data set's curvature, or a sample of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiprune.errors import Problem, UsageError, nearest

Precision = Literal["float32", "bfloat16"]
STEPS = 60  # halvings of an interval in the search for a threshold


@dataclass(frozen=True)
class Exact:
    """All columns of every sample: equal to the diagonal itself up to rounding.

    Args:
        precision: "bfloat16" runs the passes backwards under autocast; the docs say how far off that is.
    """

    precision: Precision = "float32"


@dataclass(frozen=True)
class Fisher:
    """The empirical Fisher information: the mean square of every sample's own gradient. Not the diagonal of the loss.

    Args:
        precision: of the passes.
    """

    precision: Precision = "float32"


@dataclass(frozen=True)
class Budget:
    """The columns that carry nearly all of a data set's curvature; deterministic, and never too high.

    Over all samples of a group the columns with the smallest |s|² are left out, as long as together they are at most
    `tolerance` of the sum of all. So a sample the model is sure of costs nothing, and one it is torn about has what
    it needs.

    Args:
        tolerance: τ, the share of the trace of the second derivative at the logits that may be left out.
        precision: of the passes.
    """

    tolerance: float = 1e-4
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not _is_number(self.tolerance) or not 0 <= self.tolerance < 1:
            raise UsageError(f"the tolerance of the budget must be at least 0 and below 1, not {self.tolerance!r}")


@dataclass(frozen=True)
class Stochastic:
    """A few columns a sample, spent where the curvature is; right on average over seeds.

    Columns with |s|² above a threshold are formed as they are. All that remains of a sample is mixed into one column
    with random signs (more, where it is many times the threshold). From 2 columns a sample on, every sample has its
    mixture. Below, a mixture is kept with a probability of at least half the number of columns, more where it holds
    much, and scaled up accordingly. The threshold follows from the number of columns.

    Args:
        columns: a sample, on average over each group; above 0.
        seed: of signs and of what is kept. A row's signs depend on its place in the data alone.
        error: draw the random part twice, independently, use the mean, and tell the error from the difference.
        precision: of the passes.
    """

    columns: float = 1.0
    seed: int = 0
    error: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 63:
            raise UsageError(f"the seed must be a whole number from 0, below 2^63, not {self.seed!r}")
        if not _is_number(self.columns) or not 0 < self.columns < float("inf"):
            raise UsageError(f"the stochastic estimate needs more than 0 columns a sample, not {self.columns!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


NAMED: dict[str, type[Exact | Budget | Stochastic | Fisher]] = {
    "exact": Exact,
    "budget": Budget,
    "stochastic": Stochastic,
    "fisher": Fisher,
}
Named = Literal["exact", "budget", "stochastic", "fisher"]
Estimator = Named | Exact | Budget | Stochastic | Fisher


def estimator_of(estimator: Estimator) -> Exact | Budget | Stochastic | Fisher:
    """An estimator by its name, with its defaults, or as it is given.

    Raises:
        UsageError: there is none of that name, or it has an unknown precision.

    Example:
        >>> estimator_of("budget").tolerance
        0.0001
    """
    if isinstance(estimator, str) and estimator in NAMED:
        return NAMED[estimator]()
    if not isinstance(estimator, Exact | Budget | Stochastic | Fisher):
        hint = nearest(str(estimator), tuple(NAMED))
        raise UsageError(Problem(f"no estimator of the curvature is named {estimator!r}", hint=hint))
    if estimator.precision not in get_args(Precision):
        hint = nearest(str(estimator.precision), get_args(Precision))
        raise UsageError(Problem(f"no precision of the curvature is named {estimator.precision!r}", hint=hint))
    return estimator


@dataclass(frozen=True, eq=False)
class Plan:
    """What is formed of every sample.

    Args:
        kept: number of its columns, by falling mass, that are formed as they are.
        mixed: (sample, draw) number of mixtures of the rest in each independent draw.
        scale: what a mixture is multiplied by.
        trace: sum of the masses of each sample; nan where they were not looked at.
        dropped: share of each group's trace that is left out, exactly.
    """

    kept: Int[Tensor, " sample"]
    mixed: Int[Tensor, "sample draw"]
    scale: Float[Tensor, " sample"]
    trace: Float[Tensor, " sample"]
    dropped: Float[Tensor, " group"]

    @property
    def count(self) -> Int[Tensor, " sample"]:
        """Columns of each sample in all."""
        return self.kept + self.mixed.sum(1)


def budgeted(masses: Float[Tensor, "sample rank"], group: Int[Tensor, " sample"], groups: int, budget: Budget) -> Plan:
    """Leaves out the smallest columns of each group, at most τ of its trace in all."""
    kept = torch.zeros(len(masses), dtype=torch.int64)
    dropped = torch.zeros(groups, dtype=torch.float64)
    for index in range(groups):
        rows = group == index
        own = masses[rows]
        rising = own.flatten().sort()[0]
        upto = rising.cumsum(0)
        total = upto[-1] if len(upto) else torch.tensor(0.0)
        out = int(torch.searchsorted(upto, budget.tolerance * total, right=True))
        # Equal masses go together or not at all, so that the order of rows decides nothing.
        limit = rising[out] if out < len(rising) else torch.tensor(float("inf"), dtype=torch.float64)
        stays = own >= limit if total > 0 else torch.zeros_like(own, dtype=torch.bool)
        kept[rows] = stays.sum(1)
        dropped[index] = own.masked_fill(stays, 0).sum() / total if total > 0 else 0.0
    return Plan(
        kept, torch.zeros(len(kept), 1, dtype=torch.int64), torch.ones_like(masses[:, 0]), masses.sum(1), dropped
    )


def sampled(
    masses: Float[Tensor, "sample rank"], group: Int[Tensor, " sample"], groups: int, choice: Stochastic
) -> Plan:
    """Columns above each group's threshold, and of the rest a mixture where chance wills it."""
    samples, draws = len(masses), 2 if choice.error else 1
    kept = torch.zeros(samples, dtype=torch.int64)
    mixed = torch.zeros(samples, draws, dtype=torch.int64)
    scale = torch.ones(samples, dtype=torch.float64)
    tails = torch.cat([masses.flip(1).cumsum(1).flip(1), masses.new_zeros(samples, 1)], 1)
    generator = torch.Generator().manual_seed(choice.seed)
    for index in range(groups):
        rows = (group == index).nonzero().squeeze(1)
        own, tail = masses[rows], tails[rows]
        least = min(1.0, choice.columns / 2)
        limit = _threshold(own, tail, choice.columns * len(rows), least)
        kept[rows], ratio = _split(own, tail, limit)
        several = ratio.ceil().clamp_min(1)
        chance = _chance(ratio, least)
        for draw in range(draws):
            mixed[rows, draw] = (several * _systematic(chance, generator)).long()
        scale[rows] = (chance.clamp_min(1e-300) * several * draws).rsqrt()
    return Plan(kept, mixed, scale, tails[:, 0], torch.zeros(groups, dtype=torch.float64))


def _split(own: Tensor, tail: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """How many columns lie above the limit, and how many times the limit the rest makes up."""
    # Masses never rise, so their negatives never fall.
    above = torch.searchsorted(-own, torch.full((len(own), 1), -limit, dtype=own.dtype))
    return above[:, 0], tail.gather(1, above)[:, 0] / limit


def _chance(ratio: Tensor, least: float) -> Tensor:
    """With what probability a rest is mixed: low ones too, or weights that only easy samples use would be all noise."""
    return torch.where(ratio > 0, ratio.clamp(least, 1), 0)


def _threshold(own: Tensor, tail: Tensor, columns: float, least: float) -> float:
    """The mass above which a column is formed as it is, so that about so many columns are spent."""
    total = float(tail[:, 0].sum())
    if total == 0:
        return 1.0
    low, high = total * 1e-18, total
    for _ in range(STEPS):
        limit = (low * high) ** 0.5
        above, ratio = _split(own, tail, limit)
        spent = float(above.sum() + (ratio.ceil().clamp_min(1) * _chance(ratio, least)).sum())
        low, high = (limit, high) if spent > columns else (low, limit)
    return high


def _systematic(chance: Float[Tensor, " sample"], generator: torch.Generator) -> Tensor:
    """1 with each one's own probability, and as many in all as expected, give or take one."""
    order = torch.randperm(len(chance), generator=generator)
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    upto = chance[order].cumsum(0) + start
    before = torch.cat([start, upto[:-1]])
    found = torch.zeros_like(chance)
    found[order] = (upto.floor() - before.floor()).clamp_max(1)
    return found


def signs(seed: int, row: int, number: int, shape: tuple[int, int]) -> Float[Tensor, "exit class"]:
    """The signs ±1 of one mixture, the same however the data are cut in batches."""
    generator = torch.Generator().manual_seed(((seed * 1_000_003 + row) * 1_009 + number) % 2**63)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1

"""What is left out or drawn: bounds that hold, means that are right, errors that are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from equiprune import curvature
from equiprune.curvature import Budget, Diagonals, Exact, Stochastic
from equiprune.curvature.estimators import budgeted, sampled
from equiprune.errors import DataError, UsageError

GROUPS = ("light", "dark")
CLASSES = 6
ROWS = 24
SEEDS = 200


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 12), nn.ReLU(),
        nn.Linear(12, CLASSES),
    ).double().eval()  # fmt: skip
    last = model[9]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=2.0)
    return model


def data(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Of very different size, so that some samples' logits are far apart and others' are not.
    size = torch.logspace(-1, 1.5, ROWS, dtype=torch.float64)[torch.randperm(ROWS, generator=generator)]
    image = torch.randn(ROWS, 2, 6, 6, generator=generator, dtype=torch.float64) * size[:, None, None, None]
    return image, torch.arange(ROWS) % CLASSES, torch.arange(ROWS) % 2


def cut(size: int) -> list[tuple[Tensor, ...]]:
    return list(zip(*(part.split(size) for part in data()), strict=True))


def measured(estimator: Any, size: int = 7, **settings: Any) -> Diagonals:  # noqa: ANN401
    return curvature.diagonal(net(), cut(size), GROUPS, estimator=estimator, **settings)


def flat(found: Diagonals, group: str = "dark") -> Tensor:
    return torch.cat([found[group][name].flatten() for name in sorted(found[group])])


@pytest.mark.parametrize("tolerance", [1e-6, 1e-3, 0.03, 0.3])
def test_the_budget_is_kept_and_no_weight_is_too_high(tolerance: float) -> None:
    exact, found = measured("exact"), measured(Budget(tolerance))
    assert found.columns < exact.columns
    for group in GROUPS:
        assert 0 < found.dropped[group] <= tolerance
        assert (flat(found, group) <= flat(exact, group) * (1 + 1e-12)).all()
        # The last bias sees the logits as they are: what it lacks in sum is what was left out of their trace.
        whole, rest = exact[group]["9.bias"].sum(), found[group]["9.bias"].sum()
        torch.testing.assert_close(
            (whole - rest) / whole, torch.tensor(found.dropped[group], dtype=torch.float64), rtol=1e-8, atol=0
        )


def test_a_budget_of_nothing_is_exact() -> None:
    found = measured(Budget(0.0))
    torch.testing.assert_close(flat(found), flat(measured("exact")), rtol=1e-10, atol=1e-300)
    assert found.dropped == {"light": 0.0, "dark": 0.0}


@given(seed=st.integers(0, 10_000), tolerance=st.floats(0, 0.5), spread=st.floats(0.1, 20))
@settings(max_examples=50, deadline=None)
def test_a_budget_leaves_out_as_much_as_it_may_and_no_more(seed: int, tolerance: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    masses = (torch.randn(8, 5, generator=generator, dtype=torch.float64) * spread).exp().sort(1, descending=True)[0]
    group = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0])
    plan = budgeted(masses, group, 2, Budget(tolerance))
    for index in range(2):
        own, kept = masses[group == index], plan.kept[group == index]
        out = torch.arange(5) >= kept[:, None]
        share = float(own[out].sum() / own.sum())
        assert share <= tolerance * (1 + 1e-12)
        assert float(plan.dropped[index]) == pytest.approx(share)
        if not out.all():
            assert share + float(own[~out].min() / own.sum()) > tolerance  # not even one more could go


def test_equal_columns_are_left_out_together_or_not_at_all() -> None:
    plan = budgeted(torch.ones(10, 3, dtype=torch.float64), torch.zeros(10, dtype=torch.int64), 1, Budget(0.5))
    assert (plan.kept == 3).all()


def test_the_stochastic_estimate_is_unbiased() -> None:
    """A z-test over seeds: of each weight on its own, and of all of them in sum."""
    exact = flat(measured("exact"))
    drawn = torch.stack([flat(measured(Stochastic(columns=0.8, seed=seed))) for seed in range(SEEDS)])
    spread = drawn.std(0)
    sure = spread <= 1e-9 * exact
    torch.testing.assert_close(drawn.mean(0)[sure], exact[sure], rtol=1e-6, atol=1e-300)
    z = ((drawn.mean(0) - exact) * SEEDS**0.5 / spread)[~sure]
    assert len(z) > 300
    assert z.abs().mean() < 1.1  # 0.8 of a normal; weights of a channel move together
    assert (z.abs() > 4).float().mean() < 0.01
    total, own = drawn.sum(1), exact.sum()
    assert abs(float((total.mean() - own) * SEEDS**0.5 / total.std())) < 3


def test_the_error_that_is_told_is_the_error_that_is_made() -> None:
    exact = measured("exact")
    runs = [measured(Stochastic(columns=1.0, seed=seed, error=True)) for seed in range(60)]
    for name, value in exact["dark"].items():
        made = torch.tensor([float((run["dark"][name] - value).norm() / value.norm()) for run in runs])
        told = torch.tensor([run.error["dark"][name] for run in runs])
        ratio = float(told.square().mean().sqrt() / made.square().mean().sqrt())
        assert 0.6 < ratio < 1.6, f"{name}: told {ratio:.2f} times what was made"


def test_more_columns_err_less() -> None:
    exact = flat(measured("exact"))
    errors = [
        torch.stack([(flat(measured(Stochastic(columns, seed))) - exact).norm() for seed in range(20)]).mean()
        for columns in (0.5, 1.0, 2.0)
    ]
    assert errors[0] > 1.1 * errors[1] > 1.3 * errors[2], errors


@pytest.mark.parametrize("estimator", ["exact", "budget", "fisher", Stochastic(1.5, 3), Stochastic(1.5, 3, error=True)])
def test_batches_change_nothing(estimator: Any) -> None:  # noqa: ANN401
    whole = flat(measured(estimator, ROWS))
    for size in (1, 5):
        torch.testing.assert_close(flat(measured(estimator, size)), whole, rtol=1e-9, atol=1e-12 * float(whole.max()))


def test_a_seed_decides() -> None:
    one, again, other = (flat(measured(Stochastic(0.7, seed))) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_columns_are_what_was_asked_for() -> None:
    found = measured(Stochastic(columns=1.5))
    assert found.columns == pytest.approx(1.5 * ROWS, abs=6)
    assert measured("exact").columns == ROWS * (CLASSES - 1)
    assert measured("fisher").columns == ROWS


def test_a_model_that_is_sure_of_everything_costs_nothing() -> None:
    masses = torch.zeros(4, 3, dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.int64)
    assert not budgeted(masses, group, 1, Budget()).count.any()
    assert not sampled(masses, group, 1, Stochastic()).count.any()


def test_fisher_is_the_mean_squared_gradient() -> None:
    model, (image, label, group) = net(), data()
    found = measured("fisher")
    for index, name in enumerate(GROUPS):
        total = {key: torch.zeros_like(value) for key, value in model.named_parameters()}
        rows = (group == index).nonzero().squeeze(1)
        for row in rows.tolist():
            one = nn.functional.cross_entropy(model(image[row : row + 1]), label[row : row + 1])
            grads = torch.autograd.grad(one, list(model.parameters()))
            for value, grad in zip(total.values(), grads, strict=True):
                value += grad.square() / len(rows)
        for key, value in total.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-9, atol=1e-14)


def test_bfloat16_is_near() -> None:
    model = net().float()
    batches = [(image.float(), label, group) for image, label, group in cut(8)]
    exact = curvature.diagonal(model, batches, GROUPS)
    found = curvature.diagonal(model, batches, GROUPS, estimator=Exact("bfloat16"))
    for name, value in exact["dark"].items():
        assert 0 < float((found["dark"][name] - value).norm() / value.norm()) < 0.1


@pytest.mark.parametrize("estimator", ["exact", "budget", "stochastic"])
def test_an_iterator_is_enough(estimator: Any) -> None:  # noqa: ANN401
    def once() -> Iterator[tuple[Tensor, ...]]:
        yield from cut(5)

    found = curvature.diagonal(net(), once(), GROUPS, estimator=estimator)
    assert torch.equal(flat(found), flat(measured(estimator, 5)))


class Changing(list[tuple[Tensor, ...]]):
    """A loader that shuffles."""

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        self.read = getattr(self, "read", 0) + 1
        rows = list(super().__iter__())
        return iter(rows if self.read == 1 else self.changed(rows))

    def changed(self, rows: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        return rows[::-1]


class Shrinking(Changing):
    """One that gives less."""

    def changed(self, rows: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        return rows[:-1]


class Growing(Changing):
    """One that gives more."""

    def changed(self, rows: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        return rows + rows


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Changing, "held other rows"), (Shrinking, "24 rows at first, and 20 when"), (Growing, "other rows")],
)
def test_batches_that_change_between_two_readings_are_refused(kind: type[Changing], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        curvature.diagonal(net(), kind(cut(5)), GROUPS, estimator="budget")


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "tolerance": (lambda: Budget(1.0), "tolerance of the budget must be at least 0 and below 1, not 1.0"),
    "columns": (lambda: Stochastic(0), "more than 0 columns a sample, not 0"),
    "name": (lambda: measured("budgt"), "no estimator .* 'budgt'. Did you mean 'budget'"),
    "kind": (lambda: measured(Budget), "no estimator of the curvature is named"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_settings_are_refused(bad: str) -> None:
    make, reason = BAD[bad]
    with pytest.raises(UsageError, match=reason):
        make()


def save_part(number: int, folder: str) -> None:
    """What one of two processes does: it measures its rows, and leaves plain files."""
    torch.set_num_threads(1)
    image, label, group = data()
    rows = slice(number * 10, ROWS if number else 10)
    found = curvature.diagonal(net(), [(image[rows], label[rows], group[rows])], GROUPS, estimator="budget")
    tensors = {f"{name}/{key}": value for name, own in found.items() for key, value in own.items()}
    save_file(tensors, Path(folder) / f"{number}.safetensors")
    facts = {"samples": found.samples, "columns": found.columns, "dropped": found.dropped}
    (Path(folder) / f"{number}.json").write_text(json.dumps(facts))


def read_part(number: int, folder: Path) -> Diagonals:
    tensors = load_file(folder / f"{number}.safetensors")
    names = {group: [key for key in tensors if key.startswith(f"{group}/")] for group in GROUPS}
    return Diagonals(
        {group: {key.removeprefix(f"{group}/"): tensors[key] for key in keys} for group, keys in names.items()},
        **json.loads((folder / f"{number}.json").read_text()),
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they measured; they are started once, which takes longer than the work."""
    folder = tmp_path_factory.mktemp("two")
    work = f"import runpy; runpy.run_path({__file__!r})['both_works'](%d, {str(folder)!r})"
    processes = [subprocess.Popen([sys.executable, "-c", work % number]) for number in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    return folder


def both_works(number: int, folder: str) -> None:
    save_part(number, folder)
    in_step(number, folder)


def test_several_processes_add_up(two: Path) -> None:
    read = [read_part(number, two) for number in range(2)]
    found, exact = curvature.combined(read), measured("exact")
    assert found.samples == {"light": 12, "dark": 12}
    for group in GROUPS:
        assert 0 < found.dropped[group] <= 1e-4
        torch.testing.assert_close(flat(found, group), flat(exact, group), rtol=0, atol=1e-3 * float(flat(exact).max()))
    whole = curvature.combined([curvature.diagonal(net(), [each], GROUPS) for each in cut(6)])
    torch.testing.assert_close(flat(whole), flat(exact), rtol=1e-10, atol=1e-300)
    with pytest.raises(UsageError, match="no part to combine"):
        curvature.combined([])


def in_step(rank: int, folder: str) -> None:
    """What one of two processes measures of the same batches."""
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        for name in ("exact", "budget", "stochastic", "fisher"):
            found = curvature.diagonal(net(), cut(7), GROUPS, estimator=name, together=True)
            one = curvature.diagonal(net(), cut(7), GROUPS, estimator=name)
            assert found.samples == one.samples
            assert found.columns == one.columns
            assert found.dropped == pytest.approx(one.dropped)
            for group in GROUPS:
                torch.testing.assert_close(flat(found, group), flat(one, group), rtol=1e-9, atol=1e-300)
        few = curvature.diagonal(net(), [tuple(part[:1] for part in cut(24)[0])], GROUPS[:1], together=True)
        assert few.samples == {GROUPS[0]: 1}
        (Path(folder) / f"{rank}.compared").touch()
    finally:
        distributed.destroy_process_group()


def test_processes_in_step_measure_what_one_measures(two: Path) -> None:
    """The processes themselves compare: see `in_step`, at the end of which each says that it got there."""
    assert all((two / f"{number}.compared").is_file() for number in range(2))

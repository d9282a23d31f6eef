from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from equiprune.curvature.columns import Columns, Softmax, columns
from equiprune.curvature.losses import Curved

CROSS_ENTROPY, BCE = Curved(softmax=True), Curved(softmax=False)


def product(found: Columns, first: int = 0) -> Tensor:
    """Σ s sᵀ over the ranks from `first` on, exits and classes as one axis."""
    samples, ranks = found.masses.shape
    stacked = torch.stack([found.ranked(torch.full((samples,), rank)).flatten(1) for rank in range(first, ranks)], 2)
    return stacked @ stacked.mT


def softmax_hessian(z: Tensor) -> Tensor:
    p = z.softmax(1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


@given(scale=st.sampled_from([0.0, 1.0, 30.0, 1000.0, 1e6]), classes=st.integers(2, 12), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_softmax_columns_factor_its_second_derivative(scale: float, classes: int, seed: int) -> None:
    z = scale * torch.randn(4, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = columns(CROSS_ENTROPY, z[:, None], torch.zeros(4, dtype=torch.int64))
    assert found.masses.shape == (4, classes - 1)
    torch.testing.assert_close(product(found), softmax_hessian(z), rtol=0, atol=1e-14)


@given(scale=st.floats(0.01, 50), classes=st.integers(2, 30), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_masses_are_the_columns_squares_and_never_rise(scale: float, classes: int, seed: int) -> None:
    z = scale * torch.randn(3, 2, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = Softmax(z, torch.tensor([[0.3, 1.0]]).expand(3, 2))
    ranks = range(found.masses.shape[1])
    squares = torch.stack([found.ranked(torch.full((3,), rank)).square().sum((1, 2)) for rank in ranks], 1)
    torch.testing.assert_close(found.masses, squares, rtol=1e-10, atol=1e-30)
    assert (found.masses.diff(dim=1) <= 0).all()


def test_a_column_of_no_rank_is_zero() -> None:
    found = columns(CROSS_ENTROPY, torch.randn(2, 1, 3), torch.zeros(2, dtype=torch.int64))
    column = found.ranked(torch.tensor([-1, 0]))
    assert not column[0].any()
    assert column[1].any()


def every_sign(exits: int, classes: int) -> Tensor:
    """All vectors of signs: their mean is an expectation without noise."""
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * (exits * classes)).view(-1, exits, classes)


def test_a_mixture_is_right_on_average_over_all_signs() -> None:
    z = 2 * torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = columns(Curved(softmax=True, exits=(0.3, 1.0)), z, torch.zeros(1, dtype=torch.int64))
    for first in range(7):
        mixed = [found.mixture(torch.tensor([first]), signs[None]).flatten() for signs in every_sign(2, 4)]
        mean = torch.stack([torch.outer(each, each) for each in mixed]).mean(0)
        expected = product(found, first)[0] if first < 6 else torch.zeros(8, 8)
        torch.testing.assert_close(mean, expected.double(), rtol=0, atol=1e-14)


def test_a_rare_classs_curvature_keeps_its_digits() -> None:
    """p (1 - p) computed from 1 - p would lose them in float32."""
    z = torch.tensor([[[0.0, -40.0]]])
    column = columns(CROSS_ENTROPY, z, torch.zeros(1, dtype=torch.int64)).ranked(torch.tensor([0]))
    torch.testing.assert_close(column.square(), torch.full((1, 1, 2), 4.248354255291589e-18), rtol=1e-6, atol=0)


def test_sigmoid_columns_are_one_a_finding_and_nothing_where_it_is_unknown() -> None:
    z = torch.tensor([[0.0, 2.0], [-50.0, 50.0]], dtype=torch.float64)
    label = torch.tensor([[1.0, 0.0], [0.0, float("nan")]], dtype=torch.float64)
    found = columns(BCE, z[:, None], label)
    p = z.sigmoid()
    expected = torch.diag_embed(p * (-z).sigmoid())
    expected[1, 1, 1] = 0
    torch.testing.assert_close(product(found), expected, rtol=1e-12, atol=0)
    mixed = [found.mixture(torch.tensor([1, 1]), signs.expand(2, 1, 2)).flatten(1) for signs in every_sign(1, 2)]
    mean = torch.stack([each[:, :, None] * each[:, None, :] for each in mixed]).mean(0)
    torch.testing.assert_close(mean, product(found, 1), rtol=1e-12, atol=1e-30)
